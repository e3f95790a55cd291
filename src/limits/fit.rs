//! What of the configuration fits this host: shards, connections, pipes and their bytes.
//!
//! The arithmetic is pure: what the host has comes in as [`Host`], which [`Host::ask`] fills.

use super::{
    FDS_KEPT_FOR_ADMIN, FDS_OF_CONTROL, FDS_OF_PROCESS, FDS_PER_CONN, FDS_PER_PIPE, FDS_PER_SHARD,
    FDS_RESERVED, PIPES_PER_SHARD_MAX,
};
use crate::{
    config::{Auto, Config, Runtime},
    rt::grown_pipe,
    sock,
};

const PAGE: u64 = 4096;

/// What this host gives.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// Descriptors this process may open, after raising the soft limit.
    pub nofile: u64,
    /// CPUs this process may use, by affinity mask and cgroup quota.
    pub cpus: usize,
    /// `fs.pipe-user-pages-soft`; 0 means no limit.
    pub pipe_pages_soft: u64,
}

/// What the process will allow itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that carry traffic.
    pub shards: usize,
    /// Connections over all listeners.
    pub max_connections: u32,
    /// Pipes each shard may open.
    pub pipes_per_shard: u32,
    /// How many of them may grow to [`grown_pipe`].
    pub grown_pipes_per_shard: u32,
    /// Bytes that all pipes of a shard may have together.
    pub pipe_bytes_per_shard: u64,
    /// Descriptors with this number or a higher one are the admin endpoint's.
    pub traffic_descriptors: u32,
}

/// Descriptors that are not for connections and pipes.
#[derive(Clone, Copy, Debug)]
struct Reserved {
    /// What we make for certain: the process, its shards, and a socket of each of them for each
    /// address that is listened on.
    made: u64,
    all: u64,
}

impl Host {
    /// Asks the host, raising the soft limit of open files to the hard one.
    pub fn ask() -> Host {
        let pipe_pages = std::fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft");
        Host {
            nofile: sock::raise_nofile(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            pipe_pages_soft: pipe_pages.ok().and_then(|s| s.trim().parse().ok()).unwrap_or(16_384),
        }
    }

    /// On a host with few descriptors a quarter of them is reserved instead, and what is made for
    /// certain always.
    fn reserved(&self, config: &Config, shards: usize) -> Reserved {
        let addresses: usize = config.listeners.iter().map(|listener| listener.listen.len()).sum();
        let made = FDS_OF_PROCESS + shards as u64 * (FDS_PER_SHARD + addresses as u64);
        let quarter = self.nofile / 4;
        let control = (FDS_OF_CONTROL + FDS_KEPT_FOR_ADMIN).min(quarter);
        Reserved { made, all: FDS_RESERVED.min(quarter).max(made + control) }
    }
}

impl Limits {
    /// Fits the configuration to the host.
    ///
    /// # Errors
    /// A written number that does not fit, with the sum and the way out.
    pub fn fit(config: &Config, host: &Host) -> Result<Limits, String> {
        let runtime = &config.runtime;
        let shards = match runtime.shards {
            Auto::Auto => host.cpus,
            Auto::Fixed(shards) => shards,
        };
        let reserved = host.reserved(config, shards);
        let pipes_per_shard = match runtime.pipes_per_shard {
            Auto::Auto => pipes_that_fit(host, reserved, shards, runtime.pipe_size),
            Auto::Fixed(pipes) => pipes,
        };
        let pipe_fds = FDS_PER_PIPE * u64::from(pipes_per_shard) * shards as u64;
        let room = host.nofile.saturating_sub(reserved.all + pipe_fds) / FDS_PER_CONN;
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let max_connections = match runtime.max_connections {
            Auto::Auto => room,
            Auto::Fixed(wanted) if wanted <= room => wanted,
            Auto::Fixed(wanted) => {
                return Err(does_not_fit((wanted, room), (reserved, pipe_fds), host));
            }
        };
        if max_connections == 0 {
            return Err(format!(
                "no connection fits {} open files: {} are reserved, {} of them for shards and \
                 their listening sockets, and {pipe_fds} are for pipes (raise the limit with \
                 ulimit -n, lower runtime.pipes_per_shard, or have fewer shards or listeners)",
                host.nofile, reserved.all, reserved.made
            ));
        }
        let planned = u64::from(pipes_per_shard) * u64::from(runtime.pipe_size);
        let most = pipe_bytes(host) / shards as u64;
        // Of "auto" half of the bytes is kept for pipes that do not grow; a written number of pipes
        // can all be opened.
        let for_grown = match runtime.pipes_per_shard {
            Auto::Auto => most / 2,
            Auto::Fixed(_) => most.saturating_sub(planned),
        };
        let grown_pipes_per_shard = pipes_that_may_grow(for_grown, runtime, pipes_per_shard);
        let pipe_bytes_per_shard = most.max(planned);
        Ok(Limits {
            shards,
            max_connections,
            pipes_per_shard,
            grown_pipes_per_shard,
            pipe_bytes_per_shard,
            traffic_descriptors: traffic_descriptors(host),
        })
    }
}

/// At most half of the user's pipe pages, over all shards, in bytes.
fn pipe_bytes(host: &Host) -> u64 {
    match host.pipe_pages_soft {
        0 => u64::MAX,
        pages => pages / 2 * PAGE,
    }
}

/// As many as these bytes give while none has grown, and an eighth of the descriptors, but at most
/// a quarter of those that are left: connections come first. Over all shards.
fn pipes_that_fit(host: &Host, reserved: Reserved, shards: usize, pipe_size: u32) -> u32 {
    let by_bytes = pipe_bytes(host) / u64::from(pipe_size);
    let left = host.nofile.saturating_sub(reserved.all);
    let by_fds = (host.nofile / 8).min(left / 4) / FDS_PER_PIPE;
    let each = by_bytes.min(by_fds) / shards as u64;
    each.min(u64::from(PIPES_PER_SHARD_MAX)) as u32
}

/// A quarter of the pipes, as far as these bytes suffice: in full for "auto", for what they grow by
/// where all have their bytes already.
fn pipes_that_may_grow(bytes: u64, runtime: &Runtime, pipes: u32) -> u32 {
    let size = u64::from(runtime.pipe_size);
    let grown = grown_pipe(runtime.pipe_size as usize) as u64;
    let each = match runtime.pipes_per_shard {
        _ if grown == size => return 0,
        Auto::Auto => grown,
        Auto::Fixed(_) => grown - size,
    };
    (bytes / each).min(u64::from(pipes / 4)) as u32
}

/// Where few are left all of them are for whoever comes first.
fn traffic_descriptors(host: &Host) -> u32 {
    let kept = FDS_KEPT_FOR_ADMIN.min(host.nofile / 16);
    u32::try_from(host.nofile - kept).unwrap_or(u32::MAX)
}

fn does_not_fit(
    (wanted, room): (u32, u32),
    (reserved, pipe_fds): (Reserved, u64),
    host: &Host,
) -> String {
    let reserved = reserved.all;
    let sum = FDS_PER_CONN * u64::from(wanted) + reserved + pipe_fds;
    format!(
        "runtime.max_connections = {wanted}: needs {sum} open files \
         ({FDS_PER_CONN} x {wanted} sockets + {reserved} reserved + {pipe_fds} for pipes), \
         the limit is {} (write at most {room} or \"auto\", or raise the limit with ulimit -n)",
        host.nofile
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(runtime: &str) -> Config {
        let text = format!(
            "[runtime]\n{runtime}\n[[listener]]\nname = \"l\"\nlisten = [\"127.0.0.1:0\"]\n\
             pool = \"p\"\n[[pool]]\nname = \"p\"\n[[pool.backend]]\naddress = \"127.0.0.1:1\"\n"
        );
        crate::config::parse(&text, std::path::Path::new("t.toml")).unwrap()
    }

    fn host(nofile: u64) -> Host {
        Host { nofile, cpus: 2, pipe_pages_soft: 16_384 }
    }

    #[test]
    fn auto_follows_the_arithmetic_of_the_contract() {
        let limits = Limits::fit(&config(""), &host(20_000)).unwrap();
        assert_eq!(limits.shards, 2);
        // Half of 16,384 pages, 64 pages a pipe, 2 shards.
        assert_eq!(limits.pipes_per_shard, 64);
        assert_eq!(limits.max_connections, (20_000 - 256 - 2 * 128) / 2);
    }

    #[test]
    fn pipes_that_grow_stay_within_half_of_the_users_pages() {
        let grown = |runtime: &str| {
            let limits = Limits::fit(&config(runtime), &host(20_000)).unwrap();
            let half = 8_192 * PAGE / limits.shards as u64;
            assert_eq!(limits.pipe_bytes_per_shard, half, "{runtime}");
            limits.grown_pipes_per_shard
        };
        // Half of the 16 MiB of a shard: 8 of 1 MiB.
        assert_eq!(grown(""), 8);
        assert_eq!(grown("shards = 1"), 16);
        assert_eq!(grown("pipes_per_shard = 3"), 0);
        // 16 MiB less 8 x 256 KiB leave 18 times 768 KiB, but a quarter of them is two.
        assert_eq!(grown("pipes_per_shard = 8"), 2);
        // All are planned: 64 x 256 KiB.
        assert_eq!(grown("pipes_per_shard = 64"), 0);
        // To 256 KiB each.
        assert_eq!(grown("shards = 1\npipe_size = \"64KiB\""), 64);
        assert_eq!(grown("pipe_size = \"1MiB\""), 0);
    }

    #[test]
    fn a_written_number_of_pipes_may_all_be_opened() {
        let limits = Limits::fit(&config("pipes_per_shard = 128"), &host(20_000)).unwrap();
        assert_eq!(limits.pipe_bytes_per_shard, 128 * (256 << 10));
        assert_eq!(limits.grown_pipes_per_shard, 0);
        let unlimited = Host { pipe_pages_soft: 0, ..host(20_000) };
        let limits = Limits::fit(&config("pipes_per_shard = 128"), &unlimited).unwrap();
        assert_eq!(limits.grown_pipes_per_shard, 32);
    }

    #[test]
    fn a_host_with_few_descriptors_still_serves() {
        let limits = Limits::fit(&config(""), &host(256)).unwrap();
        assert_eq!(limits.pipes_per_shard, 8);
        // 24 of the process, 2 x 7 of its shards, and a quarter for the rest.
        assert_eq!(limits.max_connections, (256 - (24 + 14 + 64) - 32) / 2);
    }

    #[test]
    fn sockets_of_every_shard_for_every_listener_are_counted() {
        let many = |shards: usize, listeners: usize| {
            let mut config = config(&format!("shards = {shards}"));
            config.listeners = vec![config.listeners[0].clone(); listeners];
            let limits = Limits::fit(&config, &host(1024))?;
            let pipes = u64::from(limits.pipes_per_shard) * shards as u64;
            Ok((u64::from(limits.max_connections), pipes))
        };
        assert_eq!(many(2, 1), Ok(((1024 - 256 - 128) / 2, 64)));
        // A quarter of the 204 that are left: 12 pipes for each of the two.
        assert_eq!(many(2, 300), Ok(((1024 - (24 + 2 * 306 + 184) - 48) / 2, 24)));
        assert_eq!(many(64, 5), Ok(((1024 - (24 + 64 * 11 + 184)) / 2, 0)));
        let refused: String = many(64, 300).unwrap_err();
        assert!(refused.contains("19608 of them for shards") && refused.contains("fewer shards"));
    }

    #[test]
    fn the_last_descriptors_are_not_for_traffic() {
        let of = |nofile| Limits::fit(&config(""), &host(nofile)).unwrap().traffic_descriptors;
        assert_eq!((of(20_000), of(1024), of(160)), (19_984, 1008, 150));
    }

    #[test]
    fn a_written_number_that_does_not_fit_is_refused_with_the_sum() {
        let refused = Limits::fit(&config("max_connections = 9999"), &host(1024)).unwrap_err();
        assert_eq!(
            refused,
            "runtime.max_connections = 9999: needs 20382 open files (2 x 9999 sockets + 256 \
             reserved + 128 for pipes), the limit is 1024 (write at most 320 or \"auto\", or raise \
             the limit with ulimit -n)"
        );
        assert!(Limits::fit(&config("max_connections = 320"), &host(1024)).is_ok());
    }
}

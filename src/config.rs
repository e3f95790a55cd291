//! The configuration in force: meaning, already checked. A [`Config`] cannot be wrong.
//!
//! This room refuses to know the host, but for the file that a key names (`token`): what does not
//! fit this machine is `limits`' to say. In
//! reading order: this page (meaning), `file` (the text and its positions), `value` (the forms a
//! value can have), `check` (the rules), `problem` (what is said when they are broken).

use std::{
    fs::File,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};

mod access;
mod check;
mod file;
mod health_check;
mod json;
mod near;
mod pool;
mod problem;
mod references;
mod target;
mod token;
mod units;
mod value;
mod words;

pub use access::Access;
pub use health_check::{HealthCheck, HttpProbe, Probe, Statuses, TcpProbe};
pub use pool::{Backend, Balance, Counted, OnUnhealthy, Outlier, Pool, SendProxy, WEIGHT_MAX};
pub use problem::{Problem, Problems};
pub use references::References;
pub use target::Target;
pub use token::Token;
pub(crate) use value::quoted;
pub use words::Word;

/// Tens of thousands of backends fit; what is larger is not a configuration.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Reads and checks the configuration file at `path`.
///
/// # Errors
///
/// Every problem of the file at once, by position; a file that cannot be read is one problem.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let whole_file = |text: String| Problems::whole_file(path.to_owned(), text);
    let bytes = read(path).map_err(|error| {
        whole_file(format!(
            "cannot read it: {} (name a file with --config FILE)",
            crate::errno::cause(&error)
        ))
    })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let most = units::size_text(FILE_BYTES_MAX);
        return Err(whole_file(format!("too long for a configuration (at most {most})")));
    }
    let text = str::from_utf8(&bytes).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let found = problem::Found::default();
        found.add(good.len(), "not UTF-8 text (save the file as UTF-8)".into());
        Problems { path: path.to_owned(), list: found.place(&good) }
    })?;
    parse(text, path)
}

/// One byte more than allowed tells a file that is too long, without reading all of it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the text of a configuration file; `path` is where it came from.
///
/// # Errors
///
/// Every problem of the text at once, by position; a syntax error stands alone.
pub fn parse(text: &str, path: &Path) -> Result<Config, Problems> {
    let found = problem::Found::default();
    let tables = file::tables(text, &found);
    let parts = if found.is_empty() {
        let folder = path.parent().unwrap_or(Path::new(""));
        Some(check::parts(file::Table::root(&tables, &found), folder))
    } else {
        None
    };
    match parts {
        Some(parts) if found.is_empty() => Ok(Config {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            digest: Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect(),
            runtime: parts.runtime,
            admin: parts.admin,
            dns: parts.dns,
            log: parts.log,
            listeners: parts.listeners,
            pools: parts.pools,
        }),
        _ => Err(Problems { path: path.to_owned(), list: found.place(text) }),
    }
}

/// The whole configuration, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Absolute path of the file it came from.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, lower-case hex.
    pub digest: String,
    /// `[runtime]`
    pub runtime: Runtime,
    /// `[admin]`
    pub admin: Admin,
    /// `[dns]`
    pub dns: Dns,
    /// `[log]`
    pub log: Log,
    /// `[[listener]]`: at least one, names unique.
    pub listeners: Vec<Listener>,
    /// `[[pool]]`: at least one, names unique.
    pub pools: Vec<Pool>,
}

/// A number, or what fits this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// What fits this host.
    Auto,
    /// As written.
    Fixed(T),
}

/// Threads, limits and shutdown of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// At least 1 where written.
    pub shards: Auto<usize>,
    /// What a shard waits with.
    pub driver: Driver,
    /// One CPU for each shard; auto: where there is a shard for each CPU of the affinity mask.
    pub pin_cpus: Auto<bool>,
    /// From the signal to the end of accepting.
    pub drain_delay: Duration,
    /// Then, until what is left is cut.
    pub drain_timeout: Duration,
    /// Over all listeners; at least 1 where written.
    pub max_connections: Auto<u32>,
    /// 0: never splice; at most 256.
    pub pipes_per_shard: Auto<u32>,
    /// Bytes; a power of two from 4 KiB to 1 MiB, as the kernel rounds it.
    pub pipe_size: u32,
    /// Bytes that may wait in a send queue without having been sent; 0: the kernel's limit.
    pub unsent_max: u32,
}

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime {
            shards: Auto::Auto,
            driver: Driver::Auto,
            pin_cpus: Auto::Auto,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            max_connections: Auto::Auto,
            pipes_per_shard: Auto::Auto,
            pipe_size: 256 << 10,
            unsent_max: 128 << 10,
        }
    }
}

/// What a shard waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring where this host has it, else epoll.
    Auto,
    /// io_uring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

/// The admin endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// A loopback address where there is no token.
    pub listen: SocketAddr,
    /// Needed for every change, and for most requests from other hosts.
    pub token: Option<Token>,
    /// What `/ready` asks of the listeners.
    pub ready: Ready,
}

/// How many listeners have to be able to serve, for the instance to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// One of them.
    Any,
    /// Every one.
    All,
}

impl Default for Admin {
    fn default() -> Admin {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9900));
        Admin { listen, token: None, ready: Ready::Any }
    }
}

/// Who is asked for the addresses of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    /// Empty: the system's.
    pub servers: Vec<SocketAddr>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Events below it are left out.
    pub level: Level,
    /// Lines for people or for machines.
    pub format: LogFormat,
    /// `None`: no report line.
    pub report: Option<Duration>,
    /// Where a line of each connection goes.
    pub access: AccessLog,
}

impl Default for Log {
    fn default() -> Log {
        let report = Some(Duration::from_secs(10));
        Log { level: Level::Info, format: LogFormat::Text, report, access: AccessLog::Off }
    }
}

/// Where a line of each connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// To the standard output.
    Stdout,
    /// To the end of this file.
    File(PathBuf),
}

/// How much an event matters, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is lost.
    Error,
    /// Something may be lost soon.
    Warn,
    /// A change of state.
    Info,
    /// Why a decision fell.
    Debug,
    /// Everything.
    Trace,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// Where clients come in.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique among listeners.
    pub name: String,
    /// What is spoken.
    pub mode: Mode,
    /// At least one; no address twice in the file (port 0 apart).
    pub listen: Vec<SocketAddr>,
    /// Index into [`Config::pools`].
    pub pool: usize,
    /// `None`: the runtime's.
    pub max_connections: Option<u32>,
    /// No byte in either direction. `None`: off, as for all durations that may be off.
    pub idle_timeout: Option<Duration>,
    /// One direction ended, the other silent.
    pub half_close_timeout: Option<Duration>,
    /// Whether bytes go through a pipe in the kernel.
    pub splice: Splice,
    /// Whose connections it takes.
    pub access: Access,
    /// How many connections a client may have, and what is one client.
    pub source: SourceLimit,
    /// How long a silent peer is left in peace before it is asked whether it is there, on both
    /// sides. `None`: never.
    pub keepalive: Option<Duration>,
}

/// Connections that one client may have at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimit {
    /// `None`: no limit.
    pub max_connections: Option<u32>,
    /// Bits of an IPv4 address (1 to 32) and of an IPv6 address (1 to 128) that tell clients apart.
    pub prefix: [u8; 2],
}

impl Default for SourceLimit {
    fn default() -> SourceLimit {
        SourceLimit { max_connections: None, prefix: [32, 64] }
    }
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Bytes.
    Tcp,
}

/// Whether bytes go through a pipe in the kernel instead of through our memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splice {
    /// Where it pays.
    Auto,
    /// Wherever a pipe is free.
    On,
    /// Never.
    Off,
}

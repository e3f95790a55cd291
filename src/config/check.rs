//! The meaning of every key: from the tables of the file to a `Config` that cannot be wrong.
//!
//! Reading goes on after a problem, with the default in the bad value's place, so that all
//! problems are found at once; the result counts only where none was.

use std::{collections::HashMap, hash::Hash, net::SocketAddr, time::Duration};

use super::{
    Admin, Auto, Backend, Balance, HealthCheck, Listener, Log, Mode, Pool, Runtime, Splice, Word,
    file::{Entry, Table},
    near::nearest,
    value::{
        address, auto, boolean, duration, is_name, maybe, name, number, positive, quoted, size,
        word,
    },
};

const SHARDS_MAX: u32 = 1024;
const PIPES_PER_SHARD_MAX: u32 = 256;
const PIPE_SIZE_MIN: u32 = 4 << 10;
const PIPE_SIZE_MAX: u32 = 1 << 20;
const WEIGHT_MAX: u32 = 65_535;
const PRIORITY_MAX: u32 = 255;

/// The tables of the file, without the file itself.
pub(super) struct Parts {
    pub(super) runtime: Runtime,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) listeners: Vec<Listener>,
    pub(super) pools: Vec<Pool>,
}

/// Reads the whole file; the parts are whole only where nothing was reported.
pub(super) fn parts(mut root: Table<'_>) -> Parts {
    let runtime = runtime(root.table("runtime"));
    let mut addresses = Taken::new();
    let admin = admin(root.table("admin"), &mut addresses);
    let log = log(root.table("log"));
    let listeners = root.need_tables("listener");
    let pools = root.tables("pool");
    let pool_names: Vec<Option<&str>> = pools.iter().map(|pool| pool.peek("name")).collect();

    let mut seen = ListenersSeen { addresses, names: Taken::new(), pool_names: &pool_names };
    let listeners = listeners.into_iter().filter_map(|table| listener(table, &mut seen)).collect();
    let mut names = Taken::new();
    let pools = pools.into_iter().filter_map(|table| pool(table, &mut names)).collect();
    Parts { runtime, admin, log, listeners, pools }
}

/// Who took a name or address first; the second is refused.
struct Taken<K>(HashMap<K, String>);

impl<K: Hash + Eq> Taken<K> {
    fn new() -> Taken<K> {
        Taken(HashMap::new())
    }

    fn claim(&mut self, key: K, entry: &Entry<'_>) -> Option<()> {
        if let Some(owner) = self.0.get(&key) {
            return entry.refuse(format_args!("already taken by {owner} (each needs its own)"));
        }
        self.0.insert(key, entry.name.clone());
        Some(())
    }
}

fn runtime(mut table: Table<'_>) -> Runtime {
    let default = Runtime::default();
    let shards = table.or("shards", Auto::Auto, |entry| auto(entry, 1..=SHARDS_MAX));
    Runtime {
        shards: match shards {
            Auto::Auto => Auto::Auto,
            Auto::Fixed(count) => Auto::Fixed(count as usize),
        },
        driver: table.or("driver", default.driver, word),
        pin_cpus: table.or("pin_cpus", default.pin_cpus, boolean),
        drain_delay: table.or("drain_delay", default.drain_delay, duration),
        drain_timeout: table.or("drain_timeout", default.drain_timeout, duration),
        max_connections: table
            .or("max_connections", default.max_connections, |entry| auto(entry, 1..=u32::MAX)),
        pipes_per_shard: table.or("pipes_per_shard", default.pipes_per_shard, |entry| {
            auto(entry, 0..=PIPES_PER_SHARD_MAX)
        }),
        pipe_size: table.or("pipe_size", default.pipe_size, pipe_size),
    }
}

fn pipe_size(entry: &Entry<'_>) -> Option<u32> {
    let fits =
        |bytes: &u32| bytes.is_power_of_two() && (PIPE_SIZE_MIN..=PIPE_SIZE_MAX).contains(bytes);
    u32::try_from(size(entry)?)
        .ok()
        .filter(fits)
        .or_else(|| entry.refuse("not a power of two from 4KiB to 1MiB (for example \"256KiB\")"))
}

fn admin(mut table: Table<'_>, addresses: &mut Taken<SocketAddr>) -> Admin {
    let default = Admin::default();
    // A listener on the default address clashes as much as one on a written address.
    addresses.0.insert(default.listen, "the default of admin.listen".into());
    let listen = table.or("listen", default.listen, |entry| {
        addresses.0.clear();
        let listen = address(entry)?;
        if !listen.ip().to_canonical().is_loopback() {
            return entry.refuse(
                "not a loopback address (other addresses need a token file, which this version \
                 does not have; write \"127.0.0.1:PORT\")",
            );
        }
        if listen.port() != 0 {
            addresses.claim(listen, entry)?;
        }
        Some(listen)
    });
    Admin { listen }
}

fn log(mut table: Table<'_>) -> Log {
    let default = Log::default();
    Log {
        level: table.or("level", default.level, word),
        format: table.or("format", default.format, word),
        report: table.or("report", default.report, maybe),
    }
}

/// What listeners share: addresses and names are theirs alone, pools are there for all.
struct ListenersSeen<'n> {
    addresses: Taken<SocketAddr>,
    names: Taken<String>,
    pool_names: &'n [Option<&'n str>],
}

fn listener(mut table: Table<'_>, seen: &mut ListenersSeen<'_>) -> Option<Listener> {
    let name = table.need("name", "name = \"edge\"", |entry| unique(entry, &mut seen.names));
    let mode = table.or("mode", Mode::Tcp, word);
    let listen = table.need("listen", "listen = [\"0.0.0.0:8080\"]", |entry| {
        addresses(entry, &mut seen.addresses)
    });
    let pool = table.need("pool", "pool = \"NAME\"", |entry| pool_named(entry, seen.pool_names));
    let max_connections = table.or("max_connections", 0, |entry| number(entry, 0..=u32::MAX));
    let idle_timeout = table.or("idle_timeout", Some(Duration::from_mins(10)), maybe);
    let half_close_timeout = table.or("half_close_timeout", Some(Duration::from_mins(1)), maybe);
    let splice = table.or("splice", Splice::Auto, word);
    Some(Listener {
        name: name?,
        mode,
        listen: listen?,
        pool: pool?,
        max_connections: (max_connections > 0).then_some(max_connections),
        idle_timeout,
        half_close_timeout,
        splice,
    })
}

fn unique(entry: &Entry<'_>, taken: &mut Taken<String>) -> Option<String> {
    let name = name(entry)?;
    taken.claim(name.clone(), entry)?;
    Some(name)
}

fn addresses(entry: &Entry<'_>, taken: &mut Taken<SocketAddr>) -> Option<Vec<SocketAddr>> {
    const EXAMPLE: &str = "(for example [\"0.0.0.0:8080\"])";
    let elements = entry.array(format_args!("an array of addresses {EXAMPLE}"))?;
    if elements.is_empty() {
        return entry.refuse(format_args!("needs at least one address {EXAMPLE}"));
    }
    let read = |element: &Entry<'_>| {
        let address = address(element)?;
        if address.port() != 0 {
            taken.claim(address, element)?;
        }
        Some(address)
    };
    Some(elements.iter().filter_map(read).collect())
}

fn pool_named(entry: &Entry<'_>, names: &[Option<&str>]) -> Option<usize> {
    let text = entry.text("the name of a pool (for example \"web\")")?;
    if let Some(index) = names.iter().position(|name| *name == Some(text)) {
        return Some(index);
    }
    let known: Vec<&str> = names.iter().flatten().copied().collect();
    match nearest(text, known.iter().copied()) {
        Some(meant) => entry.refuse(format_args!("no such pool (did you mean {meant:?}?)")),
        None if known.is_empty() => entry.refuse("no such pool (write a [[pool]] of that name)"),
        None => entry.refuse(format_args!("no such pool (known: {})", quoted(&known))),
    }
}

fn pool(mut table: Table<'_>, names: &mut Taken<String>) -> Option<Pool> {
    let name = table.need("name", "name = \"web\"", |entry| unique(entry, names));
    let balance = table.or("balance", Balance::LeastConnections, word);
    let connect_timeout = table.or("connect_timeout", Duration::from_secs(2), positive);
    let max_attempts = table.or("max_attempts", 3, |entry| number(entry, 1..=u32::MAX));
    let health_check = health_check(table.table("health_check"));
    let mut taken = Taken::new();
    let tables = table.need_tables("backend");
    let written = tables.len();
    let read = |table| backend(table, &mut taken);
    let backends: Vec<Backend> = tables.into_iter().filter_map(read).collect();
    let whole = written > 0 && backends.len() == written;
    if whole && backends.iter().all(|backend| backend.weight == 0) {
        let rule = "every weight is 0 (one backend needs at least 1)";
        return table.refuse("backend", rule);
    }
    Some(Pool { name: name?, balance, connect_timeout, max_attempts, health_check, backends })
}

/// How a backend is checked.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    None,
}

impl Word for Kind {
    const WORDS: &'static [(&'static str, Self)] = &[("tcp", Kind::Tcp), ("none", Kind::None)];
}

fn health_check(mut table: Table<'_>) -> Option<HealthCheck> {
    let default = HealthCheck::default();
    let kind = table.or("kind", Kind::Tcp, word);
    let interval = table.or("interval", default.interval, duration);
    let timeout = table.or("timeout", default.timeout, duration);
    let count = |entry: &Entry<'_>| number(entry, 1..=u32::MAX);
    let healthy_after = table.or("healthy_after", default.healthy_after, count);
    let unhealthy_after = table.or("unhealthy_after", default.unhealthy_after, count);
    let timeout = if timeout.is_zero() { interval } else { timeout };
    let check = HealthCheck { interval, timeout, healthy_after, unhealthy_after };
    (kind == Kind::Tcp && !interval.is_zero()).then_some(check)
}

fn backend(mut table: Table<'_>, taken: &mut Taken<String>) -> Option<Backend> {
    let written = table.get("name");
    let place = table.need("address", "address = \"IP:PORT\"", |entry| {
        let address = address(entry)?;
        if written.is_none() {
            let name = address.to_string();
            if !is_name(&name) {
                return entry.refuse("its address is no name (write a `name` too)");
            }
            taken.claim(name, entry)?;
        }
        Some(address)
    });
    let name = match &written {
        Some(entry) => unique(entry, taken),
        None => place.map(|address| address.to_string()),
    };
    let weight = table.or("weight", 1, |entry| number(entry, 0..=WEIGHT_MAX));
    let priority = table.or("priority", 0, |entry| number(entry, 0..=PRIORITY_MAX));
    Some(Backend { name: name?, address: place?, weight, priority })
}

//! The meaning of every key: from the tables of the file to a `Config` that cannot be wrong.
//!
//! Reading goes on after a problem, with the default in the bad value's place, so that all
//! problems are found at once; the result counts only where none was.

mod health_check;
mod listener;
mod pool;

use std::{collections::HashMap, hash::Hash, net::SocketAddr, path::Path};

use self::{
    listener::{ListenersSeen, listener},
    pool::pool,
};
use super::{
    AccessLog, Admin, Auto, Dns, Listener, Log, Pool, Runtime,
    file::{Entry, Table},
    token::token,
    value::{address, auto, auto_or_boolean, duration, maybe, name, size, word},
};

const SHARDS_MAX: u32 = 1024;
const PIPES_PER_SHARD_MAX: u32 = 256;
const PIPE_SIZE_MIN: u32 = 4 << 10;
const PIPE_SIZE_MAX: u32 = 1 << 20;
/// With less each segment would be a wait of its own.
const UNSENT_MIN: u32 = 4 << 10;
const UNSENT_MOST: u32 = 1 << 30;

/// The tables of the file, without the file itself.
pub(super) struct Parts {
    pub(super) runtime: Runtime,
    pub(super) admin: Admin,
    pub(super) dns: Dns,
    pub(super) log: Log,
    pub(super) listeners: Vec<Listener>,
    pub(super) pools: Vec<Pool>,
}

/// Reads the whole file, which is in `folder`; the parts are whole only where nothing was reported.
pub(super) fn parts(mut root: Table<'_>, folder: &Path) -> Parts {
    let runtime = runtime(root.table("runtime"));
    let mut addresses = Taken::new();
    let admin = admin(root.table("admin"), folder, &mut addresses);
    let dns = dns(root.table("dns"));
    let log = log(root.table("log"), folder);
    let listeners = root.need_tables("listener");
    let pools = root.tables("pool");
    let pool_names: Vec<Option<&str>> = pools.iter().map(|pool| pool.peek("name")).collect();

    let mut seen = ListenersSeen { addresses, names: Taken::new(), pool_names: &pool_names };
    let listeners = listeners.into_iter().filter_map(|table| listener(table, &mut seen)).collect();
    let mut names = Taken::new();
    let pools = pools.into_iter().filter_map(|table| pool(table, &mut names)).collect();
    Parts { runtime, admin, dns, log, listeners, pools }
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
        pin_cpus: table.or("pin_cpus", default.pin_cpus, auto_or_boolean),
        drain_delay: table.or("drain_delay", default.drain_delay, duration),
        drain_timeout: table.or("drain_timeout", default.drain_timeout, duration),
        max_connections: table
            .or("max_connections", default.max_connections, |entry| auto(entry, 1..=u32::MAX)),
        pipes_per_shard: table.or("pipes_per_shard", default.pipes_per_shard, |entry| {
            auto(entry, 0..=PIPES_PER_SHARD_MAX)
        }),
        pipe_size: table.or("pipe_size", default.pipe_size, pipe_size),
        unsent_max: table.or("unsent_max", default.unsent_max, unsent_max),
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

fn unsent_max(entry: &Entry<'_>) -> Option<u32> {
    let fits = |bytes: &u32| *bytes == 0 || (UNSENT_MIN..=UNSENT_MOST).contains(bytes);
    let size = u32::try_from(size(entry)?).ok().filter(fits);
    size.or_else(|| entry.refuse("neither 0B nor from 4KiB to 1GiB (for example \"128KiB\")"))
}

fn admin(mut table: Table<'_>, folder: &Path, addresses: &mut Taken<SocketAddr>) -> Admin {
    let default = Admin::default();
    // A listener on the default address clashes as much as one on a written address.
    addresses.0.insert(default.listen, "the default of admin.listen".into());
    let token_file = table.get("token_file");
    let has_token = token_file.is_some();
    let listen = table.or("listen", default.listen, |entry| {
        addresses.0.clear();
        let listen = address(entry)?;
        if !has_token && !listen.ip().to_canonical().is_loopback() {
            return entry.refuse(
                "not a loopback address (write \"127.0.0.1:PORT\", or a token_file for the others)",
            );
        }
        if listen.port() != 0 {
            addresses.claim(listen, entry)?;
        }
        Some(listen)
    });
    let ready = table.or("ready", default.ready, word);
    Admin { listen, token: token_file.and_then(|entry| token(&entry, folder)), ready }
}

fn dns(mut table: Table<'_>) -> Dns {
    let servers = table.or("servers", Vec::new(), |entry| {
        let elements = entry.array("an array of addresses (for example [\"127.0.0.1:53\"])")?;
        let server = |element: &Entry<'_>| match address(element)? {
            server if server.port() == 0 => element.refuse("nobody answers at port 0 (write 53)"),
            server => Some(server),
        };
        Some(elements.iter().filter_map(server).collect())
    });
    Dns { servers }
}

fn log(mut table: Table<'_>, folder: &Path) -> Log {
    let default = Log::default();
    Log {
        level: table.or("level", default.level, word),
        format: table.or("format", default.format, word),
        report: table.or("report", default.report, maybe),
        access: table.or("access", default.access, |entry| access_log(entry, folder)),
    }
}

/// A word without a dot or slash is no file, so that a mistyped one does not become one.
fn access_log(entry: &Entry<'_>, folder: &Path) -> Option<AccessLog> {
    match entry.text("\"off\", \"stdout\" or the name of a file")? {
        "off" => Some(AccessLog::Off),
        "stdout" => Some(AccessLog::Stdout),
        name if name.contains(['.', '/']) => Some(AccessLog::File(folder.join(name))),
        name => entry.refuse(format_args!(
            "not \"off\", \"stdout\" or the name of a file (for a file write \"./{name}\")"
        )),
    }
}

fn unique(entry: &Entry<'_>, taken: &mut Taken<String>) -> Option<String> {
    let name = name(entry)?;
    taken.claim(name.clone(), entry)?;
    Some(name)
}

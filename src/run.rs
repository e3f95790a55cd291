//! `ringway run` and `ringway check`: from a file to a serving process.
//!
//! The order matters: everything that can be refused is refused before the first connection.

mod shards;

use std::{
    io::{self, Write},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use crate::{
    access_log::AccessLog,
    args::cause,
    bridge::{Bridge, Gates, Plan, Seat},
    config::{self, Config, Driver as DriverWish},
    coordinator::{self, Events, Pools},
    counter::Gate,
    limits::{Host, Limits},
    log,
    rt::{Bell, Driver, PipeBounds},
    shard, sock,
};

/// Prints every problem of the file to stdout and a summary to stderr.
pub fn check(path: &Path) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            let count = problems.list.len();
            return summarise(path, &problems.to_string(), &format!("{count} problem(s)"));
        }
    };
    match Limits::fit(&config, &Host::ask()) {
        Ok(_) => summarise(path, "", "valid"),
        Err(problem) => summarise(path, &format!("{}: {problem}", path.display()), "1 problem(s)"),
    }
}

/// Whoever asked may have stopped reading; the exit code still tells.
fn summarise(path: &Path, problems: &str, summary: &str) -> ExitCode {
    let valid = problems.is_empty();
    if !valid {
        let _ = writeln!(io::stdout(), "{problems}");
    }
    let _ = writeln!(io::stderr(), "{}: {summary}", path.display());
    if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Serves until drained.
pub fn run(path: &Path) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => {
            // Nobody may be left to read it; `eprintln!` would panic then.
            let _ = writeln!(io::stderr(), "{problems}");
            return ExitCode::FAILURE;
        }
    };
    let (guard, lost_lines) = log::start(&config.log);
    let outcome = start(config, lost_lines);
    drop(guard);
    match outcome {
        // Exits without dropping the shards' runtimes, whose operations may still be in flight.
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            let _ = writeln!(io::stderr(), "ringway: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config, lost_lines: log::LostLines) -> Result<(), String> {
    let in_file = |problem| format!("{}: {problem}", config.path.display());
    let limits = Limits::fit(&config, &Host::ask()).map_err(in_file)?;
    let plan = Plan::new(&config);
    let gates = Gates {
        runtime: Gate::new(limits.max_connections),
        listeners: gates(&config, limits.max_connections),
    };
    let seats = seats(&config, limits.shards).map_err(|error| cause(&error))?;
    // For the life of the process: shards never end before it does.
    let bridge: &'static Bridge = Box::leak(Box::new(Bridge::new(plan, gates, seats)));
    let (driver, threads) = shards::prepare(bridge, wish(config.runtime.driver))?;
    let access_log = AccessLog::open(&config.log.access)?;
    let admin = coordinator::bind_admin(config.admin.listen)?;
    let sockets = bind(&config, &bridge.plan, limits.shards)?;
    warn_without_pipes(&config, &limits);
    // Before a shard accepts: it would find nobody to pick.
    let events = Arc::new(Events::default());
    let pools = Pools::new(&config, bridge, &events);
    let setups = shard_setups(&config, bridge, &limits, sockets.per_shard);
    let setup = coordinator::Setup {
        config,
        bridge,
        driver,
        limits,
        events,
        pools,
        admin,
        bound: sockets.bound,
        access_log,
        lost_lines,
        start_shards: Box::new(|| shards::start(threads, setups)),
    };
    coordinator::run(setup)
}

fn wish(driver: DriverWish) -> Option<Driver> {
    match driver {
        DriverWish::Auto => None,
        DriverWish::IoUring => Some(Driver::IoUring),
        DriverWish::Epoll => Some(Driver::Epoll),
    }
}

/// A listener without a limit of its own has the runtime's.
fn gates(config: &Config, most: u32) -> Vec<Gate> {
    let places = |l: &config::Listener| l.max_connections.unwrap_or(most).min(most);
    config.listeners.iter().map(|l| Gate::new(places(l))).collect()
}

/// A bell for each shard, and its CPU within the affinity mask when shards are pinned.
fn seats(config: &Config, shards: usize) -> io::Result<Vec<Seat>> {
    let usable = match config.runtime.pin_cpus {
        true => core_affinity::get_core_ids().unwrap_or_default(),
        false => Vec::new(),
    };
    let cpu = |shard: usize| usable.get(shard % usable.len().max(1)).map(|cpu| cpu.id);
    (0..shards).map(|shard| Ok(Seat { cpu: cpu(shard), bell: Bell::new()? })).collect()
}

struct Sockets {
    /// The addresses of each listener, ports chosen.
    bound: Vec<Vec<SocketAddr>>,
    /// Listening sockets of each shard, with the index of their listener.
    per_shard: Vec<Vec<(usize, OwnedFd)>>,
}

/// Claims every address alone first, then gives each shard its own socket on it.
fn bind(config: &Config, plan: &Plan, shards: usize) -> Result<Sockets, String> {
    let mut sockets = Sockets {
        bound: vec![Vec::new(); config.listeners.len()],
        per_shard: (0..shards).map(|_| Vec::new()).collect(),
    };
    for (i, listener) in config.listeners.iter().enumerate() {
        let options = &plan.listeners[i].sockets;
        for address in &listener.listen {
            let refused = |error| cannot_listen(&listener.name, *address, &error);
            let claimed = sock::claim(*address).map_err(refused)?;
            for shard in &mut sockets.per_shard {
                shard.push((i, sock::listen(claimed, options).map_err(refused)?));
            }
            sockets.bound[i].push(claimed);
        }
    }
    Ok(sockets)
}

fn cannot_listen(listener: &str, address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process listens there, perhaps another ringway, or a listener above in this \
             file does: stop it, or choose another address)"
        }
        io::ErrorKind::PermissionDenied => " (ports under 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (this host has no such address)",
        _ => "",
    };
    format!("listener {listener}: cannot listen on {address}: {}{hint}", cause(error))
}

/// Splicing without pipes is copying; better said at the start than found in a profile.
fn warn_without_pipes(config: &Config, limits: &Limits) {
    if limits.pipes_per_shard == 0 {
        return;
    }
    if let Err(error) = sock::pipe(config.runtime.pipe_size as usize) {
        tracing::warn!(
            %error,
            pipe_size = config.runtime.pipe_size,
            "no pipe of this size: bytes are copied (lower runtime.pipe_size, or raise \
             fs.pipe-max-size and fs.pipe-user-pages-soft)"
        );
    }
}

/// What each shard starts with.
fn shard_setups(
    config: &Config,
    bridge: &'static Bridge,
    limits: &Limits,
    sockets: Vec<Vec<(usize, OwnedFd)>>,
) -> Vec<shard::Setup> {
    let setup = |(id, listeners)| shard::Setup {
        id,
        bridge,
        pipes: PipeBounds {
            max: limits.pipes_per_shard,
            grown_max: limits.grown_pipes_per_shard,
            size: config.runtime.pipe_size as usize,
            bytes_max: limits.pipe_bytes_per_shard,
        },
        rng: fastrand::Rng::new(),
        listeners,
    };
    sockets.into_iter().enumerate().map(setup).collect()
}

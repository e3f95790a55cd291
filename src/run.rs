//! `ringway run` and `ringway check`: from a file to a serving process.
//!
//! The order matters: everything that can be refused is refused before the first connection.

mod bind;
mod shards;

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use crate::{
    access_log::AccessLog,
    bell::Bell,
    bridge::{Bridge, Gates, Plan, Seat, Sources},
    config::{self, Auto, Config, Driver as DriverWish, References, Target},
    coordinator::{self, Events, Pools},
    counter::Gate,
    errno::cause,
    limits::{Host, Limits},
    log,
    rt::{Driver, PipeBounds},
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
    let problems = fitted(&config).map_or_else(|problems| problems, |_| Vec::new());
    let lines: Vec<String> =
        problems.iter().map(|problem| format!("{}: {problem}", path.display())).collect();
    match lines.len() {
        0 => summarise(path, "", "valid"),
        count => summarise(path, &lines.join("\n"), &format!("{count} problem(s)")),
    }
}

/// Fits the configuration to this host: its limits, and its addresses.
fn fitted(config: &Config) -> Result<Limits, Vec<String>> {
    let limits = Limits::fit(config, &Host::ask());
    let loops = References::of(config).problems(sock::is_of_this_host);
    match limits {
        Ok(limits) if loops.is_empty() => Ok(limits),
        Ok(_) => Err(loops),
        Err(problem) => Err([vec![problem], loops].concat()),
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
    let in_file = |problem: &String| format!("{}: {problem}", config.path.display());
    let limits = fitted(&config).map_err(|problems| {
        problems.iter().map(in_file).collect::<Vec<String>>().join("\nringway: ")
    })?;
    let plan = Plan::new(&config);
    let gates = Gates {
        runtime: Gate::new(limits.max_connections),
        listeners: gates(&config, limits.max_connections),
        sources: Sources::new(limits.max_connections, has_source_limit(&config)),
        descriptors: limits.traffic_descriptors,
    };
    let seats = seats(&config, limits.shards).map_err(|error| cause(&error))?;
    // For the life of the process: shards never end before it does.
    let bridge: &'static Bridge = Box::leak(Box::new(Bridge::new(plan, gates, seats)));
    let (driver, threads) = shards::prepare(bridge, wish(config.runtime.driver))?;
    let access_log = AccessLog::open(&config.log.access)?;
    let sockets = bind::bind(&config, &bridge.plan, limits.shards)?;
    warn_without_pipes(&config, &limits);
    // Before a shard accepts: it would find nobody to pick.
    let events = Arc::new(Events::default());
    let references = references(&config, &sockets)?;
    put_loops(&config, bridge, &references);
    let pools = Pools::new(&config, bridge, &events);
    let setups = shard_setups(&config, bridge, &limits, sockets.per_shard);
    let setup = coordinator::Setup {
        config,
        bridge,
        driver,
        limits,
        events,
        pools,
        references,
        admin: sockets.admin,
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

fn has_source_limit(config: &Config) -> bool {
    config.listeners.iter().any(|listener| listener.source.max_connections.is_some())
}

/// A bell for each shard, and its CPU within the affinity mask when shards are pinned.
fn seats(config: &Config, shards: usize) -> io::Result<Vec<Seat>> {
    let usable = core_affinity::get_core_ids().unwrap_or_default();
    let pinned = match config.runtime.pin_cpus {
        Auto::Fixed(pinned) => pinned,
        // With fewer shards every instance on this host would sit on the first CPUs of the mask,
        // and its neighbours too; the scheduler knows better who is busy.
        Auto::Auto => shards >= usable.len(),
    };
    let usable = if pinned { usable } else { Vec::new() };
    let cpu = |shard: usize| usable.get(shard % usable.len().max(1)).map(|cpu| cpu.id);
    (0..shards).map(|shard| Ok(Seat { cpu: cpu(shard), bell: Bell::new()? })).collect()
}

/// Who leads where, now that ports are chosen.
fn references(config: &Config, sockets: &bind::Sockets) -> Result<References, String> {
    let admin = sockets.admin.local_addr().map_err(|error| cause(&error))?;
    Ok(References::bound(config, admin, sockets.bound.clone()))
}

/// Tells the shards which backends of the file are listeners of ours.
fn put_loops(config: &Config, bridge: &Bridge, references: &References) {
    for (pool, plan) in config.pools.iter().zip(&bridge.plan.pools) {
        for (backend, slots) in pool.backends.iter().zip(&plan.entries) {
            if let Target::Address(address) = backend.address {
                let listeners = references.listeners_at(address, sock::is_of_this_host);
                bridge.loops.put(slots.start, &listeners);
            }
        }
    }
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

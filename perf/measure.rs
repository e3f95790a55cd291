//! CPU time of relays per unit of work, interleaved, so that the machine's moods hit all alike.
//!
//! `cargo run --release --example measure -- tcp` (build everything first: `cargo build --release
//! --bins --examples`). Compare only figures of the same run.

#[path = "measure/contender.rs"]
mod contender;
#[path = "measure/figure.rs"]
mod figure;
#[path = "measure/idle.rs"]
mod idle;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use contender::{Place, Relay};
use figure::Row;
use ringway::{
    bench::{self, Percentiles, Plan, Report},
    child::{self, Guarded},
    demo::stats,
};

const WARM_UP: Duration = Duration::from_millis(300);
const BULK_CONNECTIONS: u32 = 8;
const TCP_CONNECTIONS: u32 = 64;
/// At once.
const CONNECT_CONNECTIONS: u32 = 32;
/// By the clock: pings as fast as they come back would count the moments in which the bulk pauses,
/// when thousands fit, and hardly those in which it flows.
const PINGS_PER_SECOND: f64 = 100.0;
/// Figures of a run at most.
const FIGURES: usize = 3;

/// Set by a signal: finish nothing, clean up.
static STOP: AtomicBool = AtomicBool::new(false);

/// Measure the CPU time of relays, interleaved.
#[derive(Parser)]
struct Args {
    /// What is measured
    kind: Kind,
    /// Rounds; at least 9 for a figure that is told to others
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of each run
    #[arg(long, default_value = "2", value_parser = ringway::args::positive_duration)]
    seconds: Duration,
    /// Connections [default: tcp 64, bulk and fair 8, connect 32 at once]
    #[arg(long)]
    connections: Option<u32>,
    /// Who takes part [default: all that are installed]
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<String>,
    /// Whose figure the ratios are to [default: floor-copy, bulk floor-splice, fair haproxy-splice]
    #[arg(long)]
    against: Option<String>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq)]
enum Kind {
    /// CPU us per message of 128 bytes each way
    Tcp,
    /// CPU s per GB
    Bulk,
    /// CPU us per new connection: connect, one message, close
    Connect,
    /// Memory of an idle connection that was used once: bytes of Pss from 2,000 to 8,000 of them
    Idle,
    /// Latency of one ping-pong beside bulk streams
    Fair,
}

fn main() -> ExitCode {
    let args = Args::parse();
    bench::raise_nofile();
    child::on_stop_signal(|| STOP.store(true, Ordering::Relaxed));
    match measure(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A directory of our own, gone with its guard.
struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The backends that stay through all rounds.
struct Backends {
    echo: SocketAddr,
    source: SocketAddr,
    _guards: [Guarded; 2],
}

fn measure(args: &Args) -> Result<(), String> {
    let files = std::env::temp_dir().join(format!("ringway-measure-{}", std::process::id()));
    fs::create_dir(&files).map_err(|error| format!("cannot make {}: {error}", files.display()))?;
    let _gone_at_the_end = TempDir(files.clone());
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let programs = program.ancestors().nth(2).map(PathBuf::from);
    let place = Place { programs: programs.ok_or("cannot find target/release")?, files };
    let backends = start_backends(&place)?;
    introduce(args);

    let names = contenders(args, &place, &backends)?;
    let rows = |_| names.iter().map(|name| empty_row(name)).collect::<Vec<_>>();
    let mut tables: [Vec<Row>; FIGURES] = std::array::from_fn(rows);
    for round in 1..=args.rounds {
        for (at, name) in names.iter().enumerate() {
            let outcome = run(args, &place, &backends, name);
            if STOP.load(Ordering::Relaxed) {
                return Err("stopped by a signal; no figures".to_owned());
            }
            if let Err(why) = &outcome {
                eprintln!("round {round}: {name} is void: {why}");
            }
            for (figure, table) in tables.iter_mut().enumerate() {
                let value = outcome.as_ref().ok().and_then(|figures| figures.get(figure));
                table[at].rounds.push(value.copied());
            }
        }
        eprintln!("round {round} of {} done", args.rounds);
    }
    report(args, &tables);
    Ok(())
}

fn report(args: &Args, tables: &[Vec<Row>; FIGURES]) {
    let (units, against): (&[&str], _) = match args.kind {
        Kind::Tcp => (&["CPU us/message"], "floor-copy"),
        Kind::Bulk => (&["CPU s/GB"], "floor-splice"),
        Kind::Connect => (&["CPU us/connection"], "floor-copy"),
        Kind::Idle => (&["bytes/connection"], "floor-copy"),
        Kind::Fair => (&["ping p50 us", "ping p99 us", "bulk MB/s"], "haproxy-splice"),
    };
    let against = args.against.as_deref().unwrap_or(against);
    for (rows, unit) in tables.iter().zip(units) {
        figure::print(rows, unit, against);
        println!();
    }
}

/// Who takes part: all who were named have to start, of the others those that do.
fn contenders(args: &Args, place: &Place, backends: &Backends) -> Result<Vec<String>, String> {
    let named = !args.contenders.is_empty();
    let all = contender::NAMES.map(str::to_owned).to_vec();
    let mut names = Vec::new();
    for name in if named { &args.contenders } else { &all } {
        match contender::start(place, name, &targets(args.kind, backends)) {
            Ok(_) => names.push(name.clone()),
            Err(why) if named => return Err(format!("{name}: {why}")),
            Err(why) => eprintln!("{name} takes no part: {why}"),
        }
    }
    Ok(names)
}

fn empty_row(name: &str) -> Row {
    Row { name: name.to_owned(), rounds: Vec::new() }
}

fn targets(kind: Kind, backends: &Backends) -> Vec<SocketAddr> {
    match kind {
        Kind::Tcp | Kind::Connect | Kind::Idle => vec![backends.echo],
        Kind::Bulk => vec![backends.source],
        Kind::Fair => vec![backends.source, backends.echo],
    }
}

/// One contender in one round: a fresh process, a warm-up, the figures in the order of `report`.
fn run(args: &Args, place: &Place, backends: &Backends, name: &str) -> Result<Vec<f64>, String> {
    let relay = contender::start(place, name, &targets(args.kind, backends))?;
    match args.kind {
        Kind::Tcp => {
            let connections = args.connections.unwrap_or(TCP_CONNECTIONS);
            let (report, cpu_ns) = costs(args, &relay, bench::Mode::Tcp, connections)?;
            Ok(vec![cpu_ns / 1e3 / report.tally.operations.max(1) as f64])
        }
        Kind::Bulk => {
            let connections = args.connections.unwrap_or(BULK_CONNECTIONS);
            let (report, cpu_ns) = costs(args, &relay, bench::Mode::Bulk, connections)?;
            // Nanoseconds per byte are seconds per GB.
            Ok(vec![cpu_ns / report.tally.bytes.max(1) as f64])
        }
        Kind::Connect => {
            let at_once = args.connections.unwrap_or(CONNECT_CONNECTIONS);
            let (report, cpu_ns) = costs(args, &relay, bench::Mode::Connect, at_once)?;
            Ok(vec![cpu_ns / 1e3 / report.tally.operations.max(1) as f64])
        }
        Kind::Idle => Ok(vec![idle::bytes_each(&relay)?]),
        Kind::Fair => fair(args, &relay, name),
    }
}

/// Drives the load, and gives it with the nanoseconds of CPU that the relay took for it.
fn costs(
    args: &Args,
    relay: &Relay,
    mode: bench::Mode,
    connections: u32,
) -> Result<(Report, f64), String> {
    let target = relay.listeners[0];
    drive(mode, target, connections, WARM_UP)?;
    let before = cpu_ns(relay.process.pid())?;
    let report = drive(mode, target, connections, args.seconds)?;
    Ok((report, (cpu_ns(relay.process.pid())? - before) as f64))
}

fn fair(args: &Args, relay: &Relay, name: &str) -> Result<Vec<f64>, String> {
    let streams = args.connections.unwrap_or(BULK_CONNECTIONS);
    let [bulk, ping] = relay.listeners[..] else {
        return Err("not two listeners".to_owned());
    };
    let (ping, flood) = thread::scope(|scope| {
        let around = args.seconds + 2 * WARM_UP;
        let flood = scope.spawn(move || drive(bench::Mode::Bulk, bulk, streams, around));
        let mut plan = Plan::new(bench::Mode::Tcp, ping, 1);
        plan.rate = Some(PINGS_PER_SECOND);
        let ping =
            drive(bench::Mode::Tcp, ping, 1, WARM_UP).and_then(|_| drive_plan(plan, args.seconds));
        let flood = flood.join().map_err(|_| "the bulk load failed".to_owned())??;
        Ok::<_, String>((ping?, flood))
    })?;
    let p = Percentiles::of(&ping.tally.latency);
    if let Some(admin) = relay.admin {
        let turns = stats::read(admin)?.shards.into_iter().map(|shard| shard.turn_max_us);
        println!("{name}: turn_max_us {}", turns.max().unwrap_or(0));
    }
    let bulk_mb = flood.tally.bytes as f64 / 1e6 / flood.seconds;
    Ok(vec![p.p50_us as f64, p.p99_us as f64, bulk_mb])
}

/// Drives a load in which nothing may fail.
fn drive(
    mode: bench::Mode,
    target: SocketAddr,
    connections: u32,
    seconds: Duration,
) -> Result<Report, String> {
    drive_plan(Plan::new(mode, target, connections as usize), seconds)
}

fn drive_plan(mut plan: Plan, seconds: Duration) -> Result<Report, String> {
    plan.seconds = Some(seconds);
    let report = bench::drive(&plan, &STOP, |_| {})?;
    let lost = report.tally.failed_total() + report.tally.cut;
    if lost > 0 { Err(format!("{lost} operations failed")) } else { Ok(report) }
}

/// CPU time of all threads of a process so far.
fn cpu_ns(pid: u32) -> Result<u64, String> {
    let tasks = format!("/proc/{pid}/task");
    let gone = |error: std::io::Error| format!("cannot read {tasks}: {error} (did it end?)");
    let mut sum = 0;
    for task in fs::read_dir(&tasks).map_err(gone)? {
        let path = task.map_err(gone)?.path().join("schedstat");
        // A thread that ended between the two reads has nothing to add.
        let text = fs::read_to_string(path).unwrap_or_default();
        let on_cpu = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        sum += on_cpu.unwrap_or(0);
    }
    Ok(sum)
}

fn start_backends(place: &Place) -> Result<Backends, String> {
    let start = |mode: &str| {
        let mut command = Command::new(place.programs.join("ringway"));
        command.args(["backend", "--listen", "127.0.0.1:0", "--mode", mode]);
        let (guard, ready) = Guarded::start_ready("ringway backend", &mut command)?;
        Ok::<_, String>((guard, ready.address("backend")?))
    };
    let ((echo_guard, echo), (source_guard, source)) = (start("echo")?, start("source")?);
    Ok(Backends { echo, source, _guards: [echo_guard, source_guard] })
}

/// The figures mean nothing without the machine, the kernel and the command.
fn introduce(args: &Args) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let words: Vec<String> = std::env::args().skip(1).collect();
    println!("measure {}", words.join(" "));
    println!("Linux {}, {cpus} CPUs, {} rounds of {:?}", kernel.trim(), args.rounds, args.seconds);
}

//! Interleaved rounds: in each, every contender once, so that the machine's moods hit all alike.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use ringway::{
    bench::{self, Mode},
    child::{self, Guarded},
};

use crate::{
    engine,
    figure::{self, Row},
};

const WARM_UP: Duration = Duration::from_millis(300);

/// Set by a signal: finish nothing, clean up.
static STOP: AtomicBool = AtomicBool::new(false);

/// What is measured, and how long.
#[derive(clap::Args)]
pub struct Plan {
    /// Rounds; at least 9 for a figure that is told to others
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of each run
    #[arg(long, default_value = "2", value_parser = ringway::args::positive_duration)]
    seconds: Duration,
    /// Numbers of connections that exchange messages of 128 bytes; 0: none
    #[arg(long, value_delimiter = ',', default_value = "1,64,1000")]
    messages: Vec<u32>,
    /// Numbers of bulk streams; 0: none
    #[arg(long, value_delimiter = ',', default_value = "8")]
    bulk: Vec<u32>,
    /// Who takes part, beside the floor [default: all]
    #[arg(long, value_delimiter = ',')]
    pub contenders: Vec<String>,
}

/// One table.
struct Case {
    mode: Mode,
    connections: u32,
    names: Vec<String>,
}

/// Measures all cases and prints a table of each.
pub fn run(plan: &Plan) -> Result<(), String> {
    child::on_stop_signal(|| STOP.store(true, Ordering::Relaxed));
    engine::check(&plan.contenders)?;
    introduce(plan);
    let (_echo, echo) = backend("echo")?;
    let (_source, source) = backend("source")?;
    for case in cases(plan) {
        let target = if case.mode == Mode::Bulk { source } else { echo };
        let rows = measure(plan, &case, target)?;
        let (title, against) = match case.mode {
            Mode::Bulk => ("CPU s/GB, streams", "floor-splice"),
            _ => ("CPU us/message, connections", "floor-copy"),
        };
        let title = format!("{title}: {}", case.connections);
        println!("\n{}", figure::table(&title, &rows, against));
    }
    Ok(())
}

fn cases(plan: &Plan) -> impl Iterator<Item = Case> {
    let messages = plan.messages.iter().map(|count| (Mode::Tcp, *count));
    let bulk = plan.bulk.iter().map(|count| (Mode::Bulk, *count));
    messages.chain(bulk).filter(|(_, connections)| *connections > 0).map(|(mode, connections)| {
        let wanted = |name: &&str| {
            plan.contenders.is_empty()
                || name.starts_with("floor-")
                || plan.contenders.iter().any(|wanted| wanted == name)
        };
        let names = engine::names(mode == Mode::Bulk).filter(wanted);
        Case { mode, connections, names: names.map(str::to_owned).collect() }
    })
}

fn measure(plan: &Plan, case: &Case, target: SocketAddr) -> Result<Vec<Row>, String> {
    let mut rows: Vec<Row> =
        case.names.iter().map(|name| Row { name: name.clone(), rounds: Vec::new() }).collect();
    for round in 1..=plan.rounds {
        // Nobody always comes after the same one.
        rows.rotate_left(1);
        for row in &mut rows {
            let figure = costs(plan, case, &row.name, target);
            if STOP.load(Ordering::Relaxed) {
                return Err("stopped by a signal; no figures".to_owned());
            }
            if let Err(why) = &figure {
                eprintln!("round {round}: {} is void: {why}", row.name);
            }
            row.rounds.push(figure.ok());
        }
        eprintln!("{} of {} connections: round {round}", case.mode.name(), case.connections);
    }
    let place = |row: &Row| case.names.iter().position(|name| *name == row.name);
    rows.sort_by_key(place);
    Ok(rows)
}

/// A fresh process, a warm-up, then CPU us per message or CPU s per GB.
fn costs(plan: &Plan, case: &Case, name: &str, target: SocketAddr) -> Result<f64, String> {
    let (process, relay) = engine::start(name, target)?;
    let drive = |seconds: Duration| {
        let mut load = bench::Plan::new(case.mode, relay, case.connections as usize);
        load.seconds = Some(seconds);
        let report = bench::drive(&load, &STOP, |_| {})?;
        let lost = report.tally.failed_total() + report.tally.cut;
        if lost > 0 { Err(format!("{lost} operations failed")) } else { Ok(report) }
    };
    drive(WARM_UP)?;
    let before = cpu_ns(process.pid())?;
    let tally = drive(plan.seconds)?.tally;
    let spent = (cpu_ns(process.pid())? - before) as f64;
    Ok(match case.mode {
        // Nanoseconds per byte are seconds per GB.
        Mode::Bulk => spent / tally.bytes.max(1) as f64,
        _ => spent / 1e3 / tally.operations.max(1) as f64,
    })
}

/// CPU time of all threads of a process so far, the kernel's workers for its ring among them.
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

/// Starts a test server.
pub fn backend(mode: &str) -> Result<(Guarded, SocketAddr), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["backend", "--listen", "127.0.0.1:0", "--mode", mode]);
    let (guard, ready) = Guarded::start_ready("backend", &mut command)?;
    Ok((guard, ready.address("backend")?))
}

/// The figures mean nothing without the machine, the kernel and the command.
fn introduce(plan: &Plan) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    println!("bakeoff {}", words.join(" "));
    println!("Linux {}, {cpus} CPUs, {} rounds of {:?}", kernel.trim(), plan.rounds, plan.seconds);
}

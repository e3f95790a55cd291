//! CPU time, memory and latency of relays, interleaved, so that the machine's moods hit all alike.
//!
//! `perf/compare` and `perf/quick` build what is needed and call this. Compare only figures of the
//! same run.

#[path = "measure/calls.rs"]
mod calls;
#[path = "measure/case.rs"]
mod case;
#[path = "measure/chart.rs"]
mod chart;
#[path = "measure/contender.rs"]
mod contender;
#[path = "measure/figure.rs"]
mod figure;
#[path = "measure/folder.rs"]
mod folder;
#[path = "measure/idle.rs"]
mod idle;
#[path = "measure/launch.rs"]
mod launch;
#[path = "measure/load.rs"]
mod load;
#[path = "measure/machine.rs"]
mod machine;
#[path = "measure/report.rs"]
mod report;
#[path = "measure/settings.rs"]
mod settings;
#[path = "measure/tail.rs"]
mod tail;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use clap::{Parser, ValueEnum};
use contender::{Backend, Place};
use figure::{Outcome, Row, Standing};
use folder::{Report, TempDir};
use load::Lab;
use ringway::{bench, child};

use crate::case::{Case, Work};

/// Set by a signal: begin nothing more, tell what there is, clean up.
static STOP: AtomicBool = AtomicBool::new(false);

/// Measure relays, interleaved.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Args {
    /// What is measured; messages, bulk and connect with any count
    #[arg(long, value_delimiter = ',', value_parser = Case::parse, default_values = case::ALL)]
    cases: Vec<Case>,
    /// Rounds; at least 9 for a figure that is told to others
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds measured of each load
    #[arg(long, default_value = "2", value_parser = ringway::args::positive_duration)]
    seconds: Duration,
    /// Who takes part [default: all that are installed]
    #[arg(long, value_delimiter = ',')]
    contenders: Vec<String>,
    /// Where proxies run: on a CPU that nobody else has, or anywhere
    #[arg(long, default_value = "proxy")]
    pin: Pin,
    /// Write a report and its charts into this folder
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Not twice as many rounds where a limit lies within the quartiles or good rounds are too few
    #[arg(long)]
    once: bool,
    /// Print the cases and end
    #[arg(long)]
    list: bool,
}

#[derive(ValueEnum, Clone, Copy, PartialEq)]
enum Pin {
    Proxy,
    None,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == launch::WORD) {
        eprintln!("{}", launch::become_program(words));
        return ExitCode::FAILURE;
    }
    let args = Args::parse();
    match if args.list { list() } else { measure(&args) } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), String> {
    for name in case::ALL.iter().chain([&case::FAIR]) {
        println!("{name:<20} {}", Case::parse(name)?.words());
    }
    Ok(())
}

fn measure(args: &Args) -> Result<(), String> {
    bench::raise_nofile();
    // Before any thread is started: they stay where their starter does.
    let proxy_cpu = (args.pin == Pin::Proxy).then(launch::leave_a_cpu).transpose()?;
    child::on_stop_signal(|| STOP.store(true, Ordering::Relaxed));
    let files = TempDir::new()?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let programs = program.ancestors().nth(2).map(PathBuf::from);
    let programs = programs.ok_or("cannot find the folder of our programs")?;
    let place = Place { programs, files: files.0.clone(), proxy_cpu };

    let installed = installed(args, &place)?;
    let mut facts = machine::facts(&installed, &place.programs.join("ringway"));
    facts.push(("rounds", format!("{} of {:?}, of some cases fewer", args.rounds, args.seconds)));
    facts.push((
        "CPUs",
        match proxy_cpu {
            Some(cpu) => format!("proxies have CPU {cpu} alone, client and backend the others"),
            None => "nobody is pinned".to_owned(),
        },
    ));
    let report = args.report.as_deref().map(Report::open).transpose()?;
    let outcomes = outcomes(args, &place, &installed);
    let stopped = STOP.load(Ordering::Relaxed);
    if stopped {
        facts.push(("stopped", "by a signal: cases and rounds are missing".to_owned()));
    }
    // Where nothing was measured, what was made for the report goes with its guard.
    if let Some(report) = report.filter(|_| !outcomes.is_empty()) {
        report.write(&facts, &installed, &outcomes)?;
    }
    if stopped { Err("stopped by a signal".to_owned()) } else { Ok(()) }
}

/// All cases, or what a signal leaves of them.
fn outcomes(args: &Args, place: &Place, installed: &[String]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for case in &args.cases {
        let outcome = compare(args, case, place, installed);
        let stopped = STOP.load(Ordering::Relaxed);
        if !stopped || outcome.rows.iter().any(|row| row.good() > 0) {
            println!("{}", report::case(&outcome, None));
            outcomes.push(outcome);
        }
        if stopped {
            break;
        }
    }
    outcomes
}

/// Who can take part: all who were named have to start, of the others those that do.
fn installed(args: &Args, place: &Place) -> Result<Vec<String>, String> {
    let named = !args.contenders.is_empty();
    let all = settings::NAMES.map(str::to_owned).to_vec();
    let backend = Backend::start(place, "echo", 1)?;
    let mut names = Vec::new();
    for name in if named { &args.contenders } else { &all } {
        match contender::start(place, name, &[&backend.addresses]) {
            Ok(_) => names.push(name.clone()),
            Err(why) if named => return Err(format!("{name}: {why}")),
            Err(why) => eprintln!("{name} takes no part: {why}"),
        }
    }
    Ok(names)
}

/// What can be said of a case. An error of ours voids it and not the cases after it.
fn compare(args: &Args, case: &Case, place: &Place, installed: &[String]) -> Outcome {
    // Whoever was named takes part wherever possible.
    let takes_part = |name: &&String| match args.contenders.is_empty() {
        true => case.wants(name),
        false => case.takes(name),
    };
    let names = installed.iter().filter(takes_part);
    let rows = names.map(|name| Row { name: name.clone(), rounds: Vec::new() }).collect();
    let rounds = case.rounds(args.rounds as usize);
    let (enough, void) = (rounds.min(figure::ENOUGH), Vec::new());
    let notes = case.caveat().map(str::to_owned).into_iter().collect();
    let mut outcome = Outcome { case: case.clone(), rows, enough, notes, void };
    let mut lab = Lab { place, seconds: args.seconds, stop: &STOP, rate: None };
    if case.work == Work::Latency {
        match half_of_the_slowest(&lab, &mut outcome) {
            Ok(rate) => lab.rate = Some(rate),
            Err(why) => {
                let why = format!("all: no rate to send at: {why}");
                eprintln!("{}: void: {why}", outcome.case.name);
                outcome.void.push(why);
                return outcome;
            }
        }
    }
    run_rounds(&lab, &mut outcome, 0..rounds);
    let open = |standing| matches!(standing, Standing::Open | Standing::TooFew(1..));
    let again = !args.once && !STOP.load(Ordering::Relaxed);
    if again && outcome.verdicts().iter().any(|verdict| open(verdict.standing)) {
        let why = "a limit lay within the quartiles, or rounds were void: twice the rounds";
        outcome.notes.push(why.to_owned());
        run_rounds(&lab, &mut outcome, rounds..2 * rounds);
    }
    outcome
}

/// Ends early when a signal says so; of a run that it cut there is nothing.
fn run_rounds(lab: &Lab, outcome: &mut Outcome, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for at in figure::order(round, outcome.rows.len()) {
            let row = &mut outcome.rows[at];
            let figures = lab.run(&outcome.case, &row.name);
            if STOP.load(Ordering::Relaxed) {
                return;
            }
            if let Err(why) = &figures {
                let why = format!("round {}: {}: {why}", round + 1, row.name);
                eprintln!("{}: void: {why}", outcome.case.name);
                outcome.void.push(why);
            }
            row.rounds.push(figures.ok());
        }
        eprintln!("{}: round {} done", outcome.case.name, round + 1);
    }
}

/// The rate of the latency case: what the slowest peer can do, halved; without peers, the slowest
/// of all.
fn half_of_the_slowest(lab: &Lab, outcome: &mut Outcome) -> Result<f64, String> {
    let mut rows: Vec<&Row> = outcome.rows.iter().filter(|row| row.is_peer()).collect();
    if rows.is_empty() {
        rows = outcome.rows.iter().collect();
    }
    let mut slowest: Option<(f64, &str)> = None;
    for row in rows {
        let peak = lab.peak(&row.name).map_err(|why| format!("{}: {why}", row.name))?;
        if slowest.is_none_or(|(least, _)| peak < least) {
            slowest = Some((peak, &row.name));
        }
    }
    let (peak, name) = slowest.ok_or("nobody takes part")?;
    let rate = (peak / 2.0).floor();
    let note = format!("{rate} messages a second, half of the {peak:.0} that {name} can do");
    outcome.notes.push(note);
    Ok(rate)
}

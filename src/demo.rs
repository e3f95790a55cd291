//! `ringway demo`: the whole product with nothing installed.
//!
//! In reading order: `stage` starts what takes part and stops it, `traffic` drives the load and
//! tells what the kill cut from what failed, `table` shows it, `stats` reads the proxy's figures.

mod stage;
pub mod stats;
mod table;
mod traffic;

use std::{
    io::{self, IsTerminal, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use self::{stage::Stage, table::Table, traffic::Traffic};
use crate::{args, child};

/// Between two tables on a terminal, and two lines elsewhere.
const REDRAW: Duration = Duration::from_millis(500);
const LINE: Duration = Duration::from_secs(1);
/// Between two looks at the clock and the stop flag.
const TICK: Duration = Duration::from_millis(50);
/// Without `--seconds`: a backend dies, and comes back, each so often.
const CYCLE: Duration = Duration::from_secs(10);

/// Arguments of `ringway demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  ringway demo
  ringway demo --seconds 15

It listens on 127.0.0.1:8080 and serves its figures on 127.0.0.1:9900 (on free ports where those are
taken). Operations that the killed backend took with it are shown apart; exit code 1 if any other
failed.")]
pub struct Args {
    /// How long; a bare number is seconds [default: until Ctrl-C]
    #[arg(long, value_name = "N", value_parser = args::positive_duration)]
    seconds: Option<Duration>,
}

/// Shows the product until the time is over or Ctrl-C.
pub fn run(args: Args) -> ExitCode {
    crate::bench::raise_nofile();
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    child::on_stop_signal(move || asked.store(true, Ordering::Relaxed));
    match show(&args, &stop) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// True exactly when nothing failed but what the kills cut.
fn show(args: &Args, stop: &AtomicBool) -> Result<bool, String> {
    let mut stage = Stage::start()?;
    stage.announce(args.seconds);
    let target = stage.listener;
    let summary = thread::scope(|scope| {
        let traffic = Traffic::start(scope, target);
        let played = play(args, stop, &mut stage, &traffic);
        let summary = traffic.finish(stage.kills());
        played.and(summary)
    })?;
    stage.stop()?;
    print!("{summary}");
    Ok(summary.is_good())
}

/// Kills and restores a backend, and shows the figures, until it is time to end.
fn play(
    args: &Args,
    stop: &AtomicBool,
    stage: &mut Stage,
    traffic: &Traffic<'_>,
) -> Result<(), String> {
    let start = Instant::now();
    let third = args.seconds.map_or(CYCLE, |seconds| seconds / 3);
    let on_terminal = io::stdout().is_terminal();
    let mut table = Table::new(on_terminal);
    let (mut next_show, mut acts) = (start, 1);
    while !stop.load(Ordering::Relaxed) && args.seconds.is_none_or(|end| start.elapsed() < end) {
        let last_act = args.seconds.is_some() && acts > 2;
        if !last_act && start.elapsed() >= third * acts {
            if acts % 2 == 1 {
                stage.kill_one()?
            } else {
                stage.restore()?
            }
            acts += 1;
        }
        if Instant::now() >= next_show {
            next_show += if on_terminal { REDRAW } else { LINE };
            let stats = stats::read(stage.admin)?;
            let text = table.render(&stats, &traffic.last(), &stage.note());
            // A reader that went away is no reason to leave the children behind.
            let _ = io::stdout().write_all(text.as_bytes());
            let _ = io::stdout().flush();
        }
        thread::park_timeout(TICK);
    }
    Ok(())
}

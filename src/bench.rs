//! `ringway bench`: a load generator that counts latency from when the operation was due.
//!
//! In reading order: `pace` says when operations are due, `slot` is one connection, `poll` the wait
//! for all of them, `worker` one thread's loop over its connections, `tally` what is counted,
//! `print` what is shown, `plot` what is drawn. The demo uses it as a library: a [`Plan`], and
//! [`drive`].

mod pace;
mod plot;
mod poll;
pub mod print;
mod slot;
pub mod svg;
mod tally;
mod worker;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use rustix::process::{Resource, Rlimit};

pub use self::tally::{Kind, Loss, Tally};
use self::worker::{Shared, Worker};
pub use crate::hist::Percentiles;
use crate::{args, child};

/// Bytes of an echo unless `--size` says otherwise.
const ECHO_BYTES: u64 = 128;
/// An echo is held in memory whole.
const ECHO_BYTES_MAX: u64 = 16 << 20;
/// Fewer connections than this per thread are not worth one.
const CONNECTIONS_PER_WORKER_MIN: usize = 16;

/// Arguments of `ringway bench`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  ringway bench tcp --target 127.0.0.1:8080 --connections 64 --seconds 10
  ringway bench tcp --target 127.0.0.1:8080 --connections 1000 --rate 20000
  ringway bench bulk --target 127.0.0.1:8080 --connections 8 --size 1GiB
  ringway bench connect --target 127.0.0.1:8080 --connections 32 --rate 500 --json

With --rate the load is an open loop: operations are due by the clock, and latency counts from then.
Without it a connection starts its next operation when the last one is done (closed loop).
A held connection that worked and is then reset or closed counts as cut, not as failed, and is made
again. Exit code 1 if any operation failed.")]
pub struct Args {
    /// What an operation is
    mode: Mode,
    /// Address to connect to
    #[arg(long, value_name = "ADDRESS")]
    target: SocketAddr,
    /// Connections held (connect: operations at once)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Operations per second over all connections [default: as fast as they come back]
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// tcp, connect: bytes of an echo [default: 128]; bulk: bytes that each stream has to have
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    size: Option<u64>,
    /// How long; a bare number is seconds
    #[arg(long, value_name = "S", default_value = "10", value_parser = args::positive_duration)]
    seconds: Duration,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
    /// Draw the percentile curve into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// What an operation is.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Echo bytes on held connections
    Tcp,
    /// Read from a source until the time is over
    Bulk,
    /// Connect, echo once, close
    Connect,
}

impl Mode {
    /// The word on the command line and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Bulk => "bulk",
            Self::Connect => "connect",
        }
    }
}

/// A load to drive.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What an operation is.
    pub mode: Mode,
    /// Where to connect.
    pub target: SocketAddr,
    /// Connections held, or operations at once in [`Mode::Connect`].
    pub connections: usize,
    /// Operations per second in all; `None`: closed loop. Not for [`Mode::Bulk`].
    pub rate: Option<f64>,
    /// Bytes of an echo (`None`: 128), or what each stream has to have (`None`: any).
    pub size: Option<u64>,
    /// `None`: until stopped.
    pub seconds: Option<Duration>,
    /// Between two calls of the observer.
    pub interval: Duration,
}

impl Plan {
    /// A closed loop without end, observed each second.
    pub fn new(mode: Mode, target: SocketAddr, connections: usize) -> Self {
        let interval = Duration::from_secs(1);
        Self { mode, target, connections, rate: None, size: None, seconds: None, interval }
    }

    fn payload_bytes(&self) -> usize {
        match self.mode {
            Mode::Tcp | Mode::Connect => self.size.unwrap_or(ECHO_BYTES) as usize,
            Mode::Bulk => 0,
        }
    }

    fn problem(&self) -> Option<String> {
        let size = self.size.unwrap_or(1);
        if self.mode != Mode::Bulk && !(1..=ECHO_BYTES_MAX).contains(&size) {
            return Some(format!(
                "--size {size}: an echo has 1 byte to 16MiB (choose one between)"
            ));
        }
        if self.mode == Mode::Bulk && size == 0 {
            return Some("--size 0: a stream of no bytes cannot be measured (leave it out)".into());
        }
        let bulk_rate = self.mode == Mode::Bulk && self.rate.is_some();
        bulk_rate.then(|| "--rate: bulk reads as fast as it can (leave --rate out)".into())
    }
}

/// What a finished load gave.
#[derive(Clone, Debug)]
pub struct Report {
    /// All counts.
    pub tally: Tally,
    /// From the moment all connections were up until no operation was begun any more.
    pub seconds: f64,
    /// Operations that were due but found no free connection until the end.
    pub unbegun: u64,
}

/// Runs the load and prints what it gave.
pub fn run(args: Args) -> ExitCode {
    let mut plan = Plan::new(args.mode, args.target, args.connections as usize);
    (plan.rate, plan.size, plan.seconds) = (args.rate, args.size, Some(args.seconds));
    if let Some(problem) = plan.problem() {
        eprintln!("{problem}");
        return ExitCode::from(2);
    }
    let picture = match args.plot.as_deref().map(plot::Picture::open).transpose() {
        Ok(picture) => picture,
        Err(sentence) => return said(&sentence),
    };
    raise_nofile();
    let stop = Arc::new(AtomicBool::new(false));
    // Ctrl-C ends the load early, with its table.
    let asked = Arc::clone(&stop);
    child::on_stop_signal(move || asked.store(true, Ordering::Relaxed));
    let mut seconds = 0.0;
    let report = drive(&plan, &stop, |second| {
        seconds += plan.interval.as_secs_f64();
        if seconds <= args.seconds.as_secs_f64() {
            eprintln!("{}", print::progress(plan.mode, seconds, second));
        }
    });
    match report {
        Ok(report) => {
            let drawn = picture.map_or(Ok(()), |picture| picture.draw(&plan, &report));
            let code = conclude(&plan, &report, args.json);
            drawn.map_or_else(|sentence| said(&sentence), |()| code)
        }
        Err(sentence) => said(&sentence),
    }
}

fn said(sentence: &str) -> ExitCode {
    eprintln!("{sentence}");
    ExitCode::FAILURE
}

fn conclude(plan: &Plan, report: &Report, json: bool) -> ExitCode {
    let tally = &report.tally;
    if json {
        println!("{}", tally.to_json(plan.mode.name(), report.seconds));
    } else {
        print!("{}", print::table(plan.mode, report));
    }
    if let (0, Some((kind, _))) = (tally.operations, tally.failures().next()) {
        eprintln!("no operation succeeded on {}: {}", plan.target, kind.advice());
    }
    if tally.failed_total() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Drives a load until its time is over or `stop` is set. The observer gets the counts of each
/// interval that passed. An error is a sentence: the connections could not all be made.
pub fn drive(
    plan: &Plan,
    stop: &AtomicBool,
    mut observe: impl FnMut(&Tally),
) -> Result<Report, String> {
    let workers = plan.connections.div_ceil(CONNECTIONS_PER_WORKER_MIN);
    let workers = workers.min(thread::available_parallelism().map_or(1, usize::from)).max(1);
    let shared: Vec<Shared> = (0..workers).map(|_| Shared::default()).collect();
    thread::scope(|scope| {
        let (news_sender, news) = mpsc::channel();
        let gates: Vec<mpsc::Sender<Instant>> = (shared.iter().enumerate())
            .map(|(index, shared)| {
                let (gate, opened) = mpsc::channel();
                let news = news_sender.clone();
                let place = Place { plan, shared, index, workers, stop };
                scope.spawn(move || place.work(&opened, &news));
                gate
            })
            .collect();
        drop(news_sender);
        for _ in &gates {
            if let Ok(News::CannotStart(kind)) = news.recv() {
                return Err(format!("cannot connect to {}: {}", plan.target, kind.advice()));
            }
        }
        let start = Instant::now();
        for gate in &gates {
            let _ = gate.send(start); // a worker that is gone is missed below
        }
        Ok(watch(plan, &shared, &news, &mut observe))
    })
}

/// What a worker tells: once when its connections are up or not, once when it is done.
enum News {
    Up,
    CannotStart(Kind),
    Done { unbegun: u64, seconds: f64 },
}

/// Where a worker stands among the others.
struct Place<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    index: usize,
    workers: usize,
    stop: &'a AtomicBool,
}

impl Place<'_> {
    fn work(&self, opened: &mpsc::Receiver<Instant>, news: &mpsc::Sender<News>) {
        let worker = Worker::new(self.plan, self.shared, self.index, self.workers);
        let prepared = worker.map_err(|_| Kind::Local).and_then(|mut worker| {
            worker.prepare(self.stop)?;
            Ok(worker)
        });
        let (worker, said) = match prepared {
            Ok(worker) => (Some(worker), News::Up),
            Err(kind) => (None, News::CannotStart(kind)),
        };
        // Nobody listens any more when another worker could not start: then there is no start.
        let _ = news.send(said);
        if let (Some(mut worker), Ok(start)) = (worker, opened.recv()) {
            let (unbegun, seconds) = worker.work(start, self.stop);
            let _ = news.send(News::Done { unbegun, seconds });
        }
    }
}

/// Shows each interval to the observer until all workers are done.
fn watch(
    plan: &Plan,
    shared: &[Shared],
    news: &mpsc::Receiver<News>,
    observe: &mut impl FnMut(&Tally),
) -> Report {
    let mut report = Report { tally: Tally::default(), seconds: 0.0, unbegun: 0 };
    let mut interval = Tally::default();
    let mut next = Instant::now() + plan.interval;
    loop {
        match news.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(News::Done { unbegun, seconds }) => {
                report.unbegun += unbegun;
                report.seconds = report.seconds.max(seconds);
            }
            Ok(News::Up | News::CannotStart(_)) => {}
            Err(mpsc::RecvTimeoutError::Timeout) => {
                next += plan.interval;
                gather(&mut interval, shared);
                observe(&interval);
                report.tally.take_from(&mut interval);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    gather(&mut interval, shared);
    if interval.operations + interval.failed_total() + interval.cut > 0 {
        observe(&interval);
    }
    report.tally.take_from(&mut interval);
    report
}

fn gather(interval: &mut Tally, shared: &[Shared]) {
    for shared in shared {
        let mut tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        interval.take_from(&mut tally);
    }
}

/// Raises the soft limit of open files to the hard one; refused, the soft one stays.
pub fn raise_nofile() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "not a positive number of operations per second (for example 500)".into())
}

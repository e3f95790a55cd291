//! THE CONTROL PLANE: one thread that checks backends, gathers what the shards counted, answers the
//! admin endpoint and follows signals.
//!
//! It owns no connection and touches no byte of traffic. If it stalls, traffic goes on; it runs on
//! the main thread, so when it returns the process ends.
//!
//! Its rooms: `know` is what it knows of backends, `tell` what it shows, `admin` the endpoint.
//! Imports run in this one direction, `know` <- `tell` <- `admin`; `facts` and `shown` are leaves
//! that all of them use, `signals` is for this file. What the tasks share is in three parts: the
//! fixed `Facts` of the process, what is `Known`, what shards have `Recorded`.

mod admin;
mod facts;
mod know;
mod shown;
mod signals;
mod tell;

use std::{
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::net::TcpListener;

pub use self::admin::bind as bind_admin;
pub use self::know::{events::Events, names, pools::Pools};
use self::{
    admin::{Clients, Endpoint},
    facts::Facts,
    know::{
        Known, check,
        events::{Event, Serving},
        lookups, pools,
    },
    tell::{Recorded, gather, panics, pressure, report, seconds, stats},
};
use crate::{
    access_log::AccessLog,
    bridge::{Bridge, Phase, ShardState},
    config::{Config, References},
    errno::cause,
    limits::{FLUSH_MAX, Limits},
    log::LostLines,
    rt::Choice,
};

/// What the coordinator is given to start with.
pub struct Setup {
    /// The configuration in force.
    pub config: Config,
    /// What it shares with the shards.
    pub bridge: &'static Bridge,
    /// What the shards wait with, and why.
    pub driver: Choice,
    /// What fits this host.
    pub limits: Limits,
    /// Where changes are told.
    pub events: Arc<Events>,
    /// Every backend; its rosters are published.
    pub pools: Pools,
    /// Who leads where.
    pub references: References,
    /// From [`bind_admin`].
    pub admin: net::TcpListener,
    /// The addresses each listener is bound to, in the order of the plan.
    pub bound: Vec<Vec<SocketAddr>>,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// Counts log lines that were dropped.
    pub lost_lines: LostLines,
    /// Starts the shards, once it is known who is behind the names; the error is a sentence.
    pub start_shards: Box<dyn FnOnce() -> Result<(), String>>,
}

/// What the life of the process is followed with, from the first line to the last.
struct Life {
    facts: Arc<Facts>,
    recorded: Arc<Recorded>,
    events: Arc<Events>,
}

impl Life {
    fn phase(&self, from: &'static str, to: &'static str, reason: impl Into<String>) {
        self.events.tell(Event::Phase { from, to, reason: reason.into() });
    }
}

/// How often a draining process looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// After the cut, how long shards may take to close what they have: what is queued comes first. The
/// kernel goes on with a connection that is closed in order, whether we are there or not.
const CUT_MAX: Duration = FLUSH_MAX.saturating_add(Duration::from_secs(2));

/// How long the last lines of the access log may take.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// How long shards wait for the first answers to the names of a pool that has nobody without them:
/// clients that come meanwhile wait in the listen queue instead of finding nobody.
const FIRST_LOOKUPS_MAX: Duration = Duration::from_secs(5);

/// Starts the shards, and runs the control plane on the calling thread until the process has
/// drained.
///
/// # Errors
/// The runtime, the admin listener, the signal handlers, the resolver or a shard could not be made.
pub fn run(setup: Setup) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| cause(&error))?.block_on(async move {
        let mut signals = signals::Signals::new().map_err(|error| cause(&error))?;
        let names = lookups::names(&setup.config)?;
        let admin = TcpListener::from_std(setup.admin).map_err(|error| cause(&error))?;
        let admin_address = admin.local_addr().map_err(|error| cause(&error))?;
        let facts = Arc::new(Facts {
            config: setup.config,
            bridge: setup.bridge,
            driver: setup.driver,
            limits: setup.limits,
            bound: setup.bound,
            lost_lines: setup.lost_lines,
            started: Instant::now(),
            started_at: SystemTime::now(),
        });
        let recorded = Arc::new(Recorded::new(setup.bridge));
        let life = Life { facts, recorded, events: setup.events };
        let known = Known::new(&life.facts, setup.pools, setup.references, &life.events);
        let known = Arc::new(known);
        start_tasks(&life, &known, admin);
        let recorded = Arc::clone(&life.recorded);
        lookups::start(&known, names, move |slot| recorded.forget(slot));
        let waiting = tokio::time::timeout(FIRST_LOOKUPS_MAX, lookups::somebody_everywhere(&known));
        tokio::select! {
            _ = waiting => {}
            () = signals.stop_asked(setup.access_log.as_ref()) => {
                life.phase("starting", "stopped", "stopped before it served");
                return Ok(());
            }
        }
        (setup.start_shards)()?;
        announce(&life, admin_address);
        // Not before: on stdout the first line is the one above.
        let mut access_log = setup.access_log;
        let start = |log: &mut AccessLog| log.start(&life.facts.config, life.facts.bridge);
        access_log.as_mut().map_or(Ok(()), start).map_err(|error| cause(&error))?;
        signals.stop_asked(access_log.as_ref()).await;
        drain(&life, &mut signals, access_log.as_ref()).await;
        finish(life.facts.bridge, access_log).await;
        Ok(())
    })
}

/// Starts whatever goes on by itself, but for lookups.
fn start_tasks(life: &Life, known: &Arc<Known>, admin: TcpListener) {
    let facts = || Arc::clone(&life.facts);
    let recorded = || Arc::clone(&life.recorded);
    let clients = Arc::new(Clients::default());
    let endpoint = Endpoint {
        facts: facts(),
        known: Arc::clone(known),
        recorded: recorded(),
        clients: Arc::clone(&clients),
    };
    tokio::spawn(gather::run(facts(), recorded()));
    tokio::spawn(pools::run(Arc::clone(known)));
    tokio::spawn(pressure::run(facts(), Arc::clone(&life.events)));
    tokio::spawn(panics::run(life.facts.bridge));
    tokio::spawn(admin::serve(endpoint, admin));
    tokio::spawn(admin::refused::run(clients));
    tokio::spawn(report::run(facts(), recorded()));
    tokio::spawn(seconds::run(facts(), recorded()));
    check::start(known);
}

fn announce(life: &Life, admin: SocketAddr) {
    let facts = &life.facts;
    life.events.tell(Event::Driver(Serving {
        version: env!("CARGO_PKG_VERSION"),
        driver: facts.driver.driver.name(),
        driver_reason: facts.driver.reason.clone(),
        shards: facts.limits.shards,
        max_connections: facts.limits.max_connections,
        pipes_per_shard: facts.limits.pipes_per_shard,
        config: facts.config.path.display().to_string(),
        digest: facts.config.digest.clone(),
    }));
    if let Some(token) = facts.config.admin.token.as_ref().filter(|token| token.exposed) {
        let file = token.file.display();
        tracing::warn!(%file, "others than its owner may read the token file (chmod 600)");
    }
    let mut line = format!("ready admin={admin}");
    for (listener, bound) in facts.bridge.plan.listeners.iter().zip(&facts.bound) {
        let addresses: Vec<String> = bound.iter().map(SocketAddr::to_string).collect();
        line += &format!(" {}={}", listener.name, addresses.join(","));
    }
    // Whoever started us may have closed stdout; that is no reason not to serve.
    let _ = io::Write::write_all(&mut io::stdout(), format!("{line}\n").as_bytes());
}

/// Leave, drain, cut; a second signal goes straight to the cut.
async fn drain(life: &Life, signals: &mut signals::Signals, access_log: Option<&AccessLog>) {
    let Facts { config, bridge, .. } = &*life.facts;
    let runtime = &config.runtime;
    let (delay, timeout) = (runtime.drain_delay, runtime.drain_timeout);
    life.phase("running", "leaving", format!("a signal; still accepting for {delay:?}"));
    bridge.advance(Phase::Leaving);
    let finish = async {
        tokio::time::sleep(delay).await;
        life.phase("leaving", "draining", format!("what is open may finish within {timeout:?}"));
        bridge.advance(Phase::Draining);
        if tokio::time::timeout(timeout, until_drained(bridge)).await.is_err() {
            life.phase("draining", "cutting", "drain_timeout is over");
        }
    };
    tokio::select! {
        () = finish => {}
        () = signals.stop_asked(access_log) => {
            let from = if bridge.phase() == Phase::Leaving { "leaving" } else { "draining" };
            life.phase(from, "cutting", "second signal");
        }
    }
    bridge.advance(Phase::Cutting);
    let in_time = tokio::time::timeout(CUT_MAX, until_drained(bridge)).await.is_ok();
    gather::gather(&life.facts, &life.recorded);
    report::totals(bridge, in_time);
}

/// Lets the access log be written to its end, as far as somebody takes it.
async fn finish(bridge: &Bridge, access_log: Option<AccessLog>) {
    let Some(access_log) = access_log else { return };
    let taken = tokio::time::timeout(FINISH_MAX, access_log.finish()).await;
    let ended: u64 = stats::all_sums(bridge).ended.iter().sum();
    let written = bridge.access_log.lines.get();
    let dropped = bridge.access_lines_dropped();
    if taken.is_err() {
        let left = ended.saturating_sub(written + dropped);
        tracing::warn!(left, "nobody takes the rest of the access log; these lines are lost");
    }
    tracing::info!(written, dropped, "the end of the access log");
}

async fn until_drained(bridge: &Bridge) {
    while !is_drained(bridge) {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// Whether no shard has anything left to do.
fn is_drained(bridge: &Bridge) -> bool {
    let over = [ShardState::Done, ShardState::Failed];
    bridge.boards.shards.iter().all(|shard| over.contains(&shard.state()))
}

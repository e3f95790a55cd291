//! THE CONTROL PLANE: one thread that checks backends, gathers what the shards counted, answers the
//! admin endpoint and follows signals.
//!
//! It owns no connection and touches no byte of traffic. If it stalls, traffic goes on; it runs on
//! the main thread, so when it returns the process ends.
//!
//! Its rooms: `know` is what it knows of backends, `tell` what it shows, `admin` the endpoint.
//! Imports run in this one direction, `know` <- `tell` <- `admin`. `shown` is a leaf that all of
//! them use; `signals` is for this file.

mod admin;
mod know;
mod shown;
mod signals;
mod tell;

use std::{
    io,
    net::{self, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime},
};

use tokio::{net::TcpListener, sync::watch};

pub use self::admin::bind as bind_admin;
pub use self::know::{events::Events, names, pools::Pools};
use self::{
    know::{
        check,
        events::{Event, Serving},
        lookups, pools,
    },
    tell::{gather, panics, pressure, report, seconds, stats},
};
use crate::{
    access_log::AccessLog,
    args::cause,
    bridge::{Bridge, Phase, ShardState},
    config::{Config, References},
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

/// What the coordinator's tasks share.
struct App {
    config: Config,
    bridge: &'static Bridge,
    driver: Choice,
    limits: Limits,
    bound: Vec<Vec<SocketAddr>>,
    references: References,
    lost_lines: LostLines,
    started: Instant,
    /// The same by the clock on the wall, read once: it may be set meanwhile.
    started_at: SystemTime,
    events: Arc<Events>,
    gathered: Mutex<gather::Gathered>,
    pools: Mutex<Pools>,
    seconds: seconds::Seconds,
    /// Who is connected to the admin endpoint.
    admin: admin::Clients,
    check_places: check::Places,
    /// Marked as changed after each change by an operator: sleeping checks look up.
    orders: watch::Sender<()>,
}

impl App {
    /// Every backend. Not held across a wait; this thread is the only one that asks.
    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().expect("nobody panics holding it")
    }

    /// Every backend, with everything that is known of them in force.
    fn pools_in_force(&self) -> MutexGuard<'_, Pools> {
        let mut pools = self.pools();
        pools.publish(self.bridge, Instant::now());
        pools
    }

    fn phase(&self, from: &'static str, to: &'static str, reason: impl Into<String>) {
        self.events.tell(Event::Phase { from, to, reason: reason.into() });
    }

    /// Whether no shard has anything left to do.
    fn drained(&self) -> bool {
        let over = [ShardState::Done, ShardState::Failed];
        self.bridge.boards.shards.iter().all(|shard| over.contains(&shard.state()))
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
        let app = Arc::new(App {
            gathered: Mutex::new(gather::Gathered::new(setup.bridge)),
            events: setup.events,
            pools: Mutex::new(setup.pools),
            seconds: seconds::Seconds::new(),
            admin: admin::Clients::default(),
            check_places: check::Places::new(setup.config.pools.len()),
            orders: watch::Sender::new(()),
            config: setup.config,
            bridge: setup.bridge,
            driver: setup.driver,
            limits: setup.limits,
            bound: setup.bound,
            references: setup.references,
            lost_lines: setup.lost_lines,
            started: Instant::now(),
            started_at: SystemTime::now(),
        });
        tokio::spawn(gather::run(Arc::clone(&app)));
        tokio::spawn(pools::run(Arc::clone(&app)));
        tokio::spawn(pressure::run(Arc::clone(&app)));
        tokio::spawn(panics::run(setup.bridge));
        tokio::spawn(admin::serve(Arc::clone(&app), admin));
        tokio::spawn(admin::refused::run(Arc::clone(&app)));
        tokio::spawn(report::run(Arc::clone(&app)));
        tokio::spawn(seconds::run(Arc::clone(&app)));
        check::start(&app);
        lookups::start(&app, names);
        let waiting = tokio::time::timeout(FIRST_LOOKUPS_MAX, lookups::somebody_everywhere(&app));
        tokio::select! {
            _ = waiting => {}
            () = signals.stop_asked(setup.access_log.as_ref()) => {
                app.phase("starting", "stopped", "stopped before it served");
                return Ok(());
            }
        }
        (setup.start_shards)()?;
        announce(&app, admin_address);
        // Not before: on stdout the first line is the one above.
        let mut access_log = setup.access_log;
        let start = |log: &mut AccessLog| log.start(&app.config, app.bridge);
        access_log.as_mut().map_or(Ok(()), start).map_err(|error| cause(&error))?;
        signals.stop_asked(access_log.as_ref()).await;
        drain(&app, &mut signals, access_log.as_ref()).await;
        finish(&app, access_log).await;
        Ok(())
    })
}

fn announce(app: &App, admin: SocketAddr) {
    app.events.tell(Event::Driver(Serving {
        version: env!("CARGO_PKG_VERSION"),
        driver: app.driver.driver.name(),
        driver_reason: app.driver.reason.clone(),
        shards: app.limits.shards,
        max_connections: app.limits.max_connections,
        pipes_per_shard: app.limits.pipes_per_shard,
        config: app.config.path.display().to_string(),
        digest: app.config.digest.clone(),
    }));
    if let Some(token) = app.config.admin.token.as_ref().filter(|token| token.exposed) {
        let file = token.file.display();
        tracing::warn!(%file, "others than its owner may read the token file (chmod 600)");
    }
    let mut line = format!("ready admin={admin}");
    for (listener, bound) in app.bridge.plan.listeners.iter().zip(&app.bound) {
        let addresses: Vec<String> = bound.iter().map(SocketAddr::to_string).collect();
        line += &format!(" {}={}", listener.name, addresses.join(","));
    }
    // Whoever started us may have closed stdout; that is no reason not to serve.
    let _ = io::Write::write_all(&mut io::stdout(), format!("{line}\n").as_bytes());
}

/// Leave, drain, cut; a second signal goes straight to the cut.
async fn drain(app: &App, signals: &mut signals::Signals, access_log: Option<&AccessLog>) {
    let runtime = &app.config.runtime;
    let (delay, timeout) = (runtime.drain_delay, runtime.drain_timeout);
    app.phase("running", "leaving", format!("a signal; still accepting for {delay:?}"));
    app.bridge.advance(Phase::Leaving);
    let finish = async {
        tokio::time::sleep(delay).await;
        app.phase("leaving", "draining", format!("what is open may finish within {timeout:?}"));
        app.bridge.advance(Phase::Draining);
        if tokio::time::timeout(timeout, until_drained(app)).await.is_err() {
            app.phase("draining", "cutting", "drain_timeout is over");
        }
    };
    tokio::select! {
        () = finish => {}
        () = signals.stop_asked(access_log) => {
            let from = if app.bridge.phase() == Phase::Leaving { "leaving" } else { "draining" };
            app.phase(from, "cutting", "second signal");
        }
    }
    app.bridge.advance(Phase::Cutting);
    let in_time = tokio::time::timeout(CUT_MAX, until_drained(app)).await.is_ok();
    gather::gather(app);
    report::totals(app, in_time);
}

/// Lets the access log be written to its end, as far as somebody takes it.
async fn finish(app: &App, access_log: Option<AccessLog>) {
    let Some(access_log) = access_log else { return };
    let taken = tokio::time::timeout(FINISH_MAX, access_log.finish()).await;
    let ended: u64 = stats::all_sums(app).ended.iter().sum();
    let written = app.bridge.access_log.lines.get();
    let dropped = app.bridge.access_lines_dropped();
    if taken.is_err() {
        let left = ended.saturating_sub(written + dropped);
        tracing::warn!(left, "nobody takes the rest of the access log; these lines are lost");
    }
    tracing::info!(written, dropped, "the end of the access log");
}

async fn until_drained(app: &App) {
    while !app.drained() {
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

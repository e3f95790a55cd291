//! The load of the demo, and what of its losses the kill is to blame for.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Scope, ScopedJoinHandle},
    time::{Duration, Instant},
};

use crate::bench::{self, Kind, Loss, Mode, Percentiles, Plan, Report, Tally, print};

const CONNECTS_PER_SECOND: f64 = 300.0;
const CONNECTS_AT_ONCE: usize = 32;
const HELD: usize = 32;
const ECHOES_PER_SECOND: f64 = 640.0;
/// A loss of an established connection this soon after a kill is the kill's.
const KILL_WINDOW: Duration = Duration::from_secs(1);
/// The kill is noted just before the signal; losses never come earlier.
const INTERVAL: Duration = Duration::from_millis(500);

type Load<'scope> = ScopedJoinHandle<'scope, Result<Report, String>>;

/// Two loads under way: new connections, and held ones.
pub struct Traffic<'scope> {
    stop: Arc<AtomicBool>,
    last: Arc<Mutex<[Interval; 2]>>,
    loads: [Load<'scope>; 2],
}

/// The last interval of a load.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Operations per second.
    pub per_second: f64,
    /// Of these operations.
    pub latency: Percentiles,
}

impl<'scope> Traffic<'scope> {
    /// Starts both loads.
    pub fn start<'env>(scope: &'scope Scope<'scope, 'env>, target: SocketAddr) -> Self {
        let (stop, last) = (Arc::default(), Arc::default());
        let plans = [
            (Mode::Connect, CONNECTS_AT_ONCE, CONNECTS_PER_SECOND),
            (Mode::Tcp, HELD, ECHOES_PER_SECOND),
        ];
        let mut place = 0;
        let loads = plans.map(|(mode, connections, rate)| {
            let mut plan = Plan::new(mode, target, connections);
            (plan.rate, plan.interval) = (Some(rate), INTERVAL);
            let (stop, last): (Arc<AtomicBool>, Arc<Mutex<[Interval; 2]>>) =
                (Arc::clone(&stop), Arc::clone(&last));
            let mine = place;
            place += 1;
            scope.spawn(move || {
                bench::drive(&plan, &stop, |tally| {
                    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                    last[mine] = Interval::of(tally);
                })
            })
        });
        Self { stop, last, loads }
    }

    /// The last interval of new connections, and of held ones.
    pub fn last(&self) -> [Interval; 2] {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the loads; the losses around `kills` are the kills'.
    pub fn finish(self, kills: &[Instant]) -> Result<Summary, String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for load in self.loads {
            let report = load.join().map_err(|_| "the load failed".to_owned())?;
            tally.take_from(&mut report?.tally);
        }
        Ok(Summary::of(&tally, kills))
    }
}

impl Interval {
    fn of(tally: &Tally) -> Self {
        let per_second = tally.operations as f64 / INTERVAL.as_secs_f64();
        Self { per_second, latency: Percentiles::of(&tally.latency) }
    }
}

/// What the demo came to.
#[derive(Debug, PartialEq)]
pub struct Summary {
    operations: u64,
    /// Lost with the backend that was killed.
    cut: u64,
    /// Lost for any other reason.
    failed: u64,
    /// The other reasons.
    kinds: Vec<(&'static str, u64)>,
    latency: Percentiles,
}

impl Summary {
    fn of(tally: &Tally, kills: &[Instant]) -> Self {
        let by_kill = |loss: &&Loss| {
            let in_time = kills.iter().any(|kill| {
                loss.at.checked_duration_since(*kill).is_some_and(|after| after < KILL_WINDOW)
            });
            in_time && loss.established && matches!(loss.kind, Kind::Reset | Kind::Closed)
        };
        let cut = tally.losses.iter().filter(by_kill).count() as u64;
        let mut kinds: Vec<_> = Kind::ALL
            .into_iter()
            .map(|kind| {
                let losses = tally.losses.iter().filter(|loss| loss.kind == kind);
                (kind.name(), losses.filter(|loss| !by_kill(loss)).count() as u64)
            })
            .collect();
        kinds.retain(|(_, count)| *count > 0);
        let failed = tally.failed_total() + tally.cut - cut;
        let latency = Percentiles::of(&tally.latency);
        Self { operations: tally.operations, cut, failed, kinds, latency }
    }

    /// True exactly when something was done and nothing failed by our fault.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.operations > 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (print::micros(self.latency.p50_us), print::micros(self.latency.p99_us));
        writeln!(f, "\n{} operations, p50 {p50}, p99 {p99}", self.operations)?;
        writeln!(f, "{} cut: they were with the backend when it was killed", self.cut)?;
        write!(f, "{} failed for another reason", self.failed)?;
        self.kinds.iter().try_for_each(|(kind, count)| write!(f, "  {kind} {count}"))?;
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_lost_right_after_a_kill_are_the_kills() {
        let kill = Instant::now();
        let after = |ms| kill + Duration::from_millis(ms);
        let loss = |at, kind, established, cut| Loss { at, kind, established, cut };
        let mut tally = Tally::default();
        tally.done(1000);
        tally.lost(loss(after(5), Kind::Reset, true, true));
        tally.lost(loss(after(5), Kind::Closed, true, false));
        assert!(Summary::of(&tally, &[kill]).is_good());
        assert!(!Summary::of(&tally, &[]).is_good());
        tally.lost(loss(after(5), Kind::Refused, false, false));
        tally.lost(loss(after(5), Kind::Timeout, true, false));
        tally.lost(loss(after(5000), Kind::Reset, true, true));
        let summary = Summary::of(&tally, &[kill]);
        assert_eq!((summary.cut, summary.failed), (2, 3));
        assert_eq!(summary.kinds, [("refused", 1), ("reset", 1), ("timeout", 1)]);
    }

    #[test]
    fn a_demo_in_which_nothing_happened_is_not_good() {
        assert!(!Summary::of(&Tally::default(), &[]).is_good());
    }
}

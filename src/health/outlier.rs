//! Passive health: a backend that fails its clients several times in a row is left out for a while.
//! Pure.
//!
//! Source: the outlier detection of Envoy (consecutive failures, ejection time that grows, a limit
//! to the share that is out).

use std::time::{Duration, Instant};

use crate::config::{Counted, Outlier};

/// Ejections grow up to this many times the first one.
const TIMES_MAX: u32 = 10;

/// What all shards have counted of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Dials that stood.
    pub established: u64,
    /// Dials that failed by the backend's doing.
    pub undialed: u64,
    /// Connections that it answered.
    pub answered: u64,
    /// Connections that it ended before its first byte, of the kinds that count.
    pub ended_early: u64,
}

/// Failures in a row, of one kind.
#[derive(Debug, Default)]
struct Row {
    /// Good and bad ones at the last look; `None` before the first, from which the row begins.
    seen: Option<(u64, u64)>,
    failures: u64,
    /// When the last one was seen.
    failed_at: Option<Instant>,
}

impl Row {
    /// Takes the counts of all shards as they are now. Where both grew, nobody knows in which
    /// order, and the row begins anew. It is forgotten too when `patience` has passed since its
    /// last failure: a server that never answers by design is not to be judged by one failure a
    /// day.
    fn look(&mut self, (good, bad): (u64, u64), patience: Duration, now: Instant) {
        let calm = |at: Instant| now.saturating_duration_since(at) >= patience;
        let before = self.seen.replace((good, bad)).unwrap_or((good, bad));
        if good != before.0 || self.failed_at.is_some_and(calm) {
            self.forget();
        }
        if good == before.0 && bad > before.1 {
            self.failures += bad - before.1;
            self.failed_at = Some(now);
        }
    }

    fn forget(&mut self) {
        (self.failures, self.failed_at) = (0, None);
    }
}

/// One backend's failures in a row, and its ejections. Dials and early ends are rows of their own:
/// a dial that stands says nothing of what comes after it.
#[derive(Debug, Default)]
pub struct Streak {
    dials: Row,
    early: Row,
    /// Whose connections were ended early, as long as that row lasts; no more than are needed.
    clients: Vec<u64>,
    /// Ejections that are not forgotten yet.
    times: u32,
    until: Option<Instant>,
    /// When the last one ended.
    returned_at: Option<Instant>,
}

impl Streak {
    /// A connection of this client was ended early.
    pub fn met(&mut self, client: u64, rules: &Outlier) {
        if self.clients.len() < rules.min_clients as usize && !self.clients.contains(&client) {
            self.clients.push(client);
        }
    }

    /// Takes the counts as they are now.
    pub fn look(&mut self, counts: Counts, rules: &Outlier, now: Instant) {
        self.dials.look((counts.established, counts.undialed), rules.ejection, now);
        self.early.look((counts.answered, counts.ended_early), rules.ejection, now);
        if self.early.failures == 0 {
            self.clients.clear();
        }
    }

    /// Begins anew: whatever failed before says nothing of what is there now.
    pub fn forget(&mut self) {
        self.dials.forget();
        self.early.forget();
        self.clients.clear();
    }

    /// How many failures in a row, and of which kind, are enough to leave the backend out, if they
    /// are: one client alone is no reason but for dials.
    pub fn verdict(&self, rules: &Outlier) -> Option<(u64, &'static str)> {
        let most = u64::from(rules.consecutive_failures);
        if rules.counts(Counted::Dial) && self.dials.failures >= most {
            return Some((self.dials.failures, "dials"));
        }
        let borne_out = self.clients.len() >= rules.min_clients as usize;
        let guilty = rules.counts_early_ends() && self.early.failures >= most && borne_out;
        guilty.then_some((self.early.failures, "ends before a byte"))
    }

    /// Leaves the backend out: the nth time in a row for n times as long. One ejection is forgotten
    /// for each `ejection` of time since the last one ended. Gives how long.
    pub fn eject(&mut self, rules: &Outlier, now: Instant) -> Duration {
        if let Some(returned_at) = self.returned_at {
            let calm = now.saturating_duration_since(returned_at).as_nanos();
            let forgotten = calm / rules.ejection.as_nanos().max(1);
            let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
            self.times = self.times.saturating_sub(forgotten);
        }
        self.times = (self.times + 1).min(TIMES_MAX);
        let long = rules.ejection * self.times;
        self.until = Some(now + long);
        long
    }

    /// Whether it is left out.
    pub fn is_ejected(&self) -> bool {
        self.until.is_some()
    }

    /// Ends an ejection whose time is over; its failures are forgotten.
    pub fn return_if_due(&mut self, now: Instant) {
        if self.until.is_some_and(|until| now >= until) {
            self.until = None;
            self.returned_at = Some(now);
            self.forget();
        }
    }
}

/// How many of `all` backends may be out at once: the share, rounded down.
pub fn ejected_max(rules: &Outlier, all: usize) -> usize {
    // A share of 0.3 of 10 is 3, whatever binary fractions say.
    (rules.max_ejected * all as f64 + 1e-9) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Outlier = Outlier {
        count: [true, false, false],
        min_clients: 3,
        consecutive_failures: 5,
        ejection: Duration::from_secs(30),
        max_ejected: 0.5,
    };

    #[test]
    fn an_answer_ends_a_streak_and_so_does_a_long_calm() {
        let (mut row, start) = (Row::default(), Instant::now());
        let mut look = |good, bad, s| {
            row.look((good, bad), RULES.ejection, start + Duration::from_secs(s));
            row.failures
        };
        assert_eq!(look(9, 0, 0), 0);
        assert_eq!(look(10, 3, 0), 0, "nobody knows the order");
        assert_eq!([look(10, 5, 0), look(10, 8, 1)], [2, 5]);
        assert_eq!(look(11, 9, 2), 0);
        assert_eq!([look(11, 12, 3), look(11, 12, 32), look(11, 12, 33)], [3, 3, 0]);
        assert_eq!(look(11, 13, 60), 1);
    }

    /// The verdict after so many failed dials and early ends, these of so many clients.
    fn verdict(
        rules: &Outlier,
        undialed: u64,
        ended_early: u64,
        clients: u64,
    ) -> Option<(u64, &'static str)> {
        let mut streak = Streak::default();
        streak.look(Counts::default(), rules, Instant::now());
        (0..ended_early).for_each(|i| streak.met(i % clients.max(1), rules));
        let counts = Counts { undialed, ended_early, ..Counts::default() };
        streak.look(counts, rules, Instant::now());
        streak.verdict(rules)
    }

    #[test]
    fn dials_count_by_default_and_early_ends_only_of_several_clients() {
        assert_eq!(verdict(&RULES, 4, 0, 0), None);
        assert_eq!(verdict(&RULES, 5, 0, 0), Some((5, "dials")));
        assert_eq!(verdict(&RULES, 0, 100, 100), None);
        let all = Outlier { count: [true; 3], ..RULES };
        assert_eq!(verdict(&all, 0, 100, 2), None);
        assert_eq!(verdict(&all, 0, 5, 3), Some((5, "ends before a byte")));
        let sidecar = Outlier { min_clients: 1, ..all };
        assert!(verdict(&sidecar, 0, 5, 1).is_some());
        let early_only = Outlier { count: [false, true, true], ..RULES };
        assert_eq!(verdict(&early_only, 100, 0, 0), None);
    }

    #[test]
    fn a_dial_that_stands_ends_the_row_of_dials_and_an_answer_that_of_early_ends() {
        let rules = Outlier { count: [true; 3], min_clients: 1, ..RULES };
        let (mut streak, now) = (Streak::default(), Instant::now());
        streak.look(Counts::default(), &rules, now);
        let failed = Counts { undialed: 9, ended_early: 9, ..Counts::default() };
        streak.met(1, &rules);
        streak.look(failed, &rules, now);
        streak.look(Counts { established: 1, ..failed }, &rules, now);
        assert_eq!(streak.verdict(&rules), Some((9, "ends before a byte")));
        streak.look(Counts { established: 1, answered: 1, ..failed }, &rules, now);
        assert_eq!(streak.verdict(&rules), None);
    }

    #[test]
    fn ejections_grow_and_are_forgotten() {
        let mut now = Instant::now();
        let mut streak = Streak::default();
        let mut eject = |rest: u64| {
            now += Duration::from_secs(rest);
            let long = streak.eject(&RULES, now);
            assert!(streak.is_ejected());
            streak.return_if_due(now + long - Duration::from_millis(1));
            assert!(streak.is_ejected());
            now += long;
            streak.return_if_due(now);
            assert!(!streak.is_ejected());
            long.as_secs()
        };
        assert_eq!([eject(0), eject(0), eject(29), eject(29)], [30, 60, 90, 120]);
        assert_eq!(eject(65), 90, "two of four are forgotten");
        assert_eq!(eject(1_000_000), 30);
        let longest = (0..20).map(|_| eject(0)).max();
        assert_eq!(longest, Some(300));
    }

    #[test]
    fn the_share_is_rounded_down() {
        let most = |share: f64, all| ejected_max(&Outlier { max_ejected: share, ..RULES }, all);
        assert_eq!([most(0.5, 1), most(0.5, 2), most(0.5, 3), most(0.3, 10)], [0, 1, 1, 3]);
        assert_eq!([most(0.0, 10), most(1.0, 3)], [0, 3]);
    }
}

//! Passive health: a backend that fails its clients several times in a row is left out for a while.
//! Pure.
//!
//! Source: the outlier detection of Envoy (consecutive failures, ejection time that grows, a limit
//! to the share that is out).

use std::time::{Duration, Instant};

use crate::config::Outlier;

/// Ejections grow up to this many times the first one.
const TIMES_MAX: u32 = 10;

/// One backend's streak of failures, and its ejections.
#[derive(Debug, Default)]
pub struct Streak {
    good: u64,
    bad: u64,
    failures: u64,
    /// When the last one was seen.
    failed_at: Option<Instant>,
    /// Ejections that are not forgotten yet.
    times: u32,
    until: Option<Instant>,
    /// When the last one ended.
    returned_at: Option<Instant>,
}

impl Streak {
    /// A streak that begins where these counts stand.
    pub fn new(good: u64, bad: u64) -> Streak {
        Streak { good, bad, ..Streak::default() }
    }

    /// Takes the counts of all shards as they are now: connections that were answered and that
    /// failed. Where both grew, nobody knows in which order, and the streak begins anew. It is
    /// forgotten too when `patience` has passed since its last failure: a server that never answers
    /// by design is not to be judged by one failure a day.
    pub fn look(&mut self, (good, bad): (u64, u64), patience: Duration, now: Instant) {
        let calm = |at: Instant| now.saturating_duration_since(at) >= patience;
        if good != self.good || self.failed_at.is_some_and(calm) {
            self.forget();
        }
        if good == self.good && bad > self.bad {
            self.failures += bad - self.bad;
            self.failed_at = Some(now);
        }
        (self.good, self.bad) = (good, bad);
    }

    /// Begins anew: whatever failed before says nothing of what is there now.
    pub fn forget(&mut self) {
        (self.failures, self.failed_at) = (0, None);
    }

    /// Failures in a row.
    pub fn failures(&self) -> u64 {
        self.failures
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

    const RULES: Outlier =
        Outlier { consecutive_failures: 5, ejection: Duration::from_secs(30), max_ejected: 0.5 };

    #[test]
    fn an_answer_ends_a_streak_and_so_does_a_long_calm() {
        let (mut streak, start) = (Streak::default(), Instant::now());
        let mut look = |good, bad, s| {
            streak.look((good, bad), RULES.ejection, start + Duration::from_secs(s));
            streak.failures()
        };
        assert_eq!(look(10, 3, 0), 0, "nobody knows the order");
        assert_eq!([look(10, 5, 0), look(10, 8, 1)], [2, 5]);
        assert_eq!(look(11, 9, 2), 0);
        assert_eq!([look(11, 12, 3), look(11, 12, 32), look(11, 12, 33)], [3, 3, 0]);
        assert_eq!(look(11, 13, 60), 1);
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

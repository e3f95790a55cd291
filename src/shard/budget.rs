//! The retry budget: how many further attempts a pool's connections may make after dials that were
//! not answered, so that a dead pool does not multiply its load. Pure.
//!
//! Source: Finagle's `RetryBudget`: each first attempt pays in a fraction, each further one takes
//! one out, over a window of 10 s, and a few a second are free. Counted per shard; the free ones
//! are divided among the shards.

use std::time::{Duration, Instant};

/// The window, in slots.
const SLOTS: usize = 10;
/// The length of one slot.
const SLOT: Duration = Duration::from_secs(1);
/// Further attempts per second that are always allowed, over all shards.
const FREE_PER_SECOND: f64 = 3.0;

/// One shard's budget of one pool.
#[derive(Debug)]
pub struct Budget {
    /// Further attempts per first attempt; `None`: as many as `max_attempts` allows.
    ratio: Option<f64>,
    /// This shard's part of the free ones, for a whole window.
    free: f64,
    /// First attempts and further ones in each of the last slots.
    slots: [(u32, u32); SLOTS],
    /// The slot that is being filled, and when it began.
    at: usize,
    since: Instant,
}

impl Budget {
    /// A budget for one of `shards` shards.
    pub fn new(ratio: Option<f64>, shards: usize, now: Instant) -> Budget {
        let window = SLOT.as_secs_f64() * SLOTS as f64;
        // A shard without a free one would deny a lone client its second server.
        let free = (FREE_PER_SECOND * window / shards as f64).max(1.0);
        Budget { ratio, free, slots: [(0, 0); SLOTS], at: 0, since: now }
    }

    /// A connection makes its first attempt.
    pub fn first_attempt(&mut self, now: Instant) {
        self.turn(now);
        self.slots[self.at].0 = self.slots[self.at].0.saturating_add(1);
    }

    /// Whether another attempt after one that was not answered is allowed; if so, it is counted.
    pub fn allows_another(&mut self, now: Instant) -> bool {
        let Some(ratio) = self.ratio else { return true };
        self.turn(now);
        let sum =
            |(a, b): (f64, f64), slot: &(u32, u32)| (a + f64::from(slot.0), b + f64::from(slot.1));
        let (first, further) = self.slots.iter().fold((0.0, 0.0), sum);
        let allowed = further + 1.0 <= first * ratio + self.free;
        if allowed {
            self.slots[self.at].1 += 1;
        }
        allowed
    }

    /// Forgets what is older than the window.
    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_secs() / SLOT.as_secs();
        for _ in 0..passed.min(SLOTS as u64) {
            self.at = (self.at + 1) % SLOTS;
            self.slots[self.at] = (0, 0);
        }
        self.since += SLOT * u32::try_from(passed).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(budget: &mut Budget, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| budget.allows_another(now)).count()
    }

    #[test]
    fn a_fifth_of_the_first_attempts_and_three_a_second() {
        let now = Instant::now();
        let mut budget = Budget::new(Some(0.2), 1, now);
        assert_eq!(allowed(&mut budget, 100, now), 30);
        (0..100).for_each(|_| budget.first_attempt(now));
        assert_eq!(allowed(&mut budget, 100, now), 20);
    }

    #[test]
    fn shards_divide_the_free_ones() {
        let now = Instant::now();
        assert_eq!(allowed(&mut Budget::new(Some(0.2), 3, now), 100, now), 10);
        assert_eq!(allowed(&mut Budget::new(Some(0.2), 64, now), 100, now), 1);
    }

    #[test]
    fn what_is_older_than_ten_seconds_is_forgotten() {
        let now = Instant::now();
        let mut budget = Budget::new(Some(0.2), 1, now);
        assert_eq!(allowed(&mut budget, 100, now), 30);
        assert_eq!(allowed(&mut budget, 100, now + Duration::from_millis(9_999)), 0);
        assert_eq!(allowed(&mut budget, 100, now + Duration::from_secs(10)), 30);
        assert_eq!(allowed(&mut budget, 100, now + Duration::from_secs(3600)), 30);
    }

    #[test]
    fn without_a_budget_everything_is_allowed() {
        let now = Instant::now();
        assert_eq!(allowed(&mut Budget::new(None, 1, now), 1000, now), 1000);
    }
}

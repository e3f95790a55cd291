//! Servers that take a connection and end it at once, without a byte of theirs.
//!
//! Such a server has nothing in flight, so whoever balances by connections would send it almost
//! everybody. Each early end counts as connections that are still open: 1, 3, 7 and so on in a row,
//! one step less for each second that passes, and nothing once it has answered somebody. So a
//! client that makes a server end its connections at once keeps others from it for seconds, as long
//! as it answers nobody: a busy server forgets it with the next answer.

use std::time::{Duration, Instant};

/// A connection that lasts longer was taken up; its end says little of the next one.
pub const EARLY_MAX: Duration = Duration::from_secs(1);

/// How often one step is forgotten.
const STEP: Duration = Duration::from_secs(1);

/// Ends in a row that count: a thousand connections more than there are.
const STEPS_MAX: u32 = 10;

/// Early ends in a row, as they were at some time.
#[derive(Clone, Copy, Debug)]
struct Row {
    steps: u32,
    at: Instant,
}

impl Row {
    fn steps_at(&self, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(self.at).as_millis() / STEP.as_millis();
        self.steps.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX))
    }
}

/// One shard's early ends of one pool, by place in the pool.
#[derive(Debug)]
pub(super) struct EarlyEnds {
    all: Vec<Option<Row>>,
    /// When the last of them is forgotten: until then there may be some.
    last: Option<Instant>,
}

impl EarlyEnds {
    pub(super) fn new(places: usize) -> EarlyEnds {
        EarlyEnds { all: vec![None; places], last: None }
    }

    /// Connections that this one counts as having beside those that it has.
    pub(super) fn connections(&self, place: usize, now: Instant) -> u32 {
        if self.last.is_none_or(|last| now >= last) {
            return 0;
        }
        self.all[place].map_or(0, |row| (1 << row.steps_at(now)) - 1)
    }

    pub(super) fn add(&mut self, place: usize, now: Instant) {
        let before = self.all[place].map_or(0, |row| row.steps_at(now));
        let steps = (before + 1).min(STEPS_MAX);
        self.all[place] = Some(Row { steps, at: now });
        self.last = self.last.max(Some(now + STEP * steps));
    }

    pub(super) fn remove(&mut self, place: usize) {
        self.all[place] = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_ends_in_a_row_weigh_more_and_more_and_are_forgotten() {
        let (mut ends, start) = (EarlyEnds::new(2), Instant::now());
        let seen: Vec<u32> = (0..12)
            .map(|_| {
                ends.add(1, start);
                ends.connections(1, start)
            })
            .collect();
        assert_eq!(seen, [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023, 1023]);
        assert_eq!(ends.connections(0, start), 0);
        let after = |ends: &EarlyEnds, s| ends.connections(1, start + Duration::from_secs(s));
        assert_eq!([after(&ends, 1), after(&ends, 8), after(&ends, 10)], [511, 3, 0]);
        ends.remove(1);
        assert_eq!(after(&ends, 0), 0);
    }
}

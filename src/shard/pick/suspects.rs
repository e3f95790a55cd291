//! Backends whose dial failed lately: last choice for a while.

use std::time::{Duration, Instant};

/// How long a backend whose dial failed is last choice; doubles with each failure after that.
const SUSPECT_MIN: Duration = Duration::from_secs(1);
/// And no longer than this.
const SUSPECT_MAX: Duration = Duration::from_secs(10);

/// A backend that failed a dial lately.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    until: Instant,
    step: Duration,
}

/// One shard's suspects of one pool, by place in the pool.
#[derive(Debug)]
pub(super) struct Suspects {
    all: Vec<Option<Suspect>>,
    /// When the last of them is free again: until then there may be some.
    last: Option<Instant>,
}

impl Suspects {
    pub(super) fn new(places: usize) -> Suspects {
        Suspects { all: vec![None; places], last: None }
    }

    /// Whether there may be any.
    pub(super) fn any(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now < last)
    }

    /// Whether this one is.
    pub(super) fn has(&self, place: usize, now: Instant) -> bool {
        self.any(now) && self.all[place].is_some_and(|suspect| now < suspect.until)
    }

    /// Failures while it is one already change nothing, or a burst of dials begun together would
    /// count as a long history.
    pub(super) fn add(&mut self, place: usize, now: Instant) {
        let step = match self.all[place] {
            Some(suspect) if now < suspect.until => return,
            Some(suspect) => (suspect.step * 2).min(SUSPECT_MAX),
            None => SUSPECT_MIN,
        };
        let until = now + step;
        self.all[place] = Some(Suspect { until, step });
        self.last = self.last.max(Some(until));
    }

    pub(super) fn remove(&mut self, place: usize) {
        self.all[place] = None;
    }
}

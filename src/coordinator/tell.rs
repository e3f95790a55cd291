//! What the coordinator shows: pages, metrics and lines, made from what is known and from what
//! shards have counted.

pub(super) mod events;
pub(super) mod gather;
pub(super) mod histograms;
pub(super) mod metrics;
pub(super) mod page;
pub(super) mod panics;
pub(super) mod pressure;
pub(super) mod ready;
pub(super) mod report;
pub(super) mod seconds;
pub(super) mod stats;

use std::sync::{Arc, Mutex, MutexGuard};

use self::{gather::Gathered, seconds::Seconds};
use super::{facts::Facts, know::Known};
use crate::bridge::Bridge;

/// What shards have recorded, as far as it was gathered.
pub(super) struct Recorded {
    gathered: Mutex<Gathered>,
    seconds: Seconds,
}

impl Recorded {
    /// Nothing yet; see [`Gathered::new`].
    pub(super) fn new(bridge: &Bridge) -> Recorded {
        Recorded { gathered: Mutex::new(Gathered::new(bridge)), seconds: Seconds::new() }
    }

    /// Not held across a wait; this thread is the only one that asks.
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().expect("nobody panics holding it")
    }

    /// Somebody else stands in a slot from now on: what was recorded there was not its own.
    pub(super) fn forget(&self, slot: usize) {
        self.gathered().forget(slot);
    }
}

/// What the two pages that show everything are made from.
pub(super) struct Whole {
    pub(super) facts: Arc<Facts>,
    pub(super) known: Arc<Known>,
    pub(super) recorded: Arc<Recorded>,
    pub(super) admin: AdminCounts,
}

/// What is shown of the admin endpoint itself; it says so, since `admin` is not asked from here.
pub(super) struct AdminCounts {
    pub(super) connections: usize,
    pub(super) evicted: u64,
    pub(super) changes_refused: u64,
}

//! What we and the kernel hold of a direction: little, until its sink has shown that it reads, and
//! nothing that others need while it is full.

use super::{Flow, Held};
use crate::{bridge::Direction, planted::Place};

/// A direction that has moved so much has a sink that reads, or one that has made its own kernel
/// take as much: that of one that does not read takes a few megabytes at most as it comes.
const FREE_AFTER: u64 = 16 << 20;

/// A direction that has moved less has nothing that would be worth a call.
const BOUND_AFTER: u64 = 64 << 10;

/// How much the kernel may hold of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The kernel's own limits, which nothing has come near yet.
    Untouched,
    /// `unsent_max`, and the receive buffer of a near server does not grow.
    Tight,
    /// As much as it likes: the sink has taken enough to show that somebody reads.
    Free,
}

impl Bound {
    /// What the sockets of a direction begin with: clients have it from their listener.
    pub(super) fn of(direction: Direction) -> Bound {
        match direction {
            Direction::Up => Bound::Untouched,
            Direction::Down => Bound::Tight,
        }
    }
}

impl Flow {
    /// The sink is full. Nobody reads the source meanwhile; the sweep watches whether it dies.
    pub(super) fn block(&self) {
        self.conn.set_blocked(self.direction, true);
        self.ends.source.stop_recv();
        self.plant(Place::SinkFull);
        if self.bound.get() == Bound::Free && self.shard.bridge.is_scarce() {
            self.bind(Bound::Tight);
        }
    }

    /// A sink may stay full for long: what is held does not stay in buffers that everybody needs.
    pub(super) async fn park(&mut self) {
        if let Held::Chunk(chunk) = std::mem::take(&mut self.held) {
            self.held = Held::Chunk(self.ends.source.park(chunk).await);
        }
    }

    /// The sink took bytes.
    pub(super) fn took(&self) {
        let bytes = self.conn.bytes(self.direction);
        if self.bound.get() == Bound::Free || bytes < BOUND_AFTER || self.unsent_max() == 0 {
            return;
        }
        match self.bound.get() {
            Bound::Untouched => self.bind(Bound::Tight),
            Bound::Tight if bytes >= FREE_AFTER && !self.shard.bridge.is_scarce() => {
                self.bind(Bound::Free);
            }
            _ => {}
        }
    }

    /// Lets the kernel tune both queues, or bounds what waits for the sink.
    ///
    /// A bound on unsent bytes makes a wake of each part of a pipe: bulk costs two thirds more CPU
    /// time a byte. So it holds for those who have not shown yet that they read, and for everybody
    /// while memory is scarce.
    fn bind(&self, bound: Bound) {
        self.bound.set(bound);
        let free = bound == Bound::Free;
        let unsent_max = if free { 0 } else { self.unsent_max() };
        self.ends.sink.set_unsent_max(unsent_max);
        if free && self.direction == Direction::Down {
            self.conn.free_window();
        }
    }

    /// What the listener allows to wait unsent, unless the sink has shown that it reads.
    fn unsent_max(&self) -> u32 {
        self.shard.bridge.plan.listeners[self.conn.arrival.listener].sockets.unsent_max
    }
}

//! What we and the kernel hold of a direction: little, until its sink has shown that it reads, and
//! nothing that others need while it is full.

use super::{Flow, Held};
use crate::{bridge::Direction, sock};

/// A direction that has moved so much has a sink that reads: the kernel of one that does not takes
/// less before its receive queue is full.
const FREE_AFTER: u64 = 4 << 20;

impl Flow {
    /// The sink is full. Nobody reads the source meanwhile; the sweep watches whether it dies.
    pub(super) fn block(&self) {
        self.conn.set_blocked(self.direction, true);
        self.ends.source.stop_recv();
        if self.shard.bridge.is_scarce() {
            self.set_free(false);
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
        if !self.is_free.get() && self.conn.bytes(self.direction) >= FREE_AFTER {
            self.set_free(!self.shard.bridge.is_scarce());
        }
    }

    /// Lets the kernel tune both queues, or bounds what waits for the sink.
    ///
    /// A bound on unsent bytes makes a wake of each part of a pipe: bulk costs two thirds more CPU
    /// time a byte. So it holds for those who have not shown yet that they read, and for everybody
    /// while memory is scarce.
    fn set_free(&self, free: bool) {
        if self.is_free.replace(free) == free {
            return;
        }
        let bound = self.shard.bridge.plan.listeners[self.conn.arrival.listener].sockets.unsent_max;
        sock::set_unsent_max(&self.ends.sink, if free { 0 } else { bound });
        if free && self.direction == Direction::Down {
            sock::free_receive_buffer(&self.ends.source);
        }
    }
}

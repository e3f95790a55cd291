//! Between shards: a descriptor that one of them accepted and another one will serve, and how
//! loaded each of them is.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Instant,
};

use crossbeam::{queue::ArrayQueue, utils::CachePadded};

use crate::limits::HANDED_WAITING_MAX;

/// What is published before a shard serves, so that nobody hands it anything.
const NOT_SERVING: u32 = u32::MAX;

/// What is known of a connection from the moment it is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The client's address.
    pub client: SocketAddr,
    /// Index into the plan's listeners.
    pub listener: usize,
    /// When we took it from the queue, not when the kernel did.
    pub at: Instant,
}

/// An accepted connection that nobody serves yet.
#[derive(Debug)]
pub struct Fresh {
    /// The client's socket.
    pub fd: OwnedFd,
    /// Who it is, where and when.
    pub arrival: Arrival,
    /// How often a shard has handed it on.
    pub hops: u8,
}

/// Where other shards leave connections for the shard that owns it.
#[derive(Debug)]
pub struct Inbox {
    /// On a line of its own: its owner writes it with every connection, all others read it.
    ///
    /// Sequentially consistent, here and in the queue: of two shards that take a connection each
    /// and then look at the other, at least one sees what the other has.
    load: CachePadded<AtomicU32>,
    waiting: ArrayQueue<Fresh>,
}

impl Inbox {
    /// Of a shard that does not serve yet.
    pub(super) fn new() -> Inbox {
        Inbox {
            load: CachePadded::new(AtomicU32::new(NOT_SERVING)),
            waiting: ArrayQueue::new(HANDED_WAITING_MAX),
        }
    }

    /// Connections of the owner, those that wait here included.
    pub fn load(&self) -> u32 {
        self.load.load(SeqCst).saturating_add(self.waiting.len() as u32)
    }

    /// Told by the owner alone: the connections it has, without those that wait here.
    pub fn publish(&self, connections: usize) {
        self.load.store(connections as u32, SeqCst);
    }

    /// Leaves a connection here; ring the owner's bell afterwards.
    ///
    /// # Errors
    /// The queue is full: the connection comes back.
    pub fn leave(&self, fresh: Fresh) -> Result<(), Fresh> {
        self.waiting.push(fresh)
    }

    /// Takes the oldest one. Called by the owner alone.
    pub fn take(&self) -> Option<Fresh> {
        self.waiting.pop()
    }

    /// True exactly when nothing waits here.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Fresh {
        let fd = std::fs::File::open("/dev/null").unwrap().into();
        let client = ([127, 0, 0, 1], 1).into();
        Fresh { fd, arrival: Arrival { client, listener: 0, at: Instant::now() }, hops: 0 }
    }

    #[test]
    fn what_waits_counts_as_load_and_a_full_inbox_gives_it_back() {
        let inbox = Inbox::new();
        assert_eq!(inbox.load(), NOT_SERVING);
        inbox.publish(2);
        for waiting in 0..HANDED_WAITING_MAX as u32 {
            assert_eq!(inbox.load(), 2 + waiting);
            assert!(inbox.leave(fresh()).is_ok());
        }
        assert!(inbox.leave(fresh()).is_err());
        assert!(inbox.take().is_some() && !inbox.is_empty());
        assert_eq!(inbox.load(), 1 + HANDED_WAITING_MAX as u32);
    }
}

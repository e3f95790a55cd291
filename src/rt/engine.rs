//! The two ways to ask the kernel, chosen once for all shards ([`super::driver`]).

use std::{io, os::fd::OwnedFd, time::Instant};

use super::{
    Driver,
    handle::Handle,
    ready::Ready,
    ring::{BUFFERS, Ring},
};
use crate::meters::Meters;

/// What carries one shard; lives on its thread.
pub struct Engine(pub(super) Way);

/// How the kernel is asked.
#[expect(clippy::large_enum_variant, reason = "there is one on a thread")]
pub(super) enum Way {
    /// Operations of io_uring.
    Ring(Ring),
    /// Calls, once epoll has told that they will not block.
    Ready(Ready),
}

impl Engine {
    /// Makes one for this thread.
    ///
    /// # Errors
    /// What the kernel answered; [`super::choose`] explains it.
    pub fn new(driver: Driver, meters: &'static Meters) -> io::Result<Engine> {
        match driver {
            Driver::IoUring => Engine::on_ring(meters, BUFFERS),
            Driver::Epoll => Ok(Engine(Way::Ready(Ready::new()?))),
        }
    }

    /// A ring with so many buffers, a power of two.
    pub(crate) fn on_ring(meters: &'static Meters, buffers: u16) -> io::Result<Engine> {
        Ok(Engine(Way::Ring(Ring::new(meters, buffers)?)))
    }

    /// The ring, for what only it hands out.
    pub(super) fn ring(&self) -> &Ring {
        match &self.0 {
            Way::Ring(ring) => ring,
            Way::Ready(_) => unreachable!("only the ring has buffers of its own"),
        }
    }

    /// Takes a descriptor over.
    pub(super) fn register(&self, fd: OwnedFd) -> io::Result<Handle> {
        match &self.0 {
            Way::Ring(ring) => Ok(ring.register(fd)),
            Way::Ready(ready) => ready.register(fd),
        }
    }

    /// The last handle of a descriptor is gone.
    pub(super) fn orphan(&self, place: u32) {
        match &self.0 {
            Way::Ring(ring) => ring.orphan(place),
            Way::Ready(ready) => ready.orphan(place),
        }
    }

    /// Gives the kernel what the tasks have asked for, waits until `next` if `wait`, and wakes
    /// whom its answers concern.
    pub(super) fn turn(&self, wait: bool, next: Option<Instant>) {
        match &self.0 {
            Way::Ring(ring) => ring.turn(wait, next),
            Way::Ready(ready) => ready.turn(wait, next),
        }
    }

    /// How many descriptors are registered.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        match &self.0 {
            Way::Ring(ring) => ring.slots(),
            Way::Ready(ready) => ready.slots(),
        }
    }

    /// Buffers of the ring that the kernel does not have.
    #[cfg(test)]
    pub(super) fn buffers_lent(&self) -> u16 {
        match &self.0 {
            Way::Ring(ring) => ring.buffers().lent(),
            Way::Ready(_) => 0,
        }
    }
}

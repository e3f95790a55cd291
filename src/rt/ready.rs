//! The engine for epoll: calls, made when the kernel has told that they will not block.
//!
//! A socket is registered once, for everything, edge-triggered: the kernel tells when something has
//! changed, and what a call has found since then is noted in the socket's slot. So nothing is asked
//! that is known already: a receive follows an event, none follows a receive that was short, and a
//! turn of the shard ends with one wait. Nothing here knows what a connection is.
//!
//! A note that is wrong in one direction costs a call; in the other it costs a connection, which
//! then waits for an event that has been. Hence the three rules of [`Slot`].

pub(super) mod kernel;

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, OwnedFd},
    task::{Context, Poll},
    time::Instant,
};

use rustix::event::epoll::EventFlags;
use slab::Slab;

// The real one, or a simulated one.
#[cfg(test)]
use self::kernel::Told;
#[cfg(not(test))]
use self::kernel::{Kernel, Told};
#[cfg(test)]
use super::sim::watch::Kernel;
use super::{
    Received,
    handle::Handle,
    lease::{self, CHUNK_BYTES},
    waiters::Waiters,
};
use crate::{
    planted::{self, Bug},
    sock,
};

/// Reading will not block: bytes, their end, or an error.
const READS: EventFlags = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::RDHUP)
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);

/// Writing will not block: there is room, or an error.
const WRITES: EventFlags = EventFlags::OUT.union(EventFlags::HUP).union(EventFlags::ERR);

/// Something is wrong.
const TROUBLE: EventFlags = EventFlags::HUP.union(EventFlags::ERR);

/// A short receive no longer means that nothing is left: the end stands behind the bytes and has
/// been told, or the receive has stopped before an urgent byte.
const BEHIND: EventFlags =
    EventFlags::PRI.union(EventFlags::RDHUP).union(EventFlags::HUP).union(EventFlags::ERR);

/// A registered descriptor, and what is known of it.
///
/// 1. An event makes a direction ready, whatever was noted before. 2. Only a call that says that it
///    would block makes it unready; a shortage of memory does not. 3. A receive that was short, and
///    a splice that found nothing, do too, as long as nothing that is told once may stand behind
///    ([`BEHIND`]).
struct Slot {
    birth: u32,
    readable: bool,
    writable: bool,
    /// True exactly when the last event told of no trouble: a connect has succeeded then.
    clean: bool,
    /// True once an event told of something [`BEHIND`] the bytes.
    behind: bool,
    waiters: Waiters,
    fd: OwnedFd,
}

/// An epoll instance and the sockets in it.
pub(super) struct Ready {
    kernel: RefCell<Kernel>,
    slots: RefCell<Slab<Slot>>,
    births: Cell<u32>,
    told: RefCell<Vec<Told>>,
}

impl Ready {
    pub(super) fn new() -> io::Result<Ready> {
        Ok(Ready {
            kernel: RefCell::new(Kernel::new()?),
            slots: RefCell::default(),
            births: Cell::default(),
            told: RefCell::default(),
        })
    }

    /// How many sockets are registered.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Takes a descriptor over. What is ready already is told by the next turn.
    pub(super) fn register(&self, fd: OwnedFd) -> io::Result<Handle> {
        let birth = self.births.get();
        self.births.set(birth.wrapping_add(1));
        let raw = fd.as_raw_fd();
        let mut slots = self.slots.borrow_mut();
        let entry = slots.vacant_entry();
        let place = entry.key() as u32;
        self.kernel.borrow_mut().add(&fd, u64::from(birth) << 32 | u64::from(place))?;
        entry.insert(Slot {
            birth,
            readable: false,
            writable: false,
            clean: false,
            behind: false,
            waiters: Waiters::default(),
            fd,
        });
        Ok(Handle { place, fd: raw })
    }

    /// Closes a descriptor, which ends its registration: nobody else has it open. (The bell's is a
    /// duplicate, and is never dropped while the engine lives.)
    pub(super) fn orphan(&self, place: u32) {
        let slot = self.slots.borrow_mut().remove(place as usize);
        drop(slot.fd);
    }

    /// Waits until `next` if `wait`, and brings every event to its slot.
    pub(super) fn turn(&self, wait: bool, next: Option<Instant>) {
        let mut told = self.told.take();
        self.kernel.borrow_mut().wait(wait, next, &mut told);
        for event in told.drain(..) {
            self.bring(event);
        }
        self.told.replace(told);
    }

    fn bring(&self, Told { tag, events }: Told) {
        let (birth, place) = ((tag >> 32) as u32, tag as u32);
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(place as usize).filter(|slot| slot.birth == birth);
        let Some(slot) = slot else { return };
        slot.clean = !events.intersects(TROUBLE);
        slot.behind |= events.intersects(BEHIND);
        if events.intersects(READS) {
            slot.readable = true;
            slot.waiters.wake_reader();
        }
        if events.intersects(WRITES) {
            slot.writable = true;
            slot.waiters.wake_writer();
        }
    }

    fn slot<T>(&self, handle: &Handle, look: impl FnOnce(&mut Slot) -> T) -> T {
        look(&mut self.slots.borrow_mut()[handle.place as usize])
    }

    /// Waits until reading may bring something.
    pub(super) fn poll_readable(&self, handle: &Handle, cx: &Context<'_>) -> Poll<()> {
        self.slot(handle, |slot| match slot.readable {
            true => Poll::Ready(()),
            false => {
                slot.waiters.wait_to_read(cx);
                Poll::Pending
            }
        })
    }

    /// Waits until there may be room.
    pub(super) fn poll_writable(&self, handle: &Handle, cx: &Context<'_>) -> Poll<()> {
        self.slot(handle, |slot| match slot.writable {
            true => Poll::Ready(()),
            false => {
                slot.waiters.wait_to_write(cx);
                Poll::Pending
            }
        })
    }

    /// Whether the last event told of no trouble.
    pub(super) fn is_clean(&self, handle: &Handle) -> bool {
        self.slot(handle, |slot| slot.clean)
    }

    /// Whether reading may bring something.
    pub(super) fn may_read(&self, handle: &Handle) -> bool {
        self.slot(handle, |slot| slot.readable)
    }

    /// Whether there may be room.
    pub(super) fn may_write(&self, handle: &Handle) -> bool {
        self.slot(handle, |slot| slot.writable)
    }

    /// A call has found nothing to read.
    pub(super) fn is_empty(&self, handle: &Handle) {
        self.slot(handle, |slot| slot.readable = false);
    }

    /// A splice has found nothing. Kernel: it stops before an urgent byte for ever and says the
    /// same (net/ipv4/tcp.c, `tcp_read_sock`); then only a receive knows.
    pub(super) fn has_nothing_to_splice(&self, handle: &Handle) {
        self.slot(handle, |slot| {
            let is_empty = !slot.behind || planted::has(Bug::UrgentForgotten);
            slot.readable &= !is_empty;
        });
    }

    /// A call has found no room.
    pub(super) fn is_full(&self, handle: &Handle) {
        self.slot(handle, |slot| slot.writable = false);
    }

    /// Whoever waits is to look: we have broken the connection off.
    pub(super) fn end_waits(&self, handle: &Handle) {
        self.slot(handle, |slot| {
            (slot.readable, slot.writable, slot.behind) = (true, true, true);
            slot.waiters.wake_reader();
            slot.waiters.wake_writer();
        });
    }

    /// Receives, if there may be something.
    pub(super) fn recv(&self, handle: &Handle) -> Received {
        if !self.may_read(handle) {
            return Received::Nothing;
        }
        let asked = lease::ask(handle.fd());
        match &asked {
            Some(Ok(chunk)) if (1..CHUNK_BYTES).contains(&chunk.len()) => {
                self.slot(handle, |slot| {
                    let is_all = !slot.behind;
                    let is_all = is_all || planted::has(Bug::EndForgotten);
                    slot.readable = !is_all;
                });
            }
            Some(Err(error)) if sock::would_block(error) => self.is_empty(handle),
            Some(Err(_)) if planted::has(Bug::ShortageIsEmpty) => self.is_empty(handle),
            _ => {}
        }
        match Received::of(asked) {
            Received::Bytes { chunk, .. } => {
                Received::Bytes { chunk, drained: !self.may_read(handle) }
            }
            other => other,
        }
    }
}

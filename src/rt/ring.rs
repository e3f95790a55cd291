//! The engine for io_uring: receives that go on by themselves, sends that go in with the wait.
//!
//! Sockets are slots here, tasks wait on slots, and a turn of the shard is one call into the
//! kernel: [`Ring::turn`] submits what the tasks have queued, waits if nobody is ready, and brings
//! every completion to its slot. Nothing here knows what a connection is.

pub(super) mod buffers;
pub(super) mod kernel;
mod slot;
mod stops;
mod waits;

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::{AsRawFd, OwnedFd},
    time::Instant,
};

use rustix::io::Errno;
use slab::Slab;

pub use self::buffers::BUFFERS;
#[cfg(not(test))]
use self::kernel::Kernel;
pub(super) use self::slot::Taken;
use self::{
    buffers::Buffers,
    kernel::{Completion, Op},
    slot::{Heard, Kind, Receive, Sending, Slot, Tag, Wait},
};
// The real one, or a simulated one.
#[cfg(test)]
use super::sim::Kernel;
use super::{Chunk, Local, handle::Handle};
use crate::{
    meters::Meters,
    planted::{self, Bug},
    sock,
};

/// Filled buffers that one socket may hold before its receive is stopped: whoever does not take
/// what has come must not take everybody's buffers.
pub(super) const INBOX_MAX: u16 = 8;

/// A ring and the sockets on it.
pub(super) struct Ring {
    // Before the buffers, which the kernel knows as long as the ring lives.
    kernel: RefCell<Kernel>,
    buffers: Buffers,
    slots: RefCell<Slab<Slot>>,
    births: Cell<u32>,
    /// The earliest moment at which the kernel will wake us.
    alarm: Cell<Option<Instant>>,
    completions: RefCell<Vec<Completion>>,
    meters: &'static Meters,
}

impl Ring {
    pub(super) fn new(meters: &'static Meters, buffers: u16) -> io::Result<Ring> {
        let buffers = Buffers::new(meters, buffers);
        Ok(Ring {
            kernel: RefCell::new(Kernel::new(&buffers)?),
            buffers,
            slots: RefCell::default(),
            births: Cell::default(),
            alarm: Cell::default(),
            completions: RefCell::default(),
            meters,
        })
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.slots.borrow().len()
    }

    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Takes a descriptor over.
    pub(super) fn register(&self, fd: OwnedFd) -> Handle {
        let birth = self.births.replace(self.births.get().wrapping_add(1));
        let raw = fd.as_raw_fd();
        let place = self.slots.borrow_mut().insert(Slot::new(fd, birth)) as u32;
        Handle { place, fd: raw }
    }

    /// Submits what is queued, waits until `next` if `wait`, and takes all completions.
    pub(super) fn turn(&self, wait: bool, next: Option<Instant>) {
        if wait {
            self.set_alarm(next);
        }
        let mut completions = self.completions.take();
        let mut kernel = self.kernel.borrow_mut();
        let lost = kernel.enter(wait).is_err();
        if kernel.reap(&mut completions) {
            self.meters.ring_overflows.add(1);
        }
        drop(kernel);
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions.replace(completions);
        if lost {
            self.look_at_all();
        }
    }

    /// One alarm is enough: the tick's comes each 50 ms, and most deadlines lie behind it.
    fn set_alarm(&self, next: Option<Instant>) {
        let set = self.alarm.get();
        let Some(next) = next.filter(|next| set.is_none_or(|set| *next < set)) else { return };
        self.alarm.set(Some(next));
        let after = next.saturating_duration_since(super::now());
        self.kernel.borrow_mut().push(Op::Alarm(after), Tag::ALARM.pack());
    }

    fn push(&self, slot: &mut Slot, place: u32, kind: Kind, op: Op) {
        slot.in_kernel += 1;
        let tag = Tag { kind, birth: slot.birth, place };
        self.kernel.borrow_mut().push(op, tag.pack());
    }

    /// Brings a completion to its slot.
    fn complete(&self, done: Completion) {
        let tag = Tag::unpack(done.tag);
        if tag.kind == Kind::Alarm {
            return self.alarm.set(None);
        }
        if let Some(kind) = tag.kind.cancelled() {
            return self.cancelled(tag, kind, done.result);
        }
        if let Some(buffer) = done.buffer {
            self.buffers.taken(buffer, done.result.max(0) as u32);
        }
        let mut slots = self.slots.borrow_mut();
        let is_meant = |slot: &&mut Slot| slot.birth == tag.birth;
        let is_meant = |slot: &&mut Slot| is_meant(slot) || planted::has(Bug::SlotReused);
        let slot = slots.get_mut(tag.place as usize).filter(is_meant);
        let Some(slot) = slot else {
            debug_assert!(false, "a slot outlives its operations");
            done.buffer.into_iter().for_each(|buffer| self.buffers.give_back(buffer));
            return;
        };
        if !done.more {
            slot.in_kernel -= 1;
            slot.doubts[tag.kind as usize] = 0;
        }
        match tag.kind {
            Kind::Receive => self.received(slot, tag.place, done),
            Kind::PollIn => {
                slot.poll_in = Wait::Over;
                slot.waiters.wake_reader();
            }
            Kind::PollOut => {
                slot.poll_out = Wait::Over;
                slot.clean = slot::is_clean(done.result);
                slot.waiters.wake_writer();
            }
            _ => {
                if let Sending::On(chunk) = std::mem::take(&mut slot.sending) {
                    slot.sending = Sending::Over(chunk, done.result);
                }
                slot.waiters.wake_writer();
            }
        }
        if slot.is_over() {
            slots.remove(tag.place as usize);
        }
    }

    fn received(&self, slot: &mut Slot, place: u32, done: Completion) {
        if done.result == -Errno::CANCELED.raw_os_error() && planted::has(Bug::StoppedForEver) {
            return;
        }
        if !done.more {
            slot.receive = Receive::Off;
        }
        match (done.result, done.buffer) {
            (1.., Some(buffer)) if !slot.orphan => {
                slot.inbox.push(&self.buffers, buffer);
                slot.ask_directly |= self.buffers.is_full(buffer);
                if slot.ask_directly || slot.inbox.count() >= INBOX_MAX {
                    self.stop(slot, place);
                }
            }
            (result, buffer) => {
                buffer.into_iter().for_each(|buffer| self.buffers.give_back(buffer));
                match result {
                    0 => slot.heard = Heard::Fin,
                    ..0 => self.failed(slot, Errno::from_raw_os_error(-result)),
                    _ => {}
                }
            }
        }
        slot.waiters.wake_reader();
    }

    /// A receive has ended with an error, which may be no fault of the peer.
    fn failed(&self, slot: &mut Slot, error: Errno) {
        match error {
            Errno::CANCELED => {}
            Errno::NOBUFS => self.meters.ring_buffers_dry.add(1),
            // Nothing of the peer's: the next look at the socket itself says more.
            Errno::INTR | Errno::INVAL | Errno::OPNOTSUPP | Errno::FAULT => {
                slot.ask_directly = true
            }
            _ if sock::is_for_later(&error.into()) => slot.ask_directly = true,
            _ => slot.heard = Heard::Error,
        }
    }

    /// The last handle is gone: ends what goes on, and closes once nothing names the slot.
    pub(super) fn orphan(&self, place: u32) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[place as usize];
        slot.orphan = true;
        if planted::has(Bug::BufferKept) {
            slot.inbox = buffers::Inbox::default();
        }
        while let Some(buffer) = slot.inbox.pop(&self.buffers) {
            self.buffers.give_back(buffer);
        }
        let unnamed = slot.in_kernel == 0;
        let unnamed = unnamed || planted::has(Bug::SlotReused);
        if unnamed {
            let gone = slots.remove(place as usize);
            drop(slots);
            return drop(gone);
        }
        if planted::has(Bug::NeverStopped) {
            return;
        }
        self.end_all(slot, place);
    }

    fn slot<T>(&self, handle: &Handle, look: impl FnOnce(&mut Slot) -> T) -> T {
        look(&mut self.slots.borrow_mut()[handle.place as usize])
    }

    /// Whether the last wait for writing found nothing wrong: a connect has succeeded then.
    pub(super) fn is_clean(&self, handle: &Handle) -> bool {
        self.slot(handle, |slot| slot.clean)
    }

    /// What a receive has brought, if one goes on or has something left.
    pub(super) fn take_received(&self, handle: &Handle) -> Taken {
        self.slot(handle, |slot| {
            if slot.heard == Heard::Fin && planted::has(Bug::FinOvertakes) {
                return Taken::End;
            }
            if let Some(buffer) = slot.inbox.pop(&self.buffers) {
                let chunk = Chunk::of_ring(buffer, self.buffers.filled(buffer));
                let last = slot.inbox.is_empty() && slot.heard == Heard::Nothing;
                return Taken::Chunk { chunk, drained: last && slot.receive == Receive::On };
            }
            match (slot.heard, slot.receive) {
                (Heard::Fin, _) => Taken::End,
                (Heard::Error, _) => Taken::Reset,
                (Heard::Lost, _) => Taken::Lost,
                (Heard::Nothing, Receive::Off) => Taken::Ask,
                (Heard::Nothing, _) => Taken::Nothing,
            }
        })
    }

    /// Puts `first` and what a receive has brought behind it into one block, and gives the buffers
    /// back; `first` itself where that is not to be had.
    pub(super) fn park(&self, local: &Local, handle: &Handle, first: Chunk) -> Chunk {
        self.slot(handle, |slot| {
            let taken = std::iter::from_fn(|| slot.inbox.pop(&self.buffers));
            let rest: Vec<u16> = taken.collect();
            let chunk = |buffer: &u16| Chunk::of_ring(*buffer, self.buffers.filled(*buffer));
            let chunks: Vec<Chunk> = rest.iter().map(chunk).collect();
            let Some(parked) = first.park(local, &chunks) else {
                // They are the inbox's again, and not given back.
                chunks.into_iter().for_each(Chunk::keep);
                rest.into_iter().for_each(|buffer| slot.inbox.push(&self.buffers, buffer));
                return first;
            };
            parked
        })
    }

    /// The socket was asked itself, and had no more or may have.
    pub(super) fn asked(&self, handle: &Handle, drained: bool) {
        self.slot(handle, |slot| slot.ask_directly &= !drained);
    }

    /// Ends a receive; true exactly when none goes on and all it brought has been taken.
    pub(super) fn stop_receive(&self, handle: &Handle) -> bool {
        self.slot(handle, |slot| {
            self.stop(slot, handle.place);
            let settled = slot.inbox.is_empty() && slot.heard == Heard::Nothing;
            settled && slot.receive == Receive::Off
        })
    }

    /// Whether a receive or a send has found the peer to be gone.
    pub(super) fn heard_reset(&self, handle: &Handle) -> bool {
        self.slot(handle, |slot| {
            let send_failed = slot.sending.failed();
            let send_failed = send_failed && !planted::has(Bug::ResetIsFin);
            matches!(slot.heard, Heard::Error) || send_failed
        })
    }

    /// Whether a send is queued or in the kernel.
    pub(super) fn is_sending(&self, handle: &Handle) -> bool {
        if planted::has(Bug::FinWhileSending) {
            return false;
        }
        self.slot(handle, |slot| matches!(slot.sending, Sending::On(_)))
    }

    /// Whether nothing waits to go into the kernel: a send of its own would be a call of its own
    /// either way.
    pub(super) fn is_quiet(&self) -> bool {
        self.kernel.borrow_mut().queued() == 0
    }

    /// Queues a send; [`Ring::poll_sent`] tells what became of it.
    pub(super) fn send(&self, local: &Local, handle: &Handle, chunk: Chunk) {
        self.slot(handle, |slot| {
            assert!(matches!(slot.sending, Sending::Off), "one send at a time");
            // The bytes do not move with the chunk that owns them.
            let bytes = chunk.bytes(local);
            let op = Op::Send(handle.fd, bytes.as_ptr(), bytes.len() as u32);
            slot.sending = Sending::On(chunk);
            self.push(slot, handle.place, Kind::Send, op);
        });
    }
}

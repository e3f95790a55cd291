//! How what goes on in the kernel is ended, and what follows when the kernel has lost a completion.

use super::{
    Ring,
    kernel::Op,
    slot::{Kind, Receive, Slot, Tag},
};
use crate::{
    planted::{self, Bug},
    rt::handle::Handle,
};

/// Cancels in vain after which an operation counts as over: its last completion was lost.
const MISSES_MAX: u8 = 100;

impl Ring {
    /// Asks the kernel to end a receive; what it has taken from the socket by then still comes.
    pub(super) fn stop(&self, slot: &mut Slot, place: u32) {
        if planted::has(Bug::NeverStopped) {
            return;
        }
        if slot.receive == Receive::On {
            self.end(slot, place, Kind::Receive);
        }
    }

    fn cancel(&self, slot: &Slot, place: u32, kind: Kind) {
        let what = Tag { kind, birth: slot.birth, place };
        let tag = Tag { kind: kind.cancel(), ..what };
        self.kernel.borrow_mut().push(Op::Cancel(what.pack()), tag.pack());
    }

    /// Asks the kernel to end an operation that is on.
    fn end(&self, slot: &mut Slot, place: u32, kind: Kind) {
        if kind == Kind::Receive {
            slot.receive = Receive::Stopping;
            // What has piled up by the time it is read again would take many buffers at once.
            slot.ask_directly = true;
        }
        slot.doubts[kind as usize] = 1;
        self.cancel(slot, place, kind);
    }

    /// Kernel: what is at work in the moment of its cancel is not found, or said to be running: a
    /// receive goes on, and a poll is about to complete (`io_poll_cancel`, io_uring/poll.c). What
    /// had ended has said so before, and is doubted no more.
    pub(super) fn cancelled(&self, tag: Tag, kind: Kind, result: i32) {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.get_mut(tag.place as usize).filter(|slot| slot.birth == tag.birth);
        let doubted = |slot: &&mut Slot| result < 0 && slot.doubts[kind as usize] > 0;
        let Some(slot) = slot.filter(doubted) else { return };
        slot.doubts[kind as usize] += 1;
        if slot.doubts[kind as usize] <= MISSES_MAX {
            return self.cancel(slot, tag.place, kind);
        }
        tracing::error!(
            ?kind,
            "an operation that is not there and has not ended: a completion was lost"
        );
        self.meters.ring_completions_lost.add(1);
        slot.lost(kind);
        if slot.is_over() {
            slots.remove(tag.place as usize);
        }
    }

    /// Completions were lost, and nobody knows whose: everything that is on is cancelled. What was
    /// not lost begins anew; what was is found by cancels in vain.
    pub(super) fn look_at_all(&self) {
        self.meters.ring_losses.add(1);
        self.alarm.set(None);
        if planted::has(Bug::LossIgnored) {
            return;
        }
        for (place, slot) in &mut *self.slots.borrow_mut() {
            self.end_all(slot, place as u32);
        }
    }

    /// Asks the kernel to end everything that is on in a slot.
    pub(super) fn end_all(&self, slot: &mut Slot, place: u32) {
        for kind in Kind::LASTING {
            if slot.is_on(kind) {
                self.end(slot, place, kind);
            }
        }
    }

    /// Whoever waits on this socket is to wake, whatever the kernel has told.
    pub(in crate::rt) fn end_waits(&self, handle: &Handle) {
        if planted::has(Bug::LossIgnored) {
            return;
        }
        self.slot(handle, |slot| self.end_all(slot, handle.place));
    }
}

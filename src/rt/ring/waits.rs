//! What tasks wait for: each wait looks at its slot, and asks the kernel for what is missing.

use std::task::{Context, Poll};

use super::{
    Ring,
    kernel::Op,
    slot::{Heard, Kind, Receive, Sending, Slot, Wait},
};
use crate::rt::{Sent, handle::Handle};

impl Ring {
    /// Waits until a receive has something to say; starts one where none goes on.
    pub(in crate::rt) fn poll_arrival(&self, handle: &Handle, cx: &Context<'_>) -> Poll<()> {
        self.slot(handle, |slot| {
            if !slot.inbox.is_empty() || slot.heard != Heard::Nothing {
                return Poll::Ready(());
            }
            if slot.receive == Receive::Off {
                let is_asked = slot.ask_directly || slot.poll_in != Wait::Off;
                if is_asked || self.buffers.free() == 0 {
                    self.meters.ring_buffers_dry.add(u64::from(!is_asked));
                    return self.poll_readable(slot, handle, cx);
                }
                self.push(slot, handle.place, Kind::Receive, Op::Receive(handle.fd));
                slot.receive = Receive::On;
            }
            slot.waiters.wait_to_read(cx);
            Poll::Pending
        })
    }

    /// Waits until reading would not block, or until a receive that goes on has been stopped.
    pub(in crate::rt) fn poll_ready_to_read(&self, handle: &Handle, cx: &Context<'_>) -> Poll<()> {
        self.slot(handle, |slot| {
            if !slot.inbox.is_empty() || slot.heard != Heard::Nothing {
                return Poll::Ready(());
            }
            if slot.receive == Receive::Off {
                return self.poll_readable(slot, handle, cx);
            }
            self.stop(slot, handle.place);
            slot.waiters.wait_to_read(cx);
            Poll::Pending
        })
    }

    /// Waits until a receive that was stopped has ended: nothing comes behind what it has brought.
    pub(in crate::rt) fn poll_stopped(&self, handle: &Handle, cx: &Context<'_>) -> Poll<()> {
        self.slot(handle, |slot| match slot.receive {
            Receive::Off => Poll::Ready(()),
            _ => {
                slot.waiters.wait_to_read(cx);
                Poll::Pending
            }
        })
    }

    fn poll_readable(&self, slot: &mut Slot, handle: &Handle, cx: &Context<'_>) -> Poll<()> {
        match slot.poll_in {
            Wait::Over => {
                slot.poll_in = Wait::Off;
                return Poll::Ready(());
            }
            Wait::Off => {
                self.push(slot, handle.place, Kind::PollIn, Op::PollIn(handle.fd));
                slot.poll_in = Wait::On;
            }
            Wait::On => {}
        }
        slot.waiters.wait_to_read(cx);
        Poll::Pending
    }

    /// Waits until writing would not block.
    pub(in crate::rt) fn poll_ready_to_write(&self, handle: &Handle, cx: &Context<'_>) -> Poll<()> {
        self.slot(handle, |slot| {
            match slot.poll_out {
                Wait::Over => {
                    slot.poll_out = Wait::Off;
                    return Poll::Ready(());
                }
                Wait::Off => {
                    self.push(slot, handle.place, Kind::PollOut, Op::PollOut(handle.fd));
                    slot.poll_out = Wait::On;
                }
                Wait::On => {}
            }
            slot.waiters.wait_to_write(cx);
            Poll::Pending
        })
    }

    /// What became of a send.
    pub(in crate::rt) fn poll_sent(&self, handle: &Handle, cx: &Context<'_>) -> Poll<Sent> {
        let over = self.slot(handle, |slot| match std::mem::take(&mut slot.sending) {
            Sending::Over(chunk, result) => Some((chunk, result)),
            pending => {
                slot.sending = pending;
                slot.waiters.wait_to_write(cx);
                None
            }
        });
        over.map_or(Poll::Pending, |(chunk, result)| Poll::Ready(Sent::by_ring(chunk, result)))
    }
}

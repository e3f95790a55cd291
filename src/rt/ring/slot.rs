//! One registered descriptor: what the kernel does for it, what has come, and who waits.
//!
//! A slot is used again only when no operation names it any more, and each use has a birth of its
//! own that goes into the operations' tags: a late completion never touches a later socket.

use std::{io, os::fd::OwnedFd};

use rustix::{event::PollFlags, io::Errno};

use super::buffers::Inbox;
use crate::{
    rt::{Chunk, waiters::Waiters},
    sock,
};

/// Which operation of a slot a tag names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Receive,
    PollIn,
    PollOut,
    Send,
    /// One of these four is to end.
    CancelReceive,
    CancelPollIn,
    CancelPollOut,
    CancelSend,
    /// A deadline of ours has come; of no slot.
    Alarm,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Receive,
        Kind::PollIn,
        Kind::PollOut,
        Kind::Send,
        Kind::CancelReceive,
        Kind::CancelPollIn,
        Kind::CancelPollOut,
        Kind::CancelSend,
        Kind::Alarm,
    ];

    /// Those that go on in the kernel, in index order.
    pub(super) const LASTING: [Kind; 4] = [Kind::Receive, Kind::PollIn, Kind::PollOut, Kind::Send];

    /// What ends one that goes on.
    pub(super) fn cancel(self) -> Kind {
        match self {
            Kind::Receive => Kind::CancelReceive,
            Kind::PollIn => Kind::CancelPollIn,
            Kind::PollOut => Kind::CancelPollOut,
            _ => Kind::CancelSend,
        }
    }

    /// What a cancel is to end.
    pub(super) fn cancelled(self) -> Option<Kind> {
        Kind::LASTING.into_iter().find(|lasting| lasting.cancel() == self)
    }
}

/// Bits of a birth that fit into a tag.
const BIRTH_MASK: u32 = (1 << 24) - 1;

/// The name of an operation: kind, birth and place of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: Kind,
    pub(super) birth: u32,
    pub(super) place: u32,
}

impl Tag {
    pub(super) const ALARM: Tag = Tag { kind: Kind::Alarm, birth: 0, place: 0 };

    pub(super) fn pack(self) -> u64 {
        let birth = u64::from(self.birth & BIRTH_MASK);
        (self.kind as u64) << 56 | birth << 32 | u64::from(self.place)
    }

    /// The tag in a completion of ours.
    pub(super) fn unpack(word: u64) -> Tag {
        let kind = Kind::ALL.get((word >> 56) as usize).copied().unwrap_or(Kind::Alarm);
        Tag { kind, birth: (word >> 32) as u32 & BIRTH_MASK, place: word as u32 }
    }
}

/// The receive of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Receive {
    #[default]
    Off,
    On,
    /// Cancelled, and the kernel has not said yet that it has ended.
    Stopping,
}

/// A wait for readiness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wait {
    #[default]
    Off,
    On,
    /// Over, and nobody has been told yet.
    Over,
}

/// Bits of a poll that say that something is wrong.
const POLL_TROUBLE: i32 = (PollFlags::ERR.bits() | PollFlags::HUP.bits()) as i32;

/// Whether a poll came to no more than readiness.
pub(super) fn is_clean(events: i32) -> bool {
    events > 0 && events & POLL_TROUBLE == 0
}

/// How the stream from the peer ended, as a receive found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Heard {
    #[default]
    Nothing,
    Fin,
    /// An error.
    Error,
    /// A completion was lost, and with it perhaps bytes.
    Lost,
}

/// A send through the ring.
#[derive(Default)]
pub(super) enum Sending {
    #[default]
    Off,
    /// The kernel has, or will get, these bytes; they are nobody else's until it is over.
    On(Chunk),
    /// With the kernel's answer: a count or a negative error number.
    Over(Chunk, i32),
}

/// What a socket's own receive has for its reader.
pub(in crate::rt) enum Taken {
    Chunk {
        chunk: Chunk,
        drained: bool,
    },
    End,
    Reset,
    /// Nobody knows what is missing.
    Lost,
    /// Nothing yet; it will come.
    Nothing,
    /// No receive goes on: the socket has to be asked.
    Ask,
}

impl Sending {
    /// Whether the kernel said that nobody takes the bytes any more.
    pub(super) fn failed(&self) -> bool {
        let Sending::Over(_, result @ ..0) = self else { return false };
        -result != Errno::BADR.raw_os_error()
            && !sock::is_for_later(&io::Error::from_raw_os_error(-result))
    }
}

/// A registered descriptor.
pub(super) struct Slot {
    pub(super) birth: u32,
    /// Operations that name it, queued or in the kernel.
    pub(super) in_kernel: u16,
    /// True exactly when its last handle is gone.
    pub(super) orphan: bool,
    pub(super) receive: Receive,
    /// By [`Kind::LASTING`]: 0, or 1 and the cancels that have failed since somebody wants it
    /// ended.
    pub(super) doubts: [u8; 4],
    /// True exactly while the socket is better asked itself: it is new, or a receive of the ring
    /// has filled a whole buffer, was stopped, or failed without its peer's doing, and nothing
    /// since has said that the socket is empty. Many bytes at a time are cheaper in buffers of our
    /// own, which are larger, and one sender cannot take those of all.
    pub(super) ask_directly: bool,
    pub(super) poll_in: Wait,
    pub(super) poll_out: Wait,
    /// True exactly when the last wait for writing found nothing wrong.
    pub(super) clean: bool,
    pub(super) heard: Heard,
    pub(super) inbox: Inbox,
    pub(super) sending: Sending,
    pub(super) waiters: Waiters,
    /// Closed with the slot, when nothing in the kernel names it any more.
    _fd: OwnedFd,
}

impl Slot {
    pub(super) fn new(fd: OwnedFd, birth: u32) -> Slot {
        Slot {
            birth: birth & BIRTH_MASK,
            in_kernel: 0,
            orphan: false,
            receive: Receive::Off,
            doubts: [0; 4],
            ask_directly: true,
            poll_in: Wait::Off,
            poll_out: Wait::Off,
            clean: false,
            heard: Heard::Nothing,
            inbox: Inbox::default(),
            sending: Sending::Off,
            waiters: Waiters::default(),
            _fd: fd,
        }
    }

    /// Whether nobody has it and nothing names it.
    pub(super) fn is_over(&self) -> bool {
        self.orphan && self.in_kernel == 0
    }

    /// Whether this one is queued or goes on in the kernel, as far as completions have told.
    pub(super) fn is_on(&self, kind: Kind) -> bool {
        match kind {
            Kind::Receive => self.receive != Receive::Off,
            Kind::PollIn => self.poll_in == Wait::On,
            Kind::PollOut => self.poll_out == Wait::On,
            _ => matches!(self.sending, Sending::On(_)),
        }
    }

    /// It will never be told what became of this one, which has ended: whoever waits looks himself.
    pub(super) fn lost(&mut self, kind: Kind) {
        self.in_kernel -= 1;
        self.doubts[kind as usize] = 0;
        match kind {
            Kind::Receive => (self.receive, self.heard) = (Receive::Off, Heard::Lost),
            Kind::PollIn => self.poll_in = Wait::Over,
            Kind::PollOut => (self.poll_out, self.clean) = (Wait::Over, false),
            _ => {
                if let Sending::On(chunk) = std::mem::take(&mut self.sending) {
                    self.sending = Sending::Over(chunk, -Errno::BADR.raw_os_error());
                }
            }
        }
        self.waiters.wake_reader();
        self.waiters.wake_writer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_survives_its_word() {
        for kind in Kind::ALL {
            let tag = Tag { kind, birth: BIRTH_MASK, place: u32::MAX - 1 };
            assert_eq!(Tag::unpack(tag.pack()), tag);
        }
    }

    #[test]
    fn a_send_has_failed_when_the_kernel_said_so_for_good() {
        let over = |result| Sending::Over(Chunk::of_ring(0, 1), result);
        let answers = [1, -Errno::AGAIN.raw_os_error(), -Errno::CONNRESET.raw_os_error()];
        assert_eq!(answers.map(|result| over(result).failed()), [false, false, true]);
        assert!(!Sending::On(Chunk::of_ring(0, 1)).failed());
    }

    #[test]
    fn a_slot_stays_small() {
        // Two of these belong to each connection.
        assert!(size_of::<Slot>() <= 80, "{}", size_of::<Slot>());
    }
}

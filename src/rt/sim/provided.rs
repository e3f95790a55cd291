//! The ring of buffers as the kernel sees it: the very memory that the real one takes them from.

use std::{
    slice,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types::BufRingEntry;

/// Buffers as the kernel sees them.
pub(super) struct Provided {
    entries: *const BufRingEntry,
    count: u16,
    /// The next one to take.
    head: u16,
    /// The end of those that are known to have come back.
    seen: u16,
}

impl Provided {
    pub(super) fn new(entries: *const BufRingEntry, count: u16) -> Provided {
        Provided { entries, count, head: 0, seen: 0 }
    }

    fn tail(&self) -> u16 {
        // SAFETY: the entries outlive the queues, which their ring drops first.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries).cast_mut()) };
        tail.load(Ordering::Acquire)
    }

    fn left(&self) -> u16 {
        self.tail().wrapping_sub(self.head)
    }

    fn entry(&self, at: u16) -> &BufRingEntry {
        // SAFETY: inside the ring, whose entries outlive the queues; between head and tail the
        // engine has written them, and it does so only on this thread.
        unsafe { &*self.entries.add(usize::from(at & (self.count - 1))) }
    }

    /// The number of the next buffer that has come back since the last look.
    pub(super) fn came_back(&mut self) -> Option<u16> {
        let next = (self.seen != self.tail()).then(|| self.entry(self.seen).bid())?;
        self.seen = self.seen.wrapping_add(1);
        Some(next)
    }

    /// The next buffer and its number.
    pub(super) fn next(&mut self) -> Option<(u16, &mut [u8])> {
        assert!(self.left() <= self.count, "a buffer was given back twice");
        if self.left() == 0 {
            return None;
        }
        let entry = self.entry(self.head);
        // SAFETY: the engine has written where the buffer is and how long, and does not touch it
        // before a completion says that it was taken.
        let memory =
            unsafe { slice::from_raw_parts_mut(entry.addr() as *mut u8, entry.len() as usize) };
        Some((entry.bid(), memory))
    }

    /// The next buffer is the socket's.
    pub(super) fn is_taken(&mut self) {
        self.head = self.head.wrapping_add(1);
    }
}

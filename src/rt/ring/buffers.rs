//! One ring of buffers for all receives of a shard: the kernel takes one when bytes are there, so a
//! connection that waits holds none.
//!
//! A buffer is in one of three places: in the ring (the kernel's), in the inbox of a socket, or
//! lent out as a chunk. The lists of the inboxes are threaded through [`Buffers`] itself.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    cell::Cell,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types::BufRingEntry;

use crate::meters::Meters;

/// Size of a buffer: two of the reads that make a direction bulk.
pub(in crate::rt) const BUFFER_BYTES: usize = 32 * 1024;

/// Buffers of a shard, a power of two: 8 MiB, of which only what was once full takes memory.
pub const BUFFERS: u16 = 256;

/// No buffer: the end of a list.
const NONE: u16 = u16::MAX;

/// The buffers of one ring.
pub(in crate::rt) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    /// Where the next buffer goes that comes back; the kernel reads it from the first entry.
    tail: Cell<u16>,
    /// Buffers in the ring, as far as completions have told.
    free: Cell<u16>,
    meters: &'static Meters,
    /// By buffer: the bytes in it, and the next one in the same inbox.
    filled: Box<[Cell<u32>]>,
    next: Box<[Cell<u16>]>,
}

fn entries_layout(count: u16) -> Layout {
    let bytes = usize::from(count) * size_of::<BufRingEntry>();
    // The kernel wants them on a page, which may have 4, 16 or 64 KiB.
    Layout::from_size_align(bytes, rustix::param::page_size()).expect("a size of ours")
}

fn memory_layout(count: u16) -> Layout {
    let bytes = usize::from(count) * BUFFER_BYTES;
    Layout::from_size_align(bytes, rustix::param::page_size()).expect("a size of ours")
}

impl Buffers {
    pub(super) fn new(meters: &'static Meters, count: u16) -> Buffers {
        assert!(count.is_power_of_two(), "{count} buffers: the kernel wants a power of two");
        // SAFETY: neither layout is of size zero.
        let (entries, memory) =
            unsafe { (alloc_zeroed(entries_layout(count)), alloc_zeroed(memory_layout(count))) };
        let buffers = Buffers {
            entries: NonNull::new(entries.cast()).expect("memory for a page"),
            memory: NonNull::new(memory).expect("memory for the buffers"),
            count,
            tail: Cell::new(0),
            free: Cell::new(0),
            meters,
            filled: vec![Cell::new(0); count.into()].into_boxed_slice(),
            next: vec![Cell::new(NONE); count.into()].into_boxed_slice(),
        };
        (0..count).for_each(|buffer| buffers.put(buffer));
        buffers
    }

    /// What the kernel has to know of them: where their ring is, and how many they are.
    pub(in crate::rt) fn entries(&self) -> (*const BufRingEntry, u16) {
        (self.entries.as_ptr(), self.count)
    }

    /// Buffers that the kernel may still take.
    pub(super) fn free(&self) -> u16 {
        self.free.get()
    }

    /// Buffers that are not in the ring.
    #[cfg(test)]
    pub(in crate::rt) fn lent(&self) -> u16 {
        self.count - self.free.get()
    }

    /// The kernel has filled a buffer.
    pub(super) fn taken(&self, buffer: u16, bytes: u32) {
        self.free.set(self.free.get() - 1);
        self.meters.ring_buffers_in_use.up();
        self.filled[usize::from(buffer)].set(bytes);
        self.next[usize::from(buffer)].set(NONE);
    }

    /// Bytes in a filled buffer.
    pub(super) fn filled(&self, buffer: u16) -> u32 {
        self.filled[usize::from(buffer)].get()
    }

    /// Whether the receive that filled a buffer may have left something.
    pub(super) fn is_full(&self, buffer: u16) -> bool {
        self.filled(buffer) as usize == BUFFER_BYTES
    }

    /// Puts a buffer into the ring again.
    pub(in crate::rt) fn give_back(&self, buffer: u16) {
        self.put(buffer);
        self.meters.ring_buffers_in_use.down();
    }

    fn put(&self, buffer: u16) {
        let tail = self.tail.get();
        // SAFETY: the place is inside the entries, and the kernel reads it only once the tail says
        // so, below. Its `resv`, which is the tail in the first entry, is left alone.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(usize::from(tail & (self.count - 1)));
            entry.set_addr(self.memory.as_ptr().add(usize::from(buffer) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
        self.free.set(self.free.get() + 1);
        // SAFETY: the tail lies in the first entry and is read by the kernel alone.
        let shared =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        shared.store(self.tail.get(), Ordering::Release);
    }

    /// The bytes from `start` to `end` of a buffer that is lent out.
    pub(in crate::rt) fn bytes(&self, buffer: u16, start: usize, end: usize) -> &[u8] {
        assert!(start <= end && end <= BUFFER_BYTES, "inside the buffer");
        // SAFETY: a buffer that is lent out is not in the ring, so nobody writes to it before it is
        // given back, which its one chunk does when dropped.
        unsafe {
            let first = self.memory.as_ptr().add(usize::from(buffer) * BUFFER_BYTES + start);
            slice::from_raw_parts(first, end - start)
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated by `new` with these layouts; the ring that knew them is gone.
        unsafe {
            dealloc(self.entries.as_ptr().cast(), entries_layout(self.count));
            dealloc(self.memory.as_ptr(), memory_layout(self.count));
        }
    }
}

/// Filled buffers of one socket, oldest first.
#[derive(Debug)]
pub(super) struct Inbox {
    first: u16,
    last: u16,
    count: u16,
}

impl Default for Inbox {
    fn default() -> Self {
        Inbox { first: NONE, last: NONE, count: 0 }
    }
}

impl Inbox {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn count(&self) -> u16 {
        self.count
    }

    pub(super) fn push(&mut self, buffers: &Buffers, buffer: u16) {
        match self.count {
            0 => self.first = buffer,
            _ => buffers.next[usize::from(self.last)].set(buffer),
        }
        self.last = buffer;
        self.count += 1;
    }

    pub(super) fn pop(&mut self, buffers: &Buffers) -> Option<u16> {
        if self.count == 0 {
            return None;
        }
        let buffer = self.first;
        self.first = buffers.next[usize::from(buffer)].get();
        self.count -= 1;
        Some(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_keeps_the_order_and_shares_the_buffers() {
        let buffers = Buffers::new(Box::leak(Box::default()), BUFFERS);
        let (mut ours, mut theirs) = (Inbox::default(), Inbox::default());
        for buffer in [7, 3, 200] {
            buffers.taken(buffer, u32::from(buffer));
            ours.push(&buffers, buffer);
            buffers.taken(buffer + 1, 1);
            theirs.push(&buffers, buffer + 1);
        }
        assert_eq!(buffers.free(), BUFFERS - 6);
        let order: Vec<_> = std::iter::from_fn(|| ours.pop(&buffers)).collect();
        assert_eq!(order, [7, 3, 200]);
        assert_eq!(theirs.count(), 3);
        order.into_iter().for_each(|buffer| buffers.give_back(buffer));
        assert_eq!(buffers.free(), BUFFERS - 3);
    }
}

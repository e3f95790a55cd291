//! The ring of buffers into which the kernel receives.

use std::{
    alloc::{self, Layout},
    io,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{Submitter, types::BufRingEntry};

/// The only group of buffers.
pub const GROUP: u16 = 0;
/// A power of two.
const COUNT: u16 = 256;
const BYTES: u32 = crate::engine::BUFFER_BYTES as u32;
/// Buffers would all begin in the same few sets of the cache if they lay a power of two apart.
const STRIDE: usize = BYTES as usize + 320;
const PAGE: usize = 4096;

/// Lives as long as the process, as the kernel's use of it does.
pub struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    /// Makes the buffers and hands them all to the kernel.
    pub fn register(ring: &Submitter<'_>) -> io::Result<Self> {
        let entries = allocate(COUNT as usize * size_of::<BufRingEntry>());
        let mut buffers =
            Self { entries: entries.cast(), memory: allocate(COUNT as usize * STRIDE), tail: 0 };
        // SAFETY: page-aligned memory of COUNT entries, which is never freed.
        unsafe {
            ring.register_buf_ring_with_flags(entries as u64, COUNT, GROUP, 0)?;
        }
        for buffer in 0..COUNT {
            buffers.free(buffer);
        }
        buffers.give_back();
        Ok(buffers)
    }

    /// Puts a buffer in line; the kernel has it after `give_back`.
    pub fn free(&mut self, buffer: u16) {
        let at = (self.tail % COUNT) as usize;
        let address = self.memory.wrapping_add(buffer as usize * STRIDE);
        // SAFETY: `at` is below COUNT, and the kernel does not look at entries past the tail.
        let entry = unsafe { &mut *self.entries.add(at) };
        entry.set_addr(address as u64);
        entry.set_len(BYTES);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Publishes what was put in line.
    pub fn give_back(&mut self) {
        // SAFETY: the tail lies in the first entry's reserved field, which only we write.
        let tail = unsafe { &*BufRingEntry::tail(self.entries).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Where bytes of a received chunk are.
    pub fn bytes(&self, buffer: u16, start: u32, end: u32) -> &[u8] {
        assert!(buffer < COUNT && start <= end && end <= BYTES);
        let from = self.memory.wrapping_add(buffer as usize * STRIDE + start as usize);
        // SAFETY: within the allocation, and the kernel does not write into a buffer that we hold.
        unsafe { std::slice::from_raw_parts(from, (end - start) as usize) }
    }
}

/// Zeroed pages that are never given back.
fn allocate(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, PAGE).expect("the sizes are constants");
    // SAFETY: the size is not zero.
    let memory = unsafe { alloc::alloc_zeroed(layout) };
    if memory.is_null() {
        alloc::handle_alloc_error(layout);
    }
    memory
}

//! Buffers, lent for as long as bytes are in them.

use std::{cell::RefCell, io, rc::Rc};

use super::{Meters, Socket, local};
use crate::sock;

/// Size of one buffer: what the kernel hands over in one call on a busy connection.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Buffers one shard lends at a time: 16 MiB. A buffer is only held while its sink is blocked; when
/// none is left, bytes are passed on by peeking ([`pass_on`]), which holds nothing.
pub const CHUNKS_MAX: u32 = 256;

/// Free buffers kept warm; one is enough while nobody is blocked.
const CHUNKS_KEPT: usize = 8;

/// A shard's buffers.
pub(super) struct Chunks {
    meters: &'static Meters,
    free: RefCell<Vec<Box<[u8]>>>,
    /// For [`pass_on`], which never keeps it across a wait.
    scratch: RefCell<Box<[u8]>>,
}

fn buffer() -> Box<[u8]> {
    vec![0; CHUNK_BYTES].into_boxed_slice()
}

impl Chunks {
    pub(super) fn new(meters: &'static Meters) -> Self {
        Chunks { meters, free: RefCell::default(), scratch: RefCell::new(buffer()) }
    }
}

/// Bytes on their way from one socket to the other, in a buffer that goes back when dropped.
pub struct Chunk {
    home: Rc<super::Local>,
    /// `None` exactly while being dropped.
    buffer: Option<Box<[u8]>>,
    start: u32,
    end: u32,
}

/// Lends a buffer, or says that none is left.
pub fn take_chunk() -> Option<Chunk> {
    let home = local();
    let pool = &home.chunks;
    if pool.meters.chunks_in_use.get() >= CHUNKS_MAX {
        pool.meters.chunks_dry.add(1);
        return None;
    }
    pool.meters.chunks_in_use.up();
    let buffer = Some(pool.free.borrow_mut().pop().unwrap_or_else(buffer));
    Some(Chunk { home, buffer, start: 0, end: 0 })
}

impl Chunk {
    pub(super) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let buffer = self.buffer.as_mut().expect("held until dropped");
        let n = read(buffer)?;
        (self.start, self.end) = (0, n as u32);
        Ok(n)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer.as_ref().expect("held until dropped")[self.start as usize..self.end as usize]
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.start += n as u32;
        debug_assert!(self.start <= self.end, "more sent than held");
    }

    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let pool = &self.home.chunks;
        pool.meters.chunks_in_use.down();
        let mut free = pool.free.borrow_mut();
        if free.len() < CHUNKS_KEPT {
            free.extend(self.buffer.take());
        }
    }
}

/// What one [`pass_on`] came to.
#[derive(Debug)]
pub enum Passed {
    /// Bytes reached the sink.
    Bytes {
        /// At least 1.
        sent: usize,
        /// True exactly when the source had no more.
        drained: bool,
    },
    /// The source ended.
    End,
    /// The source has nothing now.
    SourceEmpty,
    /// The sink takes nothing now; the bytes are still in the source.
    SinkFull,
    /// The source was reset.
    SourceReset,
    /// The sink was reset, or nobody reads it any more.
    SinkReset,
}

/// Moves bytes without holding a buffer across a wait: looks at them, sends them, and takes from
/// the source exactly what was sent. One more call per chunk than receiving them first.
pub fn pass_on(source: &Socket, sink: &Socket) -> Passed {
    let home = local();
    let mut scratch = home.chunks.scratch.borrow_mut();
    let seen = match sock::peek(source, &mut scratch) {
        Ok(0) => return Passed::End,
        Ok(seen) => seen,
        Err(e) if sock::is_for_later(&e) => return Passed::SourceEmpty,
        Err(_) => return Passed::SourceReset,
    };
    let sent = match sock::send(sink, &scratch[..seen]) {
        Ok(sent) => sent,
        Err(e) if sock::is_for_later(&e) => return Passed::SinkFull,
        Err(_) => return Passed::SinkReset,
    };
    // The bytes are in the socket's queue, so this cannot fall short.
    let _ = sock::discard(source, &mut scratch[..sent]);
    Passed::Bytes { sent, drained: sent == seen && seen < CHUNK_BYTES }
}

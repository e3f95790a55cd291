//! Buffers, lent for as long as bytes are in them.

use std::{cell::RefCell, io, os::fd::AsFd};

use rustix::io::Errno;

use super::{Local, Socket, with_local};
use crate::{meters::Meters, sock};

/// Size of one buffer: what the kernel hands over in one call on a busy connection.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Buffers one shard lends at a time: 16 MiB. A buffer is only held while its sink is blocked; when
/// none is left, bytes are passed on by peeking ([`pass_on`]), which holds nothing.
pub const CHUNKS_MAX: u32 = 256;

/// Bytes of one shard that may be parked; beyond that they stay in the ring's buffers.
pub const PARKED_BYTES_MAX: usize = 32 << 20;

/// Free buffers kept warm: as many as may be on their way into the kernel at the end of a turn in
/// which a burst of clients has come.
const CHUNKS_KEPT: usize = 64;

/// A shard's buffers, apart from those of the ring.
pub(super) struct Chunks {
    meters: &'static Meters,
    max: u32,
    free: RefCell<Vec<Box<[u8; CHUNK_BYTES]>>>,
    /// For [`pass_on`], which never keeps it across a wait.
    scratch: RefCell<Box<[u8; CHUNK_BYTES]>>,
}

fn buffer() -> Box<[u8; CHUNK_BYTES]> {
    vec![0; CHUNK_BYTES].into_boxed_slice().try_into().expect("the same length")
}

impl Chunks {
    pub(super) fn new(meters: &'static Meters, max: u32) -> Self {
        Chunks { meters, max, free: RefCell::default(), scratch: RefCell::new(buffer()) }
    }
}

/// Where the bytes of a chunk are.
#[derive(Debug)]
enum Buffer {
    Own(Box<[u8; CHUNK_BYTES]>),
    /// A buffer that the kernel took from the ring, by number.
    Ring(u16),
    /// A block of its own, as large as what was in it.
    Parked(Box<Block>),
    /// Given back.
    Gone,
}

/// Bytes in memory of their own; apart, because two words in every chunk would be two in every
/// task.
#[derive(Debug)]
struct Block(Box<[u8]>);

/// Bytes on their way from one socket to the other, in a buffer that goes back when dropped.
#[derive(Debug)]
pub struct Chunk {
    buffer: Buffer,
    start: u32,
    end: u32,
}

/// Lends a buffer, or says that none is left.
fn take_chunk(local: &Local) -> Option<Chunk> {
    let pool = &local.chunks;
    if pool.meters.chunks_in_use.get() >= pool.max {
        pool.meters.chunks_dry.add(1);
        return None;
    }
    pool.meters.chunks_in_use.up();
    let buffer = Buffer::Own(pool.free.borrow_mut().pop().unwrap_or_else(buffer));
    Some(Chunk { buffer, start: 0, end: 0 })
}

impl Chunk {
    /// What the kernel has put into a buffer of the ring.
    pub(super) fn of_ring(buffer: u16, filled: u32) -> Chunk {
        Chunk { buffer: Buffer::Ring(buffer), start: 0, end: filled }
    }

    /// Somebody else has its buffer from now on.
    pub(super) fn keep(mut self) {
        self.buffer = Buffer::Gone;
    }

    /// Whether it has a buffer of the ring, which all sockets of the shard share.
    pub fn is_of_ring(&self) -> bool {
        matches!(self.buffer, Buffer::Ring(_))
    }

    /// The same bytes and those of `rest` behind them in one block, so that their buffers go back;
    /// `None` where the shard has parked too much already, or there is nothing to gain.
    pub(super) fn park(&self, local: &Local, rest: &[Chunk]) -> Option<Chunk> {
        let all = || std::iter::once(self).chain(rest);
        let len: usize = all().map(Chunk::len).sum();
        let parked = &local.chunks.meters.parked_bytes;
        if parked.get() as usize + len > PARKED_BYTES_MAX || !all().any(Chunk::is_of_ring) {
            return None;
        }
        let mut block = Vec::with_capacity(len);
        all().for_each(|chunk| block.extend_from_slice(chunk.bytes(local)));
        parked.raise(len as u32);
        Some(Chunk {
            buffer: Buffer::Parked(Box::new(Block(block.into()))),
            start: 0,
            end: len as u32,
        })
    }

    /// The bytes that have not been sent.
    pub(super) fn bytes<'a>(&'a self, local: &'a Local) -> &'a [u8] {
        let (start, end) = (self.start as usize, self.end as usize);
        match &self.buffer {
            Buffer::Own(buffer) => &buffer[start..end],
            Buffer::Ring(buffer) => local.engine.ring().buffers().bytes(*buffer, start, end),
            Buffer::Parked(block) => &block.0[start..end],
            Buffer::Gone => &[],
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether everything has been sent.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn advance(&mut self, n: usize) {
        self.start += n as u32;
        debug_assert!(self.start <= self.end, "more sent than held");
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        super::try_with_local(|local| match std::mem::replace(&mut self.buffer, Buffer::Gone) {
            Buffer::Own(buffer) => {
                local.chunks.meters.chunks_in_use.down();
                let mut free = local.chunks.free.borrow_mut();
                if free.len() < CHUNKS_KEPT {
                    free.push(buffer);
                }
            }
            Buffer::Ring(buffer) => local.engine.ring().buffers().give_back(buffer),
            Buffer::Parked(block) => {
                local.chunks.meters.parked_bytes.lower(block.0.len() as u32);
            }
            Buffer::Gone => {}
        });
    }
}

/// What a [`Socket::recv`] came to.
#[derive(Debug)]
pub enum Received {
    /// Bytes.
    Bytes {
        /// At least one.
        chunk: Chunk,
        /// True only when the source had no more.
        drained: bool,
    },
    /// Nothing is there now.
    Nothing,
    /// Something may be there, and no buffer is left to put it in: [`pass_on`] needs none.
    NoBuffer,
    /// The source ended.
    End,
    /// The source was reset.
    Reset,
    /// The kernel has lost a completion, and with it perhaps bytes.
    Lost,
}

/// Asks a socket itself, with a buffer of our own; `None`: there is no buffer left. No bytes are
/// the end.
pub(super) fn ask(socket: impl AsFd) -> Option<io::Result<Chunk>> {
    let mut chunk = with_local(|local| take_chunk(local))?;
    let Buffer::Own(buffer) = &mut chunk.buffer else { return None };
    let received = sock::recv(socket, &mut buffer[..]);
    Some(received.map(|n| {
        chunk.end = n as u32;
        chunk
    }))
}

impl Received {
    /// What asking a socket came to; a receive that is short has left nothing.
    pub(super) fn of(asked: Option<io::Result<Chunk>>) -> Received {
        match asked {
            None => Received::NoBuffer,
            Some(Ok(chunk)) if chunk.is_empty() => Received::End,
            Some(Ok(chunk)) => Received::Bytes { drained: chunk.len() < CHUNK_BYTES, chunk },
            Some(Err(e)) if sock::is_for_later(&e) => Received::Nothing,
            Some(Err(_)) => Received::Reset,
        }
    }
}

/// What a [`Socket::send`] came to.
#[derive(Debug)]
pub enum Sent {
    /// The socket took so many bytes, at least one; the chunk has the rest.
    Some(usize, Chunk),
    /// The socket takes nothing now.
    Full(Chunk),
    /// The socket was reset, or nobody reads it any more.
    Reset,
    /// The kernel will say: ask [`Socket::sent`].
    Later,
    /// The kernel has lost what it was to say: nobody knows how much the socket took.
    Lost,
}

impl Sent {
    /// From what a completion says: a count or a negative error number.
    pub(super) fn by_ring(chunk: Chunk, result: i32) -> Sent {
        if -result == Errno::BADR.raw_os_error() {
            return Sent::Lost;
        }
        let outcome = usize::try_from(result);
        Sent::of(chunk, outcome.map_err(|_| Errno::from_raw_os_error(-result).into()))
    }

    pub(super) fn of(mut chunk: Chunk, outcome: io::Result<usize>) -> Sent {
        match outcome {
            Ok(n) => {
                chunk.advance(n);
                Sent::Some(n, chunk)
            }
            Err(e) if sock::is_for_later(&e) => Sent::Full(chunk),
            Err(_) => Sent::Reset,
        }
    }
}

/// Sends by a call of its own.
pub(super) fn send(local: &Local, socket: &Socket, chunk: Chunk) -> Sent {
    let outcome = sock::send(socket, chunk.bytes(local));
    if outcome.as_ref().is_err_and(sock::would_block) {
        socket.is_full();
    }
    Sent::of(chunk, outcome)
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

/// Drops what the source has, up to a buffer, without one; how much.
pub fn drop_received(source: &Socket) -> usize {
    let dropped = with_local(|local| {
        let mut scratch = local.chunks.scratch.borrow_mut();
        sock::discard(source, &mut scratch[..])
    });
    if dropped.as_ref().is_err_and(sock::would_block) {
        source.is_empty();
    }
    dropped.unwrap_or(0)
}

/// Moves bytes without holding a buffer across a wait: looks at them, sends them, and takes from
/// the source exactly what was sent. One more call per chunk than receiving them first.
pub fn pass_on(source: &Socket, sink: &Socket) -> Passed {
    with_local(|local| {
        let mut scratch = local.chunks.scratch.borrow_mut();
        let seen = match sock::peek(source, &mut scratch[..]) {
            Ok(0) => return Passed::End,
            Ok(seen) => seen,
            Err(e) if sock::is_for_later(&e) => {
                if sock::would_block(&e) {
                    source.is_empty();
                }
                return Passed::SourceEmpty;
            }
            Err(_) => return Passed::SourceReset,
        };
        let sent = match sock::send(sink, &scratch[..seen]) {
            Ok(sent) => sent,
            Err(e) if sock::is_for_later(&e) => {
                if sock::would_block(&e) {
                    sink.is_full();
                }
                return Passed::SinkFull;
            }
            Err(_) => return Passed::SinkReset,
        };
        // The bytes are in the socket's queue, so this cannot fall short.
        let _ = sock::discard(source, &mut scratch[..sent]);
        Passed::Bytes { sent, drained: sent == seen && seen < CHUNK_BYTES }
    })
}

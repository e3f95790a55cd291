//! A connection on the ring, as plain data.

use std::{collections::VecDeque, os::fd::OwnedFd};

/// Received bytes that wait for their sink.
pub struct Chunk {
    pub buffer: u16,
    pub start: u32,
    pub end: u32,
}

/// One direction.
#[derive(Default)]
pub struct Flow {
    /// In the order in which they came; the first may be in the kernel.
    pub queue: VecDeque<Chunk>,
    /// The first chunk is in the kernel, or in the submission queue.
    pub sending: bool,
    /// Its skipped send failed or fell short.
    pub unsent: bool,
    /// A receive is in the kernel, or in the submission queue.
    pub armed: bool,
    /// That receive was told to stop.
    pub cancelled: bool,
    /// The end of the stream was read.
    pub ended: bool,
    /// The end of the stream was passed on.
    pub done: bool,
}

impl Flow {
    /// Whether to read on, with at most `few` chunks in the queue.
    pub fn wants(&self, few: usize) -> bool {
        !self.armed && !self.ended && self.queue.len() <= few
    }
}

/// Sockets by side, client first, and the flow away from each.
pub struct Conn {
    pub sockets: [OwnedFd; 2],
    pub flows: [Flow; 2],
    /// Operations that will complete; the sockets are open and the place is taken until none is.
    pub in_kernel: u32,
    /// It failed: nothing is begun any more.
    pub dying: bool,
}

impl Conn {
    /// With its connect in the kernel.
    pub fn new(sockets: [OwnedFd; 2]) -> Self {
        Self { sockets, flows: Default::default(), in_kernel: 1, dying: false }
    }

    /// Whether nothing is left to do and the kernel knows nothing of it.
    pub fn is_over(&self) -> bool {
        let idle = self.in_kernel == 0 && !self.flows.iter().any(|flow| flow.sending);
        idle && (self.dying || self.flows.iter().all(|flow| flow.done))
    }
}

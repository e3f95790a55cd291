//! What a shard's runtime counts and reports; written by the shard, read by everybody.

use std::backtrace::Backtrace;

use crossbeam::queue::ArrayQueue;

use crate::counter::{Counter, Gauge};

/// Reports of one shard that wait for the coordinator; those beyond are counted only.
const REPORTS_MAX: usize = 16;

/// The runtime's own numbers for one shard; written by it alone.
#[derive(Debug, Default)]
pub struct Meters {
    /// Turns since the start: each ends with one call into the kernel, which collects events and
    /// may wait for them.
    pub turns: Counter,
    /// Longest turn since the start, in microseconds of the shard's own CPU time.
    pub turn_max_us: Counter,
    /// Pipes open, lent or not.
    pub pipes_open: Gauge,
    /// Of these, pipes that have grown with the bulk they carried.
    pub pipes_grown: Gauge,
    /// Pipes lent to a direction.
    pub pipes_in_use: Gauge,
    /// Times a direction wanted a pipe and copied because none was left.
    pub pipes_dry: Counter,
    /// Buffers lent to a direction.
    pub chunks_in_use: Gauge,
    /// Times a direction passed bytes on by peeking because no buffer was left.
    pub chunks_dry: Counter,
    /// Buffers of the ring with bytes in them.
    pub ring_buffers_in_use: Gauge,
    /// Bytes that were moved out of the ring's buffers because their sink takes nothing.
    pub parked_bytes: Gauge,
    /// Receives that ended, or did not begin, because the ring had no buffer left; the socket was
    /// asked instead.
    pub ring_buffers_dry: Counter,
    /// Times completions had to wait in the kernel because their queue was full.
    pub ring_overflows: Counter,
    /// Times the kernel said that it had no memory to keep completions; everything was looked at.
    pub ring_losses: Counter,
    /// Operations whose completion never came: a wait began anew, a receive or a send ended its
    /// connection.
    pub ring_completions_lost: Counter,
    /// Panics that ended a connection each.
    pub panics: Panics,
}

/// What is known of a panic that ended a connection.
#[derive(Debug)]
pub struct PanicReport {
    /// File, line and column.
    pub place: String,
    /// What it said.
    pub words: String,
    /// Frames without names; to show it finds them, which is slow and for another thread.
    pub frames: Backtrace,
}

/// The panics of one shard that ended a connection.
#[derive(Debug)]
pub struct Panics {
    /// Not looked at yet.
    pub reports: ArrayQueue<PanicReport>,
    /// Those that found no room there.
    pub unreported: Counter,
}

impl Default for Panics {
    fn default() -> Self {
        Panics { reports: ArrayQueue::new(REPORTS_MAX), unreported: Counter::default() }
    }
}

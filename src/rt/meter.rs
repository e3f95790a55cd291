//! How long a shard stays away from its event queue.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::Panics;
use crate::counter::{Counter, Gauge};

/// The CPU clock is read again at the start of a turn when its last reading is older than this.
const MARK_AGE: Duration = Duration::from_micros(500);

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

/// Measures turns: from the first task that runs to the last one before the kernel is looked at.
///
/// What counts is the CPU time that a turn takes, not the time others took the core away from us.
/// The CPU clock is a system call, the wall clock is not; so the CPU clock is read at most every
/// [`MARK_AGE`], and a turn counts as the smaller of its wall time and the CPU time since that
/// reading: never too little, and at most [`MARK_AGE`] too much. What goes into the kernel with the
/// wait is not in it: on the ring one call does the work and waits.
pub(super) struct TurnMeter {
    meters: &'static Meters,
    started: Cell<Instant>,
    cpu_mark: Cell<Duration>,
    marked_at: Cell<Instant>,
}

fn cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

impl TurnMeter {
    pub(super) fn new(meters: &'static Meters) -> Self {
        TurnMeter {
            meters,
            started: Cell::new(super::now()),
            cpu_mark: Cell::new(cpu_now()),
            marked_at: Cell::new(super::now()),
        }
    }

    /// A turn begins.
    pub(super) fn begin(&self) {
        let now = super::now();
        if now - self.marked_at.get() > MARK_AGE {
            self.cpu_mark.set(cpu_now());
            self.marked_at.set(now);
        }
        self.started.set(now);
        self.meters.turns.add(1);
    }

    /// Its tasks have run.
    pub(super) fn end(&self) {
        let wall = super::now() - self.started.get();
        if wall.as_micros() as u64 > self.meters.turn_max_us.get() {
            let cpu = cpu_now().saturating_sub(self.cpu_mark.get());
            self.meters.turn_max_us.raise_to(wall.min(cpu).as_micros() as u64);
        }
    }

    /// Where panics are reported.
    pub(super) fn panics(&self) -> &'static Panics {
        &self.meters.panics
    }

    /// How many turns there have been.
    pub(super) fn number(&self) -> u64 {
        self.meters.turns.get()
    }
}

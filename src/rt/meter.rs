//! How long a shard stays away from its event queue.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::meters::{Meters, Panics};

/// The CPU clock is read again at the start of a turn when its last reading is older than this.
const MARK_AGE: Duration = Duration::from_micros(500);

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

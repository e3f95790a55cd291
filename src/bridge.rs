//! The only door between the coordinator and the shards, and between one shard and another.
//!
//! Down go the immutable [`Plan`], the [`Roster`] of each pool and the phase of the process; up
//! come counters, in-flight counts, histograms and records of connections. Nothing here waits: a
//! shard reads and writes plain memory, and the queues (histograms in exchange; records for the
//! access log; fresh connections from shard to shard) are bounded and tried, never awaited.

mod access_log;
mod boards;
mod histograms;
mod inbox;
mod loops;
mod phases;
mod plan;
mod roster;
mod sources;
mod words;

use std::{
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

pub use self::{
    access_log::{AccessLogBoard, ConnRecord, Dialed, RecordQueue},
    boards::{
        BackendBoard, Boards, EarlyEnd, InFlight, ListenerBoard, PickError, PoolBoard, Seat,
        ShardBoard, ShardState,
    },
    histograms::Histograms,
    inbox::{Arrival, Fresh, Inbox},
    loops::Loops,
    phases::{BackendLatency, BackendPhase, ListenerLatency, ListenerPhase, Phase as LatencyPhase},
    plan::{
        Access, Balance, EarlyEnds, Listener, Plan, Pool, SendProxy, SourceLimit, Speaks, Splice,
    },
    roster::{Member, Roster, RosterCell, RosterView, Tier, WEIGHT_UNIT},
    sources::{NoSourcePlace, SourcePlace, Sources},
    words::{Direction, EndReason, Failure, Path, Refusal, Side},
};
use crate::counter::Gate;

/// Where the process is in its life; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Accepting and ready.
    Running,
    /// Not ready, still accepting: load balancers before us need a moment.
    Leaving,
    /// No new connections; those that are there may finish.
    Draining,
    /// What is left is cut.
    Cutting,
}

impl Phase {
    /// `state` in `/stats`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Running => "running",
            _ => "draining",
        }
    }
}

/// Places for connections.
#[derive(Debug)]
pub struct Gates {
    /// Over all listeners.
    pub runtime: Gate,
    /// One per listener, in the order of the plan.
    pub listeners: Vec<Gate>,
    /// Of each client, where a listener has a limit for them.
    pub sources: Sources,
    /// A descriptor with this number or a higher one is not for traffic. Kernel: a new one gets the
    /// lowest number that is free (POSIX), so it says how many are left.
    pub descriptors: u32,
}

impl Gates {
    /// Whether traffic may have this descriptor.
    pub fn is_for_traffic(&self, descriptor: impl AsFd) -> bool {
        (descriptor.as_fd().as_raw_fd() as u32) < self.descriptors
    }
}

/// Both sides' view of each other.
#[derive(Debug)]
pub struct Bridge {
    /// Down: what the configuration means. Never changes.
    pub plan: Plan,
    /// Down: who of each pool may be picked, in the order of the plan.
    pub rosters: Vec<RosterCell>,
    /// Places for connections; what shards write together.
    pub gates: Gates,
    /// Across: connections that come back to us.
    pub loops: Loops,
    /// Up: what each shard counts.
    pub boards: Boards,
    /// What became of the lines of the access log.
    pub access_log: AccessLogBoard,
    /// Down: whether this host's memory for TCP runs short.
    scarce: AtomicBool,
    /// Down: only ever grows.
    phase: AtomicU8,
}

impl Bridge {
    /// A bridge for a shard on each of `seats`. `gates` has one gate per listener.
    pub fn new(plan: Plan, gates: Gates, seats: Vec<Seat>) -> Self {
        Bridge {
            rosters: plan.pools.iter().map(|_| RosterCell::default()).collect(),
            gates,
            loops: Loops::new(plan.slots, plan.listeners.len()),
            boards: Boards::new(&plan, seats),
            access_log: AccessLogBoard::default(),
            scarce: AtomicBool::new(false),
            phase: AtomicU8::new(Phase::Running as u8),
            plan,
        }
    }

    /// Whether this host's memory for TCP runs short, so that no client may have more of it.
    pub fn is_scarce(&self) -> bool {
        self.scarce.load(Ordering::Relaxed)
    }

    /// Told by the coordinator.
    pub fn set_scarce(&self, scarce: bool) {
        self.scarce.store(scarce, Ordering::Relaxed);
    }

    /// Where the process is in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Running,
            1 => Phase::Leaving,
            2 => Phase::Draining,
            _ => Phase::Cutting,
        }
    }

    /// Moves forward and tells the shards.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        self.ring_all();
    }

    /// Lines of the access log that nobody will read: those that could not be written, and those
    /// for which a queue had no room.
    pub fn access_lines_dropped(&self) -> u64 {
        let queues = self.boards.shards.iter().filter_map(|shard| shard.records.as_ref());
        self.access_log.lost.get() + queues.map(|records| records.dropped.get()).sum::<u64>()
    }

    /// The sessions of the backend in this slot are to be cut, those that are there now.
    pub fn cut_sessions(&self, slot: usize) {
        self.boards.cuts.order(slot);
        self.ring_all();
    }

    /// Rings every shard's bell.
    pub fn ring_all(&self) {
        self.boards.shards.iter().for_each(|shard| shard.bell.ring());
    }

    /// True once no shard accepts, so that none can leave another one a connection.
    pub fn all_stopped(&self) -> bool {
        self.boards.shards.iter().all(|shard| shard.state() >= ShardState::Stopped)
    }
}

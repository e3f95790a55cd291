//! What a shard writes and everybody reads: counters, in-flight counts, histograms in exchange.

use std::{
    ops::Index,
    sync::atomic::{
        AtomicU8, AtomicU32,
        Ordering::{Acquire, Relaxed, Release, SeqCst},
        fence,
    },
};

use crossbeam::{queue::ArrayQueue, utils::CachePadded};

use super::{
    Histograms, Inbox, Plan, RecordQueue,
    words::{Direction, EndReason, Failure, Path, Refusal},
};
use crate::{bell::Bell, counter::Counter, limits::EARLY_ENDS_MAX, meters::Meters};

/// One shard's counters of one listener.
#[derive(Debug, Default)]
pub struct ListenerBoard {
    /// Every successful accept.
    pub accepted: Counter,
    refused: [Counter; Refusal::ALL.len()],
    ended: [Counter; EndReason::ALL.len()],
    bytes: [[Counter; Path::ALL.len()]; Direction::ALL.len()],
}

impl ListenerBoard {
    /// Connections closed before a pick, by cause.
    pub fn refused(&self, refusal: Refusal) -> &Counter {
        &self.refused[refusal as usize]
    }

    /// Connections ended, by reason.
    pub fn ended(&self, reason: EndReason) -> &Counter {
        &self.ended[reason as usize]
    }

    /// Bytes that the destination socket took.
    pub fn bytes(&self, direction: Direction, path: Path) -> &Counter {
        &self.bytes[direction as usize][path as usize]
    }
}

/// One shard's counters of one backend.
#[derive(Debug, Default)]
pub struct BackendBoard {
    /// Dials that succeeded.
    pub established: Counter,
    /// Connections that it answered.
    pub answered: Counter,
    failures: [Counter; Failure::ALL.len()],
    bytes: [Counter; Direction::ALL.len()],
}

impl BackendBoard {
    /// Dials and early ends that went wrong, by cause.
    pub fn failures(&self, failure: Failure) -> &Counter {
        &self.failures[failure as usize]
    }

    /// Bytes that the destination socket took.
    pub fn bytes(&self, direction: Direction) -> &Counter {
        &self.bytes[direction as usize]
    }
}

/// A backend ended a connection before its first byte.
#[derive(Clone, Copy, Debug)]
pub struct EarlyEnd {
    /// Its place in the plan.
    pub slot: u32,
    /// The key of its client's network ([`crate::maglev::network_key`]).
    pub client: u64,
}

/// One shard's counters of every backend, by slot. The shard is the only writer of all of them, so
/// only the ends of the row are kept from others' cache lines.
#[derive(Debug)]
pub struct BackendBoards(Vec<CachePadded<[BackendBoard; BackendBoards::LANE]>>);

impl BackendBoards {
    /// Boards that share padded lines (128 bytes), with little of them left over.
    const LANE: usize = 16;

    fn new(slots: usize) -> Self {
        BackendBoards((0..slots.div_ceil(Self::LANE)).map(|_| CachePadded::default()).collect())
    }
}

impl Index<usize> for BackendBoards {
    type Output = BackendBoard;

    fn index(&self, slot: usize) -> &BackendBoard {
        &self.0[slot / Self::LANE][slot % Self::LANE]
    }
}

/// One shard's counters of one pool.
#[derive(Debug, Default)]
pub struct PoolBoard {
    /// Further attempts after a dial that was not answered in time.
    pub retries: Counter,
    /// Further attempts that the retry budget did not allow.
    pub retries_denied: Counter,
}

/// How good one shard's picks were: of every 64th pick of a pool that balances by connections, how
/// many connections the chosen backend had more than the least busy one.
#[derive(Debug, Default)]
pub struct PickError {
    /// Picks that were looked at.
    pub samples: Counter,
    /// The sum of their errors.
    pub sum: Counter,
    /// The largest.
    pub max: Counter,
}

impl PickError {
    /// One more was looked at.
    pub fn note(&self, error: u32) {
        self.sum.add(u64::from(error));
        self.max.raise_to(u64::from(error));
        self.samples.add(1);
    }
}

/// Connections in flight per backend, dials included: one row per shard, written by it alone.
///
/// Rows start on cache lines of their own, so a shard's write never takes a line from another.
#[derive(Debug)]
pub struct InFlight {
    rows: Vec<Vec<CachePadded<[AtomicU32; InFlight::LANE]>>>,
}

impl InFlight {
    /// Counters that share one padded line (128 bytes).
    const LANE: usize = 32;

    fn new(shards: usize, slots: usize) -> Self {
        let lanes = slots.div_ceil(Self::LANE);
        let row = || (0..lanes).map(|_| CachePadded::default()).collect();
        InFlight { rows: (0..shards).map(|_| row()).collect() }
    }

    fn cell(&self, shard: usize, backend: usize) -> &AtomicU32 {
        &self.rows[shard][backend / Self::LANE][backend % Self::LANE]
    }

    /// One more. Called by `shard` alone.
    pub fn up(&self, shard: usize, backend: usize) {
        let cell = self.cell(shard, backend);
        cell.store(cell.load(Relaxed) + 1, Relaxed);
    }

    /// One more, unless that is more than `most` over all shards (0: no limit). Two shards that
    /// take the last place in the same moment both give it back: never one too many.
    pub fn up_within(&self, shard: usize, slot: usize, most: u32) -> bool {
        self.up(shard, slot);
        if most == 0 {
            return true;
        }
        // Each writes its own count and reads the others': without the fence both could read what
        // was there before either wrote.
        fence(SeqCst);
        let fits = self.sum(slot) <= most;
        if !fits {
            self.down(shard, slot);
        }
        fits
    }

    /// One fewer. Called by `shard` alone.
    pub fn down(&self, shard: usize, backend: usize) {
        let cell = self.cell(shard, backend);
        let now = cell.load(Relaxed);
        debug_assert!(now > 0, "more connections ended than began");
        cell.store(now.saturating_sub(1), Relaxed);
    }

    /// Over all shards: as exact as the counters are fresh.
    pub fn sum(&self, backend: usize) -> u32 {
        (0..self.rows.len()).map(|shard| self.cell(shard, backend).load(Relaxed)).sum()
    }
}

/// Where a shard is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ShardState {
    /// Its thread may not run yet.
    Starting,
    /// Its listeners accept.
    Serving,
    /// It accepts no more and hands nothing over.
    Stopped,
    /// No connection left, and none can come.
    Done,
    /// Could not start; the reason is in the log.
    Failed,
}

/// What a shard is given before it exists.
#[derive(Debug)]
pub struct Seat {
    /// The CPU to pin it to; `None`: it is not pinned.
    pub cpu: Option<usize>,
    /// Made before any shard accepts: they ring each other's.
    pub bell: Bell,
}

/// One shard's side of the bridge.
#[derive(Debug)]
pub struct ShardBoard {
    /// The CPU it is pinned to, if it is.
    pub cpu: Option<usize>,
    /// Wakes it, from any thread.
    pub bell: Bell,
    /// Its kernel thread, for reading its CPU time; 0 before there is one.
    pub tid: AtomicU32,
    state: AtomicU8,
    /// In the order of the plan.
    pub listeners: Vec<CachePadded<ListenerBoard>>,
    /// In the order of the plan.
    pub pools: Vec<CachePadded<PoolBoard>>,
    /// By slot.
    pub backends: BackendBoards,
    /// How good its picks were.
    pub pick_error: PickError,
    /// What its runtime counts: turns, pipes, buffers.
    pub meters: &'static Meters,
    /// Pauses of accepting because no descriptor was left.
    pub accept_pauses: Counter,
    /// Connections that it accepted and left to another shard.
    pub handed_off: Counter,
    /// Where others leave theirs.
    pub inbox: Inbox,
    /// Early ends in pools whose outlier detection asks for them; where it is full the newest is
    /// dropped, and counts for less.
    pub early_ends: ArrayQueue<EarlyEnd>,
    /// Connections that are over, for the access log; `None`: there is none.
    pub records: Option<RecordQueue>,
    /// Empty histograms on their way down; room for one.
    pub fresh: ArrayQueue<Box<Histograms>>,
    /// Histograms with values on their way up; room for one.
    pub filled: ArrayQueue<Box<Histograms>>,
}

impl ShardBoard {
    fn new(plan: &Plan, seat: Seat) -> Self {
        ShardBoard {
            cpu: seat.cpu,
            bell: seat.bell,
            tid: AtomicU32::new(0),
            state: AtomicU8::new(ShardState::Starting as u8),
            listeners: plan.listeners.iter().map(|_| CachePadded::default()).collect(),
            pools: plan.pools.iter().map(|_| CachePadded::default()).collect(),
            backends: BackendBoards::new(plan.slots),
            pick_error: PickError::default(),
            // One per shard for the life of the process: the runtime under it outlives any plan.
            meters: Box::leak(Box::default()),
            accept_pauses: Counter::default(),
            handed_off: Counter::default(),
            inbox: Inbox::new(),
            early_ends: ArrayQueue::new(EARLY_ENDS_MAX),
            records: plan.access_log.then(RecordQueue::new),
            fresh: ArrayQueue::new(1),
            filled: ArrayQueue::new(1),
        }
    }

    /// Where this shard is in its life.
    pub fn state(&self) -> ShardState {
        match self.state.load(Acquire) {
            0 => ShardState::Starting,
            1 => ShardState::Serving,
            2 => ShardState::Stopped,
            3 => ShardState::Done,
            _ => ShardState::Failed,
        }
    }

    /// Told by the shard itself.
    pub fn set_state(&self, state: ShardState) {
        self.state.store(state as u8, Release);
    }

    /// Connections open now on this shard.
    pub fn active(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.active()).sum()
    }
}

impl ListenerBoard {
    /// Connections open now. Ends are read first: a connection that ends between the two readings
    /// counts as open, never as less than none.
    pub fn active(&self) -> u64 {
        let ended: u64 = self.ended.iter().map(Counter::get).sum();
        self.accepted.get().saturating_sub(ended)
    }
}

/// Orders to cut the sessions of a backend: written by the coordinator, counted by slot.
#[derive(Debug)]
pub struct Cuts {
    /// Of all slots together, written last.
    all: AtomicU32,
    of: Vec<AtomicU32>,
}

impl Cuts {
    fn new(slots: usize) -> Cuts {
        Cuts { all: AtomicU32::new(0), of: (0..slots).map(|_| AtomicU32::new(0)).collect() }
    }

    pub(super) fn order(&self, slot: usize) {
        self.of[slot].fetch_add(1, Release);
        self.all.fetch_add(1, Release);
    }

    /// Orders for a slot so far.
    pub fn of(&self, slot: usize) -> u32 {
        self.of[slot].load(Acquire)
    }

    /// Orders so far.
    pub fn all(&self) -> u32 {
        self.all.load(Acquire)
    }

    /// Slots with orders that have come since those in `seen`, which is brought up to date.
    pub fn fresh(&self, seen: &mut Vec<u32>) -> Vec<usize> {
        seen.resize(self.of.len(), 0);
        let orders = self.of.iter().map(|of| of.load(Relaxed)).enumerate();
        orders
            .filter(|(slot, now)| std::mem::replace(&mut seen[*slot], *now) != *now)
            .map(|(slot, _)| slot)
            .collect()
    }
}

/// All shards' boards, and what they share.
#[derive(Debug)]
pub struct Boards {
    /// One per shard.
    pub shards: Vec<ShardBoard>,
    /// One row per shard, one count per backend.
    pub in_flight: InFlight,
    /// Sessions that are to be cut.
    pub cuts: Cuts,
}

impl Boards {
    /// Boards for a shard on each of `seats`.
    pub fn new(plan: &Plan, seats: Vec<Seat>) -> Self {
        Boards {
            in_flight: InFlight::new(seats.len(), plan.slots),
            cuts: Cuts::new(plan.slots),
            shards: seats.into_iter().map(|seat| ShardBoard::new(plan, seat)).collect(),
        }
    }
}

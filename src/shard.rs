//! THE DATA PLANE: one shard per core, with its own listeners, connections and counters.
//!
//! A connection goes through the files of this folder in this order: `accept`, `admit`, `pick`,
//! `dial`, `flow`, `record`; `tcp` is its story. Before it is admitted `handover` may leave it to
//! another shard, if `place` says so. Nothing here blocks, locks, allocates per message or waits
//! for the coordinator; what crosses threads goes through the bridge.

mod accept;
mod admit;
mod budget;
mod conn;
mod cut;
mod dial;
mod drain;
mod flow;
mod handover;
pub mod pick;
mod place;
mod record;
mod sweep;
mod tcp;
mod upstream;

use std::{
    cell::Cell,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use slab::Slab;

use self::{conn::Conn, tcp::serve, upstream::Upstream};
use crate::{
    bridge::{Bridge, Histograms, ShardBoard, ShardState},
    hist::Latency,
    rt::{self, Engine, PipeBounds, Socket, Whole},
};

/// What a shard is given to start with.
pub struct Setup {
    /// From 0; its place in the boards.
    pub id: usize,
    /// What it shares with the coordinator.
    pub bridge: &'static Bridge,
    /// Pipes it may open.
    pub pipes: PipeBounds,
    /// Its source of chance.
    pub rng: fastrand::Rng,
    /// Listening sockets, each with the index of its listener.
    pub listeners: Vec<(usize, OwnedFd)>,
}

/// The state of one shard; lives on its thread.
pub struct Shard {
    id: usize,
    bridge: &'static Bridge,
    /// In the order of the plan.
    upstreams: Whole<Vec<Upstream>>,
    rng: Whole<fastrand::Rng>,
    /// Connections from accept to record, for the sweep and the drain.
    table: Whole<Slab<Rc<Conn>>>,
    histograms: Whole<Box<Histograms>>,
    /// True exactly when something was recorded since the last exchange.
    recorded: Cell<bool>,
    /// The loads of all shards at the last judgement; kept so that judging allocates nothing.
    loads: Whole<Vec<u32>>,
    /// Given up to refuse a client when no descriptor is left.
    spare: Whole<Option<OwnedFd>>,
    /// Each with the index of its listener; empty once the shard has stopped accepting.
    listening: Whole<Vec<(usize, Socket)>>,
    /// The shard's clock, and when it last moved.
    clock: Cell<Duration>,
    ticked: Cell<Instant>,
    /// By slot, whether a server is near, as far as its answers to dials have told.
    near: Whole<Vec<Option<bool>>>,
    /// Orders to cut sessions that were followed: of all backends, and by slot.
    cuts_seen: Cell<u32>,
    cuts_seen_of: Whole<Vec<u32>>,
}

/// Makes the calling thread that of shard `id`, on its CPU; before anything is made there, so that
/// its memory is near.
pub fn take_seat(bridge: &Bridge, id: usize) {
    let board = &bridge.boards.shards[id];
    if let Some(cpu) = board.cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
    }
    board.tid.store(rustix::thread::gettid().as_raw_nonzero().get() as u32, Ordering::Relaxed);
}

/// Runs a shard on the calling thread until the process ends. `on_start` is told once it accepts,
/// or why it cannot.
pub fn run(setup: Setup, engine: Engine, on_start: impl FnOnce(io::Result<()>) + 'static) {
    rt::run(setup.runtime(engine), live(setup, on_start));
}

impl Setup {
    /// What its runtime needs of it.
    pub(crate) fn runtime(&self, engine: Engine) -> rt::Setup {
        let board = &self.bridge.boards.shards[self.id];
        rt::Setup {
            engine,
            bell: &board.bell,
            meters: board.meters,
            pipes: self.pipes,
            chunks_max: rt::CHUNKS_MAX,
        }
    }
}

/// A shard's whole life: the task that its runtime runs.
pub(crate) async fn live(setup: Setup, on_start: impl FnOnce(io::Result<()>)) {
    let shard = Rc::new(Shard::new(setup.id, setup.bridge, setup.rng));
    let follower = Rc::clone(&shard);
    let started = rt::answer_bell(move || drain::follow(&follower))
        .and_then(|()| shard.listen(setup.listeners));
    let state = if started.is_ok() { ShardState::Serving } else { ShardState::Failed };
    shard.board().set_state(state);
    on_start(started);
    sweep::run(shard).await;
}

impl Shard {
    fn new(id: usize, bridge: &'static Bridge, rng: fastrand::Rng) -> Self {
        let pools = 0..bridge.plan.pools.len();
        Shard {
            id,
            bridge,
            upstreams: Whole::new(pools.map(|pool| Upstream::new(bridge, pool, id)).collect()),
            rng: Whole::new(rng),
            table: Whole::default(),
            histograms: Whole::new(Box::new(Histograms::new(&bridge.plan, Latency::new))),
            recorded: Cell::new(false),
            loads: Whole::default(),
            spare: Whole::new(accept::spare().ok()),
            listening: Whole::default(),
            clock: Cell::default(),
            ticked: Cell::new(rt::now()),
            near: Whole::new(vec![None; bridge.plan.slots]),
            cuts_seen: Cell::default(),
            cuts_seen_of: Whole::default(),
        }
    }

    fn listen(self: &Rc<Self>, listeners: Vec<(usize, OwnedFd)>) -> io::Result<()> {
        self.publish_load(0);
        for (listener, fd) in listeners {
            let socket = Socket::adopt(fd)?;
            self.listening.with(|all| all.push((listener, socket.clone())));
            rt::spawn(accept::run(Rc::clone(self), listener, socket));
        }
        Ok(())
    }

    fn board(&self) -> &'static ShardBoard {
        &self.bridge.boards.shards[self.id]
    }

    /// Tells the other shards how many connections we have, with those `in_hand` that are not in
    /// the table yet.
    fn publish_load(&self, in_hand: usize) {
        let open = self.table.with(|table| table.len());
        self.board().inbox.publish(open + in_hand);
    }

    /// Milliseconds that the shard has run, as of the last tick.
    fn clock_ms(&self) -> u64 {
        self.clock.get().as_millis() as u64
    }

    /// Moves the clock and, when the coordinator has sent empty histograms, exchanges ours.
    fn tick(&self) {
        let now = rt::now();
        let passed = (now - self.ticked.replace(now)).min(sweep::STEP_MAX);
        self.clock.set(self.clock.get() + passed);
        if !self.recorded.get() || !self.board().filled.is_empty() {
            return;
        }
        if let Some(fresh) = self.board().fresh.pop() {
            let filled = self.histograms.with(|kept| std::mem::replace(kept, fresh));
            self.recorded.set(false);
            // Room for one, and it was seen empty; only this thread fills it.
            let _ = self.board().filled.push(filled);
        }
    }

    fn histograms(&self, record: impl FnOnce(&mut Histograms)) {
        self.histograms.with(|kept| record(kept));
        self.recorded.set(true);
    }

    /// At least one more than the highest place that is taken: the table never shrinks.
    fn table_len(&self) -> usize {
        self.table.with(|table| table.capacity())
    }

    /// The connections in `count` places from `from`.
    fn table_slice(&self, from: usize, count: usize) -> Vec<Rc<Conn>> {
        self.table.with(|table| {
            let to = from.saturating_add(count).min(table.capacity());
            (from..to).filter_map(|place| table.get(place).cloned()).collect()
        })
    }
}

//! A simulated world around the real picker: connections come, wait for a server, and go.
//!
//! Each backend is one queue, first come, first served. Whoever is compared sees the same arrivals
//! with the same work to do, because what comes and what is picked have chance of their own.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use ringway::{
    bridge::{Balance, Member, Roster, Tier, WEIGHT_UNIT},
    maglev::{self, Table},
    shard::pick::{Ask, Pick, Picker, Took, Tried},
};

use crate::tally::{Figures, Tally};

/// Connections that come, of what the backends together could serve.
const LOAD: f64 = 0.8;

/// How long a backend takes to accept.
const CONNECT: Duration = Duration::from_micros(100);

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Of each backend.
    pub speeds: Vec<u32>,
    /// What the configuration says of each; not always its speed.
    pub weights: Vec<u32>,
    /// How long a backend of speed 1 serves one connection, on average.
    pub unit: Duration,
    pub shards: usize,
    /// That are counted; a tenth as many come before them and fill the queues.
    pub connections: usize,
    pub seed: u64,
}

impl Scene {
    /// How many come.
    pub fn arrivals_per_second(&self) -> f64 {
        f64::from(self.speeds.iter().sum::<u32>()) * LOAD / self.unit.as_secs_f64()
    }
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The picker of each shard.
    Strategy(Balance),
    /// Somebody who knows how much work everything is, and takes the backend that is done with this
    /// connection first.
    Best,
}

/// A connection on its way in.
struct Coming {
    shard: usize,
    client: IpAddr,
    /// Seconds of a backend of speed 1.
    work_s: f64,
}

/// A connection that is with a backend, by when it ends.
type Served = Reverse<(u64, Stay)>;

/// Whom a connection is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stay {
    shard: usize,
    slot: usize,
    came_ns: u64,
}

struct World<'a> {
    scene: &'a Scene,
    who: Who,
    roster: Roster,
    /// One of each shard.
    pickers: Vec<Picker>,
    /// What comes.
    fate: fastrand::Rng,
    /// What is picked.
    chance: fastrand::Rng,
    epoch: Instant,
    now_ns: u64,
    /// In flight by slot, over all shards: they share memory, so nobody's view is old.
    queues: Vec<u32>,
    /// When each backend has served all it has.
    idle_ns: Vec<u64>,
    served: BinaryHeap<Served>,
}

/// What comes of a scene.
pub fn run(scene: &Scene, who: Who) -> Figures {
    let mut world = World::new(scene, who);
    let mut before = Tally::default();
    for _ in 0..scene.connections / 10 {
        world.arrive(false, &mut before);
    }
    let mut tally = Tally::default();
    // Looking at all queues costs as much as they are many.
    let every = (scene.speeds.len() / 64).max(1);
    for n in 0..scene.connections {
        world.arrive(n.is_multiple_of(every), &mut tally);
    }
    tally.figures()
}

impl World<'_> {
    fn new(scene: &Scene, who: Who) -> World<'_> {
        let count = scene.speeds.len();
        let balance = match who {
            Who::Strategy(balance) => balance,
            // Whoever knows everything asks no picker; these only take notes.
            Who::Best => Balance::LeastConnections,
        };
        let picker = |shard| Picker::new(balance, 3, 0..count, shard);
        World {
            scene,
            who,
            roster: roster(&scene.weights, balance),
            pickers: (0..scene.shards).map(picker).collect(),
            fate: fastrand::Rng::with_seed(scene.seed),
            chance: fastrand::Rng::with_seed(!scene.seed),
            epoch: Instant::now(),
            now_ns: 0,
            queues: vec![0; count],
            idle_ns: vec![0; count],
            served: BinaryHeap::new(),
        }
    }

    /// The next connection comes. True in `look` exactly when the queues that it finds and the
    /// error of its pick are looked at.
    fn arrive(&mut self, look: bool, tally: &mut Tally) {
        self.now_ns += nanoseconds(exponential(&mut self.fate) / self.scene.arrivals_per_second());
        let coming = Coming {
            shard: self.fate.usize(..self.scene.shards),
            client: IpAddr::V4(Ipv4Addr::from_bits(self.fate.u32(..))),
            work_s: exponential(&mut self.fate) * self.scene.unit.as_secs_f64(),
        };
        self.leave();
        if look {
            tally.look(&self.queues);
        }
        let (slot, error) = self.pick(&coming, look);
        let done_ns = self.done_ns(slot, &coming);
        self.idle_ns[slot] = done_ns;
        self.queues[slot] += 1;
        let (shard, came_ns) = (coming.shard, self.now_ns);
        self.served.push(Reverse((done_ns, Stay { shard, slot, came_ns })));
        let now = self.at(came_ns);
        self.pickers[shard].came(slot);
        self.pickers[shard].took(slot, Took::Alone(CONNECT), now);
        tally.connection(done_ns - came_ns, error);
    }

    /// When a backend would be done with one that comes now.
    fn done_ns(&self, slot: usize, coming: &Coming) -> u64 {
        let begins_ns = self.idle_ns[slot].max(self.now_ns);
        begins_ns + nanoseconds(coming.work_s / f64::from(self.scene.speeds[slot]))
    }

    fn at(&self, ns: u64) -> Instant {
        self.epoch + Duration::from_nanos(ns)
    }

    /// Those whose time has come go, and their shards learn how long it took.
    fn leave(&mut self) {
        while let Some(Reverse((ends_ns, stay))) = self.served.peek().copied() {
            if ends_ns > self.now_ns {
                return;
            }
            self.served.pop();
            let Stay { shard, slot, came_ns } = stay;
            self.queues[slot] -= 1;
            self.pickers[shard].left(slot);
            let (took, now) = (Duration::from_nanos(ends_ns - came_ns), self.at(ends_ns));
            self.pickers[shard].took(slot, Took::Alone(took), now);
        }
    }

    fn pick(&mut self, coming: &Coming, look: bool) -> (usize, Option<u32>) {
        if self.who == Who::Best {
            let soonest = (0..self.queues.len()).min_by_key(|slot| self.done_ns(*slot, coming));
            return (soonest.unwrap_or(0), None);
        }
        let tried = Tried::default();
        let key = maglev::source_key(coming.client);
        let ask = Ask { tried: &tried, now: self.at(self.now_ns), key };
        let (queues, picker) = (&self.queues, &mut self.pickers[coming.shard]);
        let in_flight = |slot: usize| queues[slot];
        let pick = picker.pick(&self.roster, &ask, in_flight, &mut self.chance);
        let Pick::Chosen(member, priority) = pick else { panic!("{pick:?} among healthy ones") };
        let error = || picker.error(&self.roster, &ask, (&member, priority), in_flight);
        (member.slot, look.then(error))
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// With a mean of 1.
fn exponential(rng: &mut fastrand::Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

fn roster(weights: &[u32], balance: Balance) -> Roster {
    let member = |(slot, weight): (usize, &u32)| {
        let (address, weight) = (([127, 0, 0, 1], 1).into(), weight * WEIGHT_UNIT);
        Member { id: 0, slot, address, weight, max_connections: 0, healthy: true }
    };
    let members: Vec<Member> = weights.iter().enumerate().map(member).collect();
    let names: Vec<String> = (0..weights.len()).map(|slot| format!("b{slot}")).collect();
    let table = (balance == Balance::Maglev).then(|| {
        let named = names.iter().zip(weights).map(|(name, weight)| (name.as_str(), *weight));
        Table::new(&named.collect::<Vec<_>>())
    });
    Roster { generation: 1, tiers: vec![Tier::new(0, members, table)], unreachable: Vec::new() }
}

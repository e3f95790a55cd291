//! A kernel that is simulated, for tests alone: sockets, pipes, time and chance under the real
//! engine, tasks and shard, all of it drawn from one seed (`docs/simulation.md`).
//!
//! [`calls`] is what `sock` calls instead of the kernel, `rt/sim.rs` the queues that the ring asks;
//! both ask here. A simulated socket is named by a real descriptor that does nothing
//! ([`stand_in`]), so that owning and closing it is as in the product. [`world`] is who connects,
//! [`check`] what has to hold.

pub(crate) mod calls;
mod check;
mod link;
mod peer;
mod sockets;
mod stand_in;
mod stream;
mod world;

#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::io::Errno;

pub(crate) use self::link::Mark;
use self::{
    link::{Link, State},
    peer::Peer,
    sockets::SimPipe,
    stand_in::{Name, StandIns},
    stream::Piece,
};
use crate::{
    bridge::{Bridge, Phase},
    planted::Bug,
};

/// Turns of the shard in which nothing happens in the world; more is a shard that spins.
const VAIN_TURNS_MAX: u32 = 2000;

/// What a turn takes at least.
const TURN: Duration = Duration::from_micros(10);

/// Nothing that is to end takes longer.
const LONGEST: Duration = Duration::from_secs(300);

thread_local! {
    static SIM: RefCell<Option<Sim>> = const { RefCell::new(None) };
}

/// Whether this thread's simulation has that bug planted.
pub(crate) fn has_planted(bug: Bug) -> bool {
    SIM.with_borrow(|sim| sim.as_ref().is_some_and(|sim| sim.bug == Some(bug)))
}

/// The time of this thread's simulation, if there is one.
pub(crate) fn now() -> Option<Instant> {
    SIM.with_borrow(|sim| sim.as_ref().map(|sim| sim.start + sim.clock))
}

/// Whether this thread runs a simulation.
pub(crate) fn is_on() -> bool {
    SIM.with_borrow(Option::is_some)
}

/// Asks this thread's simulation.
pub(crate) fn with<T>(ask: impl FnOnce(&mut Sim) -> T) -> T {
    SIM.with_borrow_mut(|sim| ask(sim.as_mut().expect("in a simulation")))
}

/// What happens at a moment.
enum Event {
    /// The next client connects.
    Client,
    /// A dial is answered.
    Answer(u32, Result<(), Errno>),
    /// A peer does what it does next.
    Act(u32),
    /// Bytes arrive here, or there.
    Bring(u32),
    Deliver(u32),
    /// A peer's reset arrives.
    Reset(u32),
    /// The process moves on.
    Enter(Phase),
}

/// A simulated kernel and who is behind it.
pub(crate) struct Sim {
    rng: fastrand::Rng,
    bug: Option<Bug>,
    /// How often calls fail that need not, in thousandths.
    faults: u32,
    /// How often the kernel has no memory for a completion, in ten thousandths.
    losses: u32,
    /// Completions that were lost.
    lost: u64,
    /// True exactly where a receive that is short has left nothing, unless it stopped before an
    /// urgent byte: the engine for epoll stands on that.
    exact: bool,
    start: Instant,
    clock: Duration,
    events: BTreeMap<(Duration, u64), Event>,
    events_so_far: u64,
    vain_turns: u32,
    stand_ins: StandIns,
    links: Vec<Link>,
    peers: Vec<Peer>,
    /// By link, whom it leads to: the client's own address, or the backend's.
    addresses: Vec<SocketAddr>,
    /// Clients that nobody has accepted, oldest first; `None`: nobody listens.
    backlog: Option<VecDeque<u32>>,
    pipes: Vec<SimPipe>,
    dials: u64,
    pipes_grown: u64,
    world: world::World,
    bridge: Option<&'static Bridge>,
}

impl Sim {
    fn at(&mut self, after: Duration, event: Event) {
        self.events_so_far += 1;
        self.events.insert((self.clock + after, self.events_so_far), event);
    }

    /// Some time up to `most`; often very little.
    fn soon(&mut self, most: Duration) -> Duration {
        let share = self.rng.f64();
        most.mul_f64(share * share * share)
    }

    /// Whether something goes wrong that may, so many times as often as usual.
    pub(crate) fn fails(&mut self, weight: u32) -> bool {
        self.rng.u32(..1000) < self.faults * weight
    }

    /// Whether the kernel loses a completion.
    pub(crate) fn loses(&mut self) -> bool {
        let loses = self.losses > 0 && self.rng.u32(..10_000) < self.losses;
        self.lost += u64::from(loses);
        loses
    }

    /// The simulation's chance, for what else is drawn.
    pub(crate) fn rng(&mut self) -> &mut fastrand::Rng {
        &mut self.rng
    }

    /// A turn of the shard ends: a moment has passed.
    pub(crate) fn turn(&mut self) {
        let before = self.events_so_far;
        self.clock += TURN;
        self.notice_closed();
        self.happen();
        self.vain_turns = if self.events_so_far == before { self.vain_turns + 1 } else { 0 };
        let spins = self.vain_turns >= VAIN_TURNS_MAX;
        assert!(!spins, "the shard spins at {:?}: {:#?}", self.clock, self.unfinished());
    }

    /// Nothing is to be done before the next event, or `alarm`.
    pub(crate) fn sleep(&mut self, alarm: Option<Instant>) {
        let alarm = alarm.map(|alarm| alarm.saturating_duration_since(self.start));
        let next = self.events.first_key_value().map(|((at, _), _)| *at);
        let Some(wake) = alarm.into_iter().chain(next).min() else {
            panic!("the shard waits for ever at {:?}", self.clock);
        };
        self.clock = self.clock.max(wake);
        self.vain_turns = 0;
        self.happen();
    }

    /// Everything whose time has come. Here, because a shard that never wakes comes to no turn.
    fn happen(&mut self) {
        assert!(self.clock < LONGEST, "still there: {:#?}", self.unfinished());
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.clock {
                return;
            }
            let event = entry.remove();
            self.event(event);
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Client => self.client_connects(),
            Event::Answer(id, answer) => self.answered(id, answer),
            Event::Act(id) => self.act(id),
            Event::Bring(id) => self.bring(id),
            Event::Deliver(id) => self.deliver(id),
            Event::Reset(id) => self.links[id as usize].hear_reset(),
            Event::Enter(phase) => self.bridge.into_iter().for_each(|b| b.advance(phase)),
        }
        self.free();
    }

    /// Sockets that have room take bytes again.
    fn free(&mut self) {
        let (links, stand_ins) = (&self.links, &mut self.stand_ins);
        stand_ins.free(|id| links[id as usize].has_room());
    }

    fn client_connects(&mut self) {
        let Some((address, peer)) = self.world.client(self.links.len(), &mut self.rng) else {
            return;
        };
        let id = self.new_link(address, State::Open, peer);
        match &mut self.backlog {
            Some(backlog) => backlog.push_back(id),
            None => self.reset_peer(id),
        }
        let (first, next) = (Duration::from_millis(5), self.world.spacing);
        let (first, next) = (self.soon(first), self.soon(next));
        self.at(first, Event::Act(id));
        self.at(next, Event::Client);
    }

    fn answered(&mut self, id: u32, answer: Result<(), Errno>) {
        let link = &mut self.links[id as usize];
        if link.state != State::Dialing {
            return;
        }
        match answer {
            Ok(()) => {
                link.state = State::Open;
                self.at(Duration::ZERO, Event::Act(id));
            }
            Err(error) => (link.state, link.error) = (State::Dead, Some(error)),
        }
    }

    fn act(&mut self, id: u32) {
        let (link, peer) = (&mut self.links[id as usize], &mut self.peers[id as usize]);
        let did = peer.act(link, self.clock, &mut self.rng);
        let way = self.world.way;
        for (happens, event) in [
            (did.reset, Event::Reset(id)),
            (did.said, Event::Bring(id)),
            (did.read, Event::Deliver(id)),
        ] {
            let after = self.soon(way);
            if happens {
                self.at(after, event);
            }
        }
        if let Some(after) = did.again {
            self.at(after, Event::Act(id));
        }
    }

    fn bring(&mut self, id: u32) {
        let most = self.piece();
        let link = &mut self.links[id as usize];
        if link.reset_by_peer || link.state != State::Open {
            return;
        }
        let arrived = link.inward.arrived;
        let more = link.bring(most);
        // Nobody is there to read it.
        if link.closed && link.inward.arrived > arrived {
            return self.reset_peer(id);
        }
        if more {
            let after = self.soon(Duration::from_millis(2));
            self.at(after, Event::Bring(id));
        }
    }

    fn deliver(&mut self, id: u32) {
        let most = self.piece();
        let link = &mut self.links[id as usize];
        if link.state != State::Open {
            return;
        }
        let arrived = link.outward.arrived;
        let more = link.deliver(most);
        if link.outward.arrived > arrived {
            link.moves.push(self.clock);
        }
        if !more {
            return;
        }
        let after = self.soon(Duration::from_millis(2));
        self.at(after, Event::Deliver(id));
    }

    /// How much travels at once.
    fn piece(&mut self) -> u64 {
        1 << self.rng.u32(0..18)
    }

    /// A reset of ours, or of our kernel's, reaches the peer.
    fn reset_peer(&mut self, id: u32) {
        let link = &mut self.links[id as usize];
        link.reset_by_us = true;
        link.state = State::Dead;
    }

    fn notice_closed(&mut self) {
        for name in self.stand_ins.closed() {
            match name {
                Name::Listener => self.stop_listening(),
                Name::PipeIn(pipe) | Name::PipeOut(pipe) => {
                    self.pipes[pipe as usize].pieces.clear()
                }
                Name::Link(id) => self.close(id),
            }
        }
    }

    /// Kernel: `tcp_close`: unread bytes make it a reset, else it is a FIN.
    fn close(&mut self, id: u32) {
        let link = &mut self.links[id as usize];
        link.closed = true;
        link.closed_at = Some(self.clock);
        if link.state != State::Open {
            link.state = State::Dead;
        } else if link.inward.arrived > link.inward.read {
            self.reset_peer(id);
        } else {
            link.outward.finished = true;
            self.at(Duration::ZERO, Event::Deliver(id));
        }
    }

    fn new_link(&mut self, address: SocketAddr, state: State, peer: Peer) -> u32 {
        let id = self.links.len() as u32;
        let mut link = Link::new(id, state, &mut self.rng);
        link.unspliceable = self.fails(3);
        link.moves.push(self.clock);
        self.links.push(link);
        self.peers.push(peer);
        self.addresses.push(address);
        id
    }
}

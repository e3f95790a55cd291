//! One simulated world: a shard with its configuration, who connects to it, the backends behind
//! it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use rustix::io::Errno;

use super::{
    Event, SIM, Sim,
    peer::{Ending, Peer, Talk},
    stand_in::{Name, StandIns},
    with,
};
use crate::{
    bell::Bell,
    bridge::{
        Access, Balance, Bridge, EarlyEnds, Gates, Listener, Member, Phase, Plan, Pool, Roster,
        Seat, SendProxy, ShardState, SourceLimit, Sources, Speaks, Splice, Tier,
    },
    counter::Gate,
    planted::Bug,
    rt::{self, Driver, Engine, PipeBounds},
    shard,
};

/// Where clients connect.
pub const LISTENER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 80);

/// The timeouts of every world that has them.
pub const IDLE: Duration = Duration::from_secs(20);
pub const HALF_CLOSED: Duration = Duration::from_secs(10);
pub const CONNECT: Duration = Duration::from_secs(1);

/// What is left is looked at so long after the end.
const SETTLED: Duration = Duration::from_secs(1);

/// After which time a dial is answered, and how.
type Answer = (Duration, Result<(), Errno>);

/// How a backend answers dials.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Well,
    Slow,
    Refuses,
    Silent,
    Unreachable,
    /// Each time another way.
    Moody,
}

const MANNERS: [Manner; 6] = [
    Manner::Well,
    Manner::Slow,
    Manner::Refuses,
    Manner::Silent,
    Manner::Unreachable,
    Manner::Moody,
];

/// Who is around.
pub struct World {
    /// Clients that have not connected yet.
    to_come: u32,
    pub spacing: Duration,
    backends: Vec<(SocketAddr, Manner)>,
    /// By client, in the order in which they were accepted.
    pub accepted: Vec<u32>,
    /// Bytes of a PROXY header.
    pub preface: u64,
    talk: Talk,
    /// What way bytes and resets have to go takes at most so long.
    pub way: Duration,
    /// Peers may fall silent for ever: there are timeouts.
    silence: bool,
    /// Clients may wait for the server's FIN for ever: none waits for theirs for ever.
    patience: bool,
}

impl World {
    fn new(rng: &mut fastrand::Rng) -> World {
        let address = |n: u8| SocketAddr::from(([198, 51, 100, n], 9000));
        let backends = (0..rng.u8(1..=4)).map(|n| match rng.u8(..3) {
            0 => (address(n), MANNERS[rng.usize(..MANNERS.len())]),
            _ => (address(n), Manner::Well),
        });
        let backends = backends.collect();
        let talk = [Talk::Chat, Talk::Little, Talk::Bulk, Talk::Bulk][rng.usize(..4)];
        let way = if talk == Talk::Chat { 20 } else { 5000 };
        World {
            to_come: rng.u32(1..=16),
            spacing: Duration::from_millis(1 << rng.u32(..10)),
            backends,
            accepted: Vec::new(),
            preface: if rng.u8(..4) == 0 { 28 } else { 0 },
            talk,
            way: Duration::from_micros(way),
            silence: rng.u8(..4) == 0,
            patience: rng.u8(..4) == 0,
        }
    }

    /// Clients that have not connected yet.
    pub fn to_come(&self) -> u32 {
        self.to_come
    }

    /// The next client, and where it comes from.
    pub fn client(&mut self, id: usize, rng: &mut fastrand::Rng) -> Option<(SocketAddr, Peer)> {
        self.to_come = self.to_come.checked_sub(1)?;
        let address = SocketAddr::from(([10, 0, (id >> 8) as u8, id as u8], 40_000));
        // A reset is the more interesting the more is on its way.
        let from = if self.talk == Talk::Chat { 3 } else { 0 };
        let ending = match rng.u8(from..10) {
            0..=3 => Ending::Finish,
            4..=5 if self.patience => Ending::FinishLast(Duration::MAX),
            4..=5 => Ending::FinishLast(Duration::from_secs(10)),
            6 => Ending::Close,
            7 if self.silence => Ending::Never,
            _ => self.reset(rng),
        };
        Some((address, Peer::new(rng, ending, self.talk)))
    }

    fn reset(&self, rng: &mut fastrand::Rng) -> Ending {
        let bytes = 1 << rng.u32(1..if self.talk == Talk::Chat { 13 } else { 20 });
        Ending::Reset(rng.u64(..bytes), Duration::from_millis(rng.u64(..10_000)))
    }

    /// Who answers a dial, and when; `None`: nobody ever.
    pub fn dialed(
        &mut self,
        address: SocketAddr,
        rng: &mut fastrand::Rng,
    ) -> (Option<Answer>, Peer) {
        let ending = match rng.u8(..10) {
            0..=2 => Ending::Finish,
            3..=5 if !self.patience => Ending::Echo,
            6 => Ending::Close,
            7 if self.silence => Ending::Never,
            8 => self.reset(rng),
            _ => Ending::FinishLast(Duration::from_secs(8)),
        };
        let peer = Peer::new(rng, ending, self.talk);
        let (_, manner) = *self.backends.iter().find(|(at, _)| *at == address).expect("a backend");
        let manner = match manner {
            Manner::Moody => MANNERS[rng.usize(..MANNERS.len() - 1)],
            manner => manner,
        };
        let way = self.way.as_micros() as u64;
        let mut after = |most: u64| Duration::from_micros(rng.u64(1..most));
        let answer = match manner {
            Manner::Well | Manner::Moody => Some((after(way), Ok(()))),
            Manner::Slow => Some((after(2_000_000), Ok(()))),
            Manner::Refuses => Some((after(way), Err(Errno::CONNREFUSED))),
            Manner::Silent => None,
            Manner::Unreachable => Some((Duration::ZERO, Err(Errno::NETUNREACH))),
        };
        (answer, peer)
    }

    fn plan(&self, rng: &mut fastrand::Rng) -> Plan {
        let or_never = |limit| self.silence.then_some(limit);
        let listener = Listener {
            name: "in".into(),
            speaks: Speaks::Tcp { pool: 0 },
            idle_timeout: or_never(IDLE),
            half_close_timeout: or_never(HALF_CLOSED),
            splice: [Splice::Auto, Splice::Auto, Splice::On, Splice::Off][rng.usize(..4)],
            access: Access::default(),
            sockets: crate::sock::Options::default(),
            source: SourceLimit::default(),
        };
        let balances = [Balance::RoundRobin, Balance::LeastConnections, Balance::Random];
        let slots = self.backends.len();
        let pool = Pool {
            name: "pool".into(),
            balance: balances[rng.usize(..balances.len())],
            connect_timeout: CONNECT,
            max_attempts: rng.u32(1..=3),
            retry_budget: None,
            send_proxy: if self.preface > 0 { SendProxy::V2 } else { SendProxy::Off },
            early_ends: EarlyEnds::default(),
            slots: 0..slots,
            entries: (0..slots).map(|slot| slot..slot + 1).collect(),
        };
        Plan { listeners: vec![listener], pools: vec![pool], slots, access_log: true }
    }

    fn roster(&self, rng: &mut fastrand::Rng) -> Roster {
        let most = if rng.u8(..4) == 0 { 2 } else { 0 };
        let members = self.backends.iter().enumerate().map(|(slot, (address, _))| Member {
            id: slot as u64,
            slot,
            address: *address,
            weight: 100,
            max_connections: most,
            healthy: true,
        });
        let tiers = match rng.u8(..32) {
            0 => Vec::new(),
            _ => vec![Tier::new(0, members.collect(), None)],
        };
        Roster { generation: 1, tiers, unreachable: Vec::new() }
    }
}

/// What happened in a world, by what it is, and how often.
pub type Seen = BTreeMap<&'static str, u64>;

/// Lives through one seed on this thread, on that engine; what happened.
///
/// # Panics
/// Something that has to hold does not.
pub fn run(driver: Driver, seed: u64, bug: Option<Bug>) -> Seen {
    let mut seen = Seen::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new(&mut rng);
    let plan = world.plan(&mut rng);
    let mut places = || Gate::new([3, 6, 100, 100, 100][rng.usize(..5)]);
    let gates = Gates {
        runtime: places(),
        listeners: vec![places()],
        sources: Sources::default(),
        descriptors: u32::MAX,
    };
    let seat = Seat { cpu: None, bell: Bell::new().unwrap() };
    let roster = world.roster(&mut rng);
    rt::sim::lend(Bridge::new(plan, gates, vec![seat]), |bridge| {
        bridge.rosters[0].publish(roster);
        let listener = begin(driver, world, &mut rng, bridge, bug);
        let setup = shard::Setup {
            id: 0,
            bridge,
            pipes: PipeBounds {
                max: rng.u32(..6),
                grown_max: 1,
                size: 64 * 1024,
                bytes_max: (4 + seed % 5) * 64 * 1024,
            },
            rng: rng.fork(),
            listeners: vec![(0, listener)],
        };
        let chunks_max = rng.u32(1..6);
        let (meters, buffers) = (bridge.boards.shards[0].meters, 1 << rng.u32(..6));
        let engine = match driver {
            Driver::IoUring => Engine::on_ring(meters, buffers),
            Driver::Epoll => Engine::new(driver, meters),
        };
        let mut runtime = setup.runtime(engine.unwrap());
        runtime.chunks_max = chunks_max;
        let life = shard::live(setup, Result::unwrap);
        let mut over_at = None;
        let left = rt::sim::run(runtime, life, || with(|sim| sim.goes_on(bridge, &mut over_at)));
        assert_eq!(left, rt::sim::Left::default(), "left over");
        with(|sim| sim.check(bridge, &mut seen));
    });
    SIM.take();
    seen
}

/// Puts the world in its place; the descriptor is its listener's.
fn begin(
    driver: Driver,
    world: World,
    rng: &mut fastrand::Rng,
    bridge: &'static Bridge,
    bug: Option<Bug>,
) -> std::os::fd::OwnedFd {
    let mut sim = Sim {
        rng: rng.fork(),
        bug,
        faults: [0, 1, 1, 3, 10][rng.usize(..5)],
        losses: [0, 0, 0, 0, 0, 0, 3, 30][rng.clone().usize(..8)],
        lost: 0,
        exact: driver == Driver::Epoll,
        start: std::time::Instant::now(),
        clock: Duration::ZERO,
        events: Default::default(),
        events_so_far: 0,
        vain_turns: 0,
        stand_ins: StandIns::new(),
        links: Vec::new(),
        peers: Vec::new(),
        addresses: Vec::new(),
        backlog: Some(Default::default()),
        pipes: Vec::new(),
        dials: 0,
        pipes_grown: 0,
        world,
        bridge: Some(bridge),
    };
    let listener = sim.stand_ins.stand_for(Name::Listener);
    sim.at(Duration::ZERO, Event::Client);
    if rng.u8(..4) == 0 {
        sim.at(Duration::from_millis(rng.u64(..5000)), Event::Enter(Phase::Draining));
    }
    if rng.u8(..8) == 0 {
        sim.at(Duration::from_millis(rng.u64(..8000)), Event::Enter(Phase::Cutting));
    }
    SIM.set(Some(sim));
    listener
}

impl Sim {
    /// Until everybody has come and gone, and what they left has had time to go as well.
    fn goes_on(&mut self, bridge: &'static Bridge, over_at: &mut Option<Duration>) -> bool {
        let board = &bridge.boards.shards[0];
        if let Some(at) = over_at {
            return self.clock < *at + SETTLED;
        }
        let waiting = self.backlog.as_ref().is_some_and(|backlog| !backlog.is_empty());
        let all_gone = self.world.to_come == 0 && !waiting && board.active() == 0;
        if all_gone && bridge.phase() == Phase::Running {
            bridge.advance(Phase::Draining);
        }
        if self.world.to_come == 0 && board.state() == ShardState::Done {
            *over_at = Some(self.clock);
        }
        true
    }

    pub(super) fn unfinished(&self) -> Vec<String> {
        let links = self.links.iter().zip(&self.peers).filter(|(link, _)| !link.closed);
        links.map(|(link, peer)| format!("{link:?} {peer:?}")).collect()
    }
}

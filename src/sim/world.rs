//! One simulated world: a shard with its configuration, who connects to it, the backends behind
//! it, and what has to hold when all of them are gone.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use rustix::io::Errno;

use super::{
    Bug, Event, SIM, Sim,
    peer::{Ending, Peer},
    stand_in::{Name, StandIns},
    with,
};
use crate::{
    bridge::{
        Access, Balance, Bridge, ConnRecord, Direction, EndReason, Gates, Listener, Member, Path,
        Phase, Plan, Pool, Roster, Seat, SendProxy, ShardBoard, ShardState, Splice, Tier,
    },
    counter::Gate,
    rt::{self, Bell, Driver},
    shard,
};

/// Where clients connect.
pub const LISTENER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 80);

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
    bulk: bool,
    /// Peers may fall silent for ever: there are timeouts.
    silence: bool,
}

impl World {
    fn new(rng: &mut fastrand::Rng) -> World {
        let address = |n: u8| SocketAddr::from(([198, 51, 100, n], 9000));
        let backends = (0..rng.u8(1..=4)).map(|n| match rng.u8(..3) {
            0 => (address(n), MANNERS[rng.usize(..MANNERS.len())]),
            _ => (address(n), Manner::Well),
        });
        let backends = backends.collect();
        World {
            to_come: rng.u32(1..=16),
            spacing: Duration::from_millis(1 << rng.u32(..10)),
            backends,
            accepted: Vec::new(),
            preface: if rng.u8(..4) == 0 { 28 } else { 0 },
            bulk: rng.u8(..3) > 0,
            silence: rng.u8(..4) == 0,
        }
    }

    /// The next client, and where it comes from.
    pub fn client(&mut self, id: usize, rng: &mut fastrand::Rng) -> Option<(SocketAddr, Peer)> {
        self.to_come = self.to_come.checked_sub(1)?;
        let address = SocketAddr::from(([10, 0, (id >> 8) as u8, id as u8], 40_000));
        let ending = match rng.u8(..10) {
            0..=3 => Ending::Finish,
            4..=5 => Ending::FinishLast(Duration::from_secs(10)),
            6 => Ending::Close,
            7 if self.silence => Ending::Never,
            _ => self.reset(rng),
        };
        Some((address, Peer::new(rng, ending, self.bulk)))
    }

    fn reset(&self, rng: &mut fastrand::Rng) -> Ending {
        let bytes = 1 << rng.u32(1..20);
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
            3..=5 => Ending::Echo,
            6 => Ending::Close,
            7 if self.silence => Ending::Never,
            8 => self.reset(rng),
            _ => Ending::FinishLast(Duration::from_secs(8)),
        };
        let peer = Peer::new(rng, ending, self.bulk);
        let (_, manner) = *self.backends.iter().find(|(at, _)| *at == address).expect("a backend");
        let manner = match manner {
            Manner::Moody => MANNERS[rng.usize(..MANNERS.len() - 1)],
            manner => manner,
        };
        let mut after = |most: u64| Duration::from_micros(rng.u64(1..most));
        let answer = match manner {
            Manner::Well | Manner::Moody => Some((after(5_000), Ok(()))),
            Manner::Slow => Some((after(2_000_000), Ok(()))),
            Manner::Refuses => Some((after(5_000), Err(Errno::CONNREFUSED))),
            Manner::Silent => None,
            Manner::Unreachable => Some((Duration::ZERO, Err(Errno::NETUNREACH))),
        };
        (answer, peer)
    }

    fn plan(&self, rng: &mut fastrand::Rng) -> Plan {
        let second = |n| self.silence.then(|| Duration::from_secs(n));
        let listener = Listener {
            name: "in".into(),
            pool: 0,
            idle_timeout: second(20),
            half_close_timeout: second(10),
            splice: [Splice::Auto, Splice::Auto, Splice::On, Splice::Off][rng.usize(..4)],
            access: Access::default(),
        };
        let balances = [Balance::RoundRobin, Balance::LeastConnections, Balance::Random];
        let slots = self.backends.len();
        let pool = Pool {
            name: "pool".into(),
            balance: balances[rng.usize(..balances.len())],
            connect_timeout: Duration::from_secs(1),
            max_attempts: rng.u32(1..=3),
            retry_budget: None,
            send_proxy: if self.preface > 0 { SendProxy::V2 } else { SendProxy::Off },
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
        });
        let tiers = match rng.u8(..32) {
            0 => Vec::new(),
            _ => vec![Tier::new(0, members.collect(), None)],
        };
        Roster { generation: 1, tiers }
    }
}

/// What happened in a world, by what it is, and how often.
pub type Seen = BTreeMap<&'static str, u64>;

/// Lives through one seed on this thread; what happened.
///
/// # Panics
/// Something that has to hold does not.
pub fn run(seed: u64, bug: Option<Bug>) -> Seen {
    let mut seen = Seen::new();
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new(&mut rng);
    let plan = world.plan(&mut rng);
    let mut places = || Gate::new([3, 6, 100, 100, 100][rng.usize(..5)]);
    let gates = Gates { runtime: places(), listeners: vec![places()] };
    let seat = Seat { cpu: None, bell: Bell::new().unwrap() };
    let roster = world.roster(&mut rng);
    rt::sim::lend(Bridge::new(plan, gates, vec![seat]), |bridge| {
        bridge.rosters[0].publish(roster);
        let listener = begin(world, &mut rng, bridge, bug);
        let setup = shard::Setup {
            id: 0,
            bridge,
            driver: Driver::IoUring,
            pipes_max: rng.u32(..4),
            pipe_size: 64 * 1024,
            rng: rng.fork(),
            listeners: vec![(0, listener)],
        };
        let mut runtime = setup.runtime();
        runtime.chunks_max = rng.u32(1..6);
        runtime.ring_buffers = 1 << rng.u32(..5);
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
    world: World,
    rng: &mut fastrand::Rng,
    bridge: &'static Bridge,
    bug: Option<Bug>,
) -> std::os::fd::OwnedFd {
    let mut sim = Sim {
        rng: rng.fork(),
        bug,
        faults: [0, 1, 1, 3, 10][rng.usize(..5)],
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

    /// Everything that has to hold once all is over.
    fn check(&mut self, bridge: &Bridge, seen: &mut Seen) {
        let board = &bridge.boards.shards[0];
        let meters = board.meters;
        self.notice_closed();
        assert_eq!(self.stand_ins.count() as u32, 0, "descriptors are left open");
        assert_eq!(meters.chunks_in_use.get(), 0, "buffers are in use");
        assert_eq!(meters.pipes_in_use.get(), 0, "pipes are in use");
        assert_eq!(meters.ring_buffers_in_use.get(), 0, "buffers of the ring are in use");
        assert_eq!(bridge.gates.runtime.taken(), 0, "places of the process are taken");
        assert_eq!(bridge.gates.listeners[0].taken(), 0, "places of the listener are taken");
        let in_flight: u32 = (0..bridge.plan.slots).map(|s| bridge.boards.in_flight.sum(s)).sum();
        assert_eq!(in_flight, 0, "connections are in flight");
        let records: Vec<ConnRecord> =
            board.records.iter().flat_map(|queue| queue.take_up_to(usize::MAX)).collect();
        assert_eq!(board.listeners[0].accepted.get(), self.world.accepted.len() as u64, "accepted");
        assert_eq!(records.len(), self.world.accepted.len(), "recorded as often as accepted");
        let attempts: u32 = records.iter().map(|record| record.attempts).sum();
        assert_eq!(u64::from(attempts), self.dials, "attempts are dials");
        for direction in Direction::ALL {
            let counted: u64 =
                Path::ALL.iter().map(|p| board.listeners[0].bytes(direction, *p).get()).sum();
            let recorded: u64 = records.iter().map(|r| r.bytes[direction as usize]).sum();
            assert_eq!(counted, recorded, "bytes {} counted and recorded", direction.name());
        }
        self.note(board, &records, seen);
        self.world.accepted.sort_unstable();
        for id in self.world.accepted.clone() {
            let address = self.addresses[id as usize];
            let mut of_it = records.iter().filter(|record| record.arrival.client == address);
            let record = of_it.next().unwrap_or_else(|| panic!("{id} is not recorded"));
            assert!(of_it.next().is_none(), "{id} is recorded twice");
            self.check_connection(id, record);
        }
    }

    fn note(&self, board: &ShardBoard, records: &[ConnRecord], seen: &mut Seen) {
        let meters = board.meters;
        let spliced = records.iter().map(|record| record.bytes_spliced).sum();
        let bytes: u64 = records.iter().flat_map(|record| record.bytes).sum();
        seen.extend([
            ("events", self.events_so_far),
            ("microseconds", self.clock.as_micros() as u64),
            ("bytes copied", bytes - spliced),
            ("bytes spliced", spliced),
            ("completions late", meters.ring_overflows.get()),
            ("ring dry", meters.ring_buffers_dry.get()),
            ("chunks dry", meters.chunks_dry.get()),
            ("pipes dry", meters.pipes_dry.get()),
            ("accept pauses", board.accept_pauses.get()),
        ]);
        for record in records {
            *seen.entry(record.end.name()).or_default() += 1;
        }
    }

    fn check_connection(&self, id: u32, record: &ConnRecord) {
        let client = &self.links[id as usize];
        let [up, down] = record.bytes;
        let end = record.end;
        assert_eq!(client.outward.heard.count, down, "{id} {end:?}: bytes down");
        let servers = self.links.iter().filter(|link| {
            link.outward.heard.from == Some(id) || client.outward.heard.from == Some(link.id)
        });
        let servers: Vec<_> = servers.collect();
        assert!(servers.len() < 2, "{id}: bytes of it and to it are of several servers");
        if let Some(server) = servers.first() {
            assert_eq!(server.outward.heard.count, up, "{id} {end:?}: bytes up");
            for (one, other) in [(client, *server), (*server, client)] {
                let of = one.outward.heard.from;
                assert!(of.is_none_or(|of| of == other.id), "{id}: bytes of somebody else");
                let fin = one.outward.finished && one.outward.ended;
                let in_order = fin && !one.reset_by_us && !one.reset_by_peer;
                let whole = other.inward.finished && one.outward.heard.count == other.inward.said;
                assert!(!in_order || whole, "{id} {end:?}: a FIN came before the end");
            }
        }
        let in_order = matches!(end, EndReason::ClientFin | EndReason::ServerFin);
        assert!(!in_order || up == client.inward.said, "{id} {end:?}: {up} bytes up");
        assert!(!in_order || client.inward.finished, "{id} {end:?}: the client did not finish");
        let reset = end == EndReason::ClientReset;
        assert!(!reset || client.reset_by_peer, "{id} {end:?}: the client did not reset it");
        assert_ne!(end, EndReason::InternalError, "{id}");
    }
}

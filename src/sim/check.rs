//! What has to hold once a world is over.

use std::time::Duration;

use super::{
    Link, Sim,
    world::{CONNECT, HALF_CLOSED, IDLE, Seen},
};
use crate::bridge::{Bridge, ConnRecord, Direction, EndReason, Path, ShardBoard};

impl Sim {
    /// Everything that has to hold once all is over.
    pub(super) fn check(&mut self, bridge: &Bridge, seen: &mut Seen) {
        let board = &bridge.boards.shards[0];
        let meters = board.meters;
        self.notice_closed();
        assert_eq!(self.stand_ins.count() as u32, 0, "descriptors are left open");
        assert_eq!(meters.chunks_in_use.get(), 0, "buffers are in use");
        assert_eq!(meters.pipes_in_use.get(), 0, "pipes are in use");
        assert_eq!(meters.ring_buffers_in_use.get(), 0, "buffers of the ring are in use");
        assert_eq!(meters.parked_bytes.get(), 0, "bytes are parked");
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
            ("pipes grown", self.pipes_grown),
            ("accept pauses", board.accept_pauses.get()),
            ("completions lost", self.lost),
        ]);
        for record in records {
            *seen.entry(record.end.name()).or_default() += 1;
        }
    }

    fn check_connection(&self, id: u32, record: &ConnRecord) {
        let client = &self.links[id as usize];
        let [up, down] = record.bytes;
        let end = record.end;
        self.check_bytes(client, down, &format!("{id} {end:?}: bytes down"));
        let servers = self.links.iter().filter(|link| {
            link.outward.heard.from == Some(id) || client.outward.heard.from == Some(link.id)
        });
        let servers: Vec<_> = servers.collect();
        assert!(servers.len() < 2, "{id}: bytes of it and to it are of several servers");
        let server = servers.first().copied();
        if let Some(server) = server {
            self.check_bytes(server, up, &format!("{id} {end:?}: bytes up"));
            for (one, other) in [(client, server), (server, client)] {
                check_way(one, other, end);
            }
        }
        self.check_end(client, server, record);
    }

    /// A side heard as much as is recorded; more where it was lost what a send came to.
    fn check_bytes(&self, side: &Link, recorded: u64, words: &str) {
        let heard = side.outward.heard.count;
        match self.lost {
            0 => assert_eq!(heard, recorded, "{words}"),
            _ => assert!(heard >= recorded, "{words}: {heard} heard, {recorded} recorded"),
        }
    }

    /// The reason that is told is what happened.
    fn check_end(&self, client: &Link, server: Option<&Link>, record: &ConnRecord) {
        let (id, end, session) = (client.id, record.end, record.session);
        let silence = longest_silence(client, server);
        match end {
            EndReason::ClientFin | EndReason::ServerFin => {
                check_orderly(client, end);
                assert_eq!(record.bytes[0], client.inward.said, "{id} {end:?}: bytes up");
                if let Some(server) = server {
                    check_orderly(server, end);
                    assert_eq!(record.bytes[1], server.inward.said, "{id} {end:?}: bytes down");
                }
            }
            EndReason::ClientReset => assert!(client.reset_by_peer, "{id}: no reset of the client"),
            EndReason::ServerReset => {
                // Without a byte of it, nobody knows which server it was.
                let did = server.map_or_else(|| self.any_server_reset(), |it| it.reset_by_peer);
                assert!(did, "{id}: no reset of the server");
            }
            EndReason::IdleTimeout => assert!(silence >= IDLE, "{id} {end:?}: {silence:?}"),
            EndReason::HalfCloseTimeout => {
                assert!(silence >= HALF_CLOSED, "{id} {end:?}: {silence:?}");
                let one = |server: &Link| server.outward.finished != client.outward.finished;
                assert!(server.is_none_or(one), "{id} {end:?}: not one side was told a FIN");
            }
            EndReason::ConnectTimeout => assert!(session >= CONNECT, "{id} {end:?}: {session:?}"),
            EndReason::InternalError => assert!(self.lost > 0, "{id}: no completion was lost"),
            _ => {}
        }
    }

    /// A FIN is passed on: it is one, and comes after the last byte.
    pub(super) fn check_fin(&self, id: u32) {
        let told = &self.links[id as usize];
        let of = told.outward.heard.from;
        let is_other = |link: &&Link| of == Some(link.id) || link.outward.heard.from == Some(id);
        let Some(other) = self.links.iter().find(is_other) else { return };
        assert!(
            other.inward.finished,
            "{id}: a FIN was told of {}, which did not finish",
            other.id
        );
        let (heard, said) = (told.outward.heard.count, other.inward.said);
        assert_eq!(heard, said, "{id}: a FIN came before the end");
    }

    fn any_server_reset(&self) -> bool {
        let is_server = |link: &&Link| !self.world.accepted.contains(&link.id);
        self.links.iter().filter(is_server).any(|server| server.reset_by_peer)
    }
}

/// The longest time in which neither side moved, before we broke the connection off or closed it.
fn longest_silence(client: &Link, server: Option<&Link>) -> Duration {
    let end = |link: &Link| link.aborted.or(link.closed_at);
    let ends = [end(client), server.and_then(end)];
    let servers = server.map_or(&[][..], |server| &server.moves);
    let moves = client.moves.iter().chain(servers).copied();
    let mut moments: Vec<Duration> = moves.chain(ends.into_iter().flatten()).collect();
    moments.sort_unstable();
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// What went from `other` to `one`: nobody else's, and a FIN after the last of it.
fn check_way(one: &Link, other: &Link, end: EndReason) {
    let (id, of) = (one.id, one.outward.heard.from);
    assert!(of.is_none_or(|of| of == other.id), "{id}: bytes of somebody else");
    let fin = one.outward.finished && one.outward.ended;
    let in_order = fin && !one.reset_by_us && !one.reset_by_peer;
    let whole = other.inward.finished && one.outward.heard.count == other.inward.said;
    assert!(!in_order || whole, "{id} {end:?}: a FIN came before the end");
}

/// A side of a connection that is said to have ended in order.
fn check_orderly(side: &Link, end: EndReason) {
    let id = side.id;
    assert!(side.inward.finished, "{id} {end:?}: it did not finish");
    assert!(!side.reset_by_us, "{id} {end:?}: we reset it");
    // It may be gone, and say so, in the moment between the last FIN and our close.
    assert!(side.outward.finished || side.reset_by_peer, "{id} {end:?}: it was told no FIN");
}

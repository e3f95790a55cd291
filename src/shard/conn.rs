//! One accepted connection: its sockets, what is known of its end, and when it last moved.
//!
//! It is shared by the two tasks of its relay and the shard's sweep; all of them run on one thread.

use std::{
    cell::{Cell, RefCell},
    num::NonZeroU64,
    time::{Duration, Instant},
};

use crate::{
    bridge::{Arrival, ConnRecord, Dialed, Direction, EndReason, Path, Side},
    rt,
    wire::Wire,
};

/// A connection from accept to record.
#[derive(Debug)]
pub struct Conn {
    /// The wire that was accepted.
    pub client: Wire,
    /// Who came, where and when.
    pub arrival: Arrival,
    /// The wire to the backend, from the moment a dial begins.
    server: RefCell<Option<Wire>>,
    /// When the dial that succeeded did so.
    pub established: Moment,
    /// Who was dialed last, and dials so far.
    dialed: Cell<Option<Dialed>>,
    attempts: Cell<u32>,
    phase: Cell<Phase>,
    /// The first reset, or decision of ours.
    end: Cell<Option<EndReason>>,
    /// The side whose FIN was read first, and in which turn.
    first_fin: Cell<Option<Side>>,
    first_fin_turn: Cell<u64>,
    /// When the last byte of the client before the first one of the server was read.
    pub asked: Moment,
    /// When the first byte of the server was read.
    pub answered: Moment,
    /// By direction, what the sinks took; and of that, what went through a pipe.
    bytes: [Cell<u64>; 2],
    bytes_spliced: Cell<u64>,
    /// True exactly while that direction waits for its sink, so that nobody reads its source.
    blocked: [Cell<bool>; 2],
    /// Shard clock of the last byte in either direction.
    pub moved_ms: Cell<u64>,
    /// Shard clock when the sweep first saw the source of a blocked direction dead, or when we cut
    /// the connection.
    pub hung_up_ms: Cell<Option<NonZeroU64>>,
    /// True exactly where the server's receive buffer does not grow by itself.
    pub is_held: Cell<bool>,
    /// True exactly once the kernel asks a silent server whether it is there.
    pub is_watched: Cell<bool>,
    /// By side, what was not acknowledged when it was looked at last.
    unacked: [Cell<u32>; 2],
}

const _: () = assert!(size_of::<Conn>() <= 208);

/// A moment in the life of a connection, or none yet: nanoseconds since its arrival and one, which
/// take half the room of an `Instant`.
#[derive(Debug, Default)]
pub struct Moment(Cell<Option<NonZeroU64>>);

impl Moment {
    /// It is `now`.
    pub fn set(&self, arrival: &Arrival, now: Instant) {
        let nanos = now.saturating_duration_since(arrival.at).as_nanos() as u64;
        self.0.set(NonZeroU64::new(nanos.saturating_add(1)));
    }

    /// Whether it has been.
    pub fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// How long after the arrival it was.
    pub fn get(&self) -> Option<Duration> {
        self.0.get().map(|nanos| Duration::from_nanos(nanos.get() - 1))
    }
}

/// Which timeouts apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No server yet; each dial has its own deadline.
    Dialing,
    /// Both directions run.
    Relaying,
    /// This side has ended, and the other one has our FIN.
    HalfClosed(Side),
    /// Both have, or a reset is being passed on; its own bounds apply.
    Closing,
    /// We have ended it, and what is queued may still be acknowledged. The side, if any, that had
    /// our FIN before: it is closed in order.
    Cutting(Option<Side>),
}

impl Conn {
    /// A client that gets its place on this shard now.
    pub fn new(client: Wire, arrival: Arrival, now_ms: u64) -> Self {
        Conn {
            client,
            arrival,
            server: RefCell::new(None),
            established: Moment::default(),
            dialed: Cell::default(),
            attempts: Cell::default(),
            phase: Cell::new(Phase::Dialing),
            end: Cell::new(None),
            first_fin: Cell::new(None),
            first_fin_turn: Cell::default(),
            asked: Moment::default(),
            answered: Moment::default(),
            bytes: Default::default(),
            bytes_spliced: Cell::default(),
            blocked: Default::default(),
            moved_ms: Cell::new(now_ms),
            hung_up_ms: Cell::new(None),
            is_held: Cell::default(),
            is_watched: Cell::default(),
            unacked: Default::default(),
        }
    }

    /// Which timeouts apply now.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Tells which timeouts apply from now on.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// An attempt begins.
    pub fn attempt(&self, backend: Dialed) {
        self.dialed.set(Some(backend));
        self.attempts.set(self.attempts.get() + 1);
    }

    /// The place of the backend that was dialed last.
    pub fn dialed_slot(&self) -> Option<usize> {
        self.dialed.get().map(|dialed| dialed.slot as usize)
    }

    /// Whether a server was found, and nobody has ended the connection.
    pub fn is_relayed(&self) -> bool {
        matches!(self.phase(), Phase::Relaying | Phase::HalfClosed(_))
    }

    /// A dial begins.
    pub fn dialing(&self, server: &Wire) {
        self.server.replace(Some(server.clone()));
    }

    /// The last dial has come to nothing: its socket is closed.
    pub fn forget_server(&self) {
        self.server.replace(None);
    }

    /// The server's receive buffer may grow, if it was held.
    pub fn free_window(&self) {
        if self.is_held.take() {
            self.wire(Side::Server).iter().for_each(Wire::free_receive_buffer);
        }
    }

    /// The server that was found is not wanted after all.
    pub fn abort_server(&self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }

    /// The wire to that side, while there is one.
    pub fn wire(&self, side: Side) -> Option<Wire> {
        match side {
            Side::Client => Some(self.client.clone()),
            Side::Server => self.server.borrow().clone(),
        }
    }

    /// This ends the connection; the first reason stands.
    pub fn decide(&self, reason: EndReason) {
        if self.end.get().is_none() {
            self.end.set(Some(reason));
        }
    }

    /// Its own work has panicked, whatever ended it before.
    pub fn fail(&self) {
        self.end.set(Some(EndReason::InternalError));
        self.enter(Phase::Closing);
        self.abort();
    }

    /// That side reset the connection.
    pub fn reset_by(&self, side: Side) {
        if self.end.get().is_none() {
            self.end.set(Some(EndReason::reset_by(side)));
        }
    }

    /// That side has ended, by a FIN unless a reset comes to light. Two in the same turn count as
    /// the client's.
    pub fn saw_fin(&self, side: Side) {
        let turn = rt::turn_number();
        let earlier = self.first_fin.get().map(|_| self.first_fin_turn.get());
        if earlier.is_none_or(|earlier| earlier == turn && side == Side::Client) {
            self.first_fin.set(Some(side));
            self.first_fin_turn.set(turn);
        }
    }

    /// That side's FIN was read, and is one.
    pub fn fin_by(&self, side: Side) {
        self.saw_fin(side);
        let half = self.phase.get() == Phase::Relaying;
        self.enter(if half { Phase::HalfClosed(side) } else { Phase::Closing });
    }

    /// The side whose FIN was read first, if one was.
    pub fn first_fin_side(&self) -> Option<Side> {
        self.first_fin.get()
    }

    /// The first reset, or decision of ours, if there was one.
    pub fn ended(&self) -> Option<EndReason> {
        self.end.get()
    }

    /// The reason to record once both directions are over.
    pub fn end_reason(&self) -> EndReason {
        let fin = || self.first_fin.get().map(EndReason::fin_by);
        self.end.get().or_else(fin).unwrap_or(EndReason::InternalError)
    }

    /// What the sink of that direction has taken.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.bytes[direction as usize].get()
    }

    /// A sink took `n` bytes.
    pub fn took(&self, direction: Direction, path: Path, n: u64) {
        let bytes = &self.bytes[direction as usize];
        bytes.set(bytes.get() + n);
        if path == Path::Spliced {
            self.bytes_spliced.set(self.bytes_spliced.get() + n);
        }
    }

    /// What is known of it, should it end for `end`; its session is not over yet.
    pub fn record(&self, end: EndReason, served: bool) -> ConnRecord {
        ConnRecord {
            attempts: self.attempts.get(),
            backend: self.dialed.get(),
            bytes: self.bytes.each_ref().map(Cell::get),
            bytes_spliced: self.bytes_spliced.get(),
            connect: served.then(|| self.established.get()).flatten(),
            first_byte: self.answered.get(),
            ..ConnRecord::new(self.arrival, end)
        }
    }

    /// Looks at what each side has not acknowledged; true exactly when that has changed since the
    /// last look.
    pub fn queues_moved(&self) -> bool {
        let mut moved = false;
        for (side, seen) in [Side::Client, Side::Server].into_iter().zip(&self.unacked) {
            let unsent = self.wire(side).map_or(0, |wire| wire.unsent());
            moved |= seen.replace(unsent) != unsent;
        }
        moved
    }

    /// Whether something was not acknowledged at the last look.
    pub fn has_unacked(&self) -> bool {
        self.unacked.iter().any(|unacked| unacked.get() > 0)
    }

    /// Resets both sockets, and whoever waits on them wakes.
    pub fn abort(&self) {
        self.client.abort();
        if let Some(server) = &*self.server.borrow() {
            server.abort();
        }
    }

    /// Notes that a direction waits for its sink, or no longer does.
    pub fn set_blocked(&self, direction: Direction, blocked: bool) {
        self.blocked[direction as usize].set(blocked);
        if !blocked {
            self.hung_up_ms.set(None);
        }
    }

    /// Whether a direction waits for its sink.
    pub fn is_blocked(&self, direction: Direction) -> bool {
        self.blocked[direction as usize].get()
    }
}

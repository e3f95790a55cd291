//! One TCP connection: our end as the kernel shows it to us, and the way between it and the peer.
//! Pure: what happens when is decided outside.

use std::time::Duration;

use rustix::{event::PollFlags, io::Errno};

use super::stream::{Heard, Piece};

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A SYN of ours is on its way.
    Dialing,
    Open,
    /// Refused, reset or disconnected: nothing comes or goes any more.
    Dead,
}

/// What a peer sends, on its way to us.
#[derive(Debug, Default)]
pub struct In {
    /// Bytes the peer has said, that have arrived, and that we have read.
    pub said: u64,
    pub arrived: u64,
    pub read: u64,
    /// The peer said that this was all; and we know.
    pub finished: bool,
    pub ended: bool,
}

/// What we send, on its way to the peer.
#[derive(Debug, Default)]
pub struct Out {
    /// Every byte our kernel took, checked as it did.
    pub heard: Heard,
    /// A PROXY header in front of them, which is not counted as the peers' words.
    pub preface: u64,
    /// Bytes our kernel took, that have arrived, and that the peer has read; the preface included.
    pub taken: u64,
    pub arrived: u64,
    pub read: u64,
    /// We said that this was all; and the peer knows.
    pub finished: bool,
    pub ended: bool,
}

/// From one urgent byte of a peer that sends such to the next; the first one is its first byte.
const URGENT_EVERY: u64 = 5000;

/// A connection.
#[derive(Debug)]
pub struct Link {
    pub id: u32,
    pub state: State,
    /// `sk_err`: told once.
    pub error: Option<Errno>,
    /// `RCV_SHUTDOWN` at its end: after an error was told, reading is an end of stream if the peer
    /// ended it, and an error if we did.
    pub hung_up: bool,
    pub inward: In,
    pub outward: Out,
    /// Room of the two queues at our end, and of the peer's receive queue.
    pub room_in: u64,
    pub room_out: u64,
    pub room_peer: u64,
    /// Whenever our kernel took bytes or a FIN, or the peer's acknowledged some, and when we first
    /// broke it off.
    pub moves: Vec<Duration>,
    pub aborted: Option<Duration>,
    /// Our descriptor is closed, and since when.
    pub closed: bool,
    pub closed_at: Option<Duration>,
    /// The peer has reset it.
    pub reset_by_peer: bool,
    /// The peer got a reset, by our doing.
    pub reset_by_us: bool,
    /// splice(2) says that it cannot.
    pub unspliceable: bool,
    /// Bytes of the peer's are urgent: a receive may stop before any of them.
    pub urgent: bool,
    /// `SOCK_NOSPACE`: somebody found no room, and is told when there is some.
    wants_room: bool,
    /// Changes that are told and seen nowhere else.
    told_again: u32,
}

/// What has happened to a socket so far; each change is told to those who watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub arrived: u64,
    pub is_over: [bool; 5],
    pub told_again: u32,
}

impl Link {
    pub fn new(id: u32, state: State, rng: &mut fastrand::Rng) -> Link {
        let mut room = || 1 << rng.u32(10..18);
        Link {
            id,
            state,
            error: None,
            hung_up: false,
            inward: In::default(),
            outward: Out::default(),
            // Bulk has to be possible, or nothing would ever be spliced.
            room_in: room().max(16 << 10) * 2,
            room_out: room(),
            room_peer: room(),
            moves: Vec::new(),
            aborted: None,
            closed: false,
            closed_at: None,
            reset_by_peer: false,
            reset_by_us: false,
            unspliceable: false,
            urgent: rng.u8(..4) == 0,
            wants_room: false,
            told_again: 0,
        }
    }

    /// A call said that it would block although it would not.
    ///
    /// Kernel: a send says so only after it has asked to be told of room (`SOCK_NOSPACE`).
    pub fn says_again(&mut self) {
        self.wants_room = true;
        self.told_again += 1;
    }

    /// Kernel: who waits on a socket is woken by bytes, ends and errors, by what we do to it, and
    /// by room only if a send has found none (net/core/stream.c, `sk_stream_write_space`).
    pub fn mark(&mut self) -> Mark {
        if self.wants_room && self.has_room() {
            self.wants_room = false;
            self.told_again += 1;
        }
        let is_dead = self.state == State::Dead;
        let is_dialing = self.state == State::Dialing;
        let (inward, outward) = (&self.inward, &self.outward);
        let is_over = [is_dialing, is_dead, inward.ended, self.hung_up, outward.finished];
        Mark { arrived: inward.arrived, is_over, told_again: self.told_again }
    }

    /// What poll(2) says (net/ipv4/tcp.c, `tcp_poll`).
    pub fn ready(&self) -> PollFlags {
        let mut ready = PollFlags::empty();
        if self.error.is_some() {
            ready |= PollFlags::ERR;
        }
        if self.state == State::Dialing {
            return ready;
        }
        let both_ended = self.inward.ended && self.outward.finished;
        if self.state == State::Dead || both_ended {
            ready |= PollFlags::HUP;
        }
        if self.inward.ended || self.hung_up {
            ready |= PollFlags::IN | PollFlags::RDHUP;
        }
        if self.inward.arrived > self.inward.read {
            ready |= PollFlags::IN;
            if self.urgent {
                ready |= PollFlags::PRI;
            }
        }
        if self.has_room() {
            ready |= PollFlags::OUT;
        }
        ready
    }

    /// Whether a wait for room is over: a third of the queue is free.
    pub fn has_room(&self) -> bool {
        let over = self.state == State::Dead || self.outward.finished;
        over || 3 * self.unsent() <= 2 * self.room_out
    }

    /// What is left to read, at most `most` bytes: `None` at the end of the stream.
    pub fn next(&mut self, most: usize) -> Result<Option<Piece>, Errno> {
        let In { read, arrived, .. } = self.inward;
        if arrived > read {
            let end = arrived.min(read + most as u64);
            return Ok(Some(Piece { from: self.id, at: read..end }));
        }
        match self.error.take() {
            Some(error) => Err(error),
            None if self.inward.ended || self.hung_up => Ok(None),
            None if self.state == State::Dead => Err(Errno::NOTCONN),
            None => Err(Errno::AGAIN),
        }
    }

    /// How much can be spliced: urgent bytes, one in [`URGENT_EVERY`], stop it for ever, and only a
    /// receive passes one (net/ipv4/tcp.c, `tcp_read_sock`).
    pub fn spliceable(&self, most: usize) -> usize {
        let before_urgent = URGENT_EVERY - self.inward.read % URGENT_EVERY;
        match self.urgent && self.inward.arrived > self.inward.read {
            true if before_urgent == URGENT_EVERY => 0,
            true => most.min(before_urgent as usize),
            false => most,
        }
    }

    /// Room for more to send, at least 1.
    pub fn room(&mut self) -> Result<usize, Errno> {
        if self.state == State::Dialing {
            return Err(Errno::AGAIN);
        }
        let sends = self.state == State::Open && !self.outward.finished;
        match (sends, self.room_out.saturating_sub(self.unsent())) {
            (false, _) => Err(self.error.take().unwrap_or(Errno::PIPE)),
            (true, 0) => {
                self.wants_room = true;
                Err(Errno::AGAIN)
            }
            (true, room) => Ok(room as usize),
        }
    }

    /// Bytes that have not arrived.
    pub fn unsent(&self) -> u64 {
        self.outward.taken - self.outward.arrived
    }

    /// Nobody is at the other end any more, in order or not.
    pub fn is_disconnected(&self) -> bool {
        self.state != State::Open || (self.inward.ended && self.outward.ended)
    }

    /// Moves up to `most` bytes of the peer's on; true if more are on their way.
    pub fn bring(&mut self, most: u64) -> bool {
        let room = (self.room_in + self.inward.read).saturating_sub(self.inward.arrived);
        let way = self.inward.said - self.inward.arrived;
        self.inward.arrived += way.min(room).min(most);
        let all = self.inward.arrived == self.inward.said;
        self.inward.ended |= all && self.inward.finished;
        !all && room > most.min(way)
    }

    /// Moves up to `most` bytes of ours on; true if more are on their way.
    pub fn deliver(&mut self, most: u64) -> bool {
        let room = (self.room_peer + self.outward.read).saturating_sub(self.outward.arrived);
        let way = self.unsent();
        self.outward.arrived += way.min(room).min(most);
        self.outward.ended |= self.unsent() == 0 && self.outward.finished;
        self.unsent() > 0 && room > most.min(way)
    }

    /// A reset of the peer's arrives: what came before it can still be read.
    pub fn hear_reset(&mut self) {
        if self.state == State::Dead || self.closed {
            self.state = State::Dead;
            return;
        }
        // Kernel: `tcp_reset`, by the state of the connection.
        let half_closed = self.inward.ended && !self.outward.finished;
        self.error = Some(if half_closed { Errno::PIPE } else { Errno::CONNRESET });
        self.state = State::Dead;
        self.hung_up = true;
        self.outward.arrived = self.outward.taken;
    }

    /// `tcp_disconnect`; true if that sends a reset.
    pub fn disconnect(&mut self) -> bool {
        let over = self.state == State::Dead || (self.inward.ended && self.outward.ended);
        let resets = self.state == State::Open && !over;
        if self.state != State::Dead && !over {
            self.error = Some(Errno::CONNRESET);
        }
        self.state = State::Dead;
        (self.hung_up, self.inward.ended) = (false, false);
        self.inward.read = self.inward.arrived;
        self.reset_by_us |= resets;
        self.outward.arrived = self.outward.taken;
        resets
    }
}

//! One connection of the load generator and where its operation stands.
//!
//! This room refuses to know schedules and counts: it moves bytes and says what came of it.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::{self, Errno},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt},
};

use super::tally::Kind;

/// Bytes of the payload that name the connection and the operation.
const STAMP_BYTES: usize = 8;
/// Receives of a source per event, so that one stream does not starve the others.
const BULK_READS_MAX: usize = 4;
/// Bytes received at once.
const SCRATCH_BYTES: usize = 256 << 10;

/// Edge-triggered, for conversations.
const TALK: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);
/// Level-triggered, for streams.
const FLOW: EventFlags = EventFlags::IN;

/// What all connections of a worker share: what is sent, and where it is received.
pub struct Buffers {
    payload: Vec<u8>,
    scratch: Vec<u8>,
}

impl Buffers {
    /// For operations of `size` bytes.
    pub fn new(size: usize) -> Self {
        let payload = (0..size).map(|at| (at % 251) as u8).collect();
        Self { payload, scratch: vec![0; SCRATCH_BYTES] }
    }

    /// Writes the name of an operation into the payload, so that an answer of another is noticed.
    fn stamp(&mut self, name: u64) {
        let stamp = STAMP_BYTES.min(self.payload.len());
        self.payload[..stamp].copy_from_slice(&name.to_le_bytes()[..stamp]);
    }
}

/// Where a connection stands; times are nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// No socket.
    Closed,
    /// Dialing, for an operation that is due or to hold the connection.
    Connecting { begun: u64, due: Option<u64> },
    /// Established, nothing asked.
    Idle,
    /// Asked, and not wholly answered.
    Busy { begun: u64, due: u64, sent: usize, got: usize },
    /// Reading a source.
    Flowing { begun: u64, heard: u64, got: u64 },
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More events have to come.
    Wait,
    /// The connection is established.
    Connected,
    /// The operation is done.
    Done,
    /// The connection is of no more use.
    Lost(Kind),
}

/// One connection.
pub struct Slot {
    /// Where it stands.
    pub phase: Phase,
    /// True exactly when an operation succeeded on the present connection.
    pub proven: bool,
    socket: Option<OwnedFd>,
    id: u32,
    sequence: u32,
    /// Bytes of the present stream not yet asked for by [`Slot::take_counted`].
    uncounted: u64,
}

impl Slot {
    /// A connection yet to be made; `id` differs between all connections of a run.
    pub fn new(id: u32) -> Self {
        Self { phase: Phase::Closed, proven: false, socket: None, id, sequence: 0, uncounted: 0 }
    }

    /// Starts to dial; `token` comes back with the events.
    pub fn open(&mut self, epoll: &OwnedFd, target: SocketAddr, token: u64) -> Result<(), Kind> {
        self.close();
        let socket = dial(target).map_err(kind_of)?;
        epoll::add(epoll, &socket, EventData::new_u64(token), TALK).map_err(kind_of)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// From here on the socket is a stream to be read.
    pub fn flow(&mut self, epoll: &OwnedFd, token: u64, now: u64) -> Result<(), Kind> {
        self.phase = Phase::Flowing { begun: now, heard: now, got: 0 };
        let socket = self.socket.as_ref().ok_or(Kind::Other)?;
        epoll::modify(epoll, socket, EventData::new_u64(token), FLOW).map_err(kind_of)
    }

    /// Asks the next question.
    pub fn ask(&mut self, buffers: &mut Buffers, due: u64, now: u64) -> Step {
        self.sequence = self.sequence.wrapping_add(1);
        self.phase = Phase::Busy { begun: now, due, sent: 0, got: 0 };
        self.send(buffers)
    }

    /// Goes as far as the event allows.
    pub fn step(&mut self, buffers: &mut Buffers, flags: EventFlags, now: u64) -> Step {
        match self.phase {
            Phase::Closed => Step::Wait,
            Phase::Connecting { .. } => self.connected(flags),
            Phase::Idle => self.listen_in(buffers, flags),
            Phase::Busy { .. } => match self.send(buffers) {
                Step::Wait => self.receive(buffers, is_over(flags)),
                // What the peer sent before it went may still be there, and complete.
                Step::Lost(kind) => match self.receive(buffers, true) {
                    Step::Wait => Step::Lost(kind),
                    step => step,
                },
                step => step,
            },
            Phase::Flowing { .. } => self.drink(buffers, now),
        }
    }

    /// Bytes read from the stream since the last call.
    pub fn take_counted(&mut self) -> u64 {
        std::mem::take(&mut self.uncounted)
    }

    /// True exactly when the dial or the operation has made no progress for too long.
    pub fn is_late(&self, now: u64, connect_ns: u64, operation_ns: u64) -> bool {
        match self.phase {
            Phase::Closed | Phase::Idle => false,
            Phase::Connecting { begun, .. } => now > begun + connect_ns,
            Phase::Busy { begun, .. } => now > begun + operation_ns,
            Phase::Flowing { heard, .. } => now > heard + operation_ns,
        }
    }

    /// Gives the socket back to the kernel.
    pub fn close(&mut self) {
        self.socket = None;
        self.phase = Phase::Closed;
        self.proven = false;
    }

    fn connected(&self, flags: EventFlags) -> Step {
        let Some(socket) = &self.socket else {
            return Step::Wait;
        };
        match sockopt::socket_error(socket) {
            Ok(Ok(())) if flags.contains(EventFlags::OUT) => Step::Connected,
            Ok(Ok(())) => Step::Wait,
            Ok(Err(error)) | Err(error) => Step::Lost(kind_of(error)),
        }
    }

    /// An idle connection has nothing to hear but its end.
    pub fn listen_in(&self, buffers: &mut Buffers, flags: EventFlags) -> Step {
        if !flags.contains(EventFlags::IN) && !is_over(flags) {
            return Step::Wait;
        }
        match self.read(&mut buffers.scratch) {
            Ok(0) => Step::Lost(Kind::Closed),
            Ok(_) => Step::Lost(Kind::Mismatch),
            Err(Errno::AGAIN) => Step::Wait,
            Err(error) => Step::Lost(kind_of(error)),
        }
    }

    fn send(&mut self, buffers: &mut Buffers) -> Step {
        let name = self.name();
        let (Some(socket), Phase::Busy { sent, .. }) = (&self.socket, &mut self.phase) else {
            return Step::Wait;
        };
        if *sent < buffers.payload.len() {
            buffers.stamp(name);
            match rustix::net::send(socket, &buffers.payload[*sent..], SendFlags::NOSIGNAL) {
                Ok(count) => *sent += count,
                Err(Errno::AGAIN) => {}
                Err(error) => return Step::Lost(kind_of(error)),
            }
        }
        Step::Wait
    }

    fn receive(&mut self, buffers: &mut Buffers, to_the_end: bool) -> Step {
        let Phase::Busy { mut got, .. } = self.phase else {
            return Step::Wait;
        };
        buffers.stamp(self.name());
        let step = loop {
            let count = match self.read(&mut buffers.scratch) {
                Ok(0) => break Step::Lost(Kind::Closed),
                Ok(count) => count,
                Err(Errno::AGAIN) => break Step::Wait,
                Err(error) => break Step::Lost(kind_of(error)),
            };
            if buffers.payload.get(got..got + count) != Some(&buffers.scratch[..count]) {
                break Step::Lost(Kind::Mismatch);
            }
            got += count;
            if got == buffers.payload.len() {
                break Step::Done;
            }
            if count < SCRATCH_BYTES && !to_the_end {
                break Step::Wait; // a short receive: the next bytes bring their own event
            }
        };
        if let Phase::Busy { got: kept, .. } = &mut self.phase {
            *kept = got;
        }
        step
    }

    /// Reads a stream; `Done` is its end.
    fn drink(&mut self, buffers: &mut Buffers, now: u64) -> Step {
        for _ in 0..BULK_READS_MAX {
            let read = self.read(&mut buffers.scratch);
            let Phase::Flowing { heard, got, .. } = &mut self.phase else {
                return Step::Wait;
            };
            match read {
                Ok(0) if *got == 0 => return Step::Lost(Kind::Closed),
                Ok(0) => return Step::Done,
                Ok(count) => {
                    (*heard, *got) = (now, *got + count as u64);
                    self.uncounted += count as u64;
                }
                Err(Errno::AGAIN) => return Step::Wait,
                Err(error) => return Step::Lost(kind_of(error)),
            }
            self.proven = true;
            if read.is_ok_and(|count| count < SCRATCH_BYTES) {
                return Step::Wait;
            }
        }
        Step::Wait
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let socket = self.socket.as_ref().ok_or(Errno::BADF)?;
        rustix::net::recv(socket.as_fd(), into, RecvFlags::empty()).map(|(count, _)| count)
    }

    fn name(&self) -> u64 {
        u64::from(self.id) << 32 | u64::from(self.sequence)
    }
}

/// True exactly when the peer has ended or reset the connection.
pub fn is_over(flags: EventFlags) -> bool {
    flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
}

fn dial(target: SocketAddr) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn kind_of(error: Errno) -> Kind {
    match error {
        Errno::CONNREFUSED => Kind::Refused,
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => Kind::Reset,
        Errno::TIMEDOUT => Kind::Timeout,
        Errno::MFILE | Errno::NFILE | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM => {
            Kind::Local
        }
        _ => Kind::Other,
    }
}

//! The floor: the least a relay can cost, without features and without accounting.
//!
//! Edge-triggered epoll, one thread, one shared 64 KiB buffer, TCP_NODELAY on both sides, no second
//! receive after a short one; in splice mode a 256 KiB pipe per direction instead of the buffer.
//! It is what figures are compared with, so it has to be right: every byte, and half-closes.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::{self, Errno},
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, acceptfrom_with,
        sockopt,
    },
    pipe::{PipeFlags, SpliceFlags},
};

const BUFFER_BYTES: usize = 64 << 10;
const PIPE_BYTES: usize = 256 << 10;
const BACKLOG: i32 = 4096;
const EVENTS_MAX: usize = 256;
/// Chunks a direction copies before the others get their turn.
const COPIES_PER_TURN_MAX: usize = 16;
/// With splice one: asking again at once would move the little that came meanwhile, call by call.
const SPLICES_PER_TURN_MAX: usize = 1;
/// The token of the listener; a connection has two, its place times two plus the side.
const LISTENER: u64 = u64::MAX;
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// A bare relay, to compare proxies with.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one
    #[arg(long)]
    listen: SocketAddr,
    /// Where to connect for each client; several take turns
    #[arg(long, required = true)]
    backend: Vec<SocketAddr>,
    /// How bytes move
    #[arg(long)]
    mode: Mode,
}

#[derive(ValueEnum, Clone, Copy, PartialEq)]
enum Mode {
    Copy,
    Splice,
}

fn main() -> ExitCode {
    let args = Args::parse();
    ringway::bench::raise_nofile();
    match Relay::start(&args).and_then(|mut relay| relay.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot relay {} to {:?}: {error}", args.listen, args.backend);
            ExitCode::FAILURE
        }
    }
}

/// One direction: from its socket to the other's.
struct Flow {
    /// Received and not yet sent, with the bytes of `held` before `sent` already gone.
    held: Vec<u8>,
    sent: usize,
    /// Splice mode: read end, write end, and bytes between.
    pipe: Option<(OwnedFd, OwnedFd)>,
    piped: usize,
    readable: bool,
    /// The sink took no more: nothing is tried before it says that it does.
    blocked: bool,
    /// The event said that the end is near: do not stop at a short receive.
    ending: bool,
    /// The end of the stream was read.
    ended: bool,
    /// The end of the stream was passed on.
    done: bool,
}

/// Sockets by side, and the flow away from each.
struct Conn {
    sockets: [OwnedFd; 2],
    flows: [Flow; 2],
    connected: bool,
}

enum Pumped {
    Waiting,
    /// The turn is over and there may be more.
    More,
}

struct Relay {
    backends: Vec<SocketAddr>,
    mode: Mode,
    epoll: OwnedFd,
    listener: OwnedFd,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Places that get free when all events of this turn were seen.
    closed: Vec<usize>,
    /// Flows whose turn ended before their bytes did.
    again: Vec<(usize, usize)>,
    buffer: Vec<u8>,
}

impl Relay {
    fn start(args: &Args) -> io::Result<Self> {
        let listener = listen(args.listen)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self {
            backends: args.backend.clone(),
            mode: args.mode,
            epoll,
            listener,
            conns: Vec::new(),
            free: Vec::new(),
            closed: Vec::new(),
            again: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let none = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [none; EVENTS_MAX];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let timeout = self.again.first().map(|_| &now);
            let count = match epoll::wait(&self.epoll, &mut events[..], timeout) {
                Err(Errno::INTR) => 0,
                result => result?,
            };
            for event in &events[..count] {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    token => self.handle((token / 2) as usize, (token % 2) as usize, event.flags),
                }
            }
            for (place, side) in std::mem::take(&mut self.again) {
                self.pump(place, side);
            }
            self.free.append(&mut self.closed);
        }
    }

    fn accept(&mut self) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok((client, _)) = acceptfrom_with(&self.listener, flags) {
            // A client that cannot be served is closed by the drop of its socket.
            let _ = self.admit(client);
        }
    }

    fn admit(&mut self, client: OwnedFd) -> io::Result<()> {
        sockopt::set_tcp_nodelay(&client, true)?;
        self.backends.rotate_left(1);
        let server = dial(self.backends[0])?;
        let flows = [Flow::new(self.mode)?, Flow::new(self.mode)?];
        let place = self.free.pop().unwrap_or(self.conns.len());
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        for (side, socket) in [&client, &server].into_iter().enumerate() {
            let token = EventData::new_u64((place * 2 + side) as u64);
            epoll::add(&self.epoll, socket, token, interest)?;
        }
        let conn = Conn { sockets: [client, server], flows, connected: false };
        if place == self.conns.len() {
            self.conns.push(None);
        }
        self.conns[place] = Some(conn);
        Ok(())
    }

    fn handle(&mut self, place: usize, side: usize, flags: EventFlags) {
        let Some(conn) = &mut self.conns[place] else {
            return;
        };
        if side == SERVER && !conn.connected {
            if !matches!(sockopt::socket_error(&conn.sockets[SERVER]), Ok(Ok(()))) {
                return self.reset(place);
            }
            conn.connected = flags.contains(EventFlags::OUT);
        }
        let flow = &mut conn.flows[side];
        flow.readable |= flags.contains(EventFlags::IN);
        if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            (flow.readable, flow.ending) = (true, true);
        }
        if conn.flows[side].done && flags.contains(EventFlags::ERR) {
            return self.reset(place); // nothing is read here any more that could tell
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            self.pump(place, side);
        }
        // What waits for this side may go now: only when something does wait.
        if let Some(conn) = &mut self.conns[place]
            && flags.contains(EventFlags::OUT)
        {
            let flow = &mut conn.flows[1 - side];
            flow.blocked = false;
            if flow.wants_to_send() {
                self.pump(place, 1 - side);
            }
        }
    }

    fn pump(&mut self, place: usize, side: usize) {
        let Some(conn) = &mut self.conns[place] else {
            return;
        };
        if !conn.connected {
            return;
        }
        let (from, to) = (&conn.sockets[side], &conn.sockets[1 - side]);
        // With both ends passed on comes the close, which is an end too.
        let last = conn.flows[1 - side].done;
        match conn.flows[side].pump((from, to), last, &mut self.buffer) {
            Ok(Pumped::Waiting) if conn.flows.iter().all(|flow| flow.done) => self.close(place),
            Ok(Pumped::Waiting) => {}
            Ok(Pumped::More) => self.again.push((place, side)),
            Err(_) => self.reset(place),
        }
    }

    /// A reset on one side becomes one on the other.
    fn reset(&mut self, place: usize) {
        if let Some(conn) = &self.conns[place] {
            for socket in &conn.sockets {
                let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
            }
        }
        self.close(place);
    }

    fn close(&mut self, place: usize) {
        self.conns[place] = None;
        self.closed.push(place);
    }
}

impl Flow {
    fn new(mode: Mode) -> io::Result<Self> {
        let pipe = match mode {
            Mode::Copy => None,
            Mode::Splice => {
                let ends = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
                rustix::pipe::fcntl_setpipe_size(&ends.0, PIPE_BYTES)?;
                Some(ends)
            }
        };
        Ok(Self {
            held: Vec::new(),
            sent: 0,
            pipe,
            piped: 0,
            readable: true,
            blocked: false,
            ending: false,
            ended: false,
            done: false,
        })
    }

    fn wants_to_send(&self) -> bool {
        self.piped > 0 || self.sent < self.held.len() || self.readable
    }

    fn pump(
        &mut self,
        (from, to): (&OwnedFd, &OwnedFd),
        last: bool,
        buffer: &mut [u8],
    ) -> io::Result<Pumped> {
        let spliced = self.pipe.is_some();
        for _ in 0..if spliced { SPLICES_PER_TURN_MAX } else { COPIES_PER_TURN_MAX } {
            if self.done || self.blocked || !self.drain(to)? {
                return Ok(Pumped::Waiting);
            }
            if self.ended {
                self.done = true;
                if last {
                    return Ok(Pumped::Waiting);
                }
                match rustix::net::shutdown(to, Shutdown::Write) {
                    Ok(()) | Err(Errno::NOTCONN) => return Ok(Pumped::Waiting),
                    Err(error) => return Err(error),
                }
            }
            if !self.readable {
                return Ok(Pumped::Waiting);
            }
            match self.fill(from, to, buffer) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(Errno::AGAIN) => {
                    self.readable = false;
                    return Ok(Pumped::Waiting);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(if self.drain(to)? { Pumped::More } else { Pumped::Waiting })
    }

    /// Sends what is held; true exactly when nothing is held any more.
    fn drain(&mut self, to: &OwnedFd) -> io::Result<bool> {
        if let Some((out, _)) = &self.pipe {
            while self.piped > 0 {
                match splice(out, to, self.piped) {
                    Ok(count) => self.piped -= count,
                    Err(Errno::AGAIN) => {
                        self.blocked = true;
                        return Ok(false);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        while self.sent < self.held.len() {
            match rustix::net::send(to, &self.held[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => {
                    self.blocked = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if !self.held.is_empty() {
            (self.held, self.sent) = (Vec::new(), 0);
        }
        Ok(true)
    }

    /// Receives once; a copied chunk is sent at once, and only its rest is held.
    fn fill(&mut self, from: &OwnedFd, to: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some((_, into)) = &self.pipe {
            // A count below the pipe's size does not mean that the socket is empty: the pipe may
            // have run out of slots first. So here only EAGAIN ends the reading.
            self.piped = splice(from, into, PIPE_BYTES)?;
            return Ok(self.piped);
        }
        let (count, _) = rustix::net::recv(from, &mut *buffer, RecvFlags::empty())?;
        if count == 0 {
            return Ok(0);
        }
        self.readable = count == buffer.len() || self.ending;
        let sent = match rustix::net::send(to, &buffer[..count], SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Err(error),
        };
        self.held.extend_from_slice(&buffer[sent..count]);
        Ok(count)
    }
}

fn splice(from: &OwnedFd, to: &OwnedFd, count: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    rustix::pipe::splice(from, None, to, None, count, flags)
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    if let Ok(bound) = listener.local_addr() {
        let _ = writeln!(std::io::stdout(), "ready relay={bound}");
    }
    Ok(listener.into())
}

fn dial(backend: SocketAddr) -> io::Result<OwnedFd> {
    let family = if backend.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &backend) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

const _: () = assert!(CLIENT == 0 && SERVER == 1);

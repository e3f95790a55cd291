//! The relay on the raw ring: multishot accept, multishot receives into one ring of buffers, sends
//! submitted by the call that waits. A few ways to do that can be chosen, to see what each costs.
//!
//! Sockets block: the ring would answer EAGAIN instead of waiting for one that does not.

mod buffers;
mod conn;
mod send;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use buffers::{Buffers, GROUP};
use conn::{Chunk, Conn};
use io_uring::{
    CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode,
    squeue::Flags,
    types::{Fd, Fixed},
};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType, addr::SocketAddrArg as _};

use crate::engine;

/// Submissions of one turn at most; more are submitted early.
const ENTRIES: u32 = 4096;
/// Completions that wait for us. The relay gives up when it overflows: a failed send would be lost.
const COMPLETIONS: u32 = 4 * ENTRIES;
/// Sockets in the table of registered files.
const FILES: u32 = 8192;
/// Chunks that wait for one sink: from there on its source is not read, so that it cannot take all
/// buffers; it is again when so few are left.
const QUEUED_MAX: usize = 16;
const QUEUED_FEW: usize = 4;

/// How the ring is used.
#[derive(Clone, Copy)]
pub struct Knobs {
    pub send: Send,
    /// DEFER_TASKRUN; otherwise COOP_TASKRUN.
    pub deferred: bool,
    /// Operations name sockets by their place in a registered table.
    pub fixed_files: bool,
    /// The ring's own descriptor is registered.
    pub ring_fd: bool,
}

/// How a chunk is sent on.
#[derive(Clone, Copy, PartialEq)]
pub enum Send {
    /// An operation that waits for room and completes.
    Completed,
    /// An operation that is over with the submission, and completes only where it failed or fell
    /// short; then the rest is sent by one that waits.
    Skipped,
    /// A call of send(2) at once; what does not fit is sent by an operation that waits.
    Direct,
}

/// What an operation was for; beside it in `user_data` are a connection and one of its sides.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Accept,
    Connect,
    Receive,
    Send,
    SkippedSend,
    Cancel,
}

const KINDS: [Kind; 6] =
    [Kind::Accept, Kind::Connect, Kind::Receive, Kind::Send, Kind::SkippedSend, Kind::Cancel];

/// One direction of a connection: named by its place, and the side it comes from.
type Way = (usize, usize);

fn tag(kind: Kind, (place, side): Way) -> u64 {
    (place as u64) << 8 | (side as u64) << 4 | kind as u64
}

fn untag(tag: u64) -> (Kind, Way) {
    (KINDS[(tag & 15) as usize], ((tag >> 8) as usize, (tag >> 4 & 1) as usize))
}

/// Serves for ever.
pub fn serve(listener: TcpListener, backend: SocketAddr, knobs: Knobs) -> io::Result<()> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_cqsize(COMPLETIONS);
    match knobs.deferred {
        true => builder.setup_defer_taskrun(),
        false => builder.setup_coop_taskrun(),
    };
    let mut ring = builder.build(ENTRIES)?;
    let (mut submitter, submissions, completions) = ring.split();
    if knobs.ring_fd {
        submitter.register_ring_fd()?;
    }
    if knobs.fixed_files {
        submitter.register_files_sparse(FILES)?;
    }
    let buffers = Buffers::register(&submitter)?;
    let relay = Relay {
        submitter,
        submissions,
        completions,
        knobs,
        listener,
        target: Box::new(backend.as_any()),
        buffers,
        conns: Vec::new(),
        free: Vec::new(),
        sending: Vec::new(),
        sent: Vec::new(),
        starved: Vec::new(),
        ending: Vec::new(),
        eager: false,
    };
    relay.run()
}

struct Relay<'r> {
    submitter: Submitter<'r>,
    submissions: SubmissionQueue<'r>,
    completions: CompletionQueue<'r>,
    knobs: Knobs,
    listener: TcpListener,
    /// The backend, where the kernel reads it while a connect is under way.
    target: Box<SocketAddrAny>,
    buffers: Buffers,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    /// Ways whose skipped sends are in the submission queue, and in the last submission.
    sending: Vec<Way>,
    sent: Vec<Way>,
    /// Ways whose receive found no buffer.
    starved: Vec<Way>,
    /// Connections that may be over.
    ending: Vec<usize>,
    /// True exactly when there is something to do once the submission is made, whatever completes.
    eager: bool,
}

impl Relay<'_> {
    /// A turn submits and waits, takes all completions, and then what was sent without one.
    fn run(mut self) -> io::Result<()> {
        self.accept_more()?;
        let mut completed: Vec<cqueue::Entry> = Vec::new();
        loop {
            std::mem::swap(&mut self.sending, &mut self.sent);
            let wanted = usize::from(!std::mem::take(&mut self.eager));
            self.submissions.sync();
            match self.submitter.submit_and_wait(wanted) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.completions.sync();
            if self.submissions.cq_overflow() {
                return Err(io::Error::other("the completion queue overflowed"));
            }
            completed.extend(&mut self.completions);
            self.completions.sync();
            for completion in completed.drain(..) {
                self.handle(&completion)?;
            }
            self.settle()?;
            for place in std::mem::take(&mut self.ending) {
                self.end(place)?;
            }
            self.buffers.give_back();
            for way in std::mem::take(&mut self.starved) {
                self.receive(way)?;
            }
        }
    }

    fn handle(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let (kind, way) = untag(completion.user_data());
        let result = completion.result();
        let more = cqueue::more(completion.flags());
        let Some(conn) = self.conns.get_mut(way.0).and_then(Option::as_mut) else {
            // Cancels may come after the end; all else is waited for.
            return if kind == Kind::Accept { self.accepted(result, more) } else { Ok(()) };
        };
        let flow = &mut conn.flows[way.1];
        match kind {
            Kind::Accept => return self.accepted(result, more),
            Kind::Cancel => {}
            Kind::Connect => {
                conn.in_kernel -= 1;
                match result {
                    0 => {
                        self.receive((way.0, 0))?;
                        self.receive((way.0, 1))?;
                    }
                    _ => self.reset(way.0),
                }
            }
            Kind::Receive => {
                if !more {
                    conn.in_kernel -= 1;
                    flow.armed = false;
                    flow.cancelled = false;
                }
                let buffer = cqueue::buffer_select(completion.flags());
                self.received(way, result, buffer)?;
            }
            Kind::SkippedSend => {
                flow.unsent = true;
                self.moved(way, result);
            }
            Kind::Send => {
                conn.in_kernel -= 1;
                flow.sending = false;
                self.moved(way, result);
                self.pump(way)?;
            }
        }
        Ok(())
    }

    fn accept_more(&mut self) -> io::Result<()> {
        let fd = Fd(self.listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry.user_data(tag(Kind::Accept, (0, 0))))
    }

    fn accepted(&mut self, result: i32, more: bool) -> io::Result<()> {
        match result {
            0.. => {
                // SAFETY: the accept gave us this descriptor, and nobody else has it.
                let client = unsafe { OwnedFd::from_raw_fd(result) };
                self.admit(client)?;
            }
            _ if result == -libc::ECONNABORTED => {}
            _ => return Err(io::Error::from_raw_os_error(-result)),
        }
        if more { Ok(()) } else { self.accept_more() }
    }

    fn admit(&mut self, client: OwnedFd) -> io::Result<()> {
        let server = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        engine::no_delay(&client, &server)?;
        let place = self.free.pop().unwrap_or(self.conns.len());
        if self.knobs.fixed_files {
            let fds = [client.as_raw_fd(), server.as_raw_fd()];
            self.submitter.register_files_update(place as u32 * 2, &fds)?;
        }
        let fd = Fd(server.as_raw_fd());
        let entry = opcode::Connect::new(fd, self.target.as_ptr().cast(), self.target.addr_len());
        if place == self.conns.len() {
            self.conns.push(None);
        }
        self.conns[place] = Some(Conn::new([client, server]));
        self.push(entry.build().user_data(tag(Kind::Connect, (place, 0))))
    }

    /// Arms the receive of a way, where bytes are wanted and there is none.
    fn receive(&mut self, way: Way) -> io::Result<()> {
        let Some(conn) = &mut self.conns[way.0] else { return Ok(()) };
        if conn.dying || !conn.flows[way.1].wants(QUEUED_FEW) {
            return Ok(());
        }
        conn.flows[way.1].armed = true;
        conn.in_kernel += 1;
        let entry = match self.knobs.fixed_files {
            true => opcode::RecvMulti::new(Fixed(way.0 as u32 * 2 + way.1 as u32), GROUP).build(),
            false => opcode::RecvMulti::new(Fd(conn.sockets[way.1].as_raw_fd()), GROUP).build(),
        };
        self.push(entry.user_data(tag(Kind::Receive, way)))
    }

    fn received(&mut self, way: Way, result: i32, buffer: Option<u16>) -> io::Result<()> {
        let Some(conn) = &mut self.conns[way.0] else { return Ok(()) };
        let flow = &mut conn.flows[way.1];
        match (result, buffer) {
            (1.., Some(buffer)) => {
                flow.queue.push_back(Chunk { buffer, start: 0, end: result as u32 });
                if flow.queue.len() == QUEUED_MAX && flow.armed && !flow.cancelled {
                    flow.cancelled = true;
                    let entry = opcode::AsyncCancel::new(tag(Kind::Receive, way)).build();
                    let entry = entry.flags(Flags::SKIP_SUCCESS);
                    self.push(entry.user_data(tag(Kind::Cancel, way)))?;
                }
            }
            (0, _) => flow.ended = true,
            _ if result == -libc::ENOBUFS => {
                self.eager = true; // buffers come back when the sends of this turn are submitted
                self.starved.push(way);
                return Ok(());
            }
            _ if result == -libc::ECANCELED => {}
            _ => self.reset(way.0),
        }
        self.pump(way)
    }
}

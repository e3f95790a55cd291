//! The queues of a ring whose kernel is simulated, and a shard's thread that runs on it; for tests.
//! The other engine's kernel is in [`watch`].
//!
//! It takes buffers from the very memory that the real kernel would take them from ([`provided`]),
//! so what the engine gives back wrongly is missed here. What it promises of receives is checked by
//! [`promises`].

mod promises;
mod provided;
pub(super) mod watch;

use std::{
    collections::VecDeque,
    future::Future,
    io,
    os::fd::{BorrowedFd, RawFd},
    slice,
    time::Instant,
};

use rustix::{event::PollFlags, io::Errno};

use self::{promises::Promises, provided::Provided};
use super::{
    LOCAL, Setup,
    ring::{
        buffers::Buffers,
        kernel::{BATCH, Completion, Kernel as Host, Lost, Op},
    },
};
use crate::{sim, sock};

/// The kernel of a ring under test.
pub(super) enum Kernel {
    /// The real one.
    Host(Host),
    Simulated(Queues),
}

impl Kernel {
    pub(super) fn new(buffers: &Buffers) -> io::Result<Kernel> {
        match sim::is_on() {
            true => Ok(Kernel::Simulated(Queues::new(buffers))),
            false => Host::new(buffers).map(Kernel::Host),
        }
    }

    pub(super) fn push(&mut self, op: Op, tag: u64) {
        match self {
            Kernel::Host(host) => host.push(op, tag),
            Kernel::Simulated(queues) => queues.push(op, tag),
        }
    }

    pub(super) fn queued(&mut self) -> usize {
        match self {
            Kernel::Host(host) => host.queued(),
            Kernel::Simulated(queues) => queues.submitted.len(),
        }
    }

    pub(super) fn enter(&mut self, wait: bool) -> Result<(), Lost> {
        match self {
            Kernel::Host(host) => host.enter(wait),
            Kernel::Simulated(queues) => queues.enter(wait),
        }
    }

    pub(super) fn reap(&mut self, into: &mut Vec<Completion>) -> bool {
        match self {
            Kernel::Host(host) => host.reap(into),
            Kernel::Simulated(queues) => queues.reap(into),
        }
    }
}

/// An operation that goes on.
struct Armed {
    op: Op,
    tag: u64,
    cancelled: bool,
    /// It has taken bytes and forgotten the reset that came with them (`watch_silent`).
    deaf: bool,
}

/// The queues of a simulated kernel.
pub(super) struct Queues {
    buffers: Provided,
    submitted: Vec<(Op, u64)>,
    armed: Vec<Armed>,
    alarms: Vec<(Instant, u64)>,
    done: VecDeque<Completion>,
    promises: Promises,
    /// True exactly when a completion was lost and nobody has been told.
    lost: bool,
}

/// What operations say that have no reason to fail.
const RECEIVE: [Errno; 4] = [Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN, Errno::INTR];
const SEND: [Errno; 3] = [Errno::NOBUFS, Errno::NOMEM, Errno::AGAIN];
const CANCEL: [Errno; 2] = [Errno::NOENT, Errno::ALREADY];

fn chance(weight: u32) -> bool {
    sim::with(|sim| sim.fails(weight))
}

/// Fails now and then.
fn short(weight: u32, errors: &[Errno]) -> Result<(), Errno> {
    if chance(weight) { Err(sim::with(|sim| sim.one_of(errors))) } else { Ok(()) }
}

/// Whoever asks knows that it is open: an operation keeps its descriptor open.
fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the slot whose operation this is owns the descriptor until the operation is over.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn ready(fd: RawFd) -> PollFlags {
    let real = || sock::calls::poll_now(borrow(fd), PollFlags::IN | PollFlags::OUT).unwrap();
    sim::with(|sim| sim.ready(fd)).unwrap_or_else(real)
}

impl Queues {
    fn new(buffers: &Buffers) -> Queues {
        let (entries, count) = buffers.entries();
        Queues {
            buffers: Provided::new(entries, count),
            submitted: Vec::new(),
            armed: Vec::new(),
            alarms: Vec::new(),
            done: VecDeque::new(),
            promises: Promises::new(count),
            lost: false,
        }
    }

    fn enter(&mut self, wait: bool) -> Result<(), Lost> {
        sim::with(sim::Sim::turn);
        while let Some(buffer) = self.buffers.came_back() {
            self.promises.comes_back(buffer);
        }
        self.submit();
        self.promises.check(&self.armed);
        // What is ready may be seen late, unless nothing else is.
        self.notice(true);
        while wait && self.done.is_empty() && !self.lost {
            self.notice(false);
            if self.done.is_empty() && !self.lost {
                let alarm = self.alarms.iter().map(|(at, _)| *at).min();
                sim::with(|sim| sim.sleep(alarm));
            }
        }
        // Kernel: told once, by a call that has nothing to submit.
        if std::mem::take(&mut self.lost) { Err(Lost) } else { Ok(()) }
    }

    /// Queues an operation. A busy turn submits before its end, and looks what came of it there.
    fn push(&mut self, op: Op, tag: u64) {
        self.submitted.push((op, tag));
        if self.submitted.len() >= BATCH || chance(10) {
            self.submit();
        }
    }

    fn submit(&mut self) {
        for (op, tag) in std::mem::take(&mut self.submitted) {
            self.begin(op, tag);
        }
    }

    fn begin(&mut self, op: Op, tag: u64) {
        match op {
            Op::Receive(_) | Op::PollIn(_) | Op::PollOut(_) => {
                self.promises.begins(tag);
                self.armed.push(Armed { op, tag, cancelled: false, deaf: false });
            }
            Op::Alarm(after) => self.alarms.push((super::now() + after, tag)),
            Op::Send(fd, bytes, len) => {
                // SAFETY: the bytes of a send belong to its slot until it completes.
                let bytes = unsafe { slice::from_raw_parts(bytes, len as usize) };
                let sent =
                    short(5, &SEND).and_then(|()| sim::with(|sim| sim.send(borrow(fd), bytes)));
                self.complete(tag, sent, None, false);
            }
            Op::Cancel(of) => self.cancel(of, tag),
        }
    }

    /// Kernel: what is at work in the moment of its cancel is not found, or said to be running. A
    /// receive goes on then, and a poll is about to complete (`io_poll_cancel`, io_uring/poll.c).
    fn cancel(&mut self, of: u64, tag: u64) {
        self.promises.is_to_end(of);
        let missed = short(20, &CANCEL).map(|()| 0);
        let Some(armed) = self.armed.iter_mut().find(|armed| armed.tag == of) else {
            return self.complete(tag, Err(Errno::NOENT), None, false);
        };
        if missed.is_err() && matches!(armed.op, Op::Receive(_)) {
            self.promises.is_refused(tag, of);
        } else {
            armed.cancelled = true;
        }
        self.complete(tag, missed, None, false);
    }

    fn complete(
        &mut self,
        tag: u64,
        outcome: Result<usize, Errno>,
        buffer: Option<u16>,
        more: bool,
    ) {
        let result = outcome.map_or_else(|error| -error.raw_os_error(), |count| count as i32);
        // Kernel: one that would leave its receive going on ends it instead, and is not lost
        // (`io_recv_finish`, io_uring/net.c).
        if !more && sim::with(sim::Sim::loses) {
            self.lost = true;
            return;
        }
        self.done.push_back(Completion { tag, result, buffer, more });
    }

    /// Looks at everything that goes on, in any order.
    fn notice(&mut self, may_be_late: bool) {
        let now = super::now();
        let due = |(at, _): &mut (Instant, u64)| *at <= now;
        for (_, tag) in self.alarms.extract_if(.., due).collect::<Vec<_>>() {
            self.complete(tag, Err(Errno::TIME), None, false);
        }
        let mut armed = std::mem::take(&mut self.armed);
        sim::with(|sim| sim.rng().shuffle(&mut armed));
        armed.retain_mut(|armed| may_be_late && chance(10) || self.goes_on(armed));
        self.armed.append(&mut armed);
    }

    /// Does what an operation can do now; true if it goes on.
    fn goes_on(&mut self, armed: &mut Armed) -> bool {
        let ends = PollFlags::ERR | PollFlags::HUP | PollFlags::RDHUP;
        let (fd, wanted) = match armed.op {
            Op::Receive(fd) => return self.receive(armed, fd),
            Op::PollIn(fd) => (fd, PollFlags::IN),
            Op::PollOut(fd) => (fd, PollFlags::OUT),
            Op::Send(..) | Op::Cancel(_) | Op::Alarm(_) => unreachable!("over at once"),
        };
        // A reason may be gone when the wait is over.
        let gone = chance(1) && sim::with(|sim| sim.was_ready(fd));
        let there = ready(fd) & (wanted | ends);
        let over = gone || !there.is_empty();
        let outcome = match short(1, &[Errno::NOMEM]) {
            Err(error) => Err(error),
            Ok(()) if over => Ok(usize::from((if gone { wanted } else { there }).bits())),
            Ok(()) if armed.cancelled => Err(Errno::CANCELED),
            Ok(()) => return true,
        };
        self.complete(armed.tag, outcome, None, false);
        false
    }

    /// As the kernel: again and again until nothing is there.
    fn receive(&mut self, armed: &mut Armed, fd: RawFd) -> bool {
        // Kernel: our own reset wakes all who wait (net/ipv4/tcp.c, `tcp_disconnect`).
        armed.deaf &= !sim::with(|sim| sim.was_aborted(fd));
        // A cancel may come before what is there, or after it.
        if armed.cancelled && (armed.deaf || chance(50) || !ready(fd).contains(PollFlags::IN)) {
            self.complete(armed.tag, Err(Errno::CANCELED), None, false);
            return false;
        }
        if armed.deaf {
            return true;
        }
        loop {
            if !ready(fd).intersects(PollFlags::IN | PollFlags::ERR | PollFlags::HUP) {
                return true;
            }
            if let Err(error) = short(3, &RECEIVE) {
                self.complete(armed.tag, Err(error), None, false);
                return false;
            }
            let outcome = match self.buffers.next() {
                Some((number, memory)) => sim::with(|sim| sim.receive(fd, memory, false))
                    .map(|count| (count, (count > 0).then_some(number))),
                None => Err(Errno::NOBUFS),
            };
            match outcome {
                Ok((count, Some(buffer))) => {
                    self.buffers.is_taken();
                    // Kernel: one whose completion overflows ends with it.
                    let more = !chance(3);
                    self.complete(armed.tag, Ok(count), Some(buffer), more);
                    if !more {
                        return false;
                    }
                    if ready(fd).contains(PollFlags::ERR) && chance(20) {
                        armed.deaf = true;
                        return true;
                    }
                }
                Err(Errno::AGAIN) => return true,
                ended => {
                    self.complete(armed.tag, ended.map(|_| 0), None, false);
                    return false;
                }
            }
        }
    }

    /// Now and then the queue is too small, and the rest has to wait.
    fn reap(&mut self, into: &mut Vec<Completion>) -> bool {
        let most = match chance(30) {
            true => sim::with(|sim| sim.rng().usize(1..4)),
            false => usize::MAX,
        };
        for done in self.done.drain(..most.min(self.done.len())) {
            self.promises.is_told(&done);
            into.push(done);
        }
        !self.done.is_empty()
    }
}

/// What is left on a thread when its work is over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Beside the bell's, and that of the watch over full sinks.
    pub(crate) slots: usize,
    /// Beside the main one, the bell's, and the watch's.
    pub(crate) tasks: usize,
    /// Beside the tick's.
    pub(crate) timers: usize,
    /// Buffers of the ring that the kernel does not have.
    pub(crate) ring_buffers: u16,
    /// Neither free nor in use.
    pub(crate) pipes: usize,
}

/// Runs a shard's tasks on this thread's simulation while `goes_on`, then drops them.
pub(crate) fn run(
    setup: Setup,
    main: impl Future<Output = ()> + 'static,
    mut goes_on: impl FnMut() -> bool,
) -> Left {
    let local = super::start(setup);
    local.tasks.spawn(Box::pin(main), false);
    while goes_on() {
        super::take_turn(&local);
    }
    let watch = usize::from(local.sinks.is_used());
    let left = Left {
        slots: local.engine.slots() - 1 - watch,
        tasks: local.tasks.count() - 2 - watch,
        timers: local.timers.count().saturating_sub(1),
        ring_buffers: local.engine.buffers_lent(),
        pipes: local.pipes.astray(),
    };
    local.tasks.clear();
    LOCAL.take();
    left
}

/// Lends a value for as long as the work takes, as if it were there for ever.
pub(crate) fn lend<T: 'static>(value: T, work: impl FnOnce(&'static T)) {
    let value = Box::into_raw(Box::new(value));
    // SAFETY: the box lives until the next line; that nobody keeps the reference longer is for
    // `work`, which has dropped the shard that has it. After a panic it stays for ever.
    work(unsafe { &*value });
    // SAFETY: made of a box above, and nobody has it any more.
    drop(unsafe { Box::from_raw(value) });
}

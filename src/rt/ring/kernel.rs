//! What the ring asks the kernel, and what comes back: the submission and completion queues.
//!
//! The one place that speaks the language of the `io-uring` crate.

use std::{
    collections::VecDeque,
    io,
    os::fd::RawFd,
    thread,
    time::{Duration, Instant},
};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::{event::PollFlags, io::Errno, net::SendFlags};

use super::buffers::Buffers;

/// Entries of the submission queue; a full queue is submitted early, so this bounds memory, not
/// connections.
const SUBMISSIONS: u32 = 256;

/// Entries of the completion queue: each connection may complete several operations in a turn. One
/// that overflows is kept by the kernel (`IORING_FEAT_NODROP`) until there is room.
const COMPLETIONS: u32 = 8192;

/// Operations that go in at once instead of at the end of the turn: the first ones of many need not
/// wait for the last, and what sends cost is part of the turn that made them.
pub(in crate::rt) const BATCH: usize = 64;

const ENTER_GETEVENTS: u32 = 1;

/// Else a shard that waits counts as one that waits for a disk, and an idle core as one that is
/// never idle: `top`, pressure figures and the frequency governor believe it (kernel 6.15).
const ENTER_NO_IOWAIT: u32 = 128;

/// After the kernel refused to wait, until it is asked again.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);

/// How often a refusal is logged.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The number of our one group of buffers.
const GROUP: u16 = 0;

/// What the kernel is asked to do. Only receives, polls and alarms outlive the call that they went
/// in with, so no bytes of ours are lent to the kernel across a wait.
#[derive(Clone, Copy, Debug)]
pub(in crate::rt) enum Op {
    /// Receive again and again, each time into a buffer of the shared ring.
    Receive(RawFd),
    /// Tell once when reading would not block.
    PollIn(RawFd),
    /// Tell once when writing would not block.
    PollOut(RawFd),
    /// Send what fits at once.
    Send(RawFd, *const u8, u32),
    /// End the operation that has this tag.
    Cancel(u64),
    /// Complete after a time.
    Alarm(Duration),
}

/// An operation came to something.
#[derive(Clone, Copy, Debug)]
pub(in crate::rt) struct Completion {
    /// What it was submitted with.
    pub(in crate::rt) tag: u64,
    /// A count or a negative error number.
    pub(in crate::rt) result: i32,
    /// The buffer that was filled.
    pub(in crate::rt) buffer: Option<u16>,
    /// True exactly when the operation goes on.
    pub(in crate::rt) more: bool,
}

fn poll(fd: RawFd, what: PollFlags) -> squeue::Entry {
    opcode::PollAdd::new(types::Fd(fd), u32::from(what.bits())).build()
}

/// The kernel does not wait for us, and nothing of ours can run before it does.
#[expect(clippy::disallowed_methods, reason = "the timers of this thread are the kernel's too")]
fn pause() {
    thread::sleep(REFUSED_PAUSE);
}

/// A ring of one thread.
pub(in crate::rt) struct Kernel {
    ring: IoUring,
    /// Read by the kernel when the alarm is submitted.
    alarm: Box<types::Timespec>,
    /// What found no place in the queue, oldest first.
    spilled: VecDeque<squeue::Entry>,
    enter_flags: u32,
    /// When a refusal was logged last.
    said: Option<Instant>,
}

/// A completion was lost.
#[derive(Debug)]
pub(in crate::rt) struct Lost;

/// With SINGLE_ISSUER and DEFER_TASKRUN the kernel does the work of a completion when we ask for
/// it, in one go, and never interrupts us (kernel 6.1).
fn build(submissions: u32, completions: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun().setup_cqsize(completions);
    builder.build(submissions)
}

impl Kernel {
    pub(in crate::rt) fn new(buffers: &Buffers) -> io::Result<Kernel> {
        let ring = build(SUBMISSIONS, COMPLETIONS)?;
        let (entries, count) = buffers.entries();
        // SAFETY: the entries outlive the ring: whoever has both drops them after it.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries as u64, count, GROUP, 0)?;
        }
        let kernel = Kernel::of(ring);
        // A profile of system calls may allow a ring and not its use.
        kernel.ring.submit()?;
        Ok(kernel)
    }

    fn of(ring: IoUring) -> Kernel {
        let no_iowait = if ring.params().is_feature_no_iowait() { ENTER_NO_IOWAIT } else { 0 };
        Kernel {
            ring,
            alarm: Box::default(),
            spilled: VecDeque::new(),
            enter_flags: ENTER_GETEVENTS | no_iowait,
            said: None,
        }
    }

    /// Queues an operation. The kernel sees it with the next [`Kernel::enter`], or when there are
    /// [`BATCH`] of them.
    pub(in crate::rt) fn push(&mut self, op: Op, tag: u64) {
        if let Op::Alarm(after) = op {
            *self.alarm = types::Timespec::from(after);
        }
        self.spilled.push_back(self.entry(op).user_data(tag));
        self.fill();
        if self.queued() >= BATCH {
            // What the kernel cannot take now, for want of memory, stays in the queue.
            let _ = self.ring.submit();
        }
    }

    /// Puts into the queue what there is room for.
    fn fill(&mut self) {
        while let Some(entry) = self.spilled.front() {
            // SAFETY: what the entry points to lives until the kernel has taken it: the bytes of a
            // send belong to its slot until it completes, the alarm to `self`.
            if unsafe { self.ring.submission().push(entry) }.is_err() {
                return;
            }
            self.spilled.pop_front();
        }
    }

    fn entry(&self, op: Op) -> squeue::Entry {
        match op {
            Op::Receive(fd) => opcode::RecvMulti::new(types::Fd(fd), GROUP).build(),
            Op::PollIn(fd) => poll(fd, PollFlags::IN),
            Op::PollOut(fd) => poll(fd, PollFlags::OUT),
            Op::Send(fd, bytes, len) => {
                let flags = (SendFlags::NOSIGNAL | SendFlags::DONTWAIT).bits();
                opcode::Send::new(types::Fd(fd), bytes, len).flags(flags as i32).build()
            }
            Op::Cancel(tag) => opcode::AsyncCancel::new(tag).build(),
            Op::Alarm(_) => opcode::Timeout::new(&*self.alarm).build(),
        }
    }

    /// Operations that the kernel has not seen yet.
    pub(in crate::rt) fn queued(&mut self) -> usize {
        self.ring.submission().len() + self.spilled.len()
    }

    /// Submits what is queued, and waits for a completion if `wait`.
    ///
    /// # Errors
    /// The kernel had no memory for a completion, now or before.
    pub(in crate::rt) fn enter(&mut self, wait: bool) -> Result<(), Lost> {
        self.fill();
        let queued = self.ring.submission().len() as u32;
        // SAFETY: no argument is passed, so there is nothing to be valid.
        let entered = unsafe {
            self.ring.submitter().enter::<u8>(queued, u32::from(wait), self.enter_flags, None)
        };
        let Err(error) = entered else { return Ok(()) };
        match Errno::from_io_error(&error) {
            // A signal, or completions to take first: the next turn submits what is left.
            Some(Errno::INTR | Errno::BUSY) => Ok(()),
            Some(Errno::BADR) => {
                self.say("the kernel had no memory for a completion: a connection may hang");
                Err(Lost)
            }
            _ => {
                self.say(&format!("io_uring_enter: {error}: tried again each millisecond"));
                if wait {
                    pause();
                }
                Ok(())
            }
        }
    }

    fn say(&mut self, sentence: &str) {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::error!("{sentence}");
        }
    }

    /// Takes all completions; true if some had to wait for room in the queue.
    pub(in crate::rt) fn reap(&mut self, into: &mut Vec<Completion>) -> bool {
        let overflown = self.ring.submission().cq_overflow();
        into.extend(self.ring.completion().map(|entry| Completion {
            tag: entry.user_data(),
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more: cqueue::more(entry.flags()),
        }));
        overflown
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn completions_beyond_the_queue_are_told_and_come_later() {
        const ASKED: u64 = 200;
        let ring = match build(64, 64) {
            Ok(ring) => ring,
            Err(refusal) => {
                assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "NOT TESTED: {refusal}");
                return eprintln!("NOT TESTED with io_uring: {refusal}");
            }
        };
        let mut kernel = Kernel::of(ring);
        let ready = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        for tag in 0..ASKED {
            kernel.push(Op::PollOut(ready.as_raw_fd()), tag);
        }
        let (mut done, mut overflown) = (Vec::new(), false);
        while done.len() < ASKED as usize {
            kernel.enter(true).unwrap();
            overflown |= kernel.reap(&mut done);
        }
        assert!(overflown, "nothing had to wait");
        let mut tags: Vec<u64> = done.iter().map(|completion| completion.tag).collect();
        tags.sort_unstable();
        assert_eq!(tags, (0..ASKED).collect::<Vec<_>>());
    }
}

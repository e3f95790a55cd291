//! An epoll instance whose kernel is simulated: it tells of a socket when that has changed, and no
//! more often than the real one promises; sometimes later than it could, and not all at once.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Instant,
};

use rustix::event::{PollFlags, epoll::EventFlags};

use super::{
    super::ready::kernel::{Kernel as Host, Told, WANTED},
    chance, ready,
};
use crate::sim::{self, Mark};

/// The kernel of an engine under test.
pub(in crate::rt) enum Kernel {
    /// The real one.
    Host(Host),
    Simulated(Watch),
}

impl Kernel {
    pub(in crate::rt) fn new() -> io::Result<Kernel> {
        match sim::is_on() {
            true => Ok(Kernel::Simulated(Watch::new())),
            false => Host::new().map(Kernel::Host),
        }
    }

    pub(in crate::rt) fn add(&mut self, fd: impl AsFd, tag: u64) -> io::Result<()> {
        match self {
            Kernel::Host(host) => host.add(fd, tag),
            Kernel::Simulated(watch) => watch.add(fd.as_fd().as_raw_fd(), tag),
        }
    }

    pub(in crate::rt) fn wait(&mut self, wait: bool, next: Option<Instant>, into: &mut Vec<Told>) {
        match self {
            Kernel::Host(host) => host.wait(wait, next, into),
            Kernel::Simulated(watch) => watch.wait(wait, next, into),
        }
    }
}

/// A descriptor that is watched.
struct Watched {
    fd: RawFd,
    tag: u64,
    /// How it was when it changed last; `None` of a bell, which is real.
    mark: Option<Mark>,
    /// True exactly when that has not been told yet.
    due: bool,
}

/// A simulated epoll instance.
pub(in crate::rt) struct Watch {
    all: Vec<Watched>,
    /// Now and then it tells of a socket that has not changed. Not in each world: that would hide
    /// for how long nobody else has told of it.
    repeats: bool,
}

impl Watch {
    fn new() -> Watch {
        Watch { all: Vec::new(), repeats: sim::with(|sim| sim.rng().u8(..4) == 0) }
    }

    fn add(&mut self, fd: RawFd, tag: u64) -> io::Result<()> {
        if sim::with(|sim| sim.id(fd)).is_some() && chance(2) {
            return Err(rustix::io::Errno::NOSPC.into());
        }
        // Whoever had that number is closed, which the kernel would know.
        self.all.retain(|watched| watched.fd != fd);
        let mark = sim::with(|sim| sim.mark(fd));
        self.all.push(Watched { fd, tag, mark, due: mark.is_some() });
        Ok(())
    }

    fn wait(&mut self, wait: bool, next: Option<Instant>, into: &mut Vec<Told>) {
        sim::with(sim::Sim::turn);
        // The kernel forgets those that are closed.
        self.all.retain(|watched| {
            watched.mark.is_none() || sim::with(|sim| sim.mark(watched.fd)).is_some()
        });
        // What is ready may be seen late, unless nothing else is; and a signal ends a wait.
        self.notice(true, into);
        while wait && into.is_empty() && !chance(3) {
            self.notice(false, into);
            let over = next.is_some_and(|next| next <= crate::rt::now());
            if over || !into.is_empty() {
                return;
            }
            sim::with(|sim| sim.sleep(next));
        }
    }

    /// Looks at everything that is watched, in any order.
    fn notice(&mut self, may_be_late: bool, into: &mut Vec<Told>) {
        sim::with(|sim| sim.rng().shuffle(&mut self.all));
        let most = match chance(30) {
            true => sim::with(|sim| sim.rng().usize(1..4)),
            false => usize::MAX,
        };
        for watched in &mut self.all {
            let mark = sim::with(|sim| sim.mark(watched.fd));
            let is_rung = mark.is_none() && ready(watched.fd).contains(PollFlags::IN);
            let is_told = mark.is_some() && (mark != watched.mark || self.repeats && chance(1));
            watched.due |= is_rung || is_told;
            watched.mark = mark;
            if watched.due && into.len() < most && !(may_be_late && chance(10)) {
                watched.due = false;
                let wanted = WANTED | EventFlags::ERR | EventFlags::HUP;
                let bits = u32::from(ready(watched.fd).bits());
                let events = EventFlags::from_bits_truncate(bits) & wanted;
                if !events.is_empty() {
                    into.push(Told { tag: watched.tag, events });
                }
            }
        }
    }
}

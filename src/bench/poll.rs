//! Waiting for sockets and for the next operation that is due, to the microsecond.
//!
//! This room refuses to know what the tokens mean.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{
        Timespec,
        epoll::{self, Event, EventData, EventFlags},
    },
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags},
};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// The token of the pacing timer.
pub const TIMER: u64 = u64::MAX;

/// Room for the events of one turn.
pub type Events = [Event; EVENTS_MAX];

/// No events yet.
pub const NO_EVENTS: Events =
    [Event { flags: EventFlags::empty(), data: EventData::new_u64(TIMER) }; EVENTS_MAX];

/// An epoll and a timer in it; a timeout of epoll itself has steps of a millisecond.
pub struct Poll {
    /// Where sockets are added.
    pub epoll: OwnedFd,
    timer: OwnedFd,
}

impl Poll {
    /// With the timer in it, unarmed.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let wake = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), wake)?;
        Ok(Self { epoll, timer })
    }

    /// What happened, at the latest after `timeout`.
    pub fn wait<'e>(&self, events: &'e mut Events, timeout: Duration) -> &'e [Event] {
        let timeout = timespec(nanos(timeout));
        let count = epoll::wait(&self.epoll, &mut events[..], Some(&timeout)).unwrap_or(0);
        &events[..count]
    }

    /// Wakes the next wait after `in_ns`.
    pub fn arm(&self, in_ns: u64) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let when = Itimerspec { it_interval: zero, it_value: timespec(in_ns.max(1)) };
        // It fails for wrong arguments only; the timeout of the wait would then be our pace.
        let _ = rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &when);
    }
}

/// A duration as our rooms count it.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

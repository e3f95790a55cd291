//! What the engine asks of epoll.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

/// Events taken at once; what is left comes with the next turn. With more of them the first slots
/// and tasks have left the cache by the time their turn comes: 512 cost 2 % with 1,000 connections.
const EVENTS: usize = 128;

/// What is told of a socket, each time it changes. Kernel: errors and hang-ups are told anyway.
pub(in crate::rt) const WANTED: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

/// What the kernel says of a socket.
#[derive(Clone, Copy, Debug)]
pub(in crate::rt) struct Told {
    /// What it was added with.
    pub(in crate::rt) tag: u64,
    pub(in crate::rt) events: EventFlags,
}

/// An epoll instance.
pub(in crate::rt) struct Kernel {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Kernel {
    pub(in crate::rt) fn new() -> io::Result<Kernel> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Kernel { epoll, events: Vec::with_capacity(EVENTS) })
    }

    /// From now on tells of a descriptor, first of what is so already.
    ///
    /// # Errors
    /// No memory is left, or the user's `max_user_watches`.
    pub(in crate::rt) fn add(&mut self, fd: impl AsFd, tag: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(tag), WANTED)?)
    }

    /// Takes what has happened; waits for something until `next` if `wait`, to the millisecond.
    pub(in crate::rt) fn wait(&mut self, wait: bool, next: Option<Instant>, into: &mut Vec<Told>) {
        let timeout = match wait {
            false => Some(Duration::ZERO),
            true => next.map(|next| next.saturating_duration_since(crate::rt::now())),
        };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        });
        self.events.clear();
        let room = rustix::buffer::spare_capacity(&mut self.events);
        // A signal: nothing has happened.
        let _ = epoll::wait(&self.epoll, room, timeout.as_ref());
        let told = |event: &Event| Told { tag: event.data.u64(), events: event.flags };
        into.extend(self.events.iter().map(told));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    fn told(kernel: &mut Kernel) -> EventFlags {
        let mut into = Vec::new();
        kernel.wait(false, None, &mut into);
        into.iter().fold(EventFlags::empty(), |all, told| all | told.events)
    }

    /// The promises that the engine stands on.
    #[test]
    fn each_change_is_told_once_with_all_that_is_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut kernel = Kernel::new().unwrap();
        kernel.add(&near, 7).unwrap();
        assert_eq!(told(&mut kernel), EventFlags::OUT, "what is so when it is added");
        assert_eq!(told(&mut kernel), EventFlags::empty(), "once");
        far.write_all(b"one").unwrap();
        assert_eq!(told(&mut kernel), EventFlags::IN | EventFlags::OUT);
        assert_eq!(told(&mut kernel), EventFlags::empty(), "once, read or not");
        far.write_all(b"two").unwrap();
        assert_eq!(told(&mut kernel), EventFlags::IN | EventFlags::OUT, "more is told again");
        near.read_exact(&mut [0; 6]).unwrap();
        drop(far);
        assert!(told(&mut kernel).contains(EventFlags::IN | EventFlags::RDHUP), "the end");
    }
}

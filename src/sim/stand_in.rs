//! Real descriptors in the place of simulated ones: one end of a pair, whose other end is ours and
//! tells when the given one is closed.
//!
//! What is given can be watched by a real epoll instance, as `rt/sink.rs` does: it takes bytes
//! exactly when the simulated socket does, because we fill and empty it.

use std::{
    collections::HashMap,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    net::{
        AddressFamily, SocketFlags, SocketType, socketpair, sockopt::set_socket_send_buffer_size,
    },
};

/// Enough for a queue of the smallest size to be full, which takes two of these.
const FILL: [u8; 2048] = [0; 2048];

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Listener,
    Link(u32),
    /// The end that is written to, and the one that is read.
    PipeIn(u32),
    PipeOut(u32),
}

struct StandIn {
    kept: OwnedFd,
    given: RawFd,
    name: Name,
    /// True exactly while it takes no bytes.
    full: bool,
}

/// All that were given and not closed.
pub struct StandIns {
    watch: OwnedFd,
    all: HashMap<RawFd, StandIn>,
    /// By the number of their end that is ours, which the watch tells.
    given: HashMap<RawFd, RawFd>,
    full: Vec<RawFd>,
}

impl StandIns {
    pub fn new() -> StandIns {
        StandIns {
            watch: epoll::create(CreateFlags::CLOEXEC).unwrap(),
            all: HashMap::new(),
            given: HashMap::new(),
            full: Vec::new(),
        }
    }

    /// A descriptor with that meaning.
    pub fn stand_for(&mut self, name: Name) -> OwnedFd {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (given, kept) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        set_socket_send_buffer_size(&given, 0).unwrap();
        let data = EventData::new_u64(kept.as_raw_fd() as u64);
        epoll::add(&self.watch, &kept, data, EventFlags::RDHUP).unwrap();
        self.given.insert(kept.as_raw_fd(), given.as_raw_fd());
        let stand_in = StandIn { kept, given: given.as_raw_fd(), name, full: false };
        let before = self.all.insert(given.as_raw_fd(), stand_in);
        assert!(before.is_none(), "a descriptor was closed and nobody noticed");
        given
    }

    pub fn name(&self, fd: RawFd) -> Option<Name> {
        self.all.get(&fd).map(|stand_in| stand_in.name)
    }

    /// Those that were closed since the last look, oldest name first.
    pub fn closed(&mut self) -> Vec<Name> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events: Vec<Event> = Vec::with_capacity(64);
        let mut names = Vec::new();
        loop {
            events.clear();
            let buffer = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&self.watch, buffer, Some(&now)).unwrap();
            if events.is_empty() {
                return names;
            }
            for event in &events {
                let given = self.given.remove(&(event.data.u64() as RawFd)).unwrap();
                names.extend(self.all.remove(&given).map(|closed| closed.name));
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// It takes no more bytes.
    pub fn fill(&mut self, given: BorrowedFd<'_>) {
        let Some(stand_in) = self.all.get_mut(&given.as_raw_fd()) else { return };
        if !std::mem::replace(&mut stand_in.full, true) {
            while rustix::io::write(given, &FILL).is_ok() {}
            self.full.push(stand_in.given);
        }
    }

    /// Those that `has_room` take bytes again.
    pub fn free(&mut self, has_room: impl Fn(u32) -> bool) {
        let all = &mut self.all;
        self.full.retain(|given| {
            let Some(stand_in) = all.get_mut(given) else { return false };
            let Name::Link(id) = stand_in.name else { return false };
            if !has_room(id) {
                return true;
            }
            stand_in.full = false;
            let mut buffer = FILL;
            while rustix::io::read(&stand_in.kept, &mut buffer).is_ok_and(|n| n > 0) {}
            false
        });
    }
}

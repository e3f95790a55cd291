//! Pipes for `splice(2)`, lent to a direction only while it moves bulk.

use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Meters, Socket, with_local};
use crate::sock;

/// After the kernel refused a pipe, how long until the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A shard's pipes: opened on demand, kept while empty, at most `max`.
pub(super) struct Pipes {
    meters: &'static Meters,
    max: u32,
    size: usize,
    free: RefCell<Vec<Ends>>,
    refused: RefCell<Option<Instant>>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipes {
    pub(super) fn new(meters: &'static Meters, max: u32, size: usize) -> Self {
        Pipes { meters, max, size, free: RefCell::default(), refused: RefCell::default() }
    }

    /// A pipe, unless the bound or the kernel says no. An unprivileged user's pipe pages are
    /// limited over all processes, so the kernel may refuse what our own arithmetic allows.
    fn open(&self) -> Option<Ends> {
        let recently = self.refused.borrow().is_some_and(|at| super::now() - at < RETRY_AFTER);
        if self.meters.pipes_open.get() >= self.max || recently {
            return None;
        }
        match sock::pipe(self.size) {
            Ok((read, write)) => {
                self.meters.pipes_open.up();
                Some(Ends { read, write })
            }
            Err(_) => {
                self.refused.replace(Some(super::now()));
                None
            }
        }
    }
}

/// A pipe on loan. Dropped empty, it goes back; dropped with bytes in it, it is closed, because it
/// would leak one client's bytes to another.
pub struct Pipe {
    home: Rc<super::Local>,
    /// `None` exactly while being dropped.
    ends: Option<Ends>,
    /// Our own count: `EAGAIN` from a socket means that it is empty *or* that the pipe is full.
    held: usize,
}

/// Lends a pipe, or says that none is left.
pub fn take_pipe() -> Option<Pipe> {
    let home = with_local(Rc::clone);
    let pool = &home.pipes;
    let free = pool.free.borrow_mut().pop();
    let Some(ends) = free.or_else(|| pool.open()) else {
        pool.meters.pipes_dry.add(1);
        return None;
    };
    pool.meters.pipes_in_use.up();
    Some(Pipe { home, ends: Some(ends), held: 0 })
}

impl Pipe {
    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("held until dropped")
    }

    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Fills the empty pipe from `source`; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when the source is empty, else the peer's reset.
    pub fn splice_in(&mut self, source: &Socket) -> io::Result<usize> {
        assert_eq!(self.held, 0, "a pipe is drained before it is refilled");
        self.held = sock::splice(source, &self.ends().write, self.home.pipes.size)?;
        Ok(self.held)
    }

    /// Empties the pipe into `sink` as far as it takes it.
    ///
    /// # Errors
    /// `WouldBlock` when the sink is full, else the peer's reset.
    pub fn splice_out(&mut self, sink: &Socket) -> io::Result<usize> {
        let moved = sock::splice(&self.ends().read, sink, self.held)?;
        self.held -= moved;
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let pool = &self.home.pipes;
        pool.meters.pipes_in_use.down();
        #[cfg(test)]
        if crate::sim::planted(crate::sim::Bug::PipeWithResidue) {
            self.held = 0;
        }
        if self.held == 0 {
            pool.free.borrow_mut().extend(self.ends.take());
        } else {
            pool.meters.pipes_open.down();
        }
    }
}

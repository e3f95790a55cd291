//! Pipes for `splice(2)`, lent to a direction only while it moves bulk.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Meters, Socket, with_local};
use crate::sock;

/// After the kernel refused a pipe, how long until the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a pipe that carries bulk grows to. With eight streams a GB costs two thirds of the CPU time
/// that it costs with pipes of 256 KiB; it is the most that the kernel lets plain users have.
const GROWN_SIZE: usize = 1 << 20;

/// One pipe of so many may grow. With pipes of 256 KiB a shard's then take 7/4 of what they took:
/// of the half of the user's pages that [`crate::limits`] plans with, 7/8 of all.
const PIPES_PER_GROWN: u32 = 4;

/// A shard's pipes: opened on demand, kept while empty, at most `max`.
pub(super) struct Pipes {
    meters: &'static Meters,
    max: u32,
    /// As they are opened.
    size: usize,
    free: RefCell<Vec<Ends>>,
    /// Lent before the others.
    free_grown: RefCell<Vec<Ends>>,
    /// Grown ones, lent or free.
    grown: Cell<u32>,
    refused: Cell<Option<Instant>>,
    growth_refused: Cell<Option<Instant>>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes it was asked to hold at least.
    size: usize,
}

/// Whether the kernel refused something so recently that asking again is in vain.
fn is_recent(refused: &Cell<Option<Instant>>) -> bool {
    refused.get().is_some_and(|at| super::now() - at < RETRY_AFTER)
}

impl Pipes {
    pub(super) fn new(meters: &'static Meters, max: u32, size: usize) -> Self {
        Pipes {
            meters,
            max,
            size,
            free: RefCell::default(),
            free_grown: RefCell::default(),
            grown: Cell::default(),
            refused: Cell::default(),
            growth_refused: Cell::default(),
        }
    }

    fn lend(&self) -> Option<Ends> {
        let free = self.free_grown.borrow_mut().pop();
        free.or_else(|| self.free.borrow_mut().pop()).or_else(|| self.open())
    }

    /// A pipe, unless the bound or the kernel says no. An unprivileged user's pipe pages are
    /// limited over all processes, so the kernel may refuse what our own arithmetic allows.
    fn open(&self) -> Option<Ends> {
        if self.meters.pipes_open.get() >= self.max || is_recent(&self.refused) {
            return None;
        }
        match sock::pipe(self.size) {
            Ok((read, write)) => {
                self.meters.pipes_open.up();
                Some(Ends { read, write, size: self.size })
            }
            Err(_) => {
                self.refused.set(Some(super::now()));
                None
            }
        }
    }

    /// Takes an empty pipe back; one that carried bulk may come back larger.
    fn keep(&self, mut ends: Ends, bulk: bool) {
        if bulk {
            self.grow(&mut ends);
        }
        let list = if self.is_grown(&ends) { &self.free_grown } else { &self.free };
        list.borrow_mut().push(ends);
    }

    /// Closes a pipe that still holds something.
    fn forget(&self, ends: &Ends) {
        self.meters.pipes_open.down();
        if self.is_grown(ends) {
            self.grown.update(|grown| grown - 1);
        }
    }

    fn is_grown(&self, ends: &Ends) -> bool {
        ends.size > self.size
    }

    fn grow(&self, ends: &mut Ends) {
        let may = ends.size < GROWN_SIZE && self.grown.get() < self.max / PIPES_PER_GROWN;
        if !may || is_recent(&self.growth_refused) {
            return;
        }
        match sock::resize_pipe(&ends.write, GROWN_SIZE) {
            Ok(()) => {
                ends.size = GROWN_SIZE;
                self.grown.update(|grown| grown + 1);
            }
            Err(_) => self.growth_refused.set(Some(super::now())),
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
    /// True exactly when it was filled at once with a quarter of its size. A pipe has places for
    /// pages, not for bytes: of a network's small packets it may hold no more than that.
    bulk: bool,
}

/// Lends a pipe, or says that none is left.
pub fn take_pipe() -> Option<Pipe> {
    let home = with_local(Rc::clone);
    let pool = &home.pipes;
    let Some(ends) = pool.lend() else {
        pool.meters.pipes_dry.add(1);
        return None;
    };
    pool.meters.pipes_in_use.up();
    Some(Pipe { home, ends: Some(ends), held: 0, bulk: false })
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
        let Ends { write, size, .. } = self.ends();
        let moved = sock::splice(source, write, *size)?;
        self.bulk |= moved >= size / 4;
        self.held = moved;
        Ok(moved)
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
        match self.ends.take() {
            Some(ends) if self.held == 0 => pool.keep(ends, self.bulk),
            Some(ends) => pool.forget(&ends),
            None => {}
        }
    }
}

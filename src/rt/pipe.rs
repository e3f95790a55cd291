//! Pipes for `splice(2)`, lent to a direction only while it moves bulk.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use super::{Socket, with_local};
use crate::{
    meters::Meters,
    planted::{self, Bug},
    sock,
};

/// After the kernel refused a pipe, how long until the next try.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most that `fs.pipe-max-size`, as it comes, lets users without privileges have.
const GROWN_MAX: usize = 1 << 20;

/// What a pipe of `size` bytes grows to when it carries bulk: four times as much, at most 1 MiB.
pub fn grown_pipe(size: usize) -> usize {
    (4 * size).min(GROWN_MAX).max(size)
}

/// How many pipes a shard may have, and how large.
#[derive(Clone, Copy, Debug)]
pub struct PipeBounds {
    /// Open at once.
    pub max: u32,
    /// Of these, how many may grow to [`grown_pipe`].
    pub grown_max: u32,
    /// Bytes of each as it is opened.
    pub size: usize,
    /// Bytes of all of them together.
    pub bytes_max: u64,
}

impl PipeBounds {
    fn size_of(&self, grown: bool) -> usize {
        if grown { grown_pipe(self.size) } else { self.size }
    }

    /// Whether so many pipes, some of them grown, are within the bounds.
    fn allow(&self, open: u32, grown: u32) -> bool {
        let small = u64::from(open - grown) * self.size_of(false) as u64;
        let large = u64::from(grown) * self.size_of(true) as u64;
        open <= self.max && grown <= self.grown_max && small + large <= self.bytes_max
    }
}

/// A shard's pipes: opened on demand, kept while empty.
pub(super) struct Pipes {
    meters: &'static Meters,
    bounds: PipeBounds,
    free: RefCell<Vec<Ends>>,
    /// Lent before the others.
    free_grown: RefCell<Vec<Ends>>,
    refused: Cell<Option<Instant>>,
    growth_refused: Cell<Option<Instant>>,
}

struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// Whether the kernel refused something so recently that asking again is in vain.
fn is_recent(refused: &Cell<Option<Instant>>) -> bool {
    refused.get().is_some_and(|at| super::now() - at < RETRY_AFTER)
}

impl Pipes {
    pub(super) fn new(meters: &'static Meters, bounds: PipeBounds) -> Self {
        Pipes {
            meters,
            bounds,
            free: RefCell::default(),
            free_grown: RefCell::default(),
            refused: Cell::default(),
            growth_refused: Cell::default(),
        }
    }

    /// The ends of a free pipe, and whether it has grown.
    fn lend(&self) -> Option<(Ends, bool)> {
        if let Some(ends) = self.free_grown.borrow_mut().pop() {
            return Some((ends, true));
        }
        let free = self.free.borrow_mut().pop();
        free.or_else(|| self.open()).map(|ends| (ends, false))
    }

    /// A pipe, unless the bound or the kernel says no. An unprivileged user's pipe pages are
    /// limited over all processes, so the kernel may refuse what our own arithmetic allows.
    fn open(&self) -> Option<Ends> {
        let one_more = self.meters.pipes_open.get() + 1;
        let allowed = self.bounds.allow(one_more, self.meters.pipes_grown.get());
        if !allowed || is_recent(&self.refused) {
            return None;
        }
        match sock::pipe(self.bounds.size) {
            Ok((read, write)) => {
                self.meters.pipes_open.up();
                Some(Ends { read, write })
            }
            Err(_) => {
                self.refused.set(Some(super::now()));
                None
            }
        }
    }

    /// Takes an empty pipe back; one that carried bulk may come back larger.
    fn keep(&self, ends: Ends, grown: bool, bulk: bool) {
        let grown = grown || (bulk && self.grow(&ends));
        let list = if grown { &self.free_grown } else { &self.free };
        list.borrow_mut().push(ends);
    }

    /// Closes a pipe that still holds something.
    fn forget(&self, grown: bool) {
        self.meters.pipes_open.down();
        if grown {
            self.meters.pipes_grown.down();
        }
    }

    /// Pipes that are neither free nor in use, or are counted wrongly.
    #[cfg(test)]
    pub(super) fn astray(&self) -> usize {
        let (free, grown) = (self.free.borrow().len(), self.free_grown.borrow().len());
        let open = self.meters.pipes_open.get() - self.meters.pipes_in_use.get();
        (open as usize).abs_diff(free + grown)
            + (self.meters.pipes_grown.get() as usize).abs_diff(grown)
    }

    /// Whether a pipe may be larger now.
    fn grow(&self, ends: &Ends) -> bool {
        let one_more = self.meters.pipes_grown.get() + 1;
        let allowed = self.bounds.allow(self.meters.pipes_open.get(), one_more);
        if !allowed || is_recent(&self.growth_refused) {
            return false;
        }
        let grown = sock::resize_pipe(&ends.write, self.bounds.size_of(true)).is_ok();
        match grown {
            true => self.meters.pipes_grown.up(),
            false => self.growth_refused.set(Some(super::now())),
        }
        grown
    }
}

/// A pipe on loan. Dropped empty, it goes back; dropped with bytes in it, it is closed, because it
/// would leak one client's bytes to another.
pub struct Pipe {
    home: Rc<super::Local>,
    /// `None` exactly while being dropped.
    ends: Option<Ends>,
    /// Our own count: `EAGAIN` from a socket means that it is empty *or* that the pipe is full.
    held: u32,
    /// True exactly when it has grown.
    grown: bool,
    /// True exactly when it was filled at once with a quarter of its size. A pipe has places for
    /// pages, not for bytes: of a network's small packets it may hold no more than that.
    bulk: bool,
}

// An idle connection has room for one in each direction, whether it is there or not.
const _: () = assert!(size_of::<Pipe>() <= 24);

/// Lends a pipe, or says that none is left.
pub fn take_pipe() -> Option<Pipe> {
    with_local(|home| {
        let pool = &home.pipes;
        let Some((ends, grown)) = pool.lend() else {
            pool.meters.pipes_dry.add(1);
            return None;
        };
        pool.meters.pipes_in_use.up();
        Some(Pipe { home: Rc::clone(home), ends: Some(ends), held: 0, grown, bulk: false })
    })
}

impl Pipe {
    fn ends(&self) -> &Ends {
        self.ends.as_ref().expect("held until dropped")
    }

    /// Bytes in the pipe.
    pub fn held(&self) -> usize {
        self.held as usize
    }

    /// Fills the empty pipe from `source`; 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` when the source is empty, else the peer's reset.
    pub fn splice_in(&mut self, source: &Socket) -> io::Result<usize> {
        assert_eq!(self.held, 0, "a pipe is drained before it is refilled");
        let size = self.home.pipes.bounds.size_of(self.grown);
        if !source.may_read() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let spliced = sock::splice(source, &self.ends().write, size);
        // The pipe is empty, so it is the source that has nothing to splice.
        if spliced.as_ref().is_err_and(sock::would_block) {
            source.has_nothing_to_splice();
        }
        let moved = spliced?;
        self.bulk |= moved >= size / 4;
        self.held = moved as u32;
        Ok(moved)
    }

    /// Empties the pipe into `sink` as far as it takes it.
    ///
    /// # Errors
    /// `WouldBlock` when the sink is full, else the peer's reset.
    pub fn splice_out(&mut self, sink: &Socket) -> io::Result<usize> {
        if !sink.may_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let spliced = sock::splice(&self.ends().read, sink, self.held());
        // The pipe is not empty, so it is the sink that has no room.
        if spliced.as_ref().is_err_and(sock::would_block) {
            sink.is_full();
        }
        let moved = spliced?;
        self.held -= moved as u32;
        Ok(moved)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if planted::has(Bug::PipeWithResidue) {
            self.held = 0;
        }
        let ends = self.ends.take();
        super::whole(|| {
            let pool = &self.home.pipes;
            pool.meters.pipes_in_use.down();
            match ends {
                Some(ends) if self.held == 0 => pool.keep(ends, self.grown, self.bulk),
                Some(_) => pool.forget(self.grown),
                None => {}
            }
        });
    }
}

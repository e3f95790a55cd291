//! Tasks of a shard: a table, a queue of those that are ready, and wakers that count nothing.
//!
//! A turn runs what was ready when it began; what is woken meanwhile runs in the next one, after a
//! look at the kernel. So no task can keep the others, or the timers, from their turn.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    task::{Context, Poll, RawWaker, RawWakerVTable, Waker},
};

use slab::Slab;

use super::panics;
use crate::meters::Panics;

/// Tasks that run before the kernel and the timers are looked at again.
const RUNS_PER_TURN: usize = 256;

/// What a task runs.
type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Which task, and its birth: a waker of an earlier task in the same place wakes nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    place: u32,
    birth: NonZeroU32,
}

impl Id {
    /// The task that is being polled; only [`Tasks`] polls what asks.
    pub(super) fn of(cx: &Context<'_>) -> Id {
        let is_ours = std::ptr::eq(cx.waker().vtable(), &raw const TABLE);
        assert!(is_ours, "a wait is polled with its task's own waker, which nothing may wrap");
        unpack(cx.waker().data())
    }

    /// Whether that task has ended.
    pub(super) fn is_gone(self) -> bool {
        super::with_local(|local| local.tasks.is_gone(self))
    }

    /// Puts it into the queue of its thread.
    pub(super) fn wake(self) {
        super::try_with_local(|local| local.tasks.wake(self));
    }
}

struct Task {
    birth: NonZeroU32,
    /// True exactly when a panic ends it alone.
    apart: bool,
    /// True exactly while it is in the queue.
    queued: bool,
    /// `None` exactly while it runs.
    work: Option<Work>,
    /// Who waits for its end.
    joiner: Option<Id>,
}

/// The tasks of one thread.
#[derive(Default)]
pub(super) struct Tasks {
    table: RefCell<Slab<Task>>,
    ready: RefCell<VecDeque<Id>>,
    births: Cell<u32>,
}

impl Tasks {
    /// Takes a task in; it runs in the next turn. `apart`: a panic ends it alone.
    pub(super) fn spawn(&self, work: Work, apart: bool) -> Id {
        let births = self.births.get();
        self.births.set(births.wrapping_add(1));
        let birth = NonZeroU32::MIN.saturating_add(births);
        let task = Task { birth, apart, queued: true, work: Some(work), joiner: None };
        let place = self.table.borrow_mut().insert(task) as u32;
        let id = Id { place, birth };
        self.ready.borrow_mut().push_back(id);
        id
    }

    /// Puts a task into the queue, unless it is there or gone.
    pub(super) fn wake(&self, id: Id) {
        let was_queued = self.find(id, |task| std::mem::replace(&mut task.queued, true));
        if was_queued == Some(false) {
            self.ready.borrow_mut().push_back(id);
        }
    }

    /// Looks at a task, if it is still there.
    fn find<T>(&self, id: Id, look: impl FnOnce(&mut Task) -> T) -> Option<T> {
        let mut table = self.table.borrow_mut();
        table.get_mut(id.place as usize).filter(|task| task.birth == id.birth).map(look)
    }

    /// Whether nobody is ready.
    pub(super) fn is_dry(&self) -> bool {
        self.ready.borrow().is_empty()
    }

    /// Runs those that are ready now, once each; of very many some.
    pub(super) fn run_ready(&self, panics: &'static Panics) {
        let due = self.ready.borrow().len().min(RUNS_PER_TURN);
        for _ in 0..due {
            let next = self.ready.borrow_mut().pop_front();
            if let Some(id) = next {
                self.run(id, panics);
            }
        }
    }

    fn run(&self, id: Id, panics: &'static Panics) {
        let taken = self.find(id, |task| {
            task.queued = false;
            Some((task.work.take()?, task.apart))
        });
        let Some((mut work, apart)) = taken.flatten() else { return };
        let waker = waker(id);
        let mut is_over = false;
        let mut poll = || is_over = work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let has_panicked = match apart {
            true => panics::ends_alone(panics, poll),
            false => {
                poll();
                false
            }
        };
        if !is_over && !has_panicked {
            self.table.borrow_mut()[id.place as usize].work = Some(work);
            return;
        }
        let task = self.table.borrow_mut().remove(id.place as usize);
        // What it held may wake others as it goes.
        drop(work);
        task.joiner.into_iter().for_each(|joiner| self.wake(joiner));
    }

    /// Whether a task has ended; if not, `cx` is woken when it does.
    pub(super) fn poll_end(&self, id: Id, cx: &mut Context<'_>) -> Poll<()> {
        match self.find(id, |task| task.joiner = Some(Id::of(cx))) {
            Some(()) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.table.borrow().len()
    }

    /// Ends all of them.
    #[cfg(test)]
    pub(super) fn clear(&self) {
        let all = self.table.take();
        drop(all);
    }

    /// Whether a task has ended.
    pub(super) fn is_gone(&self, id: Id) -> bool {
        self.find(id, |_| ()).is_none()
    }
}

/// A waker is the task's name in one word: nothing to count, nothing to free.
fn waker(id: Id) -> Waker {
    // SAFETY: no function of the table follows the pointer, which is a number in disguise, so the
    // contract of RawWaker holds on every thread; elsewhere a wake finds no task and does nothing.
    unsafe { Waker::from_raw(raw(pack(id))) }
}

const _: () = assert!(size_of::<usize>() == 8, "a task's name takes a word of 64 bits");

fn pack(id: Id) -> *const () {
    std::ptr::without_provenance((id.birth.get() as usize) << 32 | id.place as usize)
}

fn unpack(word: *const ()) -> Id {
    let word = word.addr();
    let birth = NonZeroU32::new((word >> 32) as u32).unwrap_or(NonZeroU32::MAX);
    Id { place: word as u32, birth }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(raw, wake, wake, |_| {});

fn raw(word: *const ()) -> RawWaker {
    RawWaker::new(word, &TABLE)
}

fn wake(word: *const ()) {
    unpack(word).wake();
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, rc::Rc};

    use super::*;

    fn run_ready(tasks: &Tasks) {
        tasks.run_ready(Box::leak(Box::default()));
    }

    fn count_to(most: u32, runs: &Rc<Cell<u32>>) -> Work {
        let runs = Rc::clone(runs);
        Box::pin(poll_fn(move |_| {
            runs.set(runs.get() + 1);
            if runs.get() >= most { Poll::Ready(()) } else { Poll::Pending }
        }))
    }

    #[test]
    fn a_task_runs_once_a_turn_however_often_it_is_woken() {
        let (tasks, runs) = (Tasks::default(), Rc::default());
        let id = tasks.spawn(count_to(3, &runs), false);
        tasks.wake(id);
        run_ready(&tasks);
        assert_eq!(runs.get(), 1);
        assert!(tasks.is_dry());
    }

    #[test]
    fn a_waker_of_a_task_that_is_gone_wakes_nobody() {
        let (tasks, runs) = (Tasks::default(), Rc::default());
        let gone = tasks.spawn(count_to(1, &runs), false);
        run_ready(&tasks);
        let next = tasks.spawn(count_to(9, &runs), false);
        run_ready(&tasks);
        assert_eq!(gone.place, next.place, "the place is used again");
        tasks.wake(gone);
        assert!(tasks.is_dry());
        tasks.wake(next);
        assert!(!tasks.is_dry());
    }

    #[test]
    fn a_name_survives_its_word() {
        let id = Id { place: u32::MAX, birth: NonZeroU32::MAX };
        assert_eq!(unpack(pack(id)), id);
    }
}

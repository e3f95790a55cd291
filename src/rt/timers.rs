//! Deadlines of a shard, in the order in which they pass.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use super::with_local;

/// When, and a number that tells apart those of the same moment.
type Key = (Instant, u64);

/// The deadlines of one thread.
#[derive(Default)]
pub(super) struct Timers {
    waiting: RefCell<BTreeMap<Key, Waker>>,
    numbers: Cell<u64>,
}

impl Timers {
    /// The next one.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.borrow().first_key_value().map(|((at, _), _)| *at)
    }

    /// Wakes those that have passed.
    pub(super) fn fire(&self, now: Instant) {
        while self.next().is_some_and(|at| at <= now) {
            let first = self.waiting.borrow_mut().pop_first();
            first.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.waiting.borrow().len()
    }

    fn number(&self) -> u64 {
        self.numbers.replace(self.numbers.get() + 1)
    }
}

/// A wait for a moment.
pub(super) struct Sleep {
    key: Key,
    /// True exactly while it may be among those that wait.
    listed: bool,
}

impl Sleep {
    pub(super) fn until(at: Instant) -> Sleep {
        Sleep { key: (at, with_local(|local| local.timers.number())), listed: false }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        with_local(|local| {
            let mut waiting = local.timers.waiting.borrow_mut();
            if self.listed && !waiting.contains_key(&self.key) {
                self.listed = false;
                return Poll::Ready(());
            }
            waiting.insert(self.key, cx.waker().clone());
            self.listed = true;
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if self.listed {
            super::try_with_local(|local| local.timers.waiting.borrow_mut().remove(&self.key));
        }
    }
}

//! The engine for hosts without io_uring: monoio on epoll. The one file that names it.
//!
//! Rules that keep its known faults out of our path (each measured or read in its source): only
//! waits for readiness are ever pending, so dropping one can lose no byte; a wait is joined, never
//! raced; a task that has more to do waits for a ring of the shard's bell instead of waking itself.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    net::TcpStream as StdStream,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use monoio::{LegacyDriver, RuntimeBuilder, net::TcpStream, time::TimeDriver};

use super::{Bell, Local, with_local};

/// Tasks that get their turn back at each ring. One, so that everybody else who became ready waits
/// for one share at the most. The bound also keeps timers alive: the engine looks at them only when
/// its run queue is dry, and one round of the queue makes 2 n + 1 runs for n tasks that were ready,
/// so two would still fit. Waking all at once kept three tasks taking turns for ever (a tick of
/// 50 ms was seen 24 s late).
const WAKES_PER_RING: usize = 1;

/// Tasks that gave up the rest of their turn.
#[derive(Default)]
pub(super) struct Turns {
    waiting: RefCell<VecDeque<Waker>>,
    /// True exactly when we have rung for them and the bell is not answered yet.
    rung: Cell<bool>,
    /// Runs when a turn has run dry; the first task of a turn wakes it.
    end: RefCell<Option<Waker>>,
}

impl Turns {
    /// Rings our own bell if somebody waits for a turn.
    fn ring_for_waiting(&self, bell: &Bell) {
        if self.waiting.borrow().is_empty() || self.rung.replace(true) {
            return;
        }
        bell.ring();
    }

    /// The bell was answered: some get their turn back.
    pub(super) fn answered(&self) {
        self.rung.set(false);
        let wakes = self.waiting.borrow().len().min(WAKES_PER_RING);
        self.waiting.borrow_mut().drain(..wakes).for_each(Waker::wake);
    }

    /// A task that woke itself would go to the front of the engine's queue and starve the shard,
    /// timers included. So its waker goes to a list, and where the list is not empty when a turn
    /// runs dry the shard rings its own bell.
    pub(super) fn wait(&self, waker: &Waker) {
        self.waiting.borrow_mut().push_back(waker.clone());
    }
}

/// Runs the tasks of this thread until `main` is done.
pub(super) fn block_on(
    local: &Rc<Local>,
    main: impl Future<Output = ()> + 'static,
) -> io::Result<()> {
    let mut runtime = RuntimeBuilder::<TimeDriver<LegacyDriver>>::new().build()?;
    runtime.block_on(async {
        let mut done = pin!(spawn(main));
        // Tasks wake this one when a turn begins, and it is polled when the turn has run dry.
        poll_fn(|cx| {
            let turns = &local.turns;
            if turns.end.borrow().is_none() {
                turns.end.replace(Some(cx.waker().clone()));
            }
            local.meter.end();
            // Here and not by the bell's own task: its next wait would then be over at once, and it
            // would wake everybody without a look at events and timers.
            turns.ring_for_waiting(local.bell);
            done.as_mut().poll(cx)
        })
        .await;
    });
    Ok(())
}

/// Starts a task.
pub(super) fn spawn(work: impl Future<Output = ()> + 'static) -> impl Future<Output = ()> {
    monoio::spawn(Metered { home: with_local(Rc::clone), work })
}

/// A task whose turns are measured.
struct Metered<F> {
    home: Rc<Local>,
    work: F,
}

impl<F: Future<Output = ()>> Future for Metered<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.home.meter.begin() {
            self.home.turns.end.borrow().iter().for_each(Waker::wake_by_ref);
        }
        // SAFETY: `work` is pinned whenever `self` is: it is never moved out, `Metered` has no
        // `Drop`, and `home` is not pinned.
        unsafe { self.map_unchecked_mut(|metered| &mut metered.work) }.poll(cx)
    }
}

/// Waits; the engine's steps are 1 ms. Its timer is close to a kilobyte and aligned to cache lines.
pub(super) fn sleep(duration: Duration) -> impl Future<Output = ()> {
    monoio::time::sleep(duration)
}

/// A descriptor registered with the engine.
#[derive(Debug)]
pub(super) struct Stream(TcpStream);

impl Stream {
    /// The engine wants its own stream type; it only ever waits for readiness on it.
    pub(super) fn register(fd: OwnedFd) -> io::Result<Stream> {
        Ok(Stream(TcpStream::from_std(StdStream::from(fd))?))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor for as long as `self` lives, and the borrow is
        // bound to `self`.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }

    pub(super) fn readable(&self) -> impl Future<Output = ()> {
        Ready { wait: self.0.readable(false), woken: false }
    }

    pub(super) fn writable(&self) -> impl Future<Output = ()> {
        Ready { wait: self.0.writable(false), woken: false }
    }

    /// For a wait that is polled beside another one.
    pub(super) async fn writable_for_sure(&self) {
        let _ = self.0.writable(false).await;
    }
}

/// A wait for readiness.
///
/// The engine asks `poll(2)` before the wait and once more after it. The first one is needed (it
/// clears stale readiness); the second is not, since the caller tries anyway and comes back if
/// there was nothing.
struct Ready<F> {
    wait: F,
    woken: bool,
}

impl<F: Future> Future for Ready<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `wait` is pinned whenever `self` is: it is never moved out, and `Ready` has no
        // `Drop`. The flag is plain data.
        let (wait, woken) = unsafe {
            let ready = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut ready.wait), &mut ready.woken)
        };
        if std::mem::replace(woken, true) {
            return Poll::Ready(());
        }
        wait.poll(cx).map(drop)
    }
}

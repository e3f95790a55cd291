//! The engine for hosts without io_uring: monoio on epoll. The one file that names it.
//!
//! Rules that keep its known faults out of our path (each measured or read in its source): only
//! waits for readiness are ever pending, so dropping one can lose no byte; a wait is joined, never
//! raced; a task that has more to do waits for a ring of the shard's bell instead of waking itself.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
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

/// The engine of one thread.
pub(super) type Runtime = monoio::Runtime<TimeDriver<LegacyDriver>>;

/// Makes the engine of this thread.
///
/// # Errors
/// No descriptor is left.
pub(super) fn runtime() -> io::Result<Runtime> {
    RuntimeBuilder::<TimeDriver<LegacyDriver>>::new().build()
}

/// Runs the tasks of this thread until `main` is done.
pub(super) fn block_on(
    mut runtime: Runtime,
    local: &Rc<Local>,
    main: impl Future<Output = ()> + 'static,
) {
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
pub(super) struct Stream {
    tcp: Rc<TcpStream>,
    /// Where this socket waits, from the first wait on.
    reading: RefCell<Option<Pin<Box<dyn Again>>>>,
    writing: RefCell<Option<Pin<Box<dyn Again>>>>,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.tcp.as_raw_fd()).finish()
    }
}

impl Stream {
    /// The engine wants its own stream type; it only ever waits for readiness on it.
    pub(super) fn register(fd: OwnedFd) -> io::Result<Stream> {
        let tcp = Rc::new(TcpStream::from_std(StdStream::from(fd))?);
        Ok(Stream { tcp, reading: RefCell::default(), writing: RefCell::default() })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor for as long as `self` lives, and the borrow is
        // bound to `self`.
        unsafe { BorrowedFd::borrow_raw(self.tcp.as_raw_fd()) }
    }

    /// Waits until reading would not block; may return early.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut reading = self.reading.borrow_mut();
        let place = reading.get_or_insert_with(|| {
            let tcp = Rc::clone(&self.tcp);
            place(move || {
                let tcp = Rc::clone(&tcp);
                async move { tcp.readable(false).await.map_or((), drop) }
            })
        });
        place.as_mut().poll(cx)
    }

    /// Waits until writing would not block; may return early.
    pub(super) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut writing = self.writing.borrow_mut();
        let place = writing.get_or_insert_with(|| {
            let tcp = Rc::clone(&self.tcp);
            place(move || {
                let tcp = Rc::clone(&tcp);
                async move { tcp.writable(false).await.map_or((), drop) }
            })
        });
        place.as_mut().poll(cx)
    }

    /// Waits until a connect is decided, and returns no earlier, however often it is polled. Boxed:
    /// it is larger than its caller, and soon over.
    pub(super) fn decided(&self) -> Pin<Box<dyn Future<Output = ()>>> {
        let tcp = Rc::clone(&self.tcp);
        Box::pin(async move { tcp.writable(false).await.map_or((), drop) })
    }
}

/// A wait that is begun again and again in the same place: inside the tasks of its connection it
/// would be a third of what an idle one costs, and a box for each an allocation per message.
trait Again {
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;
}

struct Place<B, W> {
    begin: B,
    wait: Option<W>,
}

fn place<W: Future<Output = ()> + 'static>(begin: impl Fn() -> W + 'static) -> Pin<Box<dyn Again>> {
    Box::pin(Place { begin, wait: None })
}

impl<W: Future<Output = ()>, B: Fn() -> W> Again for Place<B, W> {
    /// The engine asks `poll(2)` before the wait and once more after it. The first one is needed
    /// (it clears stale readiness); the second is not, since the caller tries anyway and comes back
    /// if there was nothing.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `wait` is pinned whenever `self` is: it is never moved out but dropped where it
        // stands, and `Place` has no `Drop`. `begin` is not pinned.
        let place = unsafe { self.get_unchecked_mut() };
        if place.wait.is_some() {
            place.wait = None;
            return Poll::Ready(());
        }
        let wait = place.wait.insert((place.begin)());
        // SAFETY: as above.
        let over = unsafe { Pin::new_unchecked(wait) }.poll(cx);
        if over.is_ready() {
            place.wait = None;
        }
        over
    }
}

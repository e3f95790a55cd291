//! The runtime seam: the one room that names monoio.
//!
//! Everything above is written against these verbs, which say nothing of how the kernel is asked:
//! [`spawn`], [`sleep`], [`turn`], [`Bell`] (wake from another thread), [`Socket`] (adopt, accept,
//! connect, recv, send) and the pools of [`Chunk`]s and [`Pipe`]s. Nothing here knows what
//! a listener, a backend or a connection is.
//!
//! Rules that keep the known faults of the engine out of our path (each measured or read in its
//! source): only waits for readiness are ever pending, so dropping one can lose no byte; a wait is
//! joined, never raced; a task that has more to do calls [`turn`] instead of waking itself.

mod driver;
mod lease;
mod meter;
mod pipe;
mod sink;
mod socket;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustix::event::EventfdFlags;

pub use self::{
    driver::{Choice, Driver, choose},
    lease::{CHUNK_BYTES, CHUNKS_MAX, Chunk, Passed, pass_on, take_chunk},
    meter::Meters,
    pipe::{Pipe, take_pipe},
    socket::Socket,
};

/// Tasks that get their turn back at each ring. One, so that everybody else who became ready waits
/// for one share at the most. The bound also keeps timers alive: the engine looks at them only when
/// its run queue is dry, and one round of the queue makes 2 n + 1 runs for n tasks that were ready,
/// so two would still fit. Waking all at once kept three tasks taking turns for ever (a tick of
/// 50 ms was seen 24 s late).
const WAKES_PER_RING: usize = 1;

/// What a shard's thread keeps for its runtime.
struct Local {
    driver: Driver,
    bell: &'static Bell,
    /// Tasks that gave up the rest of their turn.
    waiting: RefCell<VecDeque<Waker>>,
    /// True exactly when we have rung for them and the bell is not answered yet.
    rung: Cell<bool>,
    meter: meter::TurnMeter,
    chunks: lease::Chunks,
    pipes: pipe::Pipes,
    sinks: sink::Sinks,
}

impl Local {
    /// Rings our own bell if somebody waits for a turn.
    fn ring_for_waiting(&self) {
        if self.waiting.borrow().is_empty() || self.rung.replace(true) {
            return;
        }
        self.bell.ring();
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

fn local() -> Rc<Local> {
    LOCAL.with_borrow(|local| Rc::clone(local.as_ref().expect("called on a shard's thread")))
}

/// What a shard's runtime needs to start.
pub struct Setup {
    /// Which kernel interface to use; [`choose`] has probed it.
    pub driver: Driver,
    /// What wakes this shard.
    pub bell: &'static Bell,
    /// How full this shard's pools are, for everybody to read.
    pub meters: &'static Meters,
    /// Pipes this shard may open.
    pub pipes_max: u32,
    /// Bytes of each.
    pub pipe_size: usize,
}

/// Wakes a shard from another thread.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell for a shard that may not run yet; what is rung before is answered then.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Bell> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Bell(rustix::event::eventfd(0, flags)?))
    }

    /// Rings; never blocks (an eventfd that is full has rung already).
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Runs a shard's tasks on this thread until `main` is done.
/// Somebody has to [`answer_bell`], or no [`turn`] ever ends.
///
/// # Errors
/// The driver could not be made, or no descriptor is left.
pub fn run(setup: Setup, main: impl Future<Output = ()> + 'static) -> io::Result<()> {
    let here = Rc::new(Local {
        driver: setup.driver,
        bell: setup.bell,
        waiting: RefCell::default(),
        rung: Cell::new(false),
        meter: meter::TurnMeter::new(setup.meters),
        chunks: lease::Chunks::new(setup.meters),
        pipes: pipe::Pipes::new(setup.meters, setup.pipes_max, setup.pipe_size),
        sinks: sink::Sinks::default(),
    });
    LOCAL.set(Some(Rc::clone(&here)));
    driver::block_on(setup.driver, async move {
        let done = spawn(main);
        let mut done = pin!(done);
        // Tasks wake this one when a turn begins, and it is polled when the turn has run dry.
        poll_fn(|cx| {
            here.meter.turn_ends(cx.waker());
            // Here and not by the bell's own task: on epoll its next wait would then be over at
            // once, and it would wake everybody without a look at events and timers.
            here.ring_for_waiting();
            done.as_mut().poll(cx)
        })
        .await;
    })
}

/// Starts a task on this shard.
pub fn spawn<F>(future: F) -> impl Future<Output = F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    monoio::spawn(Metered { home: local(), future })
}

/// A task whose turns are measured.
struct Metered<F> {
    home: Rc<Local>,
    future: F,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.home.meter.turn_goes_on();
        // SAFETY: `future` is pinned whenever `self` is: it is never moved out, `Metered` has no
        // `Drop`, and `home` is not pinned.
        unsafe { self.map_unchecked_mut(|metered| &mut metered.future) }.poll(cx)
    }
}

/// Waits; the engine's steps are 1 ms. Its timer is close to a kilobyte and aligned to cache lines,
/// so it is boxed: inside a connection's task it would be most of what an idle connection costs.
pub fn sleep(duration: Duration) -> Pin<Box<impl Future<Output = ()>>> {
    Box::pin(monoio::time::sleep(duration))
}

/// The number of the turn that is running: two events in one turn came together.
pub fn turn_number() -> u64 {
    local().meter.number()
}

/// Ends the caller's turn: everything else that is ready runs, and new events are collected,
/// before it goes on.
///
/// A task that woke itself would go to the front of the engine's queue and starve the shard, timers
/// included. So the waker goes to a list, and where the list is not empty when a turn runs dry the
/// shard rings its own bell.
pub async fn turn() {
    let here = local();
    let mut listed = false;
    poll_fn(|cx| {
        if listed {
            return Poll::Ready(());
        }
        listed = true;
        here.waiting.borrow_mut().push_back(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// From now on answers the bell: gives the tasks that wait the longest their turn back, then calls
/// `on_ring`.
///
/// # Errors
/// The bell could not be registered.
pub fn answer_bell(mut on_ring: impl FnMut() + 'static) -> io::Result<()> {
    let here = local();
    let doorbell = Socket::adopt(here.bell.0.try_clone()?)?;
    drop(spawn(async move {
        loop {
            doorbell.readable().await;
            let mut rings = [0u8; 8];
            let _ = rustix::io::read(&doorbell, &mut rings);
            here.rung.set(false);
            let wakes = here.waiting.borrow().len().min(WAKES_PER_RING);
            here.waiting.borrow_mut().drain(..wakes).for_each(Waker::wake);
            on_ring();
        }
    }));
    Ok(())
}

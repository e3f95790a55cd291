//! The runtime seam: how a shard waits, and how its bytes reach the kernel.
//!
//! Everything above is written against these verbs, which say nothing of how the kernel is asked:
//! [`spawn`], [`now`], [`sleep`], [`turn`], [`Bell`] (wake from another thread), [`Socket`] (adopt,
//! accept, connect, recv, send) and the pools of [`Chunk`]s and [`Pipe`]s. Nothing here knows what
//! a listener, a backend or a connection is.
//!
//! Two engines stand behind them: `ring` for io_uring, with tasks and timers of our own, and
//! `epoll`, the one file that names monoio. Only waits are ever dropped, and a wait holds no byte.

mod driver;
mod epoll;
mod lease;
mod meter;
mod pipe;
mod ring;
#[cfg(test)]
pub(crate) mod sim;
mod sink;
mod socket;
mod tasks;
mod timers;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    os::fd::OwnedFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use rustix::event::EventfdFlags;

pub use self::{
    driver::{Choice, Driver, Engine, choose},
    lease::{
        CHUNK_BYTES, CHUNKS_MAX, Chunk, PARKED_BYTES_MAX, Passed, Received, Sent, drop_received,
        pass_on,
    },
    meter::Meters,
    pipe::{Pipe, PipeBounds, grown_pipe, take_pipe},
    socket::Socket,
};

/// What a shard's thread keeps for its runtime.
struct Local {
    bell: &'static Bell,
    /// `None` where the engine is `epoll`.
    ring: Option<ring::Ring>,
    tasks: tasks::Tasks,
    timers: timers::Timers,
    turns: epoll::Turns,
    meter: meter::TurnMeter,
    chunks: lease::Chunks,
    pipes: pipe::Pipes,
    sinks: sink::Sinks,
}

impl Local {
    fn ring(&self) -> &ring::Ring {
        self.ring.as_ref().expect("only the ring engine makes what asks for it")
    }
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

fn with_local<T>(look: impl FnOnce(&Rc<Local>) -> T) -> T {
    LOCAL.with_borrow(|local| look(local.as_ref().expect("called on a shard's thread")))
}

/// For what may come late or from elsewhere: a wake, a drop.
fn try_with_local<T>(look: impl FnOnce(&Rc<Local>) -> T) {
    let _ = LOCAL.try_with(|local| {
        if let Some(local) = &*local.borrow() {
            look(local);
        }
    });
}

/// What a shard's runtime needs to start.
pub struct Setup {
    /// What carries it.
    pub engine: Engine,
    /// What wakes this shard.
    pub bell: &'static Bell,
    /// How full this shard's pools are, for everybody to read.
    pub meters: &'static Meters,
    /// Pipes this shard may open.
    pub pipes: PipeBounds,
    /// Buffers this shard may lend, apart from those of the ring.
    pub chunks_max: u32,
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
/// On epoll somebody has to [`answer_bell`], or no [`turn`] ever ends.
pub fn run(setup: Setup, main: impl Future<Output = ()> + 'static) {
    let (local, on_epoll) = start(setup);
    if let Some(runtime) = on_epoll {
        return epoll::block_on(runtime, &local, main);
    }
    let main = local.tasks.spawn(Box::pin(main));
    while !local.tasks.is_gone(main) {
        take_turn(&local, local.ring());
    }
}

/// Makes this thread a shard's.
fn start(setup: Setup) -> (Rc<Local>, Option<epoll::Runtime>) {
    let (ring, on_epoll) = match setup.engine.0 {
        driver::Carrier::Ring(ring) => (Some(ring), None),
        driver::Carrier::Epoll(runtime) => (None, Some(runtime)),
    };
    let local = Rc::new(Local {
        bell: setup.bell,
        ring,
        tasks: tasks::Tasks::default(),
        timers: timers::Timers::default(),
        turns: epoll::Turns::default(),
        meter: meter::TurnMeter::new(setup.meters),
        chunks: lease::Chunks::new(setup.meters, setup.chunks_max),
        pipes: pipe::Pipes::new(setup.meters, setup.pipes),
        sinks: sink::Sinks::default(),
    });
    LOCAL.set(Some(Rc::clone(&local)));
    (local, on_epoll)
}

/// Everybody who is ready runs once; then the kernel gets what they ask for, and the shard waits
/// for it if nobody is ready.
fn take_turn(local: &Local, ring: &ring::Ring) {
    local.meter.begin();
    local.tasks.run_ready();
    local.meter.end();
    ring.turn(local.tasks.is_dry(), local.timers.next());
    local.timers.fire(now());
}

/// Starts a task on this shard; what it returns is over when the task is, and may be dropped.
pub fn spawn(work: impl Future<Output = ()> + 'static) -> impl Future<Output = ()> {
    let mut task = match with_local(|local| local.ring.is_some()) {
        true => Ok(with_local(|local| local.tasks.spawn(Box::pin(work)))),
        false => Err(epoll::spawn(work)),
    };
    poll_fn(move |cx| match &mut task {
        Ok(id) => with_local(|local| local.tasks.poll_end(*id, cx)),
        // SAFETY: `task` is pinned with the future that owns it and never moved out of it.
        Err(task) => unsafe { Pin::new_unchecked(task) }.poll(cx),
    })
}

/// Waits; on epoll in steps of 1 ms. Boxed: inside a connection's task a timer would be most of
/// what an idle connection costs.
pub fn sleep(duration: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
    match with_local(|local| local.ring.is_some()) {
        true => Box::pin(timers::Sleep::until(now() + duration)),
        false => Box::pin(epoll::sleep(duration)),
    }
}

/// The one clock of all that happens on a shard.
pub fn now() -> Instant {
    #[cfg(test)]
    if let Some(now) = crate::sim::now() {
        return now;
    }
    Instant::now()
}

/// The number of the turn that is running: two events in one turn came together.
pub fn turn_number() -> u64 {
    with_local(|local| local.meter.number())
}

/// Ends the caller's turn: everything else that is ready runs, and new events are collected,
/// before it goes on.
pub async fn turn() {
    let mut over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut over, true) {
            return Poll::Ready(());
        }
        with_local(|local| give_up_turn(local, cx));
        Poll::Pending
    })
    .await;
}

fn give_up_turn(local: &Local, cx: &Context<'_>) {
    match local.ring {
        Some(_) => cx.waker().wake_by_ref(),
        None => local.turns.wait(cx.waker()),
    }
}

/// From now on answers the bell: calls `on_ring`, after tasks that wait for their turn on epoll.
///
/// # Errors
/// The bell could not be registered.
pub fn answer_bell(mut on_ring: impl FnMut() + 'static) -> io::Result<()> {
    let local = with_local(Rc::clone);
    let doorbell = Socket::adopt(local.bell.0.try_clone()?)?;
    drop(spawn(async move {
        loop {
            doorbell.readable().await;
            let mut rings = [0u8; 8];
            let _ = rustix::io::read(&doorbell, &mut rings);
            local.turns.answered();
            on_ring();
        }
    }));
    Ok(())
}

//! The runtime seam: how a shard waits, and how its bytes reach the kernel.
//!
//! Everything above is written against these verbs, which say nothing of how the kernel is asked:
//! [`spawn`], [`now`], [`sleep`], [`turn`], [`Bell`] (wake from another thread), [`Socket`] (adopt,
//! accept, connect, recv, send) and the pools of [`Chunk`]s and [`Pipe`]s. Nothing here knows what
//! a listener, a backend or a connection is.
//!
//! Two engines stand behind them, on the same tasks and timers: `ring` for io_uring, and `ready`
//! for epoll. Only waits are ever dropped, and a wait holds no byte.

mod driver;
mod engine;
mod handle;
mod lease;
mod meter;
mod panics;
mod pipe;
mod ready;
mod ring;
#[cfg(test)]
pub(crate) mod sim;
mod sink;
mod socket;
mod tasks;
mod timers;
mod waiters;

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

pub use crate::sock::{dial_is_short, is_for_later};
use crate::{bell::Bell, meters::Meters};

pub use self::{
    driver::{Choice, Driver, choose},
    engine::Engine,
    lease::{
        CHUNK_BYTES, CHUNKS_MAX, Chunk, PARKED_BYTES_MAX, Passed, Received, Sent, drop_received,
        pass_on,
    },
    panics::{Whole, end_process_on_panic, name_frames, whole},
    pipe::{Pipe, PipeBounds, grown_pipe, take_pipe},
    socket::Socket,
};

/// What a shard's thread keeps for its runtime.
struct Local {
    bell: &'static Bell,
    engine: Engine,
    tasks: tasks::Tasks,
    timers: timers::Timers,
    meter: meter::TurnMeter,
    chunks: lease::Chunks,
    pipes: pipe::Pipes,
    sinks: sink::Sinks,
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

fn with_local<T>(look: impl FnOnce(&Rc<Local>) -> T) -> T {
    whole(|| LOCAL.with_borrow(|local| look(local.as_ref().expect("on a shard's thread"))))
}

/// For what may come late or from elsewhere: a wake, a drop.
fn try_with_local<T>(look: impl FnOnce(&Rc<Local>) -> T) {
    whole(|| {
        let _ = LOCAL.try_with(|local| {
            if let Some(local) = &*local.borrow() {
                look(local);
            }
        });
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

/// Runs a shard's tasks on this thread until `main` is done.
pub fn run(setup: Setup, main: impl Future<Output = ()> + 'static) {
    let local = start(setup);
    let main = local.tasks.spawn(Box::pin(main), false);
    while !local.tasks.is_gone(main) {
        take_turn(&local);
    }
}

/// Makes this thread a shard's.
fn start(setup: Setup) -> Rc<Local> {
    let local = Rc::new(Local {
        bell: setup.bell,
        engine: setup.engine,
        tasks: tasks::Tasks::default(),
        timers: timers::Timers::default(),
        meter: meter::TurnMeter::new(setup.meters),
        chunks: lease::Chunks::new(setup.meters, setup.chunks_max),
        pipes: pipe::Pipes::new(setup.meters, setup.pipes),
        sinks: sink::Sinks::default(),
    });
    LOCAL.set(Some(Rc::clone(&local)));
    local
}

/// Everybody who is ready runs once; then the kernel gets what they ask for, and the shard waits
/// for it if nobody is ready.
fn take_turn(local: &Local) {
    local.meter.begin();
    local.tasks.run_ready(local.meter.panics());
    local.meter.end();
    local.engine.turn(local.tasks.is_dry(), local.timers.next());
    local.timers.fire(now());
}

/// A task of this shard, to be waited for or not.
#[derive(Clone, Copy, Debug)]
pub struct Task(tasks::Id);

impl Future for Task {
    type Output = ();

    /// Over when the task is.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        with_local(|local| local.tasks.poll_end(self.0, cx))
    }
}

/// Starts a task on this shard. Should it panic, the process ends.
pub fn spawn(work: impl Future<Output = ()> + 'static) -> Task {
    Task(with_local(|local| local.tasks.spawn(Box::pin(work), false)))
}

/// Starts a task that a panic ends alone: its guards clean up, and whoever waits for it goes on.
pub fn spawn_apart(work: impl Future<Output = ()> + 'static) -> Task {
    Task(with_local(|local| local.tasks.spawn(Box::pin(work), true)))
}

/// Waits; on epoll in steps of 1 ms. Boxed: inside a connection's task it would be there for as
/// long as the connection is.
pub fn sleep(duration: Duration) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(timers::Sleep::until(now() + duration))
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
/// before it goes on from the end of the queue.
pub async fn turn() {
    let mut over = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut over, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// From now on answers the bell: calls `on_ring`.
///
/// # Errors
/// The bell could not be registered.
pub fn answer_bell(mut on_ring: impl FnMut() + 'static) -> io::Result<()> {
    let bell = with_local(|local| local.bell);
    let doorbell = Socket::adopt(bell.watched()?)?;
    spawn(async move {
        loop {
            doorbell.readable().await;
            let mut rings = [0u8; 8];
            let _ = rustix::io::read(&doorbell, &mut rings);
            doorbell.is_empty();
            on_ring();
        }
    });
    Ok(())
}

//! The shards' threads. Each makes its engine first, on its own CPU, and waits to hear what all of
//! them take: one ring that fits says nothing of the others.

use std::{
    io::{self, ErrorKind::OutOfMemory},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    args::cause,
    bridge::Bridge,
    rt::{self, Choice, Driver, Engine},
    shard,
};

/// The kernel gives the locked memory of a closed ring back a moment later: that of a process that
/// has just ended may be in the way for so long.
const MEMORY_WAIT_MAX: Duration = Duration::from_millis(200);

/// From one try to the next meanwhile.
const MEMORY_PAUSE: Duration = Duration::from_millis(5);

/// Threads that are ready to serve.
pub struct Ready {
    driver: Driver,
    threads: Vec<Thread>,
}

/// A shard's thread.
struct Thread {
    /// What it answered when it had tried to make its engine.
    made: Receiver<io::Result<()>>,
    /// What lets it serve.
    start: Sender<(Driver, shard::Setup)>,
    /// Whether it accepts connections.
    started: Receiver<Result<(), String>>,
}

/// Starts the threads and chooses their driver; `wanted` is `None` for "auto".
///
/// # Errors
/// As [`rt::choose`], or a thread could not be made.
pub fn prepare(bridge: &'static Bridge, wanted: Option<Driver>) -> Result<(Choice, Ready), String> {
    let first = wanted.unwrap_or(Driver::IoUring);
    let cannot = |id: usize, why: &str| format!("cannot start shard {id}: {why}");
    let spawn = |id| spawn(bridge, id, first).map_err(|error| cannot(id, &cause(&error)));
    let threads = (0..bridge.boards.shards.len()).map(spawn).collect::<Result<Vec<_>, _>>()?;
    let mut refusal = None;
    for (id, thread) in threads.iter().enumerate() {
        let made = thread.made.recv().map_err(|_| cannot(id, "it ended at once"))?;
        refusal = refusal.or(made.err());
    }
    let choice = rt::choose(wanted, refusal.as_ref())?;
    let driver = choice.driver;
    Ok((choice, Ready { driver, threads }))
}

/// Lets the shards serve, each with its setup.
///
/// # Errors
/// One of them cannot.
pub fn start(ready: Ready, setups: Vec<shard::Setup>) -> Result<(), String> {
    for (thread, setup) in ready.threads.iter().zip(setups) {
        // One that is gone has no answer below.
        let _ = thread.start.send((ready.driver, setup));
    }
    let answer = |(id, thread): (usize, &Thread)| {
        let answer = thread.started.recv().unwrap_or_else(|_| Err("it ended at once".into()));
        answer.map_err(|error| format!("cannot start shard {id}: {error}"))
    };
    ready.threads.iter().enumerate().try_for_each(answer)
}

fn spawn(bridge: &'static Bridge, id: usize, first: Driver) -> io::Result<Thread> {
    let (tell_made, made) = mpsc::channel();
    let (start, told) = mpsc::channel::<(Driver, shard::Setup)>();
    let (serving, started) = mpsc::channel();
    let body = move || {
        shard::take_seat(bridge, id);
        let (mut engine, answer) = match make_engine(bridge, id, first) {
            Ok(engine) => (engine, Ok(())),
            Err(refusal) => (Engine::on_epoll(), Err(refusal)),
        };
        let _ = tell_made.send(answer);
        // Where the process does not start after all, nobody tells us to.
        let Ok((driver, setup)) = told.recv() else { return };
        if driver == Driver::Epoll {
            // Closes the ring, if there is one.
            engine = Engine::on_epoll();
        }
        let failed = serving.clone();
        // The receiver is gone once the shard has started; nobody is left to tell then.
        let on_start = move |started: io::Result<()>| {
            let _ = serving.send(started.map_err(|error| cause(&error)));
        };
        if let Err(error) = shard::run(setup, engine, on_start) {
            let _ = failed.send(Err(cause(&error)));
        }
    };
    thread::Builder::new().name(format!("ringway-shard-{id}")).spawn(body)?;
    Ok(Thread { made, start, started })
}

fn make_engine(bridge: &Bridge, id: usize, driver: Driver) -> io::Result<Engine> {
    let until = Instant::now() + MEMORY_WAIT_MAX;
    loop {
        match Engine::new(driver, bridge.boards.shards[id].meters) {
            Err(error) if error.kind() == OutOfMemory && Instant::now() < until => pause(),
            made => return made,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing of the shard runs on this thread yet")]
fn pause() {
    thread::sleep(MEMORY_PAUSE);
}

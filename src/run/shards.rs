//! The shards' threads. Each makes its engine first, on its own CPU, and waits to hear what all of
//! them take: one ring that fits says nothing of the others.

use std::{
    io::{self, ErrorKind::OutOfMemory},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::{Duration, Instant},
};

use crate::{
    bridge::Bridge,
    errno::cause,
    rt::{self, Choice, Driver, Engine},
    shard,
};

/// The kernel gives the locked memory of a closed ring back a moment later: that of a process that
/// has just ended may be in the way for so long.
const MEMORY_WAIT_MAX: Duration = Duration::from_millis(200);

/// From one try to the next meanwhile.
const MEMORY_PAUSE: Duration = Duration::from_millis(5);

/// Threads that are ready to serve: each has the engine that was chosen for all.
pub struct Ready(Vec<Thread>);

/// A shard's thread. It answers each of what it is told once.
struct Thread {
    /// Whether it could make an engine: of the first driver, and then of the chosen one.
    made: Receiver<io::Result<()>>,
    chosen: Sender<Driver>,
    /// What lets it serve.
    start: Sender<shard::Setup>,
    /// Whether it accepts connections.
    started: Receiver<io::Result<()>>,
}

/// Starts the threads and chooses their driver; `wanted` is `None` for "auto".
///
/// # Errors
/// As [`rt::choose`], or a thread or its engine could not be made.
pub fn prepare(bridge: &'static Bridge, wanted: Option<Driver>) -> Result<(Choice, Ready), String> {
    let first = wanted.unwrap_or(Driver::IoUring);
    let begin = |id| spawn(bridge, id, first).map_err(|error| cannot_start(id, &error));
    let threads = (0..bridge.boards.shards.len()).map(begin).collect::<Result<Vec<_>, _>>()?;
    let mut refusal = None;
    for thread in &threads {
        refusal = refusal.or(answer(&thread.made).err());
    }
    let choice = rt::choose(wanted, refusal.as_ref())?;
    for thread in &threads {
        // One that is gone has no answer below.
        let _ = thread.chosen.send(choice.driver);
    }
    for (id, thread) in threads.iter().enumerate() {
        answer(&thread.made).map_err(|error| cannot_start(id, &error))?;
    }
    Ok((choice, Ready(threads)))
}

/// Lets the shards serve, each with its setup.
///
/// # Errors
/// One of them cannot.
pub fn start(Ready(threads): Ready, setups: Vec<shard::Setup>) -> Result<(), String> {
    for (thread, setup) in threads.iter().zip(setups) {
        // One that is gone has no answer below.
        let _ = thread.start.send(setup);
    }
    let started = |(id, thread): (usize, &Thread)| {
        answer(&thread.started).map_err(|error| cannot_start(id, &error))
    };
    threads.iter().enumerate().try_for_each(started)
}

fn answer(told: &Receiver<io::Result<()>>) -> io::Result<()> {
    told.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended at once")))
}

fn cannot_start(id: usize, error: &io::Error) -> String {
    format!("cannot start shard {id}: {}", cause(error))
}

fn spawn(bridge: &'static Bridge, id: usize, first: Driver) -> io::Result<Thread> {
    let (tell_made, made) = mpsc::channel();
    let (chosen, told_chosen) = mpsc::channel();
    let (start, told_start) = mpsc::channel();
    let (tell_started, started) = mpsc::channel();
    let body = move || {
        shard::take_seat(bridge, id);
        let tell = |made: &io::Result<Engine>| {
            let told =
                made.as_ref().map(drop).map_err(|error| io::Error::new(error.kind(), cause(error)));
            let _ = tell_made.send(told);
        };
        let mut engine = make_engine(bridge, id, first);
        tell(&engine);
        // Where the process does not start after all, nobody tells us anything.
        let Ok(driver) = told_chosen.recv() else { return };
        if driver != first {
            // A ring that we may have is closed before others hear that none is needed.
            drop(engine);
            engine = make_engine(bridge, id, driver);
        }
        tell(&engine);
        let (Ok(engine), Ok(setup)) = (engine, told_start.recv()) else { return };
        // The receiver is gone once all have started; nobody is left to tell then.
        shard::run(setup, engine, move |started| drop(tell_started.send(started)));
    };
    thread::Builder::new().name(format!("ringway-shard-{id}")).spawn(body)?;
    Ok(Thread { made, chosen, start, started })
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

//! The access log: one line for each connection that is over.
//!
//! Shards leave records in bounded queues of the bridge; a thread of its own makes lines of them
//! and writes. A slow or full disk, or a pipe that nobody reads, stops that thread only: the queues
//! fill up, and what does not fit is dropped and counted.

mod batch;
mod line;

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::{
        fd::AsFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use self::{batch::Batch, line::Line};
use crate::{
    bridge::{Bridge, RecordQueue},
    config::{self, Config},
    errno::cause,
    limits::ACCESS_RECORDS_MAX,
};

/// How often records are taken; shards ring no bell, so that a connection costs them no call.
const PERIOD: Duration = Duration::from_millis(50);

/// Records that are taken from a shard before others get a turn.
const SHARE: usize = 128;

/// With more than this unwritten no record is taken: they wait where they are bounded.
const BATCH_BYTES: usize = 64 << 10;

/// A file, or the standard output, that lines are added to.
#[derive(Debug)]
struct Target {
    out: File,
    /// `None`: the standard output.
    path: Option<PathBuf>,
    /// What waits to be written to it.
    batch: Batch,
}

impl Target {
    /// Nothing is written yet: a disk that is full is no reason not to start.
    fn file(path: &Path) -> io::Result<Target> {
        let add_to = |read: bool| {
            // Whoever connects to whom is not for everybody to read.
            OpenOptions::new().read(read).append(true).create(true).mode(0o640).open(path)
        };
        // To look at its end, and because open(2) of a FIFO for writing alone waits for a reader.
        let out = match add_to(true) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied && path.is_file() => {
                add_to(false)
            }
            out => out,
        }?;
        let batch = if ends_whole(&out) { Batch::default() } else { Batch::after_a_cut() };
        Ok(Target { out, path: Some(path.to_owned()), batch })
    }

    fn stdout() -> io::Result<Target> {
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Target { out, path: None, batch: Batch::default() })
    }
}

/// One that is no file, or that we may not read, counts as whole.
fn ends_whole(file: &File) -> bool {
    let last = file.metadata().ok().filter(|is| is.is_file()).map_or(0, |is| is.len());
    let mut byte = [b'\n'];
    last == 0 || file.read_exact_at(&mut byte, last - 1).is_err() || byte == [b'\n']
}

/// The access log, from the moment it is open.
#[derive(Debug)]
pub struct AccessLog {
    /// Until the thread has it.
    opened: Option<(Target, Receiver<Done>)>,
    /// Asks for the end, and is told of it.
    finish: Sender<Done>,
    /// True exactly when the file is to be opened anew.
    reopen: Arc<AtomicBool>,
}

type Done = oneshot::Sender<()>;

impl AccessLog {
    /// Opens what the configuration names; `None`: there is no access log.
    ///
    /// # Errors
    /// It cannot be opened, as a sentence.
    pub fn open(wish: &config::AccessLog) -> Result<Option<AccessLog>, String> {
        let (target, name) = match wish {
            config::AccessLog::Off => return Ok(None),
            config::AccessLog::Stdout => (Target::stdout(), "stdout".to_owned()),
            config::AccessLog::File(path) => (Target::file(path), path.display().to_string()),
        };
        let target = target.map_err(|error| {
            let way_out = "make it and its folder writable, or name another file in log.access";
            format!("cannot open the access log {name}: {} ({way_out})", cause(&error))
        })?;
        let (finish, asked) = mpsc::channel();
        Ok(Some(AccessLog { opened: Some((target, asked)), finish, reopen: Arc::default() }))
    }

    /// Starts the thread that writes.
    ///
    /// # Errors
    /// It could not be made.
    pub fn start(&mut self, config: &Config, bridge: &'static Bridge) -> io::Result<()> {
        let Some((target, asked)) = self.opened.take() else { return Ok(()) };
        let (config, reopen) = (config.clone(), Arc::clone(&self.reopen));
        let writer = Writer { target, config, bridge, reopen, failing: false };
        let named = thread::Builder::new().name("ringway-access".into());
        named.spawn(move || writer.run(&asked)).map(drop)
    }

    /// Goes on in the file that has the name now; before the start, once it has begun.
    pub fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }

    /// Ends once everything that was left is written or given up.
    pub async fn finish(self) {
        let (done, finished) = oneshot::channel();
        // The thread only ends after this.
        let _ = self.finish.send(done);
        let _ = finished.await;
    }
}

struct Writer {
    target: Target,
    config: Config,
    bridge: &'static Bridge,
    reopen: Arc<AtomicBool>,
    /// True exactly when nothing was written since a write failed, which is told once.
    failing: bool,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    All,
    /// The rest waits until somebody reads: a pipe in the mode that says so.
    Part,
    /// The rest was given up.
    Failed,
}

impl Writer {
    fn run(mut self, asked: &Receiver<Done>) {
        let mut pause = PERIOD;
        loop {
            match asked.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(done) => {
                    self.finish();
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.reopen.swap(false, Relaxed) {
                self.reopen();
            }
            self.write_some();
            pause = if self.is_behind() { Duration::ZERO } else { PERIOD };
        }
    }

    fn queues(&self) -> impl Iterator<Item = &'static RecordQueue> + use<> {
        self.bridge.boards.shards.iter().filter_map(|shard| shard.records.as_ref())
    }

    /// Whether there is something to write now.
    fn is_behind(&self) -> bool {
        self.queues().any(|records| !records.is_empty())
    }

    /// Writes a batch, with a share of each shard in it.
    fn write_some(&mut self) -> Wrote {
        if self.target.batch.len() < BATCH_BYTES {
            self.fill(SHARE);
        }
        self.flush()
    }

    /// Makes lines of what waits, of each shard at most so many.
    fn fill(&mut self, most: usize) {
        let clocks = (Instant::now(), OffsetDateTime::now_utc());
        let format = self.config.log.format;
        for record in self.queues().flat_map(|records| records.take_up_to(most)) {
            let line = Line::new(&record, &self.config, &self.bridge.plan, clocks);
            line.write(format, self.target.batch.text());
        }
    }

    fn flush(&mut self) -> Wrote {
        let Target { out, batch, .. } = &mut self.target;
        let (flushed, result) = batch.flush(out);
        let board = &self.bridge.access_log;
        board.lines.add(flushed.written);
        board.lost.add(flushed.lost);
        if self.failing && flushed.written > 0 {
            tracing::info!(lost = board.lost.get(), "the access log takes lines again");
            self.failing = false;
        }
        match result {
            Ok(()) => Wrote::All,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait_writable(out);
                Wrote::Part
            }
            Err(error) => {
                if !self.failing {
                    let error = cause(&error);
                    tracing::warn!(error, "the access log takes no lines; they are lost");
                }
                self.failing = true;
                Wrote::Failed
            }
        }
    }

    /// Writes or gives up everything that is left. The shards are done.
    fn finish(&mut self) {
        loop {
            let wrote = self.write_some();
            let over = wrote != Wrote::Part && !self.is_behind();
            if over {
                break;
            }
        }
        self.bridge.access_log.lost.add(self.target.batch.abandon());
    }

    fn reopen(&mut self) {
        // What was there before belongs to the old file.
        self.fill(ACCESS_RECORDS_MAX);
        self.flush();
        let Some(path) = &self.target.path else { return };
        match Target::file(path) {
            Ok(target) => {
                tracing::info!(path = %path.display(), "access log reopened");
                let mut old = std::mem::replace(&mut self.target, target);
                self.bridge.access_log.lost.add(old.batch.abandon());
            }
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, error = cause(&error), "cannot reopen; the old one goes on");
            }
        }
    }
}

/// Waits until somebody has read, at most a [`PERIOD`].
fn wait_writable(out: &File) {
    let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(PERIOD.subsec_nanos()) };
    // An error is the next write's to tell.
    let _ = rustix::event::poll(&mut [PollFd::new(out, PollFlags::OUT)], Some(&limit));
}

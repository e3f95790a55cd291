//! The access log: one line for each connection that is over.
//!
//! Shards leave records in bounded queues of the bridge; a thread of its own makes lines of them
//! and writes. A slow or full disk, or a pipe that nobody reads, stops that thread only: the queues
//! fill up, and what does not fit is dropped and counted.

mod batch;
mod line;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::fs::FileTypeExt},
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use self::{batch::Batch, line::Line};
use crate::{
    args::cause,
    bridge::{Bridge, RecordQueue},
    config::{AccessLog, Config},
};

/// How often records are taken; shards ring no bell, so that a connection costs them no call.
const PERIOD: Duration = Duration::from_millis(50);

/// Records that are taken from a shard before others get a turn.
const SHARE: usize = 128;

/// With more than this unwritten no record is taken: they wait where they are bounded.
const BATCH_BYTES: usize = 64 << 10;

/// An access log that is open and not written to yet.
#[derive(Debug)]
pub struct Opened {
    out: File,
    /// `None`: the standard output.
    path: Option<PathBuf>,
}

/// Opens what the configuration names; `None`: there is no access log.
///
/// # Errors
/// It cannot be opened, as a sentence.
pub fn open(wish: &AccessLog) -> Result<Option<Opened>, String> {
    let (out, path) = match wish {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => (io::stdout().as_fd().try_clone_to_owned().map(File::from), None),
        AccessLog::File(path) => (append(path), Some(path.clone())),
    };
    let name = path.as_ref().map_or("stdout".into(), |path| path.display().to_string());
    let sentence = |error| {
        let way_out = "make its folder writable, or name another file in log.access";
        format!("cannot open the access log {name}: {} ({way_out})", cause(&error))
    };
    Ok(Some(Opened { out: out.map_err(sentence)?, path }))
}

/// Opens a file to add lines to its end. One that does not end with a whole line gets an end first.
fn append(path: &Path) -> io::Result<File> {
    // open(2): a FIFO for writing alone waits for a reader.
    let is_fifo = fs::metadata(path).is_ok_and(|is| is.file_type().is_fifo());
    let mut out = OpenOptions::new().read(is_fifo).append(true).create(true).open(path)?;
    if out.metadata()?.is_file() && !ends_whole(path) {
        out.write_all(b"\n")?;
    }
    Ok(out)
}

/// One that we may not read counts as whole.
fn ends_whole(path: &Path) -> bool {
    let last_byte = || -> io::Result<u8> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        io::Read::read_exact(&mut file, &mut byte)?;
        Ok(byte[0])
    };
    last_byte().map_or(true, |byte| byte == b'\n')
}

/// What the writing thread is asked for.
enum Order {
    Reopen,
    Finish(tokio::sync::oneshot::Sender<()>),
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writing(Sender<Order>);

impl Writing {
    /// Starts it.
    ///
    /// # Errors
    /// The thread could not be made.
    pub fn start(opened: Opened, config: &Config, bridge: &'static Bridge) -> io::Result<Writing> {
        let (orders, taken) = mpsc::channel();
        let writer = Writer {
            opened,
            config: config.clone(),
            bridge,
            batch: Batch::default(),
            failing: false,
        };
        let named = thread::Builder::new().name("ringway-access".into());
        named.spawn(move || writer.run(&taken))?;
        Ok(Writing(orders))
    }

    /// Goes on in the file that has the name now.
    pub fn reopen(&self) {
        // It only ends after `finish`.
        let _ = self.0.send(Order::Reopen);
    }

    /// Ends once everything that was left is written or given up.
    pub async fn finish(self) {
        let (done, finished) = tokio::sync::oneshot::channel();
        let _ = self.0.send(Order::Finish(done));
        let _ = finished.await;
    }
}

struct Writer {
    opened: Opened,
    config: Config,
    bridge: &'static Bridge,
    batch: Batch,
    /// True exactly when the last write failed, which is told once.
    failing: bool,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        let mut pause = PERIOD;
        loop {
            match orders.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Reopen) => self.reopen(),
                Ok(Order::Finish(done)) => {
                    self.finish();
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            pause = if self.write_some() { Duration::ZERO } else { PERIOD };
        }
    }

    /// Writes a batch; true exactly when there is more to write now.
    fn write_some(&mut self) -> bool {
        if self.batch.len() < BATCH_BYTES {
            self.fill();
        }
        self.flush() && self.queues().any(|records| !records.is_empty())
    }

    fn queues(&self) -> impl Iterator<Item = &'static RecordQueue> + use<> {
        self.bridge.boards.shards.iter().filter_map(|shard| shard.records.as_ref())
    }

    /// Makes lines of what waits, a share of each shard.
    fn fill(&mut self) {
        let clocks = (Instant::now(), OffsetDateTime::now_utc());
        let format = self.config.log.format;
        for record in self.queues().flat_map(|records| records.take_up_to(SHARE)) {
            let line = Line::new(&record, &self.config, &self.bridge.plan, clocks);
            line.write(format, self.batch.text());
        }
    }

    /// False where the file takes nothing now: a pipe that nobody reads, in the mode that says so.
    fn flush(&mut self) -> bool {
        let (flushed, result) = self.batch.flush(&mut self.opened.out);
        let board = &self.bridge.access_log;
        board.lines.add(flushed.written);
        board.lost.add(flushed.lost);
        match &result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if !self.failing => {
                tracing::warn!(
                    error = cause(error),
                    "the access log takes no lines; they are lost"
                );
                self.failing = true;
            }
            Ok(()) if self.failing => {
                tracing::info!(lost = board.lost.get(), "the access log takes lines again");
                self.failing = false;
            }
            Ok(()) | Err(_) => {}
        }
        true
    }

    /// Writes or gives up everything that is left. The shards are done.
    fn finish(&mut self) {
        while self.write_some() {}
        self.bridge.access_log.lost.add(self.batch.abandon());
    }

    fn reopen(&mut self) {
        // What was there before the signal belongs to the old file.
        self.write_some();
        let Some(path) = &self.opened.path else { return };
        match append(path) {
            Ok(out) => {
                self.bridge.access_log.lost.add(self.batch.abandon());
                self.opened.out = out;
                tracing::info!(path = %path.display(), "access log reopened");
            }
            Err(error) => {
                let path = path.display();
                tracing::error!(%path, error = cause(&error), "cannot reopen; the old one goes on");
            }
        }
    }
}

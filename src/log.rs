//! Log lines to stderr, as text or JSON, written on a thread of their own.
//!
//! A stderr that nobody reads fills its pipe; the lines that then do not fit are dropped and
//! counted, and nobody waits.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    config::{Level, Log, LogFormat},
    limits::LOG_LINES_MAX,
};

/// How many log lines were dropped.
#[derive(Clone, Debug)]
pub struct LostLines(ErrorCounter);

impl LostLines {
    /// Since the start.
    pub fn count(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

/// Starts logging. Dropping the guard writes what is still queued.
pub fn start(log: &Log) -> (WorkerGuard, LostLines) {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LOG_LINES_MAX)
        .thread_name("ringway-log")
        .finish(io::stderr());
    let lost = LostLines(writer.error_counter());
    let builder = tracing_subscriber::fmt()
        .with_max_level(filter(log.level))
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(writer);
    // Libraries speak of packets and connections of theirs; what matters of it we say ourselves.
    let ours = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), filter(log.level))
        .with_default(LevelFilter::ERROR);
    match log.format {
        LogFormat::Text => builder.finish().with(ours).init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(ours).init(),
    }
    (guard, lost)
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

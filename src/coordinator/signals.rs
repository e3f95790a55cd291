//! Signals, as wishes.

use std::io;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::access_log::AccessLog;

/// The signals the process follows.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    /// Kernel: a write past `ulimit -f` ends a process that has no handler; with one it is an error
    /// of that write (setrlimit(2)).
    _file_size: Signal,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The kernel refused one.
    pub fn new() -> io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            _file_size: signal(SignalKind::from_raw(Number::XFSZ.as_raw()))?,
        })
    }

    /// Waits until somebody asks us to stop. Meanwhile logs are reopened when asked; signals whose
    /// work is not built yet are logged.
    pub async fn stop_asked(&mut self, access_log: Option<&AccessLog>) {
        loop {
            let ignored = tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.user1.recv() => {
                    match access_log {
                        Some(log) => log.reopen(),
                        None => tracing::warn!("SIGUSR1: no access log is open (log.access)"),
                    }
                    continue;
                }
                _ = self.hangup.recv() => "SIGHUP",
                _ = self.user2.recv() => "SIGUSR2",
            };
            tracing::warn!(signal = ignored, "ignored: this version cannot do that");
        }
    }
}

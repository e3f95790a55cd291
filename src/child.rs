//! Child processes that say when they are ready and are gone when their guard is.
//!
//! This room refuses to know what the children do. The demo and the measurements use it.

use std::{
    io::{self, BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use crate::errno;

/// Until a child has to be serving.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
/// A child that closed its stdout without a word is about to end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Between two looks at a child that has to end.
const LOOK: Duration = Duration::from_millis(5);

/// A running child; dropping it kills it and waits for it.
pub struct Guarded {
    child: Child,
    name: String,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Both fail only where it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Guarded {
    /// Starts a child; what becomes of its stdout is for `command` to say.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, String> {
        command.stdin(Stdio::null());
        let child = command.spawn().map_err(|error| {
            let program = command.get_program().to_string_lossy();
            format!("cannot start {name} ({program}): {}", errno::cause(&error))
        })?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// Starts a child and waits for its line `ready NAME=ADDRESS ...`; gives the pairs.
    pub fn start_ready(name: &str, command: &mut Command) -> Result<(Self, Ready), String> {
        let mut guarded = Self::start(name, command.stdout(Stdio::piped()))?;
        let stdout = guarded.child.stdout.take();
        let Some(line) = stdout.and_then(first_line) else {
            let why = match guarded.wait(LAST_WORDS) {
                Some(status) => format!("it ended with {status}"),
                None => format!("it was not ready within {READY_TIMEOUT:?}"),
            };
            return Err(format!("cannot start {name}: {why} (its own words are above)"));
        };
        let ready = Ready::parse(&line)
            .ok_or_else(|| format!("cannot use {name}: it said {line:?}, not a ready line"))?;
        Ok((guarded, ready))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.wait(Duration::ZERO)
    }

    /// Asks it to end with SIGTERM and gives its exit status.
    pub fn terminate(mut self, within: Duration) -> Result<ExitStatus, String> {
        let asked = kill_process(Pid::from_child(&self.child), Signal::TERM);
        asked.map_err(|error| format!("cannot stop {}: {error}", self.name))?;
        self.wait(within)
            .ok_or_else(|| format!("{} did not end within {within:?}: killed", self.name))
    }

    /// Its exit status, once it has ended; nothing when it runs on.
    fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::park_timeout(LOOK),
                _ => return None,
            }
        }
    }
}

/// What a ready line named: names and their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready(Vec<(String, Vec<SocketAddr>)>);

impl Ready {
    fn parse(line: &str) -> Option<Self> {
        let pairs = line.trim_end().strip_prefix("ready ")?.split(' ').map(|pair| {
            let (name, addresses) = pair.split_once('=')?;
            let addresses = addresses.split(',').map(|address| address.parse().ok());
            Some((name.to_owned(), addresses.collect::<Option<Vec<_>>>()?))
        });
        pairs.collect::<Option<Vec<_>>>().map(Self)
    }

    /// The first address of `name`, an error that says it is missing otherwise.
    pub fn address(&self, name: &str) -> Result<SocketAddr, String> {
        self.addresses(name).map(|addresses| addresses[0])
    }

    /// The addresses of `name`, at least one.
    pub fn addresses(&self, name: &str) -> Result<&[SocketAddr], String> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let addresses = found.map(|(_, addresses)| addresses.as_slice());
        addresses.ok_or_else(|| format!("no {name} in its ready line"))
    }
}

/// The first line, or nothing within the time; the rest is read and discarded, so that the child
/// never waits for us.
fn first_line(stdout: ChildStdout) -> Option<String> {
    let (sender, line) = mpsc::channel();
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut first = String::new();
        if stdout.read_line(&mut first).is_ok_and(|count| count > 0) {
            let _ = sender.send(first);
        }
        drop(sender);
        let mut rest = [0; 4096];
        while stdout.read(&mut rest).is_ok_and(|count| count > 0) {}
    });
    line.recv_timeout(READY_TIMEOUT).ok()
}

/// `wanted`, or a free port of its address where it is taken.
pub fn free_address(wanted: SocketAddr) -> Result<SocketAddr, String> {
    let any = SocketAddr::new(wanted.ip(), 0);
    TcpListener::bind(wanted)
        .or_else(|_| TcpListener::bind(any))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("cannot listen on {any}: {}", errno::cause(&error)))
}

/// Calls `act` at the first SIGINT or SIGTERM. Guards do not run when a signal ends the process, so
/// here it only asks: `act` sets a flag that somebody looks at.
pub fn on_stop_signal(act: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Without it a signal ends us at once, as it does any program.
        let Ok(runtime) = runtime else { return };
        if runtime.block_on(stop_signal()).is_ok() {
            act();
        }
    });
}

/// Completes at the first SIGINT or SIGTERM.
pub async fn stop_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_names_addresses() {
        let line = "ready admin=127.0.0.1:41001 edge=127.0.0.1:41002,[::1]:41002\n";
        let ready = Ready::parse(line).unwrap();
        assert_eq!(ready.address("edge"), Ok("127.0.0.1:41002".parse().unwrap()));
        assert_eq!(ready.addresses("edge").unwrap()[1], "[::1]:41002".parse().unwrap());
        assert!(ready.address("other").is_err());
        assert_eq!(Ready::parse("listening"), None);
    }
}

//! Somebody who connects all the time.

use std::{
    io::{self, ErrorKind, Read},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{pause, peer, wait_until};

/// Between two connections: a few hundred a second.
const REST: Duration = Duration::from_millis(2);

/// One connection after the other to servers that say their names, until it is dropped.
pub struct Steady {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Steady {
    pub fn start(edge: SocketAddr) -> Steady {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&served));
        let thread = thread::spawn(move || {
            let mut failed = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match is_served(edge) {
                    Ok(()) => _ = count.fetch_add(1, Ordering::Relaxed),
                    Err(error) => failed.push(error.to_string()),
                }
                pause(REST);
            }
            failed
        });
        Steady { stop, served, thread: Some(thread) }
    }

    /// Connections that were served so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until that many more were served.
    pub fn more(&self, count: u64) {
        let until = self.served() + count;
        wait_until("more clients served", || self.served() >= until);
    }

    /// Ends it; what went wrong, for each connection that was not served.
    pub fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(|thread| thread.join().unwrap()).unwrap()
    }
}

/// From the dial to the end of both directions.
fn is_served(edge: SocketAddr) -> io::Result<()> {
    let mut client = peer::connect(edge);
    client.read_exact(&mut [0])?;
    client.shutdown(Shutdown::Write)?;
    match client.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "more than a name")),
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

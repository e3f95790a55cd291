//! Clients that ask for a server's first byte, one after the other.

use std::{
    fmt,
    io::{self, Read},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::kit::{Proxy, peer};

/// What they met.
#[derive(Default)]
pub struct Asked {
    pub failed: usize,
    /// From the connect to the first byte, of those who got one.
    took: Vec<Duration>,
}

impl Asked {
    /// So many.
    pub fn of(proxy: &Proxy, clients: usize) -> Asked {
        let mut left = clients;
        Asked::until(proxy, move || {
            left -= 1;
            left == 0
        })
    }

    /// One at least, until it is enough.
    pub fn until(proxy: &Proxy, mut enough: impl FnMut() -> bool) -> Asked {
        let mut asked = Asked::default();
        loop {
            let since = Instant::now();
            match first_byte(proxy) {
                Ok(()) => asked.took.push(since.elapsed()),
                Err(_) => asked.failed += 1,
            }
            if enough() {
                asked.took.sort_unstable();
                return asked;
            }
        }
    }
}

fn first_byte(proxy: &Proxy) -> io::Result<()> {
    let mut client = peer::with_deadlines(TcpStream::connect(proxy.edge[0])?);
    client.read_exact(&mut [0])
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (served, failed) = (self.took.len(), self.failed);
        let at = |share: f64| {
            let place = (served as f64 * share) as usize;
            self.took.get(place.min(served.saturating_sub(1))).copied().unwrap_or_default()
        };
        write!(
            f,
            "{failed} of {} failed, first byte after p50 {:?}, p99 {:?}, at most {:?}",
            served + failed,
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

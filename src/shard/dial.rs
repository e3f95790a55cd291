//! Connects to a backend by a deadline; on failure picks again within the attempts.

use std::{io, rc::Rc, time::Instant};

use rustix::io::Errno;

use super::{
    Shard,
    conn::Conn,
    pick::{Standing, Tried},
    record,
};
use crate::{
    bridge::{EndReason, Failure, Health},
    rt::Socket,
    sock,
};

/// One connection in flight to a backend, its dial included; dropping it gives the place back.
pub struct Lease {
    shard: Rc<Shard>,
    /// Index into the plan's backends.
    pub backend: usize,
}

impl Lease {
    fn take(shard: &Rc<Shard>, backend: usize) -> Lease {
        shard.bridge.boards.in_flight.up(shard.id, backend);
        Lease { shard: Rc::clone(shard), backend }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shard.bridge.boards.in_flight.down(self.shard.id, self.backend);
    }
}

/// Finds `conn` a server. The socket is then `conn`'s.
///
/// # Errors
/// Why there is none: the last dial's cause, `NoBackend` where none could be tried, or what ended
/// the connection meanwhile.
pub async fn reach(shard: &Rc<Shard>, conn: &Conn) -> Result<Lease, EndReason> {
    let pool = shard.bridge.plan.listeners[conn.listener].pool;
    let mut tried = Tried::default();
    let mut cause = EndReason::NoBackend;
    loop {
        if let Some(ended) = conn.ended() {
            return Err(ended);
        }
        let Some(lease) = pick(shard, pool, &tried) else { return Err(cause) };
        let outcome = dial(shard, conn, pool, &lease).await;
        let first = shard.bridge.plan.pools[pool].backends.start;
        let mut pickers = shard.pickers.borrow_mut();
        match outcome {
            Ok(()) => {
                pickers[pool].succeeded(lease.backend - first);
                return Ok(lease);
            }
            Err(failure) => {
                record::dial_failed(shard, lease.backend, failure);
                // A shortage of our own says nothing about the backend.
                if failure != Failure::Local {
                    pickers[pool].failed(lease.backend - first, Instant::now());
                }
                tried.add(lease.backend - first);
                cause = end_reason(failure);
            }
        }
    }
}

fn pick(shard: &Rc<Shard>, pool: usize, tried: &Tried) -> Option<Lease> {
    let bridge = shard.bridge;
    let range = bridge.plan.pools[pool].backends.clone();
    let first = range.start;
    let standing = |i: usize| Standing {
        usable: bridge.health.get(first + i) == Health::Healthy,
        in_flight: bridge.boards.in_flight.sum(first + i),
    };
    let chosen = shard.pickers.borrow_mut()[pool].pick(
        &bridge.plan.backends[range],
        standing,
        tried,
        Instant::now(),
        &mut shard.rng.borrow_mut(),
    )?;
    Some(Lease::take(shard, first + chosen))
}

async fn dial(shard: &Shard, conn: &Conn, pool: usize, lease: &Lease) -> Result<(), Failure> {
    let plan = &shard.bridge.plan;
    let began = Instant::now();
    let server = Socket::connect(plan.backends[lease.backend].address).map_err(failure)?;
    conn.dialing(&server);
    match server.connected(plan.pools[pool].connect_timeout).await {
        Ok(()) if conn.ended().is_none() => {
            record::established(shard, conn, lease.backend, began);
            Ok(())
        }
        outcome => {
            conn.dial_failed();
            outcome.map_err(failure)
        }
    }
}

fn failure(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::Timeout;
    }
    if sock::is_shortage(&error) {
        return Failure::Local;
    }
    match Errno::from_io_error(&error) {
        // A rule of this host's firewall answers with PERM or ACCESS: for us the backend is as far
        // away as without a route.
        Some(
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::HOSTDOWN
            | Errno::INVAL
            | Errno::PERM
            | Errno::ACCESS,
        ) => Failure::Unreachable,
        _ => Failure::Refused,
    }
}

fn end_reason(failure: Failure) -> EndReason {
    match failure {
        Failure::Timeout => EndReason::ConnectTimeout,
        Failure::Unreachable => EndReason::ConnectUnreachable,
        Failure::Local => EndReason::ConnectLocal,
        _ => EndReason::ConnectRefused,
    }
}

//! Connects to a backend by a deadline; on failure picks again within the attempts.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use rustix::io::Errno;

use super::{
    Shard,
    conn::Conn,
    pick::Tried,
    record,
    upstream::{self, Lease, NoLease, Picked},
};
use crate::{
    bridge::{Dialed, EndReason, Failure, Refusal, SendProxy},
    limits::OWN_DIALS_MAX,
    planted::{self, Place},
    proxy_header::Header,
    rt,
    wire::Wire,
};

/// How often is looked whether a connection is a dial of our own that has just begun: a few turns,
/// then each millisecond, for a second. Its shard tells right after the dial; but that wakes us,
/// and where both share a CPU it may have to wait for us.
const LOOKS_MAX: usize = 1_000;
const TURNS: usize = 4;
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Finds `conn` a server. The socket is then `conn`'s.
///
/// # Errors
/// Why there is none: the last dial's cause, `NoBackend` or `Overload` where none could be tried,
/// or what ended the connection meanwhile.
pub async fn reach(shard: &Rc<Shard>, conn: &Conn) -> Result<Lease, EndReason> {
    let above = own_dials_above(shard, conn).await;
    if above > OWN_DIALS_MAX {
        record::unpicked(shard, conn.arrival.listener, Refusal::Loop);
        return Err(EndReason::Denied);
    }
    let pool = shard.bridge.plan.listeners[conn.arrival.listener].speaks.pool();
    let mut tried = Tried::default();
    let mut cause = None;
    let mut unanswered = false;
    loop {
        if let Some(ended) = conn.ended() {
            return Err(ended);
        }
        let picked = match upstream::lease(shard, pool, conn, &tried) {
            Ok(picked) => picked,
            Err(why) => return Err(cause.unwrap_or_else(|| untried(shard, conn, why))),
        };
        if tried.count() == 0 {
            upstream::first_attempt(shard, pool);
        } else if unanswered && !upstream::allows_another(shard, pool) {
            return Err(EndReason::ConnectTimeout);
        }
        let (cuts, slot) = (&shard.bridge.boards.cuts, picked.lease.slot());
        let orders = cuts.of(slot);
        planted::panic_at(Place::Picked, conn.arrival.client);
        let began = rt::now();
        match dial(shard, conn, &picked, above).await {
            // Something else has ended it meanwhile, perhaps by aborting the dial: that says
            // nothing about the backend.
            _ if conn.ended().is_some() => {}
            Ok(()) => {
                record::established(shard, conn, &picked.lease, began);
                planted::panic_at(Place::Connected, conn.arrival.client);
                if cuts.of(slot) == orders {
                    record::settled(shard, &picked.lease);
                    return Ok(picked.lease);
                }
                // The sessions of this backend are being cut: this is to be none of them.
                conn.abort_server();
                tried.add(slot, picked.priority);
            }
            Err(failure) => {
                record::failed(shard, &picked, failure, &mut tried);
                cause = Some(end_reason(failure));
                unanswered = failure == Failure::Timeout;
            }
        }
    }
}

/// Why a connection ends for which nobody was dialed.
fn untried(shard: &Shard, conn: &Conn, why: NoLease) -> EndReason {
    match why {
        NoLease::Nobody => EndReason::NoBackend,
        NoLease::Full => {
            record::unpicked(shard, conn.arrival.listener, Refusal::BackendsFull);
            EndReason::Overload
        }
    }
}

/// How many dials of our own are above a connection: 0 for one of somebody else.
async fn own_dials_above(shard: &Shard, conn: &Conn) -> u8 {
    let loops = &shard.bridge.loops;
    if !loops.may_be_ours(conn.arrival.listener) {
        return 0;
    }
    // One that is gone already has nobody to be a loop for.
    let Ok(here) = conn.client.local_address() else { return 0 };
    for look in 0..LOOKS_MAX {
        match loops.depth(conn.arrival.client, here.port()) {
            Some(depth) => return depth,
            None if look < TURNS => rt::turn().await,
            None => rt::sleep(LOOK_AGAIN).await,
        }
    }
    0
}

/// Whether a server is near, or nothing is known of it yet.
fn may_be_near(shard: &Shard, slot: usize) -> bool {
    shard.near.with(|near| near[slot] != Some(false))
}

/// Begins to connect. A dial of ourselves leaves word of how deep it is, which is three calls more
/// for it and one load for every other.
fn begin(shard: &Shard, conn: &Conn, picked: &Picked, above: u8) -> io::Result<Wire> {
    let options = &shard.bridge.plan.listeners[conn.arrival.listener].sockets;
    let telling = shard.bridge.loops.dial(picked.lease.slot());
    let server = Wire::connect(picked.address)?;
    // Until its client has shown that it reads. For a far one a small window costs round trips.
    if options.unsent_max > 0 && may_be_near(shard, picked.lease.slot()) {
        conn.is_held.set(server.hold_receive_buffer());
    }
    if let Some(telling) = telling {
        telling.tell(server.local_address()?, picked.address.port(), above + 1);
    }
    match shard.bridge.gates.is_for_traffic(&server) {
        true => Ok(server),
        false => Err(Errno::MFILE.into()),
    }
}

/// One attempt; its socket is `conn`'s where it succeeds.
async fn dial(shard: &Shard, conn: &Conn, picked: &Picked, above: u8) -> Result<(), Failure> {
    conn.attempt(Dialed { slot: picked.lease.slot() as u32, address: picked.address });
    let failure = |error| failure(error, picked.address);
    let server = begin(shard, conn, picked, above).map_err(failure)?;
    conn.dialing(&server);
    planted::panic_at(Place::Dialing, conn.arrival.client);
    let pool = &shard.bridge.plan.pools[picked.lease.pool()];
    let outcome = match server.connected(pool.connect_timeout).await {
        Ok(()) if conn.ended().is_none() => recognise(&server, picked.address)
            .and_then(|()| introduce(conn, &server, pool.send_proxy)),
        outcome => outcome,
    };
    match outcome {
        Ok(()) if conn.ended().is_none() => Ok(()),
        outcome => {
            conn.forget_server();
            outcome.map_err(failure)
        }
    }
}

/// Looks whether somebody else is at the other end: where nobody listens, a dial of this host may
/// have met itself. One `getsockname(2)` for a connection.
fn recognise(server: &Wire, address: SocketAddr) -> io::Result<()> {
    if server.is_its_own_peer(address) {
        // A FIN would keep the port in TIME_WAIT, and the backend could not listen on it again.
        server.abort();
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

/// Tells the server who its client is, before any byte of the client.
///
/// One send, and no wait: the queue of a fresh socket is empty. Where it takes less than the whole
/// header the kernel is short of memory, and the dial has failed: nothing of the client went out,
/// so another backend may serve it.
fn introduce(conn: &Conn, server: &Wire, version: SendProxy) -> io::Result<()> {
    if version == SendProxy::Off {
        return Ok(());
    }
    let address = conn.client.local_address()?;
    let Some(header) = Header::of_client(version, conn.arrival.client, address) else {
        return Ok(());
    };
    // With half a header a FIN would look like a client that said little; a reset is no client.
    server.send_first(header.bytes()).inspect_err(|_| server.abort())
}

fn failure(error: io::Error, address: SocketAddr) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::Timeout;
    }
    if rt::dial_is_short(&error, address) {
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
            | Errno::ADDRNOTAVAIL
            | Errno::AFNOSUPPORT
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

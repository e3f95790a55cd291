//! The one listener to what happens to a connection: numbers, picker and access log hang here.
//!
//! Each connection is recorded exactly once, by [`finish`] or [`refused`]; an [`Outcome`] is taken
//! by value, so it cannot be recorded twice.

use std::time::{Duration, Instant};

use super::{
    Shard,
    conn::Conn,
    pick::{EARLY_MAX, Took, Tried},
    upstream::{self, Lease, Picked},
};
use crate::{
    bridge::{
        Arrival, BackendPhase, ConnRecord, EarlyEnd, EndReason, Failure, ListenerPhase, Refusal,
    },
    maglev,
    planted::{self, Bug},
    rt,
};

/// A server that accepts within this time is so near that a large receive buffer only delays.
const NEAR: Duration = Duration::from_millis(1);

/// And one that takes this long is not, however busy this host is.
const FAR: Duration = Duration::from_millis(20);

/// How one connection went, once its sockets are closed.
#[derive(Debug)]
#[must_use = "an outcome that is not recorded is a connection nobody can account for"]
pub struct Outcome {
    record: ConnRecord,
    /// The backend it was established to.
    served_by: Option<usize>,
    /// What the backend did wrong before it sent a byte.
    failure: Option<Failure>,
}

impl Outcome {
    /// A connection that never got a server.
    pub fn unserved(conn: &Conn, end: EndReason) -> Outcome {
        Outcome { record: conn.record(end, false), served_by: None, failure: None }
    }

    /// A connection that was relayed to `backend`.
    pub fn served(conn: &Conn, backend: usize) -> Outcome {
        let end = conn.end_reason();
        let failure = match end {
            _ if conn.answered.is_set() => None,
            EndReason::ServerReset => Some(Failure::ResetBeforeFirstByte),
            EndReason::ServerFin if conn.asked.is_set() => Some(Failure::ClosedBeforeFirstByte),
            _ => None,
        };
        Outcome { record: conn.record(end, true), served_by: Some(backend), failure }
    }
}

/// A connection is over.
pub fn finish(shard: &Shard, outcome: Outcome) {
    let Outcome { mut record, served_by, failure } = outcome;
    if record.end == EndReason::ServerReset && planted::has(Bug::Unrecorded) {
        return;
    }
    let (board, listener) = (shard.board(), record.arrival.listener);
    // The failure first: whoever sees the end finds its cause.
    if let (Some(slot), Some(failure)) = (served_by, failure) {
        board.backends[slot].failures(failure).add(1);
        tell_early_end(shard, &record, slot, failure);
    }
    board.listeners[listener].ended(record.end).add(1);
    record.session = rt::now() - record.arrival.at;
    if let Some(slot) = served_by {
        note_early(shard, &record, slot);
        shard.histograms(|h| h.listeners[listener][ListenerPhase::Session].record(record.session));
    }
    log(shard, record);
}

/// A server that took a connection and ended it at once, without a byte, is less welcome to the
/// next one.
fn note_early(shard: &Shard, record: &ConnRecord, slot: usize) {
    let by_server = matches!(record.end, EndReason::ServerFin | EndReason::ServerReset);
    let lasted = record.session.saturating_sub(record.connect.unwrap_or_default());
    if by_server && record.first_byte.is_none() && lasted < EARLY_MAX {
        let pool = shard.bridge.plan.listeners[record.arrival.listener].speaks.pool();
        upstream::tell(shard, pool, |picker| picker.ended_early(slot, rt::now()));
    }
}

/// Leaves an early end for the coordinator where the pool's outlier detection asks for them.
fn tell_early_end(shard: &Shard, record: &ConnRecord, slot: usize, failure: Failure) {
    let plan = &shard.bridge.plan;
    let pool = &plan.pools[plan.listeners[record.arrival.listener].speaks.pool()];
    if pool.early_ends.contain(failure) {
        let client = maglev::network_key(record.arrival.client.ip());
        // Full: the ones before are enough to judge by.
        let _ = shard.board().early_ends.push(EarlyEnd { slot: slot as u32, client });
    }
}

/// A connection was closed before a pick.
pub fn refused(shard: &Shard, arrival: Arrival, refusal: Refusal) {
    let board = &shard.board().listeners[arrival.listener];
    board.refused(refusal).add(1);
    board.ended(refusal.end_reason()).add(1);
    let record = ConnRecord::new(arrival, refusal.end_reason());
    log(shard, ConnRecord { session: rt::now() - arrival.at, ..record });
}

/// Leaves a connection's record for the access log, if there is one.
fn log(shard: &Shard, record: ConnRecord) {
    if let Some(records) = &shard.board().records {
        records.leave(record);
    }
}

/// Nobody was picked for a connection, which ends for that.
pub fn unpicked(shard: &Shard, listener: usize, refusal: Refusal) {
    shard.board().listeners[listener].refused(refusal).add(1);
}

/// A dial has failed: it counts, its server is not tried again for this connection, and is less
/// welcome to the next one. A shortage of our own says nothing about the server.
pub fn failed(shard: &Shard, picked: &Picked, failure: Failure, tried: &mut Tried) {
    let slot = picked.lease.slot();
    shard.board().backends[slot].failures(failure).add(1);
    if failure != Failure::Local {
        upstream::tell(shard, picked.lease.pool(), |picker| picker.failed(slot, rt::now()));
    }
    tried.add(slot, picked.priority);
}

/// A dial has succeeded, which `began` when its socket was made.
pub fn established(shard: &Shard, conn: &Conn, lease: &Lease, began: Instant) {
    let now = rt::now();
    conn.established.set(&conn.arrival, now);
    let (slot, took) = (lease.slot(), now - began);
    let is_near = shard.near.with(|near| {
        // Between the two it is far, or near on a busy host: what was seen before counts.
        if took < NEAR || took >= FAR {
            near[slot] = Some(took < NEAR);
        }
        near[slot] == Some(true)
    });
    if !is_near {
        conn.free_window();
    }
    shard.board().backends[lease.slot()].established.add(1);
    shard.histograms(|h| {
        h.listeners[conn.arrival.listener][ListenerPhase::Connect].record(now - conn.arrival.at);
        h.backends[lease.slot()][BackendPhase::Connect].record(now - began);
    });
    upstream::tell(shard, lease.pool(), |picker| picker.took(slot, Took::Alone(took), now));
}

/// The connection stays with the server of a dial that has succeeded.
pub fn settled(shard: &Shard, lease: &Lease) {
    upstream::tell(shard, lease.pool(), |picker| picker.succeeded(lease.slot()));
}

/// The first byte of the server was received.
pub fn first_byte(shard: &Shard, conn: &Conn, pool: usize, slot: usize) {
    let now = rt::now();
    conn.answered.set(&conn.arrival, now);
    let age = now - conn.arrival.at;
    let established = conn.established.get().unwrap_or_default();
    shard.histograms(|h| {
        h.listeners[conn.arrival.listener][ListenerPhase::FirstByte].record(age);
        h.backends[slot][BackendPhase::FirstByte].record(age.saturating_sub(established));
    });
    shard.board().backends[slot].answered.add(1);
    // A client that thinks before it asks, or speaks in pieces, is no fault of the server.
    let took = match conn.asked.get() {
        None => Took::Alone(age.saturating_sub(established)),
        Some(asked) => {
            let key = maglev::network_key(conn.arrival.client.ip());
            Took::Answer(age.saturating_sub(asked.max(established)), key)
        }
    };
    upstream::tell(shard, pool, |picker| {
        picker.took(slot, took, now);
        picker.answered(slot);
    });
}

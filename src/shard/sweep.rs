//! Deadlines of all connections, by one coarse pass instead of a timer for each.
//!
//! Nothing on the path of a message touches a timer: a connection notes when it last moved, and the
//! sweep compares. At most [`SWEEP_PER_TURN`] connections are looked at before others get a turn.

use std::{num::NonZeroU64, rc::Rc, time::Duration};

use super::{
    Shard,
    conn::{Conn, Phase},
    cut,
};
use crate::{
    bridge::{Direction, EndReason, Listener, Side},
    limits::{FLUSH_MAX, SWEEP_PER_TURN},
    rt,
};

/// How often the shard's clock moves and histograms are exchanged.
pub const TICK: Duration = Duration::from_millis(50);

/// The most the clock moves in one tick. A process that was stopped has not seen its connections
/// silent: they could not have moved.
pub const STEP_MAX: Duration = TICK.saturating_mul(4);

/// A pass is made at least this often, and eight times within the shortest timeout.
const PASS_MAX: Duration = Duration::from_secs(1);

/// Ticks for ever.
pub async fn run(shard: Rc<Shard>) {
    let period = pass_period(&shard).as_millis() as u64;
    let mut next_pass = period;
    loop {
        rt::sleep(TICK).await;
        shard.tick();
        if shard.clock_ms() >= next_pass {
            pass(&shard, period).await;
            next_pass = shard.clock_ms() + period;
        }
    }
}

fn pass_period(shard: &Shard) -> Duration {
    let plan = &shard.bridge.plan;
    let listeners = plan.listeners.iter();
    let idle = listeners.flat_map(|l| [l.idle_timeout, l.half_close_timeout]).flatten();
    let dials = plan.pools.iter().map(|p| p.connect_timeout);
    let shortest = idle.chain(dials).min().unwrap_or(PASS_MAX);
    (shortest / 8).clamp(TICK, PASS_MAX)
}

async fn pass(shard: &Rc<Shard>, period_ms: u64) {
    let mut from = 0;
    while from < shard.table_len() {
        for conn in shard.table_slice(from, SWEEP_PER_TURN) {
            look_at(shard, &conn, period_ms);
        }
        from += SWEEP_PER_TURN;
        if from < shard.table_len() {
            rt::turn().await;
        }
    }
}

fn look_at(shard: &Shard, conn: &Conn, period_ms: u64) {
    let listener = &shard.bridge.plan.listeners[conn.arrival.listener];
    let still_ms = shard.clock_ms().saturating_sub(conn.moved_ms.get());
    match conn.phase() {
        Phase::Dialing if conn.client.was_reset() => cut::cut(shard, conn, EndReason::ClientReset),
        Phase::Dialing | Phase::Closing => {}
        Phase::Cutting(_) => cut::advance(shard, conn),
        Phase::Relaying | Phase::HalfClosed(_) => {
            if still_ms >= period_ms && !conn.is_watched.replace(true) {
                watch_server(listener, conn);
            }
            if still_ms >= period_ms && queues_moved(conn, still_ms < 4 * period_ms) {
                conn.moved_ms.set(shard.clock_ms());
            } else if let Some(reason) = overdue(listener, conn.phase(), still_ms) {
                cut::cut(shard, conn, reason);
            } else {
                watch_blocked(shard, conn);
                watch_finished(shard, conn);
                watch_silent(conn, (period_ms..4 * period_ms).contains(&still_ms));
            }
        }
    }
}

/// The first silence of a connection is early enough: one that is short need not pay for it. The
/// client's socket has it from its listener.
fn watch_server(listener: &Listener, conn: &Conn) {
    if let Some(server) = conn.wire(Side::Server) {
        server.watch(&listener.sockets.liveness);
    }
}

/// Whether a side has acknowledged something since the last look: a reader that is slow is no
/// silent one. Asked when a connection has just fallen silent, and as long as something is queued.
fn queues_moved(conn: &Conn, just_fell_silent: bool) -> bool {
    (just_fell_silent || conn.has_unacked()) && conn.queues_moved()
}

/// [`STEP_MAX`] is added to each deadline, because the clock of the last byte may be that old: a
/// timeout is never early.
fn overdue(listener: &Listener, phase: Phase, still_ms: u64) -> Option<EndReason> {
    let over = |limit: Option<Duration>| {
        limit.is_some_and(|limit| u128::from(still_ms) >= (limit + STEP_MAX).as_millis())
    };
    match phase {
        Phase::HalfClosed(_) if over(listener.half_close_timeout) => {
            Some(EndReason::HalfCloseTimeout)
        }
        _ if over(listener.idle_timeout) => Some(EndReason::IdleTimeout),
        _ => None,
    }
}

/// Nobody reads a side whose FIN was read, so nobody sees it reset. What it sent before is passed
/// on first, in the time a reset gets.
fn watch_finished(shard: &Shard, conn: &Conn) {
    let Some(side) = conn.first_fin_side() else { return };
    let (Some(finished), Some(other)) = (conn.wire(side), conn.wire(side.other())) else {
        return;
    };
    if finished.was_reset() && (other.unsent() == 0 || hung_up_too_long(shard, conn)) {
        conn.decide(EndReason::reset_by(side));
        conn.abort();
    }
}

/// Notes that a side is dead; true once it has been for as long as a reset may take.
fn hung_up_too_long(shard: &Shard, conn: &Conn) -> bool {
    let now = shard.clock_ms();
    let since = conn.hung_up_ms.get().map_or(now, NonZeroU64::get);
    // A clock that still stands at 0 has time to be looked at again.
    conn.hung_up_ms.set(NonZeroU64::new(since));
    u128::from(now - since) >= FLUSH_MAX.as_millis()
}

/// A direction that waits for its sink does not read its source, so it cannot see it die. Once it
/// has, the sink gets the time a reset gets to be passed on.
fn watch_blocked(shard: &Shard, conn: &Conn) {
    for direction in Direction::ALL {
        let side = direction.source();
        // Whoever wrote to the dead side has taken the error off its socket and noted the reset.
        let noted = conn.ended().and_then(|end| end.reset_side()) == Some(side);
        let dead = || noted || conn.wire(side).is_some_and(|wire| wire.was_reset());
        if conn.is_blocked(direction) && dead() && hung_up_too_long(shard, conn) {
            conn.decide(EndReason::reset_by(side));
            conn.abort();
            conn.abort();
        }
    }
}

/// Whoever waits for bytes may never be told of a reset. Kernel: a receive that goes on can take
/// bytes and forget the reset that came with them (Linux 6.5 until a68ed2df7213 of 2026-03); and
/// one that the other direction met by writing leaves nothing to tell. So a side that has just
/// fallen silent is asked, a few times a silence; the receive of a dead one ends, and its reader
/// asks the socket itself.
fn watch_silent(conn: &Conn, just_fell_silent: bool) {
    for direction in Direction::ALL {
        let side = direction.source();
        let noted = conn.ended().and_then(|end| end.reset_side()) == Some(side);
        if !(noted || just_fell_silent) || conn.is_blocked(direction) {
            continue;
        }
        if let Some(wire) = conn.wire(side).filter(|wire| noted || wire.was_reset()) {
            wire.stop_recv();
        }
    }
}

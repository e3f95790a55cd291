//! Ends connections by a decision of ours: a timeout, a drain, a backend that has failed.
//!
//! What is queued for a side comes first, as long as a reset that is passed on may take
//! ([`FLUSH_MAX`]); then that side is reset, since a FIN would say that this was all. Where our FIN
//! is out already it was all: that side stays as long as its acknowledgements move, what it still
//! says is dropped, and it is closed in order.

use std::{num::NonZeroU64, rc::Rc, time::Duration};

use super::{
    Shard,
    conn::{Conn, Phase},
};
use crate::{
    bridge::{Direction, EndReason, Side},
    limits::{FLUSH_MAX, LINGER_MAX},
    rt,
    wire::Wire,
};

/// Between two looks of a connection whose tasks are over.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Ends a connection for `reason`. One that is being ended already has bounds of its own.
pub fn cut(shard: &Shard, conn: &Conn, reason: EndReason) {
    let told = match conn.phase() {
        Phase::Closing | Phase::Cutting(_) => return,
        Phase::Dialing => {
            conn.decide(reason);
            return conn.abort();
        }
        Phase::Relaying => None,
        Phase::HalfClosed(ended) => Some(ended.other()),
    };
    conn.decide(reason);
    conn.enter(Phase::Cutting(told));
    let now = shard.clock_ms();
    conn.moved_ms.set(now);
    // A clock that still stands at 0 has time to be looked at again.
    conn.hung_up_ms.set(NonZeroU64::new(now.max(1)));
    conn.queues_moved();
    advance(shard, conn);
}

/// Takes a cut further: a side is done with once it has acknowledged everything, or its time is
/// over. Called by the sweep, because a task that waits for a full sink cannot.
pub fn advance(shard: &Shard, conn: &Conn) {
    let Phase::Cutting(told) = conn.phase() else { return };
    let now = shard.clock_ms();
    if conn.queues_moved() {
        conn.moved_ms.set(now);
    }
    let passed = |since: u64| u128::from(now.saturating_sub(since)) >= FLUSH_MAX.as_millis();
    let cut_at = conn.hung_up_ms.get().map_or(now, NonZeroU64::get);
    for side in [Side::Client, Side::Server] {
        let Some(wire) = conn.wire(side) else { continue };
        // The direction to this side has bytes in hand, or the kernel has them.
        let is_awaited = conn.is_blocked(Direction::to(side)) || wire.is_sending();
        let is_empty = !is_awaited && wire.unsent() == 0;
        match told == Some(side) {
            // Wakes the one who drops what this side says.
            true if is_empty => wire.stop_reading(),
            true if passed(conn.moved_ms.get()) || is_long_ago(now, cut_at) => wire.abort(),
            false if is_empty || passed(cut_at) => wire.abort(),
            _ => {}
        }
    }
}

/// Whoever acknowledges a byte now and then does not stay for ever.
fn is_long_ago(now: u64, cut_at: u64) -> bool {
    u128::from(now.saturating_sub(cut_at)) >= LINGER_MAX.as_millis()
}

/// Waits until a connection that we cut may be closed; its two tasks are over.
pub async fn finish(shard: &Rc<Shard>, conn: &Conn) {
    let mut pause = Duration::from_millis(1);
    advance(shard, conn);
    while !is_settled(conn) {
        rt::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        advance(shard, conn);
    }
}

fn is_settled(conn: &Conn) -> bool {
    let settled = |wire: Wire| wire.is_over() || wire.unsent() == 0;
    [Side::Client, Side::Server].into_iter().filter_map(|side| conn.wire(side)).all(settled)
}

/// Cuts the sessions of backends whose check has failed, those that are there now.
pub fn follow_orders(shard: &Shard) {
    let cuts = &shard.bridge.boards.cuts;
    if shard.cuts_seen.replace(cuts.all()) == cuts.all() {
        return;
    }
    let slots = shard.cuts_seen_of.with(|seen| cuts.fresh(seen));
    for conn in shard.table_slice(0, usize::MAX) {
        let is_there = |slot: usize| conn.is_relayed() && slots.contains(&slot);
        if conn.dialed_slot().is_some_and(is_there) {
            cut(shard, &conn, EndReason::BackendUnhealthy);
        }
    }
}

//! Stop, finish, cut.

use std::rc::Rc;

use super::{Shard, accept};
use crate::{
    bridge::{EndReason, Phase, ShardState},
    sock,
};

/// Follows the phase of the process; called after each ring of the shard's bell.
pub fn follow(shard: &Rc<Shard>) {
    let phase = shard.bridge.phase();
    if phase >= Phase::Draining {
        stop_accepting(shard);
    }
    if phase >= Phase::Cutting {
        cut(shard);
    }
    note_if_done(shard);
}

/// Kernel: closing one of several `SO_REUSEPORT` listeners resets what is queued on it, so the
/// queue is emptied first (102 of 200 queued connections were lost without this).
fn stop_accepting(shard: &Rc<Shard>) {
    for (listener, socket) in shard.listening.take() {
        accept::take_all(shard, listener, &socket);
        sock::stop_listening(&socket);
    }
}

fn cut(shard: &Shard) {
    for conn in shard.table_slice(0, usize::MAX) {
        conn.decide(EndReason::Drained);
    }
}

/// Says so when the last connection of a draining shard is gone.
pub fn note_if_done(shard: &Shard) {
    let stopped = shard.listening.borrow().is_empty();
    if stopped && shard.bridge.phase() >= Phase::Draining && shard.board().active() == 0 {
        shard.board().set_state(ShardState::Done);
    }
}

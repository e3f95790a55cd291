//! Stop, finish, cut.

use std::rc::Rc;

use super::{Shard, accept, cut, handover};
use crate::{
    bridge::{EndReason, Phase, ShardState},
    sock,
};

/// Takes what other shards have left here and follows the phase of the process; called after each
/// ring of the shard's bell.
pub fn follow(shard: &Rc<Shard>) {
    handover::take_all(shard);
    cut::follow_orders(shard);
    let phase = shard.bridge.phase();
    if phase >= Phase::Draining {
        stop_accepting(shard);
    }
    if phase >= Phase::Cutting {
        cut_all(shard);
    }
    note_if_done(shard);
}

/// Kernel: closing one of several `SO_REUSEPORT` listeners resets what is queued on it, so the
/// queue is emptied first (102 of 200 queued connections were lost without this).
///
/// From then on this shard hands nothing over, and those that wait for that are told.
fn stop_accepting(shard: &Rc<Shard>) {
    if shard.board().state() != ShardState::Serving {
        return;
    }
    for (listener, socket) in shard.listening.with(std::mem::take) {
        accept::take_all(shard, listener, &socket);
        sock::stop_listening(&socket);
    }
    shard.board().set_state(ShardState::Stopped);
    shard.bridge.ring_all();
}

fn cut_all(shard: &Shard) {
    for conn in shard.table_slice(0, usize::MAX) {
        cut::cut(shard, &conn, EndReason::Drained);
    }
}

/// Says so when the last connection of a draining shard is gone. Not before every shard has stopped
/// accepting: until then another one may leave a connection here.
pub fn note_if_done(shard: &Shard) {
    if shard.bridge.phase() < Phase::Draining || !shard.bridge.all_stopped() {
        return;
    }
    if shard.board().inbox.is_empty() && shard.board().active() == 0 {
        shard.board().set_state(ShardState::Done);
    }
}

//! Fresh connections are spread over the shards: the kernel's hash alone leaves one shard with far
//! more than its share (`docs/decisions/0007`). One that is served is never moved.

use std::rc::Rc;

use super::{Shard, admit, place};
use crate::{
    bridge::{Fresh, Phase},
    limits::HANDED_WAITING_MAX,
};

/// Serves a fresh connection here, or leaves it to a shard that has clearly less.
pub fn settle(shard: &Rc<Shard>, fresh: Fresh) {
    shard.publish_load(1);
    match better(shard, fresh.hops) {
        Some(to) => hand_over(shard, to, fresh),
        None => admit::admit(shard, fresh),
    }
    shard.publish_load(0);
}

/// Takes what others have left for us. They ring after each one, so what comes while we take is
/// another ring's.
pub fn take_all(shard: &Rc<Shard>) {
    for _ in 0..HANDED_WAITING_MAX {
        let Some(fresh) = shard.board().inbox.take() else { return };
        settle(shard, fresh);
    }
}

/// A draining process hands nothing over: who has stopped accepting must not be surprised.
fn better(shard: &Shard, hops: u8) -> Option<usize> {
    let shards = &shard.bridge.boards.shards;
    if shards.len() == 1 || hops >= place::HOPS_MAX || shard.bridge.phase() >= Phase::Draining {
        return None;
    }
    shard.loads.with(|loads| {
        loads.clear();
        loads.extend(shards.iter().map(|board| board.inbox.load()));
        place::better(shard.id, loads)
    })
}

fn hand_over(shard: &Rc<Shard>, to: usize, fresh: Fresh) {
    // Lower our load before the receiver can see the connection: counted on both shards for a
    // moment, it would make the receiver think itself overloaded. Counted on none, it makes a third
    // shard hand something over, which the receiver judges anew.
    shard.publish_load(0);
    let receiver = &shard.bridge.boards.shards[to];
    match receiver.inbox.leave(Fresh { hops: fresh.hops + 1, ..fresh }) {
        Ok(()) => {
            shard.board().handed_off.add(1);
            receiver.bell.ring();
        }
        Err(fresh) => admit::admit(shard, fresh),
    }
}

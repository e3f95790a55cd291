//! What shards have counted of a backend, added up over shards.

use crate::{
    bridge::{Boards, Bridge, Direction, Failure},
    config::{Counted, Outlier},
    health::outlier::Counts,
};

/// One backend's counters over all shards.
#[derive(Clone, Debug, Default)]
pub struct BackendSums {
    pub active: u32,
    pub established: u64,
    pub failures: [u64; Failure::ALL.len()],
    pub bytes: [u64; Direction::ALL.len()],
}

/// Adds up what a slot has counted since the start.
pub fn board_sums(bridge: &Bridge, slot: usize) -> BackendSums {
    let active = bridge.boards.in_flight.sum(slot);
    let mut sums = BackendSums { active, ..BackendSums::default() };
    for shard in &bridge.boards.shards {
        let board = &shard.backends[slot];
        sums.established += board.established.get();
        for failure in Failure::ALL {
            sums.failures[failure as usize] += board.failures(failure).get();
        }
        for direction in Direction::ALL {
            sums.bytes[direction as usize] += board.bytes(direction).get();
        }
    }
    sums
}

/// What outliers are judged by. Bad ones first: one that is counted between the two readings counts
/// next time.
pub fn outlier_counts(boards: &Boards, slot: usize, rules: &Outlier) -> Counts {
    let of = |kinds: &[Failure]| -> u64 {
        let backends = boards.shards.iter().map(|shard| &shard.backends[slot]);
        backends.flat_map(|board| kinds.iter().map(|kind| board.failures(*kind).get())).sum()
    };
    let early = [
        (Counted::Reset, Failure::ResetBeforeFirstByte),
        (Counted::Closed, Failure::ClosedBeforeFirstByte),
    ];
    let undialed = of(&[Failure::Refused, Failure::Timeout, Failure::Unreachable]);
    let counted = early.iter().filter(|(kind, _)| rules.counts(*kind));
    let ended_early = counted.map(|(_, failure)| of(&[*failure])).sum();
    let backends = || boards.shards.iter().map(|shard| &shard.backends[slot]);
    Counts {
        undialed,
        ended_early,
        established: backends().map(|board| board.established.get()).sum(),
        answered: backends().map(|board| board.answered.get()).sum(),
    }
}

//! What `/stats` and `/metrics` say: counters, added up over shards.

mod json;

use std::{collections::BTreeMap, iter, ops::Add};

pub use self::json::render;
use crate::{
    bridge::{Boards, Bridge, Direction, EndReason, Path, PickError, Refusal},
    coordinator::know::{
        counts::{self, BackendSums},
        pools,
    },
    hist::History,
};

/// Which configuration is in force: the one of the start.
pub const CONFIG_GENERATION: u32 = 1;

/// One listener's counters over all shards, read at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub accepted: u64,
    pub refused: [u64; Refusal::ALL.len()],
    pub ended: [u64; EndReason::ALL.len()],
    bytes: [[u64; Path::ALL.len()]; Direction::ALL.len()],
}

/// Adds up a listener's counters. Ends are read before accepts, so that what happens meanwhile
/// never makes more ends than beginnings.
pub fn sums(boards: &Boards, listener: usize) -> Sums {
    let mut sums = Sums::default();
    for shard in &boards.shards {
        let board = &shard.listeners[listener];
        for reason in EndReason::ALL {
            sums.ended[reason as usize] += board.ended(reason).get();
        }
        for refusal in Refusal::ALL {
            sums.refused[refusal as usize] += board.refused(refusal).get();
        }
        for direction in Direction::ALL {
            for path in Path::ALL {
                sums.bytes[direction as usize][path as usize] += board.bytes(direction, path).get();
            }
        }
        sums.accepted += board.accepted.get();
    }
    sums
}

/// The same over all listeners.
pub fn all_sums(bridge: &Bridge) -> Sums {
    let listeners = 0..bridge.plan.listeners.len();
    listeners
        .map(|l| sums(&bridge.boards, l))
        .fold(Sums::default(), |all, one| all.with(&one, u64::add))
}

impl Sums {
    /// What came on top of `before`.
    pub fn since(&self, before: &Sums) -> Sums {
        self.clone().with(before, u64::saturating_sub)
    }

    /// Each count, and its like in `other`, taken together by `by`.
    fn with(mut self, other: &Sums, by: fn(u64, u64) -> u64) -> Sums {
        let ours = self.each_mut();
        ours.zip(other.clone().each_mut()).for_each(|(ours, theirs)| *ours = by(*ours, *theirs));
        self
    }

    fn each_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let counts = iter::once(&mut self.accepted).chain(&mut self.refused);
        counts.chain(&mut self.ended).chain(self.bytes.as_flattened_mut())
    }

    /// Connections that ended otherwise than they should.
    pub fn errors(&self) -> u64 {
        let errors = EndReason::ALL.into_iter().filter(|reason| reason.is_error());
        errors.map(|reason| self.ended[reason as usize]).sum()
    }

    /// Connections open now: what was accepted and has not ended.
    pub fn active(&self) -> u64 {
        self.accepted.saturating_sub(self.ended.iter().sum())
    }

    /// Bytes in one direction.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.bytes[direction as usize].iter().sum()
    }

    /// Bytes on one path.
    pub fn bytes_on(&self, path: Path) -> u64 {
        self.bytes.iter().map(|paths| paths[path as usize]).sum()
    }

    /// Bytes in one direction on one path.
    pub fn bytes_of(&self, direction: Direction, path: Path) -> u64 {
        self.bytes[direction as usize][path as usize]
    }

    /// Reasons that occurred, with their counts.
    pub fn ended_by_name(&self) -> BTreeMap<&'static str, u64> {
        let named = EndReason::ALL.iter().map(|r| (r.name(), self.ended[*r as usize]));
        named.filter(|(_, n)| *n > 0).collect()
    }

    /// Causes that occurred, with their counts.
    fn refused_by_name(&self) -> BTreeMap<&'static str, u64> {
        let named = Refusal::ALL.iter().map(|r| (r.name(), self.refused[*r as usize]));
        named.filter(|(_, n)| *n > 0).collect()
    }
}

/// What a backend has counted since it came.
pub fn backend_sums(bridge: &Bridge, slot: usize, backend: &pools::Backend) -> BackendSums {
    let (now, before) = (counts::board_sums(bridge, slot), &backend.before);
    let since = |(now, before): (&u64, &u64)| now.saturating_sub(*before);
    let each = |i: usize| since((&now.failures[i], &before.failures[i]));
    BackendSums {
        active: now.active,
        established: since((&now.established, &before.established)),
        failures: std::array::from_fn(each),
        bytes: std::array::from_fn(|i| since((&now.bytes[i], &before.bytes[i]))),
    }
}
/// The busiest shard's connections over the mean; 1 when there are none.
pub fn shard_spread(boards: &Boards) -> f64 {
    let active: Vec<u64> = boards.shards.iter().map(|s| s.active()).collect();
    let (most, sum) = (active.iter().max().copied().unwrap_or(0), active.iter().sum::<u64>());
    if sum == 0 { 1.0 } else { most as f64 * active.len() as f64 / sum as f64 }
}

/// Values above their range, over all phases.
pub fn over_range<'a>(phases: impl IntoIterator<Item = (&'static str, &'a History)>) -> u64 {
    phases.into_iter().map(|(_, history)| history.total().over_range()).sum()
}

/// How many backends came by a name.
pub fn behind(pool: &pools::Pool, name: &pools::Name) -> usize {
    pool.backends().filter(|(slot, _)| name.slots.contains(slot)).count()
}

/// One pool's counters over all shards.
pub struct PoolSums {
    pub retries: u64,
    pub retries_denied: u64,
}

/// Adds up a pool's counters.
pub fn pool_sums(boards: &Boards, pool: usize) -> PoolSums {
    let boards = boards.shards.iter().map(|shard| &shard.pools[pool]);
    PoolSums {
        retries: boards.clone().map(|board| board.retries.get()).sum(),
        retries_denied: boards.map(|board| board.retries_denied.get()).sum(),
    }
}

/// The mean error of a shard's picks, in connections.
pub fn pick_error_mean(error: &PickError) -> f64 {
    let samples = error.samples.get().max(1);
    (error.sum.get() as f64 / samples as f64 * 1000.0).round() / 1000.0
}

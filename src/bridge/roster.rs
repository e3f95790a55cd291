//! Who of a pool may be picked now: made by the coordinator, never changed, replaced whole.
//!
//! Health, ejections, the operator's word, weights and name resolution all end here, so that a
//! shard asks one question (who is there?) and finds it answered. What only a shard knows (who was
//! tried, whose dial failed here, who is full) it adds at the pick.

use std::{net::SocketAddr, ops::Deref, sync::Arc};

use arc_swap::{ArcSwap, Cache};

use crate::maglev::Table;

/// Weights are counted in hundredths, so that one that grows after a return has steps to take.
pub const WEIGHT_UNIT: u32 = 100;

/// A backend that may be picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Tells it from those that stood in its slot before.
    pub id: u64,
    /// Its place in the boards of every shard.
    pub slot: usize,
    /// Where it is dialed.
    pub address: SocketAddr,
    /// In hundredths; above zero.
    pub weight: u32,
    /// In flight over all shards; 0: no limit.
    pub max_connections: u32,
    /// True exactly when nothing speaks against it: false where a pool in panic uses it all the
    /// same.
    pub healthy: bool,
}

/// The members of one priority.
#[derive(Debug)]
pub struct Tier {
    /// Lower first.
    pub priority: u32,
    /// At least one, by slot.
    pub members: Vec<Member>,
    /// Where each member's range of tickets ends; empty where all weights are equal.
    ends: Vec<u64>,
    /// For pools that hash.
    pub table: Option<Table>,
}

impl Tier {
    /// A tier of at least one member, given by slot.
    pub fn new(priority: u32, members: Vec<Member>, table: Option<Table>) -> Tier {
        let even = members.iter().all(|member| member.weight == members[0].weight);
        let mut ends = Vec::new();
        if !even {
            let mut end = 0;
            let ends_of = members.iter().map(|member| {
                end += u64::from(member.weight);
                end
            });
            ends.extend(ends_of);
        }
        Tier { priority, members, ends, table }
    }

    /// A member drawn in proportion to its weight, by its index.
    pub fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        let Some(total) = self.ends.last() else { return rng.usize(..self.members.len()) };
        let ticket = rng.u64(..*total);
        self.ends.partition_point(|end| *end <= ticket)
    }
}

/// Everybody of a pool who may be picked.
#[derive(Debug, Default)]
pub struct Roster {
    /// Different for each roster of a pool.
    pub generation: u64,
    /// By priority, lowest first.
    pub tiers: Vec<Tier>,
    /// Those that could not be connected to when they were checked last, in the same order: asked
    /// only when nobody of the tiers is left.
    pub unreachable: Vec<Tier>,
}

impl Roster {
    /// Every member, those that are asked last included.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.tiers.iter().chain(&self.unreachable).flat_map(|tier| &tier.members)
    }

    /// Whether somebody is used against whom something speaks.
    pub fn has_doubtful(&self) -> bool {
        self.tiers.iter().flat_map(|tier| &tier.members).any(|member| !member.healthy)
    }
}

/// Where the coordinator puts a pool's newest roster.
#[derive(Debug, Default)]
pub struct RosterCell(ArcSwap<Roster>);

impl RosterCell {
    /// From now on this one counts.
    pub fn publish(&self, roster: Roster) {
        self.0.store(Arc::new(roster));
    }
}

/// One shard's view of a pool's roster; looking at it takes no lock and counts no reference.
pub struct RosterView(Cache<&'static ArcSwap<Roster>, Arc<Roster>>);

impl RosterView {
    /// A view of what is published in `cell`.
    pub fn new(cell: &'static RosterCell) -> RosterView {
        RosterView(Cache::new(&cell.0))
    }

    /// The newest roster.
    pub fn newest(&mut self) -> &Roster {
        self.0.load().deref()
    }
}

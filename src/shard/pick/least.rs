//! Least connections: the smallest (connections + 1) / weight, so that an idle pool fills by weight
//! too.
//!
//! Small tiers are looked through whole, with the counts of all shards as they are: exact. Large
//! ones keep a tree of winners over what this shard has itself, exactly, and what the others had a
//! few milliseconds ago; `docs/balancing.md` has its error.

use std::time::{Duration, Instant};

use super::{Class, Load, Open, SCAN_MAX};

/// How old the other shards' counts may be in a large tier.
const REFRESH: Duration = Duration::from_millis(5);

/// Who may not be chosen and comes out on top is passed over this often in one pick; then the tier
/// is looked through.
const BARRED_MAX: usize = 64;

/// The trees of a pool's large tiers.
#[derive(Debug, Default)]
pub(super) struct Least(Vec<(u32, Tree)>);

impl Least {
    pub(super) fn choose<F>(&mut self, open: &Open<'_, F>, rng: &mut fastrand::Rng) -> Option<usize>
    where
        F: Fn(usize) -> u32 + Copy,
    {
        // The other classes are asked when something is amiss: that is no case to be fast in.
        if open.tier.members.len() <= SCAN_MAX || open.class != Class::Trusted {
            return scan(open, rng);
        }
        let priority = open.tier.priority;
        let at = self.0.iter().position(|(of, _)| *of == priority).unwrap_or_else(|| {
            self.0.push((priority, Tree::new(open, rng)));
            self.0.len() - 1
        });
        let tree = &mut self.0[at].1;
        if tree.generation != open.generation {
            *tree = Tree::new(open, rng);
        } else if open.ask.now.saturating_duration_since(tree.refreshed) >= REFRESH {
            tree.refresh(open);
        }
        tree.choose(open).or_else(|| scan(open, rng))
    }

    pub(super) fn came(&mut self, place: usize) {
        self.0.iter_mut().for_each(|(_, tree)| tree.change(place, |count| count + 1));
    }

    pub(super) fn left(&mut self, place: usize) {
        self.0.iter_mut().for_each(|(_, tree)| tree.change(place, |count| count.saturating_sub(1)));
    }
}

/// Among equals each has the same chance (reservoir sampling).
fn scan<F: Fn(usize) -> u32>(open: &Open<'_, F>, rng: &mut fastrand::Rng) -> Option<usize> {
    let mut best: Option<(usize, Load)> = None;
    let mut equals = 1;
    for (index, member) in open.tier.members.iter().enumerate() {
        if !open.allows(member) {
            continue;
        }
        let load = open.load(member);
        match best {
            Some((_, least)) if least.is_below(load) => {}
            Some((_, least)) if !load.is_below(least) => {
                equals += 1;
                if rng.u32(0..equals) == 0 {
                    best = Some((index, load));
                }
            }
            _ => (best, equals) = (Some((index, load)), 1),
        }
    }
    best.map(|(index, _)| index)
}

/// A tournament: leaves are members, each inner node names the less busy one of its two children.
/// A change of one count costs the height of the tree.
#[derive(Debug)]
struct Tree {
    generation: u64,
    refreshed: Instant,
    leaves: Vec<Leaf>,
    /// Node 1 is the root, node `i` has the children `2 i` and `2 i + 1`, the second half stands
    /// for the leaves. Where a tree has no leaf, the number of leaves.
    winners: Vec<u32>,
    /// The leaf of each place in the pool, or the number of leaves.
    leaf_of: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Leaf {
    /// Index within the tier.
    member: u32,
    load: Load,
    /// True exactly when it could not be chosen when it was last looked at.
    barred: bool,
}

impl Leaf {
    fn is_below(&self, other: &Leaf) -> bool {
        match self.barred == other.barred {
            true => self.load.is_below(other.load),
            false => other.barred,
        }
    }
}

impl Tree {
    /// The leaves stand in a random order, so that shards do not all begin with the same member.
    fn new<F: Fn(usize) -> u32>(open: &Open<'_, F>, rng: &mut fastrand::Rng) -> Tree {
        let members = &open.tier.members;
        let mut order: Vec<u32> = (0..members.len() as u32).collect();
        rng.shuffle(&mut order);
        let weight = |member: u32| members[member as usize].weight;
        let load = |member| Load { connections: 0, weight: weight(member) };
        let leaf = |member| Leaf { member, load: load(member), barred: false };
        let leaves: Vec<Leaf> = order.into_iter().map(leaf).collect();
        let places = members.last().map_or(0, |member| member.slot - open.first + 1);
        let mut leaf_of = vec![leaves.len() as u32; places];
        for (at, leaf) in leaves.iter().enumerate() {
            leaf_of[members[leaf.member as usize].slot - open.first] = at as u32;
        }
        let winners = vec![leaves.len() as u32; 2 * leaves.len().next_power_of_two()];
        let (generation, refreshed) = (open.generation, open.ask.now);
        let mut tree = Tree { generation, refreshed, leaves, winners, leaf_of };
        tree.refresh(open);
        tree
    }

    /// Takes over all counts as they are now.
    fn refresh<F: Fn(usize) -> u32>(&mut self, open: &Open<'_, F>) {
        self.refreshed = open.ask.now;
        for leaf in &mut self.leaves {
            let member = &open.tier.members[leaf.member as usize];
            leaf.load = open.load(member);
            leaf.barred = open.bars(member);
        }
        let half = self.winners.len() / 2;
        (0..self.leaves.len()).for_each(|leaf| self.winners[half + leaf] = leaf as u32);
        (1..half).rev().for_each(|node| self.play(node));
    }

    fn play(&mut self, node: usize) {
        let (left, right) = (self.winners[2 * node], self.winners[2 * node + 1]);
        let leaf = |at: u32| self.leaves.get(at as usize);
        self.winners[node] = match (leaf(left), leaf(right)) {
            (Some(a), Some(b)) if b.is_below(a) => right,
            (None, _) => right,
            _ => left,
        };
    }

    fn play_up_from(&mut self, leaf: usize) {
        let mut node = (self.winners.len() / 2 + leaf) / 2;
        while node >= 1 {
            self.play(node);
            node /= 2;
        }
    }

    /// The own count of a place changed. Room that it makes lifts a bar; a bar for another reason
    /// is put back when it is looked at.
    fn change(&mut self, place: usize, by: impl Fn(u32) -> u32) {
        let Some(at) = self.leaf_of.get(place).map(|at| *at as usize) else { return };
        let Some(leaf) = self.leaves.get_mut(at) else { return };
        leaf.load.connections = by(leaf.load.connections);
        leaf.barred = false;
        self.play_up_from(at);
    }

    /// The least busy one that may be chosen; `None` where nobody is seen soon who may be.
    fn choose<F: Fn(usize) -> u32>(&mut self, open: &Open<'_, F>) -> Option<usize> {
        let mut only_tried = [usize::MAX; BARRED_MAX];
        let mut found = None;
        for passed in &mut only_tried {
            let at = self.winners[1] as usize;
            let leaf = self.leaves[at];
            let member = &open.tier.members[leaf.member as usize];
            if leaf.barred {
                break;
            }
            if open.allows(member) {
                found = Some(leaf.member as usize);
                break;
            }
            self.leaves[at].barred = true;
            self.play_up_from(at);
            // Who was tried by this connection is barred for nobody else.
            if open.ask.tried.slots.contains(&member.slot) {
                *passed = at;
            }
        }
        for at in only_tried.into_iter().filter(|at| *at != usize::MAX) {
            self.leaves[at].barred = false;
            self.play_up_from(at);
        }
        found
    }
}

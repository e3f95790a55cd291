//! Weighted round robin for large tiers: earliest deadline first.
//!
//! Source: Baruah, Cohen, Plaxton and Varvel, "Proportionate Progress", Algorithmica 1996, for one
//! processor. Somebody with a share of `s` in `w` gets its `j`th pick not before `(j - 1) w / s`
//! picks were made and not after `j w / s`. Taking, of those whose time has come, the one with the
//! earliest deadline always succeeds, and then no prefix of the order deviates from anybody's share
//! by 1.
//!
//! Members of equal weight are one class here: the class gets picks as above, and its members take
//! them in turn. Of a class that is less than one pick from its share, each of `c` members is less
//! than `(c - 1) / c + 1 / c` from its own, so the bound holds for each of them too. A pick costs
//! the logarithm of the number of classes, not of members.
//!
//! A new roster is a new order. What a class was owed, or owed, goes with its members, or one whose
//! turn comes less often than rosters change (a weight that grows) would never have it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use super::{DRAWS_MAX, Open, random};

/// The orders of a pool's tiers, by priority.
#[derive(Debug, Default)]
pub(super) struct Deadlines(BTreeMap<u32, Order>);

impl Deadlines {
    pub(super) fn choose<F: Fn(usize) -> u32>(
        &mut self,
        open: &Open<'_, F>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let fresh = || Order::new(open, &BTreeMap::new(), rng);
        let order = self.0.entry(open.tier.priority).or_insert_with(fresh);
        if order.generation != open.generation {
            *order = Order::new(open, &order.owed(), rng);
        }
        // Who may not be chosen loses its turn.
        (0..DRAWS_MAX)
            .map(|_| order.next())
            .find(|index| open.allows(&open.tier.members[*index]))
            .or_else(|| random::look_through(open, rng))
    }
}

/// The order of one tier, as far as it has come.
#[derive(Debug)]
struct Order {
    generation: u64,
    classes: Vec<Class>,
    /// The sum of all weights.
    sum: u64,
    /// Picks made.
    time: u64,
    /// Classes whose next pick may be made now, by its deadline.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// The others, by when theirs may be made.
    later: BinaryHeap<Reverse<(u64, usize)>>,
}

/// One pick, in the parts in which fractions of it are counted.
const PICK: i128 = 1 << 20;

/// Members of equal weight.
#[derive(Debug)]
struct Class {
    /// Index within the tier, and slot.
    members: Vec<(usize, usize)>,
    /// The sum of their weights.
    share: u64,
    /// What it was owed at the start of this order, in parts of a pick.
    owed: i128,
    /// Picks it got.
    picks: u64,
    /// Who begins; different on each shard.
    start: usize,
}

impl Class {
    /// When its next pick may be made, in picks of the tier.
    fn release(&self, sum: u64) -> u64 {
        let due = i128::from(self.picks) * PICK - self.owed;
        (due.max(0) * i128::from(sum) / (i128::from(self.share) * PICK)) as u64
    }

    /// When it has to be made.
    fn deadline(&self, sum: u64) -> u64 {
        let due = (i128::from(self.picks) + 1) * PICK - self.owed;
        let due = (due.max(0) * i128::from(sum)) as u128;
        due.div_ceil(u128::from(self.share) * PICK as u128) as u64
    }
}

impl Order {
    /// `owed` is what each slot was owed in the order before, in parts of a pick.
    fn new<F: Fn(usize) -> u32>(
        open: &Open<'_, F>,
        owed: &BTreeMap<usize, i128>,
        rng: &mut fastrand::Rng,
    ) -> Order {
        let mut by_weight: BTreeMap<u32, Vec<(usize, usize)>> = BTreeMap::new();
        for (index, member) in open.tier.members.iter().enumerate() {
            by_weight.entry(member.weight).or_default().push((index, member.slot));
        }
        let class = |(weight, members): (u32, Vec<(usize, usize)>)| {
            let share = u64::from(weight) * members.len() as u64;
            let owed: i128 = members.iter().filter_map(|(_, slot)| owed.get(slot)).sum();
            let (owed, start) = (owed.clamp(-PICK, PICK), rng.usize(..members.len()));
            Class { share, owed, picks: 0, start, members }
        };
        let classes: Vec<Class> = by_weight.into_iter().map(class).collect();
        let sum = classes.iter().map(|class| class.share).sum();
        let release = |(at, class): (usize, &Class)| Reverse((class.release(sum), at));
        let later = classes.iter().enumerate().map(release).collect();
        Order { generation: open.generation, classes, sum, time: 0, due: BinaryHeap::new(), later }
    }

    /// What each slot is owed now: of what its class is, an equal part.
    fn owed(&self) -> BTreeMap<usize, i128> {
        let mut owed = BTreeMap::new();
        for class in &self.classes {
            let share = i128::from(self.time) * i128::from(class.share) * PICK;
            let due = share / i128::from(self.sum.max(1)) + class.owed;
            let each = (due - i128::from(class.picks) * PICK) / class.members.len() as i128;
            owed.extend(class.members.iter().map(|(_, slot)| (*slot, each)));
        }
        owed
    }

    fn next(&mut self) -> usize {
        while let Some(Reverse((release, class))) = self.later.peek().copied() {
            if release > self.time {
                break;
            }
            self.later.pop();
            self.due.push(Reverse((self.classes[class].deadline(self.sum), class)));
        }
        // Shares add up to one, so somebody's time has always come, but for what is owed from an
        // order that others have left: then whose time comes next has it early.
        let next = self.due.pop().or_else(|| self.later.pop());
        let next = next.map_or(0, |Reverse((_, class))| class);
        let class = &mut self.classes[next];
        let turn = (class.start as u64 + class.picks) % class.members.len() as u64;
        let (member, _) = class.members[turn as usize];
        class.picks += 1;
        self.later.push(Reverse((class.release(self.sum), next)));
        self.time += 1;
        member
    }
}

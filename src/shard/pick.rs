//! Which backend gets the next connection.
//!
//! Pure: the roster, time, chance and the in-flight counts come in as arguments, a member goes out.
//! This file knows who may be chosen and in which order classes of members are asked; how one is
//! chosen among them is a file each.

mod deadline;
mod early;
mod least;
mod open;
mod peak_ewma;
mod random;
mod round_robin;
mod smooth;
mod suspects;
mod two_choices;

use std::time::Instant;

pub use self::{early::EARLY_MAX, peak_ewma::Took};
use self::{
    early::EarlyEnds,
    open::{Class, Load, Open},
    suspects::Suspects,
};
pub use crate::bridge::{Balance, Member, Roster, Tier};

/// Up to here a tier is looked through whole, which is exact; above it structures answer.
pub const SCAN_MAX: usize = 256;

/// Draws of somebody who may not be chosen before the tier is looked through instead. Half of a
/// tier may be out and a draw still fails once in 65,536 times.
const DRAWS_MAX: usize = 16;

/// Backends that one connection has tried in vain.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    slots: Vec<usize>,
    deepest: u32,
}

impl Tried {
    /// Attempts made so far.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// Adds a backend that failed.
    pub fn add(&mut self, slot: usize, priority: u32) {
        self.slots.push(slot);
        self.deepest = self.deepest.max(priority);
    }
}

/// What a pick came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one, of a tier with this priority.
    Chosen(Member, u32),
    /// Everybody who is left has as many connections as it may have.
    Full,
    /// The attempts are used up or nobody is left.
    Nobody,
}

/// What a pick goes by, besides the roster.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who failed this connection already.
    pub tried: &'a Tried,
    /// Now.
    pub now: Instant,
    /// The client's key ([`crate::maglev::source_key`]); only a pool that hashes looks at it.
    pub key: u64,
}

/// One shard's strategy for one pool, with what it remembers between picks.
#[derive(Debug)]
pub struct Picker {
    /// The pool's first slot.
    first: usize,
    max_attempts: usize,
    suspects: Suspects,
    early: EarlyEnds,
    strategy: Strategy,
    /// The roster that was last asked for, and who stood in each slot by it.
    generation: u64,
    ids: Vec<u64>,
}

#[derive(Debug)]
enum Strategy {
    RoundRobin(round_robin::Cursor),
    /// Small tiers, large tiers.
    WeightedRoundRobin(smooth::Smooth, deadline::Deadlines),
    Random,
    LeastConnections(least::Least),
    TwoChoices,
    PeakEwma(peak_ewma::Latencies),
    Maglev,
}

impl Picker {
    /// A picker over a pool of `slots` slots from `first` on. `start` staggers shards, which would
    /// otherwise all begin with the same backend.
    pub fn new(
        balance: Balance,
        max_attempts: u32,
        slots: std::ops::Range<usize>,
        start: usize,
    ) -> Self {
        let strategy = match balance {
            Balance::RoundRobin => Strategy::RoundRobin(round_robin::Cursor::new(
                slots.start + start % slots.len().max(1),
            )),
            Balance::WeightedRoundRobin => Strategy::WeightedRoundRobin(
                smooth::Smooth::new(slots.len()),
                deadline::Deadlines::default(),
            ),
            Balance::LeastConnections => Strategy::LeastConnections(least::Least::default()),
            Balance::Random => Strategy::Random,
            Balance::TwoChoices => Strategy::TwoChoices,
            Balance::PeakEwma => Strategy::PeakEwma(peak_ewma::Latencies::new(slots.len())),
            Balance::Maglev => Strategy::Maglev,
        };
        Picker {
            first: slots.start,
            max_attempts: max_attempts as usize,
            suspects: Suspects::new(slots.len()),
            early: EarlyEnds::new(slots.len()),
            strategy,
            generation: 0,
            ids: vec![0; slots.len()],
        }
    }

    /// The next backend for a connection.
    pub fn pick(
        &mut self,
        roster: &Roster,
        ask: &Ask<'_>,
        in_flight: impl Fn(usize) -> u32 + Copy,
        rng: &mut fastrand::Rng,
    ) -> Pick {
        if ask.tried.count() >= self.max_attempts {
            return Pick::Nobody;
        }
        self.meet(roster);
        // On the last attempt a higher priority number than all tried comes first: dead primaries
        // left over must not keep the fallbacks from their turn. But whose dial failed lately comes
        // after everybody else, there too.
        let tried = ask.tried.count();
        let last = tried > 0 && tried + 1 == self.max_attempts;
        let deepest = last.then_some(ask.tried.deepest);
        let any_suspects = self.suspects.any(ask.now);
        for class in Class::ALL {
            let may_be_there = match class {
                Class::Healthy => last && roster.has_doubtful(),
                Class::Trusted | Class::Unreachable => true,
                Class::Suspect | Class::Hopeless => any_suspects,
            };
            if !may_be_there {
                continue;
            }
            for beyond in [deepest, None] {
                let asked = |tier: &&Tier| beyond.is_none_or(|deepest| tier.priority > deepest);
                for tier in class.tiers(roster).iter().filter(asked) {
                    let (generation, first) = (roster.generation, self.first);
                    let (suspects, early) = (&self.suspects, &self.early);
                    let plain = tried == 0 && !any_suspects;
                    let open = Open {
                        ask,
                        generation,
                        tier,
                        first,
                        class,
                        suspects,
                        early,
                        plain,
                        in_flight,
                    };
                    if let Some(index) = self.strategy.choose(&open, rng) {
                        return Pick::Chosen(tier.members[index], tier.priority);
                    }
                }
                if deepest.is_none() {
                    break;
                }
            }
        }
        let is_tried = |member: &Member| ask.tried.slots.contains(&member.slot);
        let mut untried = roster.members().filter(|member| !is_tried(member));
        if untried.next().is_some() { Pick::Full } else { Pick::Nobody }
    }

    /// Who stands in a slot that was another one's starts without its past.
    fn meet(&mut self, roster: &Roster) {
        if self.generation == roster.generation {
            return;
        }
        self.generation = roster.generation;
        for member in roster.members() {
            let place = member.slot - self.first;
            if std::mem::replace(&mut self.ids[place], member.id) != member.id {
                self.suspects.remove(place);
                self.early.remove(place);
                self.strategy.forget(place);
            }
        }
    }

    /// How many connections more than the least busy one the chosen one had, in connections of the
    /// chosen one where weights differ: 0 where nobody who was open was less busy. `chosen` comes
    /// with its priority; `in_flight` counts without the connection that the pick was for.
    pub fn error(
        &self,
        roster: &Roster,
        ask: &Ask<'_>,
        (chosen, priority): (&Member, u32),
        in_flight: impl Fn(usize) -> u32,
    ) -> u32 {
        let tier = roster.tiers.iter().find(|tier| tier.priority == priority);
        let (Some(tier), suspects, first) = (tier, &self.suspects, self.first) else { return 0 };
        let class = match suspects.has(chosen.slot - first, ask.now) {
            true => Class::Suspect,
            false => Class::Trusted,
        };
        let (generation, in_flight) = (roster.generation, &in_flight);
        let (early, plain) = (&self.early, false);
        let open = Open { ask, generation, tier, first, class, suspects, early, plain, in_flight };
        let least = open
            .members()
            .map(|member| open.load(member))
            .reduce(|a, b| if b.is_below(a) { b } else { a });
        // What the chosen one would have at the load of the least busy one.
        let even = least.map_or(u64::MAX, |least| {
            let scaled = (u64::from(least.connections) + 1) * u64::from(chosen.weight);
            scaled.div_ceil(u64::from(least.weight)) - 1
        });
        open.load(chosen).connections.saturating_sub(u32::try_from(even).unwrap_or(u32::MAX))
    }

    /// A dial failed: last choice for a while.
    pub fn failed(&mut self, slot: usize, now: Instant) {
        self.suspects.add(slot - self.first, now);
    }

    /// A dial succeeded: all is forgiven.
    pub fn succeeded(&mut self, slot: usize) {
        self.suspects.remove(slot - self.first);
    }

    /// A server took this long for something.
    pub fn took(&mut self, slot: usize, took: Took, now: Instant) {
        if let Strategy::PeakEwma(latencies) = &mut self.strategy {
            latencies.add(slot - self.first, took, now);
        }
    }

    /// A server sent the first byte of a connection.
    pub fn answered(&mut self, slot: usize) {
        self.early.remove(slot - self.first);
    }

    /// A server ended a connection at once and without a byte.
    pub fn ended_early(&mut self, slot: usize, now: Instant) {
        self.early.add(slot - self.first, now);
    }

    /// This shard has one connection more to that backend.
    pub fn came(&mut self, slot: usize) {
        if let Strategy::LeastConnections(least) = &mut self.strategy {
            least.came(slot - self.first);
        }
    }

    /// This shard has one connection fewer to that backend.
    pub fn left(&mut self, slot: usize) {
        if let Strategy::LeastConnections(least) = &mut self.strategy {
            least.left(slot - self.first);
        }
    }
}

impl Strategy {
    /// Somebody else stands in that place from now on.
    fn forget(&mut self, place: usize) {
        match self {
            Strategy::WeightedRoundRobin(smooth, _) => smooth.forget(place),
            Strategy::PeakEwma(latencies) => latencies.forget(place),
            _ => {}
        }
    }

    /// The index of a member that is open, exactly when there is one.
    fn choose<F>(&mut self, open: &Open<'_, F>, rng: &mut fastrand::Rng) -> Option<usize>
    where
        F: Fn(usize) -> u32 + Copy,
    {
        match self {
            Strategy::RoundRobin(cursor) => cursor.choose(open),
            Strategy::WeightedRoundRobin(smooth, deadlines) => {
                // An order is of one tier of a priority, and keeps to it.
                match (open.tier.members.len() <= SCAN_MAX, open.class) {
                    (true, _) => smooth.choose(open),
                    (false, Class::Unreachable | Class::Hopeless) => random::choose(open, rng),
                    (false, _) => deadlines.choose(open, rng),
                }
            }
            Strategy::Random => random::choose(open, rng),
            Strategy::LeastConnections(least) => least.choose(open, rng),
            Strategy::TwoChoices => two_choices::choose(open, rng, two_choices::fewer),
            Strategy::PeakEwma(latencies) => {
                two_choices::choose(open, rng, |open, a, b| latencies.cheaper(open, a, b))
            }
            Strategy::Maglev => hashed(open, rng),
        }
    }
}

/// The member of the client's key, or, where that one may not be chosen, of the keys after it.
fn hashed<F: Fn(usize) -> u32>(open: &Open<'_, F>, rng: &mut fastrand::Rng) -> Option<usize> {
    let table = open.tier.table.as_ref()?;
    (0..DRAWS_MAX as u64)
        .map(|step| table.get(open.ask.key, step))
        .find(|index| open.allows(&open.tier.members[*index]))
        .or_else(|| random::look_through(open, rng))
}

#[cfg(test)]
mod tests;

//! Which backend gets the next connection.
//!
//! Pure: time, chance, health and the in-flight counts come in as arguments, a number goes out.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use crate::bridge::{Backend, Balance};

/// How long a backend whose dial failed is last choice; doubles with each failure after that.
const SUSPECT_MIN: Duration = Duration::from_secs(1);
/// And no longer than this.
const SUSPECT_MAX: Duration = Duration::from_secs(10);

/// What is true of a backend at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Not held back by health checks.
    pub usable: bool,
    /// Connections over all shards, dials included.
    pub in_flight: u32,
}

/// Backends that one connection has tried in vain, by index within the pool.
#[derive(Clone, Debug, Default)]
pub struct Tried(Vec<usize>);

impl Tried {
    /// Attempts made so far.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds a backend that failed.
    pub fn add(&mut self, backend: usize) {
        self.0.push(backend);
    }
}

/// A backend that failed a dial lately.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    until: Instant,
    step: Duration,
}

/// One shard's strategy for one pool, with what it remembers between picks.
#[derive(Debug)]
pub struct Picker {
    balance: Balance,
    max_attempts: usize,
    /// Round robin: where to look first.
    cursor: usize,
    /// Smooth weighted round robin: each backend's current weight.
    current: Vec<i64>,
    suspects: Vec<Option<Suspect>>,
    /// Who may be picked this time; kept for its memory.
    members: Vec<Member>,
}

/// Who may be picked: the best class that has anybody in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    suspect: bool,
    priority: u32,
}

/// A backend that may be picked, as it stood when it was asked.
#[derive(Clone, Copy, Debug)]
struct Member {
    index: usize,
    weight: u32,
    in_flight: u32,
    class: Class,
}

impl Member {
    /// Compares (in flight + 1) / weight without dividing.
    fn load_against(&self, other: &Member) -> Ordering {
        let load = |a: &Member, b: &Member| (u64::from(a.in_flight) + 1) * u64::from(b.weight);
        load(self, other).cmp(&load(other, self))
    }
}

impl Picker {
    /// A picker over `backends` backends. `start` staggers shards, which would otherwise all begin
    /// with the same backend.
    pub fn new(balance: Balance, max_attempts: u32, backends: usize, start: usize) -> Self {
        Picker {
            balance,
            max_attempts: max_attempts as usize,
            cursor: start % backends.max(1),
            current: vec![0; backends],
            suspects: vec![None; backends],
            members: Vec::with_capacity(backends),
        }
    }

    /// The next backend for a connection that has `tried` some already, or `None` when its attempts
    /// are used up or nobody is left. `standing` is asked once for each backend.
    pub fn pick(
        &mut self,
        backends: &[Backend],
        standing: impl Fn(usize) -> Standing,
        tried: &Tried,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        if tried.count() >= self.max_attempts {
            return None;
        }
        let mut members = std::mem::take(&mut self.members);
        members.clear();
        let open = (0..backends.len()).filter(|i| backends[*i].weight > 0 && !tried.0.contains(i));
        members.extend(open.filter_map(|index| {
            let Standing { usable, in_flight } = standing(index);
            let (weight, class) = (backends[index].weight, self.class_of(backends, index, now));
            usable.then_some(Member { index, weight, in_flight, class })
        }));
        let chosen = self.class(backends, &members, tried).and_then(|class| {
            members.retain(|member| member.class == class);
            match self.balance {
                Balance::RoundRobin => self.next(&members),
                Balance::WeightedRoundRobin => self.smooth(&members),
                Balance::Random => weighted(&members, rng),
                Balance::LeastConnections => least(&members, rng),
            }
        });
        self.members = members;
        chosen
    }

    /// A dial failed: last choice for a while. Failures while it is that already change nothing, or
    /// a burst of dials begun together would count as a long history.
    pub fn failed(&mut self, backend: usize, now: Instant) {
        let step = match self.suspects[backend] {
            Some(suspect) if now < suspect.until => return,
            Some(suspect) => (suspect.step * 2).min(SUSPECT_MAX),
            None => SUSPECT_MIN,
        };
        self.suspects[backend] = Some(Suspect { until: now + step, step });
    }

    /// A dial succeeded: all is forgiven.
    pub fn succeeded(&mut self, backend: usize) {
        self.suspects[backend] = None;
    }

    fn class_of(&self, backends: &[Backend], i: usize, now: Instant) -> Class {
        let suspect = self.suspects[i].is_some_and(|suspect| now < suspect.until);
        Class { suspect, priority: backends[i].priority }
    }

    /// The best class with anybody in it. On the last attempt a higher priority number than all
    /// tried comes first: dead primaries left over must not keep the fallbacks from their turn.
    fn class(&self, backends: &[Backend], members: &[Member], tried: &Tried) -> Option<Class> {
        let classes = || members.iter().map(|member| member.class);
        let deepest = tried.0.iter().map(|i| backends[*i].priority).max();
        let fallback = match deepest {
            Some(deepest) if tried.count() + 1 == self.max_attempts => {
                classes().filter(|class| class.priority > deepest).min()
            }
            _ => None,
        };
        fallback.or_else(|| classes().min())
    }

    fn next(&mut self, members: &[Member]) -> Option<usize> {
        let from_cursor = members.iter().find(|member| member.index >= self.cursor);
        let chosen = from_cursor.or(members.first())?.index;
        self.cursor = chosen + 1;
        Some(chosen)
    }

    /// Smooth weighted round robin as in nginx (commit 52327e0627f4): everybody gains its weight,
    /// the richest is chosen and pays the sum. Weights 5, 1, 1 give `a a b a c a a`.
    fn smooth(&mut self, members: &[Member]) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<usize> = None;
        for member in members {
            self.current[member.index] += i64::from(member.weight);
            total += i64::from(member.weight);
            if richest.is_none_or(|best| self.current[member.index] > self.current[best]) {
                richest = Some(member.index);
            }
        }
        self.current[richest?] -= total;
        richest
    }
}

/// A backend whose number is drawn in proportion to its weight.
fn weighted(members: &[Member], rng: &mut fastrand::Rng) -> Option<usize> {
    let total: u64 = members.iter().map(|member| u64::from(member.weight)).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = rng.u64(0..total);
    let winner = members.iter().find(|member| {
        let weight = u64::from(member.weight);
        let won = ticket < weight;
        ticket = ticket.saturating_sub(weight);
        won
    });
    winner.map(|member| member.index)
}

/// The smallest (in flight + 1) / weight, so that an idle pool fills by weight too. Among equals
/// each has the same chance (reservoir sampling).
fn least(members: &[Member], rng: &mut fastrand::Rng) -> Option<usize> {
    let mut best = members.first()?;
    let mut equals = 1;
    for member in &members[1..] {
        match member.load_against(best) {
            Ordering::Less => (best, equals) = (member, 1),
            Ordering::Equal => {
                equals += 1;
                if rng.u32(0..equals) == 0 {
                    best = member;
                }
            }
            Ordering::Greater => {}
        }
    }
    Some(best.index)
}

#[cfg(test)]
mod tests;

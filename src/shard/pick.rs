//! Which backend gets the next connection.
//!
//! Pure: time, chance, health and the in-flight counts come in as arguments, a number goes out.

use std::time::{Duration, Instant};

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
}

/// Who may be picked: the best class that has anybody in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    suspect: bool,
    priority: u32,
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
        }
    }

    /// The next backend for a connection that has `tried` some already, or `None` when its attempts
    /// are used up or nobody is left.
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
        let open = |i: usize| backends[i].weight > 0 && !tried.0.contains(&i) && standing(i).usable;
        let class = self.class(backends, open, tried, now)?;
        let member = |i: usize| open(i) && self.class_of(backends, i, now) == class;
        let chosen = match self.balance {
            Balance::RoundRobin => next_from(self.cursor, backends.len(), member),
            Balance::WeightedRoundRobin => smooth(&self.current, backends, member),
            Balance::Random => weighted(backends, member, rng),
            Balance::LeastConnections => least(backends, member, |i| standing(i).in_flight, rng),
        }?;
        match self.balance {
            Balance::RoundRobin => self.cursor = (chosen + 1) % backends.len(),
            Balance::WeightedRoundRobin => {
                let members: Vec<usize> = (0..backends.len()).filter(|i| member(*i)).collect();
                self.advance_smooth(backends, &members, chosen);
            }
            _ => {}
        }
        Some(chosen)
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

    /// The best class with an open backend. On the last attempt a higher priority number than all
    /// tried comes first: dead primaries left over must not keep the fallbacks from their turn.
    fn class(
        &self,
        backends: &[Backend],
        open: impl Fn(usize) -> bool,
        tried: &Tried,
        now: Instant,
    ) -> Option<Class> {
        let classes =
            || (0..backends.len()).filter(|i| open(*i)).map(|i| self.class_of(backends, i, now));
        let deepest = tried.0.iter().map(|i| backends[*i].priority).max();
        let fallback = match deepest {
            Some(deepest) if tried.count() + 1 == self.max_attempts => {
                classes().filter(|class| class.priority > deepest).min()
            }
            _ => None,
        };
        fallback.or_else(|| classes().min())
    }

    fn advance_smooth(&mut self, backends: &[Backend], members: &[usize], chosen: usize) {
        let mut total = 0;
        for &i in members {
            self.current[i] += i64::from(backends[i].weight);
            total += i64::from(backends[i].weight);
        }
        self.current[chosen] -= total;
    }
}

fn next_from(cursor: usize, len: usize, member: impl Fn(usize) -> bool) -> Option<usize> {
    (cursor..len).chain(0..cursor).find(|i| member(*i))
}

/// Smooth weighted round robin as in nginx (commit 52327e0627f4): everybody gains its weight, the
/// richest is chosen and pays the sum. Weights 5, 1, 1 give `a a b a c a a`.
fn smooth(current: &[i64], backends: &[Backend], member: impl Fn(usize) -> bool) -> Option<usize> {
    let richest = |best: usize, i: usize| {
        let worth = |i: usize| current[i] + i64::from(backends[i].weight);
        if worth(i) > worth(best) { i } else { best }
    };
    (0..backends.len()).filter(|i| member(*i)).reduce(richest)
}

fn weighted(
    backends: &[Backend],
    member: impl Fn(usize) -> bool,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let members = || (0..backends.len()).filter(|i| member(*i));
    let total: u64 = members().map(|i| u64::from(backends[i].weight)).sum();
    if total == 0 {
        return None;
    }
    let mut ticket = rng.u64(0..total);
    members().find(|i| {
        let weight = u64::from(backends[*i].weight);
        let won = ticket < weight;
        ticket = ticket.saturating_sub(weight);
        won
    })
}

/// The smallest (in flight + 1) / weight, so that an idle pool fills by weight too. Among equals
/// each has the same chance (reservoir sampling).
fn least(
    backends: &[Backend],
    member: impl Fn(usize) -> bool,
    in_flight: impl Fn(usize) -> u32,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let mut best: Option<(usize, u64, u64)> = None;
    let mut equals = 1;
    for i in (0..backends.len()).filter(|i| member(*i)) {
        let (load, weight) = (u64::from(in_flight(i)) + 1, u64::from(backends[i].weight));
        let order = best.map(|(_, l, w)| (load * w).cmp(&(l * weight)));
        let better = match order {
            None | Some(std::cmp::Ordering::Less) => {
                equals = 1;
                true
            }
            Some(std::cmp::Ordering::Equal) => {
                equals += 1;
                rng.u32(0..equals) == 0
            }
            Some(std::cmp::Ordering::Greater) => false,
        };
        if better {
            best = Some((i, load, weight));
        }
    }
    best.map(|(i, ..)| i)
}

#[cfg(test)]
mod tests;

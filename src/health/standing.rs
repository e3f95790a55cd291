//! Whether a backend may be picked, from everything that is known of it. Pure.

use std::time::{Duration, Instant};

use super::Health;
use crate::{bridge::WEIGHT_UNIT, config::Word};

/// What the operator has said of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It may be picked.
    Enable,
    /// It keeps its connections and takes no new ones; checks go on.
    Drain,
    /// It takes no new ones and is not checked either.
    Disable,
}

impl Word for Order {
    const WORDS: &'static [(&'static str, Self)] =
        &[("enable", Order::Enable), ("drain", Order::Drain), ("disable", Order::Disable)];
}

/// `state` of a backend in `/stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// May be picked.
    Healthy,
    /// The active check says so.
    Unhealthy,
    /// It failed its clients several times in a row.
    Ejected,
    /// The operator lets it finish.
    Draining,
    /// The operator took it out.
    Disabled,
}

impl State {
    /// All, in the order they are listed.
    pub const ALL: [State; 5] =
        [State::Healthy, State::Unhealthy, State::Ejected, State::Draining, State::Disabled];

    /// The operator's word comes first, then what was proven, then what is suspected.
    pub fn of(order: Order, health: Health, ejected: bool) -> State {
        match (order, health, ejected) {
            (Order::Disable, ..) => State::Disabled,
            (Order::Drain, ..) => State::Draining,
            (Order::Enable, Health::Unhealthy, _) => State::Unhealthy,
            (Order::Enable, Health::Healthy, true) => State::Ejected,
            (Order::Enable, Health::Healthy, false) => State::Healthy,
        }
    }

    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
            State::Ejected => "ejected",
            State::Draining => "draining",
            State::Disabled => "disabled",
        }
    }

    /// Whether the operator allows it to be used at all.
    pub fn is_enabled(self) -> bool {
        !matches!(self, State::Draining | State::Disabled)
    }
}

/// Whether too few backends are healthy to leave the others out: true exactly when there are some
/// and in no priority the healthy ones reach `threshold`. A fallback that is well keeps a pool from
/// panic, or connections would go back to primaries that are known to be dead.
///
/// `backends` are those that the operator allows and that have a weight: priority and state.
pub fn panics(threshold: f64, backends: &[(u32, State)]) -> bool {
    let mut tiers: Vec<(u32, usize, usize)> = Vec::new();
    for (priority, state) in backends {
        let at = tiers.iter().position(|(of, ..)| of == priority).unwrap_or_else(|| {
            tiers.push((*priority, 0, 0));
            tiers.len() - 1
        });
        tiers[at].1 += usize::from(*state == State::Healthy);
        tiers[at].2 += 1;
    }
    // 55 of 100 are a share of 0.55, whatever binary fractions say.
    let least = |all: usize| threshold * all as f64 - 1e-9;
    let calm = |(_, healthy, all): &(u32, usize, usize)| *healthy as f64 >= least(*all);
    !tiers.is_empty() && !tiers.iter().any(calm)
}

/// The weight that counts now, in hundredths: a backend that came back `since` some time begins
/// with a tenth of its own and grows evenly to all of it within `slow_start`.
pub fn weight_now(weight: u32, since: Option<Instant>, slow_start: Duration, now: Instant) -> u32 {
    let full = weight * WEIGHT_UNIT;
    let Some(since) = since else { return full };
    let passed = now.saturating_duration_since(since).as_secs_f64() / slow_start.as_secs_f64();
    (f64::from(full) * passed.clamp(0.1, 1.0)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_word_comes_first() {
        let table = [
            (Order::Enable, Health::Healthy, false, "healthy"),
            (Order::Enable, Health::Healthy, true, "ejected"),
            (Order::Enable, Health::Unhealthy, true, "unhealthy"),
            (Order::Drain, Health::Unhealthy, true, "draining"),
            (Order::Disable, Health::Healthy, false, "disabled"),
        ];
        for (order, health, ejected, name) in table {
            assert_eq!(State::of(order, health, ejected).name(), name);
        }
    }

    #[test]
    fn a_pool_panics_when_no_priority_has_enough_healthy_ones() {
        let (well, ill) = (State::Healthy, State::Unhealthy);
        assert!(!panics(0.5, &[(0, well), (0, ill)]));
        assert!(panics(0.5, &[(0, well), (0, ill), (0, ill)]));
        assert!(panics(0.5, &[(0, ill)]));
        assert!(!panics(0.5, &[(0, ill), (1, ill), (2, well)]), "a fallback is well");
        assert!(panics(0.5, &[(0, ill), (1, well), (1, ill), (1, State::Ejected)]));
        assert!(!panics(0.0, &[(0, ill)]), "switched off");
        let of_100 = |healthy: usize| {
            let states: Vec<_> =
                (0..100).map(|i| (0, if i < healthy { well } else { ill })).collect();
            panics(0.55, &states)
        };
        assert_eq!([of_100(54), of_100(55)], [true, false]);
        assert!(!panics(0.5, &[]));
    }

    #[test]
    fn a_returning_backend_grows_from_a_tenth() {
        let (start, ten) = (Instant::now(), Duration::from_secs(10));
        let at = |s| weight_now(4, Some(start), ten, start + Duration::from_secs(s));
        assert_eq!([at(0), at(1), at(5), at(10), at(99)], [40, 40, 200, 400, 400]);
        assert_eq!(weight_now(4, None, ten, start), 400);
    }
}

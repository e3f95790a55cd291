//! Unit and property tests of the pickers.

mod classes;
mod rosters;

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::bridge::WEIGHT_UNIT;

/// A backend of a test: weight, priority, whether it is in the roster.
type Spec = (u32, u32, bool);

fn member(slot: usize, weight: u32) -> Member {
    let address = "127.0.0.1:1".parse().unwrap();
    Member { id: 0, slot, address, weight: weight * WEIGHT_UNIT, max_connections: 0, healthy: true }
}

/// The roster of backends that stand in slots from 100 on.
fn roster(specs: &[Spec], hashes: bool) -> Roster {
    let mut tiers = Vec::new();
    for priority in 0..=specs.iter().map(|spec| spec.1).max().unwrap_or(0) {
        let of_tier = |(_, spec): &(usize, &Spec)| spec.1 == priority && spec.2 && spec.0 > 0;
        let members: Vec<Member> = specs
            .iter()
            .enumerate()
            .filter(of_tier)
            .map(|(i, spec)| member(FIRST + i, spec.0))
            .collect();
        if members.is_empty() {
            continue;
        }
        let names: Vec<String> = members.iter().map(|m| m.slot.to_string()).collect();
        let named: Vec<(&str, u32)> =
            names.iter().zip(&members).map(|(name, m)| (name.as_str(), m.weight)).collect();
        let table = hashes.then(|| crate::maglev::Table::new(&named));
        tiers.push(Tier::new(priority, members, table));
    }
    Roster { generation: 1, tiers, unreachable: Vec::new() }
}

const FIRST: usize = 100;

fn weights(weights: &[u32]) -> Roster {
    let specs: Vec<Spec> = weights.iter().map(|w| (*w, 0, true)).collect();
    roster(&specs, false)
}

fn picker(balance: Balance, backends: usize) -> Picker {
    Picker::new(balance, 3, FIRST..FIRST + backends, 0)
}

/// Picks by one picker with a clock of its own.
struct Test {
    picker: Picker,
    roster: Roster,
    rng: fastrand::Rng,
    now: Instant,
    tried: Tried,
}

impl Test {
    fn new(picker: Picker, roster: Roster) -> Test {
        let rng = fastrand::Rng::with_seed(1);
        Test { picker, roster, rng, now: Instant::now(), tried: Tried::default() }
    }

    fn whole(&mut self, in_flight: impl Fn(usize) -> u32 + Copy) -> Pick {
        let ask = Ask { tried: &self.tried, now: self.now, key: 7 };
        let count = |slot: usize| in_flight(slot - FIRST);
        self.picker.pick(&self.roster, &ask, count, &mut self.rng)
    }

    fn with(&mut self, in_flight: impl Fn(usize) -> u32 + Copy) -> Option<usize> {
        match self.whole(in_flight) {
            Pick::Chosen(member, _) => Some(member.slot - FIRST),
            Pick::Full | Pick::Nobody => None,
        }
    }

    fn next(&mut self) -> Option<usize> {
        self.with(|_| 0)
    }
}

#[test]
fn smooth_weights_5_1_1_give_a_a_b_a_c_a_a() {
    let mut test = Test::new(picker(Balance::WeightedRoundRobin, 3), weights(&[5, 1, 1]));
    let order: String = (0..14).map(|_| ["a", "b", "c"][test.next().unwrap()]).collect();
    assert_eq!(order, "aabacaaaabacaa");
}

#[test]
fn round_robin_ignores_weights_and_skips_who_is_not_there() {
    let there = roster(&[(9, 0, true), (1, 0, false), (1, 0, true)], false);
    let mut test = Test::new(picker(Balance::RoundRobin, 3), there);
    let order: Vec<_> = (0..4).filter_map(|_| test.next()).collect();
    assert_eq!(order, [0, 2, 0, 2]);
}

#[test]
fn a_single_attempt_goes_to_the_first_priority() {
    let there = roster(&[(1, 0, true), (1, 1, true)], false);
    let one_attempt = Picker::new(Balance::RoundRobin, 1, FIRST..FIRST + 2, 0);
    assert_eq!(Test::new(one_attempt, there).next(), Some(0));
}

#[test]
fn who_is_full_is_passed_over_and_all_full_is_not_nobody() {
    let mut there = roster(&[(1, 0, true), (1, 0, true), (1, 1, true)], false);
    for tier in &mut there.tiers {
        tier.members.iter_mut().for_each(|member| member.max_connections = 2);
    }
    for balance in BALANCES {
        let mut test = Test::new(picker(balance, 3), roster(&[], false));
        test.roster = Roster { generation: 2, ..Roster::default() };
        assert_eq!(test.whole(|_| 0), Pick::Nobody);
    }
    let mut test = Test::new(picker(Balance::LeastConnections, 3), there);
    assert_eq!(test.with(|i| [2, 1, 0][i]), Some(1));
    assert_eq!(test.with(|i| [2, 2, 1][i]), Some(2), "the next priority");
    assert_eq!(test.whole(|_| 2), Pick::Full);
    test.tried.add(FIRST, 0);
    test.tried.add(FIRST + 1, 0);
    assert_eq!(test.whole(|i| [0, 0, 2][i]), Pick::Full);
    test.tried.add(FIRST + 2, 1);
    assert_eq!(test.whole(|_| 0), Pick::Nobody);
}

#[test]
fn equal_backends_share_ties() {
    let mut test = Test::new(picker(Balance::LeastConnections, 4), weights(&[1, 1, 1, 1]));
    let mut counts = [0u32; 4];
    (0..4000).for_each(|_| counts[test.next().unwrap()] += 1);
    assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
}

#[test]
fn the_same_client_goes_to_the_same_backend_and_to_the_same_other_one() {
    let there = || roster(&[(1, 0, true); 5], true);
    let mut first = Test::new(picker(Balance::Maglev, 5), there());
    let mut second = Test::new(picker(Balance::Maglev, 5), there());
    second.rng = fastrand::Rng::with_seed(99);
    let own = first.next().unwrap();
    assert!((0..20).all(|_| second.next() == Some(own)));
    first.tried.add(FIRST + own, 0);
    second.tried.add(FIRST + own, 0);
    let other = first.next().unwrap();
    assert_ne!(other, own);
    assert!((0..20).all(|_| second.next() == Some(other)));
}

#[test]
fn peak_ewma_prefers_who_answers_sooner_and_forgets() {
    let mut test = Test::new(picker(Balance::PeakEwma, 2), weights(&[1, 1]));
    let ms = Duration::from_millis;
    test.picker.took(FIRST, Took::Alone(ms(100)), test.now);
    test.picker.took(FIRST + 1, Took::Alone(ms(1)), test.now);
    let zeros = |test: &mut Test, load: [u32; 2]| {
        (0..100).filter(|_| test.with(|i| load[i]) == Some(0)).count()
    };
    assert_eq!(zeros(&mut test, [0, 0]), 0);
    assert_eq!(zeros(&mut test, [0, 98]), 0, "99 x 1 ms are less than 100 ms");
    assert_eq!(zeros(&mut test, [0, 100]), 100);
    test.now += Duration::from_secs(60);
    test.picker.took(FIRST + 1, Took::Alone(ms(1)), test.now);
    assert_eq!(zeros(&mut test, [0, 0]), 100, "a minute later the peak is forgotten");
}

#[test]
fn the_error_of_a_pick_is_counted_in_connections_of_the_chosen_one() {
    let mut test = Test::new(picker(Balance::LeastConnections, 3), weights(&[1, 1, 4]));
    let tried = Tried::default();
    let error = |chosen: usize, loads: [u32; 3]| {
        let ask = Ask { tried: &tried, now: test.now, key: 0 };
        let member = test.roster.tiers[0].members[chosen];
        let count = |slot: usize| loads[slot - FIRST];
        test.picker.error(&test.roster, &ask, (&member, 0), count)
    };
    assert_eq!(error(0, [5, 5, 23]), 0);
    assert_eq!(error(0, [5, 3, 23]), 2);
    assert_eq!(error(2, [0, 3, 7]), 4, "weight 4 beside one that is idle: 3 would be even");
    test.picker.failed(FIRST + 1, test.now);
    let ask = Ask { tried: &tried, now: test.now, key: 0 };
    let member = test.roster.tiers[0].members[0];
    let count = |slot: usize| [5, 0, 99][slot - FIRST];
    let error = test.picker.error(&test.roster, &ask, (&member, 0), count);
    assert_eq!(error, 0, "a suspect was not open");
}

const BALANCES: [Balance; 7] = [
    Balance::RoundRobin,
    Balance::WeightedRoundRobin,
    Balance::LeastConnections,
    Balance::Random,
    Balance::TwoChoices,
    Balance::PeakEwma,
    Balance::Maglev,
];

/// A pool larger than what is looked through whole.
const LARGE: usize = 400;

/// 1. A large pool with random weights, some of them gone, suspect, full or tried. 2. Under every
///    strategy a pick is allowed, and there is one exactly when somebody is.
#[test]
fn large_pools_pick_whom_they_may() {
    for (seed, balance) in BALANCES.into_iter().enumerate() {
        let mut rng = fastrand::Rng::with_seed(seed as u64);
        let specs: Vec<Spec> = (0..LARGE).map(|_| (rng.u32(0..5), 0, rng.u8(..) < 230)).collect();
        let mut there = roster(&specs, balance == Balance::Maglev);
        assert!(there.tiers[0].members.len() > SCAN_MAX);
        there.tiers[0].members.iter_mut().for_each(|member| member.max_connections = 10);
        let mut test = Test::new(picker(balance, LARGE), there);
        for round in 0..40 {
            let allowed_share = [255, 128, 10, 1][round % 4];
            let full: Vec<bool> = (0..LARGE).map(|_| rng.u8(..) > allowed_share).collect();
            let load = |i: usize| if full[i] { 10 } else { (i % 7) as u32 };
            (0..3).for_each(|_| test.picker.failed(FIRST + rng.usize(..LARGE), test.now));
            test.tried = Tried::default();
            while test.tried.count() < 3 {
                let open = |i: usize| {
                    let tried = test.tried.slots.contains(&(FIRST + i));
                    specs[i].0 > 0 && specs[i].2 && !full[i] && !tried
                };
                let somebody = (0..LARGE).any(open);
                let pick = test.with(load);
                assert_eq!(pick.is_some(), somebody, "{balance:?}");
                let Some(i) = pick else { break };
                let tried = test.tried.slots.contains(&(FIRST + i));
                assert!(specs[i].0 > 0 && specs[i].2 && !full[i] && !tried, "{balance:?}");
                test.tried.add(FIRST + i, 0);
            }
            test.now += Duration::from_millis(700);
        }
    }
}

/// 1. A large pool, some held by this shard, some by others. 2. With fresh counts the tree picks
///    the least busy one, always.
#[test]
fn the_tree_of_a_large_pool_is_exact_over_own_connections() {
    let mut rng = fastrand::Rng::with_seed(3);
    let specs: Vec<Spec> = (0..1000).map(|_| (rng.u32(1..4), 0, true)).collect();
    let mut test = Test::new(picker(Balance::LeastConnections, 1000), roster(&specs, false));
    let loads: Vec<std::cell::Cell<u32>> = (0..1000).map(|_| Default::default()).collect();
    let mut held = Vec::new();
    for _ in 0..20_000 {
        let count = |i: usize| loads[i].get();
        let picked = test.with(count).unwrap();
        let load = |i: usize| Load { connections: loads[i].get(), weight: specs[i].0 };
        assert!((0..1000).all(|i| !load(i).is_below(load(picked))), "somebody was less busy");
        loads[picked].set(loads[picked].get() + 1);
        test.picker.came(FIRST + picked);
        held.push(picked);
        if rng.u8(..) < 100 {
            let gone = held.swap_remove(rng.usize(..held.len()));
            loads[gone].set(loads[gone].get() - 1);
            test.picker.left(FIRST + gone);
        }
    }
}

proptest! {
    /// Whatever the pool looks like: a pick is there, weighted and untried; and there is one
    /// exactly when such a backend exists.
    #[test]
    fn a_pick_is_always_allowed(
        balance in proptest::sample::select(BALANCES.to_vec()),
        spec in proptest::collection::vec((0u32..4, 0u32..3, any::<bool>(), 0u32..50), 1..12),
        failed in proptest::collection::vec(0usize..12, 0..6),
        seed in any::<u64>(),
    ) {
        let specs: Vec<Spec> = spec.iter().map(|s| (s.0, s.1, s.2)).collect();
        let strategy = Picker::new(balance, 5, FIRST..FIRST + specs.len(), 3);
        let mut test = Test::new(strategy, roster(&specs, balance == Balance::Maglev));
        test.rng = fastrand::Rng::with_seed(seed);
        for i in failed.iter().filter(|i| **i < spec.len()) {
            test.picker.failed(FIRST + i, test.now);
        }
        for attempt in 0..6 {
            let tried = test.tried.clone();
            let allowed = |i: usize| {
                spec[i].0 > 0 && spec[i].2 && !tried.slots.contains(&(FIRST + i))
            };
            let any = attempt < 5 && (0..spec.len()).any(allowed);
            let pick = test.with(|i| spec[i].3);
            prop_assert_eq!(pick.is_some(), any);
            let Some(i) = pick else { break };
            prop_assert!(allowed(i));
            test.tried.add(FIRST + i, spec[i].1);
        }
    }

    /// Over one full round of smooth weights everybody gets exactly its weight.
    #[test]
    fn smooth_is_exact_over_a_round(weight in proptest::collection::vec(1u32..20, 1..10)) {
        let mut test =
            Test::new(picker(Balance::WeightedRoundRobin, weight.len()), weights(&weight));
        let mut counts = vec![0u32; weight.len()];
        (0..weight.iter().sum()).for_each(|_| counts[test.next().unwrap()] += 1);
        prop_assert_eq!(counts, weight);
    }

    /// Least connections keeps (in flight / weight) within one connection of even.
    #[test]
    fn least_connections_keeps_loads_even(
        weight in proptest::collection::vec(1u32..5, 2..9),
        seed in any::<u64>(),
    ) {
        let mut test = Test::new(picker(Balance::LeastConnections, weight.len()), weights(&weight));
        test.rng = fastrand::Rng::with_seed(seed);
        let load: Vec<_> = weight.iter().map(|_| std::cell::Cell::new(0u32)).collect();
        for _ in 0..200 {
            let i = test.with(|i| load[i].get()).unwrap();
            load[i].set(load[i].get() + 1);
        }
        for (a, wa) in load.iter().zip(&weight) {
            for (b, wb) in load.iter().zip(&weight) {
                prop_assert!(a.get() * wb <= (b.get() + 1) * wa, "{load:?} for {weight:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// In a large pool no prefix of the weighted order deviates from anybody's share by more than
    /// 1.
    #[test]
    fn large_weighted_orders_never_deviate_by_more_than_one(
        distinct in 1u32..300,
        seed in any::<u64>(),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let weight: Vec<u32> = (0..LARGE).map(|_| rng.u32(1..=distinct)).collect();
        let sum: u64 = weight.iter().map(|w| u64::from(*w)).sum();
        let mut test = Test::new(picker(Balance::WeightedRoundRobin, LARGE), weights(&weight));
        let mut counts = vec![0u64; LARGE];
        for picks in 1..=3000u64 {
            counts[test.next().unwrap()] += 1;
            for (count, weight) in counts.iter().zip(&weight) {
                let share = picks as f64 * f64::from(*weight) / sum as f64;
                prop_assert!((*count as f64 - share).abs() <= 1.0, "{count} of {share}");
            }
        }
    }
}

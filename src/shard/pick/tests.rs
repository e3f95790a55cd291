//! Unit and property tests of the pickers.

use proptest::prelude::*;

use super::*;

fn backend(weight: u32, priority: u32) -> Backend {
    let address = "127.0.0.1:1".parse().unwrap();
    Backend { name: String::new(), address, weight, priority }
}

fn pool(weights: &[u32]) -> Vec<Backend> {
    weights.iter().map(|w| backend(*w, 0)).collect()
}

fn idle(_: usize) -> Standing {
    Standing { usable: true, in_flight: 0 }
}

fn picker(balance: Balance, backends: &[Backend]) -> Picker {
    Picker::new(balance, 3, backends.len(), 0)
}

#[test]
fn smooth_weights_5_1_1_give_a_a_b_a_c_a_a() {
    let backends = pool(&[5, 1, 1]);
    let mut picker = picker(Balance::WeightedRoundRobin, &backends);
    let mut rng = fastrand::Rng::with_seed(1);
    let now = Instant::now();
    let order: String = (0..14)
        .filter_map(|_| picker.pick(&backends, idle, &Tried::default(), now, &mut rng))
        .map(|i| ["a", "b", "c"][i])
        .collect();
    assert_eq!(order, "aabacaaaabacaa");
}

#[test]
fn round_robin_ignores_weights_and_skips_the_unusable() {
    let backends = pool(&[9, 1, 1]);
    let mut picker = picker(Balance::RoundRobin, &backends);
    let mut rng = fastrand::Rng::with_seed(1);
    let standing = |i| Standing { usable: i != 1, in_flight: 0 };
    let now = Instant::now();
    let order: Vec<_> = (0..4)
        .filter_map(|_| picker.pick(&backends, standing, &Tried::default(), now, &mut rng))
        .collect();
    assert_eq!(order, [0, 2, 0, 2]);
}

#[test]
fn a_failed_backend_is_last_choice_for_a_second_then_two_up_to_ten() {
    let backends = pool(&[1, 1]);
    let mut picker = picker(Balance::LeastConnections, &backends);
    let mut rng = fastrand::Rng::with_seed(1);
    // Backend 1 is busy, so 0 would always be chosen.
    let standing = |i| Standing { usable: true, in_flight: i as u32 * 100 };
    let mut now = Instant::now();
    for step in [1, 2, 4, 8, 10, 10] {
        picker.failed(0, now);
        picker.failed(0, now);
        let nearly = now + Duration::from_millis(step * 1000 - 1);
        let mut pick = |at| picker.pick(&backends, standing, &Tried::default(), at, &mut rng);
        assert_eq!(pick(nearly), Some(1));
        now += Duration::from_secs(step);
        assert_eq!(pick(now), Some(0));
    }
    picker.succeeded(0);
    picker.failed(0, now);
    let later = now + Duration::from_secs(1);
    assert_eq!(picker.pick(&backends, standing, &Tried::default(), later, &mut rng), Some(0));
}

#[test]
fn a_suspect_is_used_when_nobody_else_is() {
    let backends = pool(&[1]);
    let mut picker = picker(Balance::Random, &backends);
    let now = Instant::now();
    picker.failed(0, now);
    let mut rng = fastrand::Rng::with_seed(1);
    assert_eq!(picker.pick(&backends, idle, &Tried::default(), now, &mut rng), Some(0));
}

#[test]
fn the_last_attempt_goes_to_the_next_priority() {
    let backends: Vec<_> = [0, 0, 0, 1].map(|priority| backend(1, priority)).into();
    let mut picker = picker(Balance::RoundRobin, &backends);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut tried = Tried::default();
    let now = Instant::now();
    let mut order = Vec::new();
    while let Some(i) = picker.pick(&backends, idle, &tried, now, &mut rng) {
        picker.failed(i, now);
        tried.add(i);
        order.push(i);
    }
    assert_eq!(order, [0, 1, 3]);
}

#[test]
fn a_single_attempt_goes_to_the_first_priority() {
    let backends = [backend(1, 0), backend(1, 1)];
    let mut picker = Picker::new(Balance::RoundRobin, 1, 2, 0);
    let mut rng = fastrand::Rng::with_seed(1);
    let now = Instant::now();
    assert_eq!(picker.pick(&backends, idle, &Tried::default(), now, &mut rng), Some(0));
}

#[test]
fn equal_backends_share_ties() {
    let backends = pool(&[1, 1, 1, 1]);
    let mut picker = picker(Balance::LeastConnections, &backends);
    let mut rng = fastrand::Rng::with_seed(7);
    let now = Instant::now();
    let mut counts = [0u32; 4];
    for _ in 0..4000 {
        counts[picker.pick(&backends, idle, &Tried::default(), now, &mut rng).unwrap()] += 1;
    }
    assert!(counts.iter().all(|n| (850..1150).contains(n)), "{counts:?}");
}

fn any_balance() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::RoundRobin),
        Just(Balance::WeightedRoundRobin),
        Just(Balance::LeastConnections),
        Just(Balance::Random),
    ]
}

proptest! {
    /// Whatever the pool looks like: a pick is usable, weighted and untried; and there is one
    /// exactly when such a backend exists.
    #[test]
    fn a_pick_is_always_allowed(
        balance in any_balance(),
        spec in proptest::collection::vec((0u32..4, 0u32..3, any::<bool>(), 0u32..50), 1..12),
        failed in proptest::collection::vec(0usize..12, 0..6),
        seed in any::<u64>(),
    ) {
        let backends: Vec<_> = spec.iter().map(|s| backend(s.0, s.1)).collect();
        let standing = |i: usize| Standing { usable: spec[i].2, in_flight: spec[i].3 };
        let mut picker = Picker::new(balance, 5, backends.len(), 3);
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        failed.iter().filter(|i| **i < spec.len()).for_each(|i| picker.failed(*i, now));
        let mut tried = Tried::default();
        for attempt in 0..6 {
            let allowed = |i: usize| spec[i].0 > 0 && spec[i].2 && !tried.0.contains(&i);
            let any = attempt < 5 && (0..spec.len()).any(allowed);
            let pick = picker.pick(&backends, standing, &tried, now, &mut rng);
            prop_assert_eq!(pick.is_some(), any);
            let Some(i) = pick else { break };
            prop_assert!(allowed(i));
            tried.add(i);
        }
    }

    /// Over one full round of smooth weights everybody gets exactly its weight.
    #[test]
    fn smooth_is_exact_over_a_round(weights in proptest::collection::vec(1u32..20, 1..10)) {
        let backends = pool(&weights);
        let mut picker = picker(Balance::WeightedRoundRobin, &backends);
        let mut rng = fastrand::Rng::with_seed(1);
        let now = Instant::now();
        let mut counts = vec![0u32; weights.len()];
        for _ in 0..weights.iter().sum() {
            let i = picker.pick(&backends, idle, &Tried::default(), now, &mut rng).unwrap();
            counts[i] += 1;
        }
        prop_assert_eq!(counts, weights);
    }

    /// Least connections keeps (in flight / weight) within one connection of even.
    #[test]
    fn least_connections_keeps_loads_even(
        weights in proptest::collection::vec(1u32..5, 2..9),
        seed in any::<u64>(),
    ) {
        let backends = pool(&weights);
        let mut picker = picker(Balance::LeastConnections, &backends);
        let mut rng = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let mut load = vec![0u32; weights.len()];
        for _ in 0..200 {
            let standing = |i: usize| Standing { usable: true, in_flight: load[i] };
            let i = picker.pick(&backends, standing, &Tried::default(), now, &mut rng).unwrap();
            load[i] += 1;
        }
        for (a, wa) in load.iter().zip(&weights) {
            for (b, wb) in load.iter().zip(&weights) {
                prop_assert!(a * wb <= (b + 1) * wa, "{load:?} for {weights:?}");
            }
        }
    }
}

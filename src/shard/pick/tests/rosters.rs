//! Rosters that change while a picker remembers the ones before.

use super::*;

/// A roster of everybody but some, as the next one after `before`.
fn next_roster(before: &Roster, weight: &[u32], without: &[usize]) -> Roster {
    let there = |i: &usize| !without.contains(i);
    let specs: Vec<Spec> =
        weight.iter().enumerate().map(|(i, weight)| (*weight, 0, there(&i))).collect();
    Roster { generation: before.generation + 1, ..roster(&specs, false) }
}

/// 1. Weights 1, 1 and 1000, six hundred picks. 2. The heavy one is drained: the light ones have
///    half each at once. 3. All weights become 1 after another change: a third each.
#[test]
fn a_change_of_the_roster_keeps_nobody_from_its_turn() {
    let mut test = Test::new(picker(Balance::WeightedRoundRobin, 3), weights(&[1, 1, 1000]));
    (0..600).for_each(|_| {
        test.next();
    });
    let mut shares = |weight: &[u32], without: &[usize], picks: usize| {
        test.roster = next_roster(&test.roster, weight, without);
        let mut counts = [0; 3];
        (0..picks).for_each(|_| counts[test.next().unwrap()] += 1);
        counts
    };
    let [a, b, c] = shares(&[1, 1, 1000], &[2], 20);
    assert!(a >= 8 && b >= 8 && c == 0, "{a} {b} {c}");
    let _ = shares(&[1000, 1000, 1000], &[], 1);
    let thirds = shares(&[1, 1, 1], &[], 30);
    assert!(thirds.iter().all(|n| (8..=12).contains(n)), "{thirds:?}");
}

/// 1. A large pool in weighted order; one member's weight grows, with a new roster each twenty
///    picks. 2. It gets the picks that its weights add up to, to within two.
#[test]
fn a_growing_weight_has_its_turns_in_a_large_pool() {
    let mut test = Test::new(picker(Balance::WeightedRoundRobin, LARGE), weights(&[100; LARGE]));
    let (mut got, mut due) = (0, 0.0);
    for step in 10..=100 {
        let mut weight = [100; LARGE];
        weight[7] = step;
        test.roster = next_roster(&test.roster, &weight, &[]);
        due += 20.0 * f64::from(step) / f64::from(weight.iter().sum::<u32>());
        got += (0..20).filter(|_| test.next() == Some(7)).count();
    }
    assert!((got as f64 - due).abs() <= 2.0, "{got} of {due}");
}

/// 1. Of three, one was slow and one failed its dial. 2. Their slots go to others: those are asked
///    as if nothing had been.
#[test]
fn who_takes_over_a_slot_starts_without_its_past() {
    let mut test = Test::new(picker(Balance::PeakEwma, 2), weights(&[1, 1]));
    test.picker.took(FIRST, Took::Alone(Duration::from_millis(1)), test.now);
    test.picker.took(FIRST + 1, Took::Alone(Duration::from_secs(100)), test.now);
    test.picker.failed(FIRST + 1, test.now);
    assert!((0..50).all(|_| test.next() == Some(0)));
    test.roster = next_roster(&test.roster, &[1, 1], &[]);
    assert!((0..50).all(|_| test.next() == Some(0)), "the same ones");
    test.roster = next_roster(&test.roster, &[1, 1], &[]);
    test.roster.tiers[0].members[1].id = 99;
    assert!((0..50).any(|_| test.next() == Some(1)), "another one");
}

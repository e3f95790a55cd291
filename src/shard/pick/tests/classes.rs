//! In which order members are asked: the suspects, the doubtful and the unreachable.

use super::*;

#[test]
fn a_failed_backend_is_last_choice_for_a_second_then_two_up_to_ten() {
    let mut test = Test::new(picker(Balance::LeastConnections, 2), weights(&[1, 1]));
    // Backend 1 is busy, so 0 would always be chosen.
    let busy = |i: usize| i as u32 * 100;
    let start = test.now;
    let mut at = Duration::ZERO;
    for step in [1, 2, 4, 8, 10, 10] {
        test.picker.failed(FIRST, start + at);
        test.picker.failed(FIRST, start + at);
        test.now = start + at + Duration::from_millis(step * 1000 - 1);
        assert_eq!(test.with(busy), Some(1));
        at += Duration::from_secs(step);
        test.now = start + at;
        assert_eq!(test.with(busy), Some(0));
    }
    test.picker.succeeded(FIRST);
    test.picker.failed(FIRST, test.now);
    test.now += Duration::from_secs(1);
    assert_eq!(test.with(busy), Some(0));
}

#[test]
fn a_suspect_is_used_when_nobody_else_is() {
    let mut test = Test::new(picker(Balance::Random, 1), weights(&[1]));
    test.picker.failed(FIRST, test.now);
    assert_eq!(test.next(), Some(0));
}

#[test]
fn the_last_attempt_goes_to_the_next_priority() {
    let specs: Vec<Spec> = [0, 0, 0, 1].map(|priority| (1, priority, true)).into();
    let mut test = Test::new(picker(Balance::RoundRobin, 4), roster(&specs, false));
    let mut order = Vec::new();
    while let Pick::Chosen(member, priority) = test.whole(|_| 0) {
        test.picker.failed(member.slot, test.now);
        test.tried.add(member.slot, priority);
        order.push(member.slot - FIRST);
    }
    assert_eq!(order, [0, 1, 3]);
}

#[test]
fn the_last_attempt_prefers_a_primary_that_is_well_to_a_fallback_that_failed() {
    let there = roster(&[(1, 0, true), (1, 0, true), (1, 1, true)], false);
    let mut test = Test::new(Picker::new(Balance::RoundRobin, 2, FIRST..FIRST + 3, 0), there);
    test.tried.add(FIRST, 0);
    test.picker.failed(FIRST + 2, test.now);
    assert_eq!(test.next(), Some(1));
}

/// A pool in panic: the members from `healthy` on are doubtful, and those from `doubtful` on cannot
/// be connected to.
fn in_panic(healthy: usize, doubtful: usize, all: usize) -> Roster {
    let of = |range: std::ops::Range<usize>| -> Vec<Member> {
        range.map(|i| Member { healthy: i < healthy, ..member(FIRST + i, 1) }).collect()
    };
    let tier = |members: Vec<Member>| match members.is_empty() {
        true => Vec::new(),
        false => vec![Tier::new(0, members, None)],
    };
    Roster { generation: 1, tiers: tier(of(0..doubtful)), unreachable: tier(of(doubtful..all)) }
}

const ALL: [Balance; 6] = [
    Balance::RoundRobin,
    Balance::WeightedRoundRobin,
    Balance::Random,
    Balance::LeastConnections,
    Balance::TwoChoices,
    Balance::PeakEwma,
];

/// 1. Of twenty, one is well, one doubtful, the others cannot be connected to. 2. However busy the
///    first two are, nobody else is chosen; the doubtful one is used as well.
#[test]
fn who_cannot_be_connected_to_is_asked_last() {
    for balance in ALL {
        let mut test = Test::new(picker(balance, 20), in_panic(1, 2, 20));
        let seen: Vec<_> = (0..50).map(|_| test.with(|i| if i < 2 { 9 } else { 0 })).collect();
        assert!(seen.iter().all(|i| *i < Some(2)), "{balance:?}: {seen:?}");
        assert!(seen.contains(&Some(1)), "{balance:?}: {seen:?}");
    }
}

/// 1. The only ones that can be connected to are tried, or suspected lately. 2. A suspect comes
///    before one that a check could not reach, and then everybody who is left.
#[test]
fn when_nobody_else_is_left_everybody_is_asked() {
    for balance in ALL {
        let mut test = Test::new(Picker::new(balance, 9, FIRST..FIRST + 3, 0), in_panic(2, 2, 3));
        test.picker.failed(FIRST, test.now);
        test.tried.add(FIRST + 1, 0);
        assert_eq!(test.next(), Some(0), "{balance:?}");
        test.tried.add(FIRST, 0);
        assert_eq!(test.next(), Some(2), "{balance:?}");
        test.tried.add(FIRST + 2, 0);
        assert_eq!(test.whole(|_| 0), Pick::Nobody, "{balance:?}");
    }
}

/// 1. Large pools have structures of their own, for one tier of a priority. 2. Those who cannot be
///    connected to are a tier of the same priority, and are picked from as well.
#[test]
fn two_large_tiers_of_one_priority_do_not_meet() {
    for balance in ALL {
        let mut test = Test::new(picker(balance, 2 * LARGE), in_panic(LARGE, LARGE, 2 * LARGE));
        assert!((0..20).all(|_| test.next() < Some(LARGE)), "{balance:?}");
        (0..LARGE).for_each(|i| test.picker.failed(FIRST + i, test.now));
        (0..LARGE).for_each(|i| test.tried.add(FIRST + i, 0));
        test.picker.max_attempts = usize::MAX;
        assert!((0..20).all(|_| test.next() >= Some(LARGE)), "{balance:?}");
    }
}

/// 1. One is well, nine are doubtful. 2. A first attempt goes to any, a last one to the one that is
///    well, unless it was tried.
#[test]
fn the_last_attempt_goes_to_who_is_well() {
    for balance in ALL {
        let mut test = Test::new(picker(balance, 10), in_panic(1, 10, 10));
        let busy = |i: usize| if i == 0 { 9 } else { 0 };
        assert!((0..50).any(|_| test.with(busy) != Some(0)), "{balance:?}");
        test.tried.add(FIRST + 5, 0);
        test.tried.add(FIRST + 6, 0);
        assert!((0..50).all(|_| test.with(busy) == Some(0)), "{balance:?}");
        test.tried = Tried::default();
        test.tried.add(FIRST, 0);
        test.tried.add(FIRST + 6, 0);
        assert!((0..50).all(|_| test.with(busy) > Some(0)), "{balance:?}");
    }
}

/// 1. Two backends, both empty; connections of the first end at once without a byte. 2. It counts
///    as busier each time, until the other one has more. 3. An answer forgives it all.
#[test]
fn early_ends_weigh_like_connections() {
    for balance in [Balance::LeastConnections, Balance::TwoChoices] {
        let mut test = Test::new(picker(balance, 2), weights(&[1, 1]));
        (0..3).for_each(|_| test.picker.ended_early(FIRST, test.now));
        // As good as seven.
        assert!((0..20).all(|_| test.with(|i| if i == 0 { 0 } else { 6 }) == Some(1)));
        assert!((0..20).all(|_| test.with(|i| if i == 0 { 0 } else { 8 }) == Some(0)));
        test.picker.answered(FIRST);
        assert!((0..20).all(|_| test.with(|i| if i == 0 { 0 } else { 1 }) == Some(0)));
    }
}

/// 1. Two backends answer in a millisecond. 2. One client waits for 20 s, again and again: that is
///    averaged in, and bounded. 3. A second one bears it out: the average jumps.
#[test]
fn a_single_late_client_says_little() {
    let ms = Duration::from_millis;
    let picks_of_0 = |test: &mut Test| (0..200).filter(|_| test.next() == Some(0)).count();
    let mut test = Test::new(picker(Balance::PeakEwma, 2), weights(&[1, 1]));
    for client in [1, 2, 1, 2] {
        test.now += ms(10);
        (0..2).for_each(|i| test.picker.took(FIRST + i, Took::Answer(ms(1), client), test.now));
    }
    let long = Duration::from_secs(20);
    for _ in 0..10 {
        test.now += ms(1);
        test.picker.took(FIRST, Took::Answer(long, 1), test.now);
    }
    // Whoever is a little slower is never the better one of two: four hundred connections do it.
    let load = |i: usize| if i == 0 { 0 } else { 1 };
    assert!((0..200).all(|_| test.with(load) == Some(0)));
    test.now += ms(1);
    test.picker.took(FIRST, Took::Answer(long, 2), test.now);
    assert!((0..200).all(|_| test.with(load) == Some(1)));
    assert_eq!(picks_of_0(&mut test), 0);
}

//! Nanoseconds per pick, by strategy and size of the pool, and per recorded latency.
//!
//! `cargo bench`; `cargo test` runs each once.

use std::{
    collections::VecDeque,
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::{
    bridge::{Balance, Member, Roster, Tier},
    config::Word,
    hist::{Kind, Latency},
    maglev::Table,
    shard::pick::{Ask, Pick, Picker, Took, Tried},
};

/// A pool whose weights are 1, 2 and 3 in turn.
fn roster(count: usize, balance: Balance) -> Roster {
    let member = |slot: usize| Member {
        id: 0,
        slot,
        address: ([127, 0, 0, 1], 1).into(),
        weight: 100 * (1 + slot as u32 % 3),
        max_connections: 0,
        healthy: true,
    };
    let members: Vec<Member> = (0..count).map(member).collect();
    let names: Vec<String> = (0..count).map(|slot| format!("b{slot}")).collect();
    let table = (balance == Balance::Maglev).then(|| {
        let weight = |(name, member): (&'static str, &Member)| (name, member.weight);
        let names = names.iter().map(|name| -> &'static str { name.clone().leak() });
        Table::new(&names.zip(&members).map(weight).collect::<Vec<_>>())
    });
    Roster { generation: 1, tiers: vec![Tier::new(0, members, table)], unreachable: Vec::new() }
}

/// Each pick becomes a connection, and the oldest of 50 times the pool ends, as in a process at
/// rest under load. Two shards' counts are added up; ours is the first. `step` is the time from
/// one pick to the next.
fn pick_for_ever(bencher: &mut Bencher, balance: Balance, count: usize, step: Duration) {
    let roster = roster(count, balance);
    let mut picker = Picker::new(balance, 3, 0..count, 0);
    let mut rng = fastrand::Rng::with_seed(7);
    let loads: [Vec<AtomicU32>; 2] =
        std::array::from_fn(|_| (0..count).map(|_| AtomicU32::new(20)).collect());
    let in_flight = |slot: usize| loads.iter().map(|row| row[slot].load(Relaxed)).sum();
    let tried = Tried::default();
    let mut now = Instant::now();
    let mut oldest: VecDeque<usize> = VecDeque::new();
    bencher.iter(|| {
        now += step;
        let ask = Ask { tried: &tried, now, key: rng.u64(..) };
        let pick = picker.pick(black_box(&roster), &ask, in_flight, &mut rng);
        let Pick::Chosen(member, _) = pick else { panic!("nobody") };
        loads[0][member.slot].fetch_add(1, Relaxed);
        picker.came(member.slot);
        let latency = Duration::from_micros(100 + member.slot as u64 % 50);
        picker.took(member.slot, Took::Alone(latency), now);
        oldest.push_back(member.slot);
        if oldest.len() > 50 * count {
            let slot = oldest.pop_front().unwrap_or_default();
            loads[0][slot].fetch_sub(1, Relaxed);
            picker.left(slot);
        }
    });
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for (name, balance) in Balance::WORDS {
        for count in [10, 100, 1000, 10_000] {
            group.bench_function(BenchmarkId::new(*name, count), |bencher| {
                pick_for_ever(bencher, *balance, count, Duration::from_micros(1));
            });
        }
    }
    // So rare that each pick of a large pool looks at the other shards' counts anew.
    for count in [1000, 10_000] {
        group.bench_function(BenchmarkId::new("least_connections_rare", count), |bencher| {
            pick_for_ever(bencher, Balance::LeastConnections, count, Duration::from_millis(5));
        });
    }
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut latency = Latency::<u32>::new(Kind::Listener);
    let mut us = 0;
    criterion.bench_function("record", |bencher| {
        bencher.iter(|| {
            us = (us + 977) % 1_000_000;
            latency.record(black_box(Duration::from_micros(us)));
        });
    });
}

criterion_group!(benches, picks, records);
criterion_main!(benches);

//! Nanoseconds per pick, by strategy and size of the pool, and per recorded latency.
//!
//! `cargo bench`; `cargo test` runs each once.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::{
    bridge::{Backend, Balance},
    hist::{Kind, Latency},
    shard::pick::{Picker, Standing, Tried},
};

const STRATEGIES: [(&str, Balance); 4] = [
    ("round_robin", Balance::RoundRobin),
    ("weighted_round_robin", Balance::WeightedRoundRobin),
    ("random", Balance::Random),
    ("least_connections", Balance::LeastConnections),
];

fn backends(count: usize) -> Vec<Backend> {
    let backend = |i: usize| Backend {
        name: format!("b{i}"),
        address: ([127, 0, 0, 1], 1).into(),
        weight: 1 + i as u32 % 3,
        priority: 0,
    };
    (0..count).map(backend).collect()
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick");
    for (name, balance) in STRATEGIES {
        for count in [10, 100, 1000, 10_000] {
            let backends = backends(count);
            let mut picker = Picker::new(balance, 3, count, 0);
            let mut rng = fastrand::Rng::with_seed(7);
            let standing = |i: usize| Standing { usable: true, in_flight: (i * 7 % 50) as u32 };
            let (tried, now) = (Tried::default(), Instant::now());
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| picker.pick(black_box(&backends), standing, &tried, now, &mut rng));
            });
        }
    }
    group.finish();
}

fn records(criterion: &mut Criterion) {
    let mut latency = Latency::new(Kind::Listener);
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

//! The page says what the program prints, and the bounds hold for other seeds too.

use clap::Parser as _;
use ringway::bridge::Balance;

use crate::{
    Args, keys, tables,
    tally::Figures,
    world::{self, Who},
};

const PAGE: &str = include_str!("../../docs/balancing.md");

fn seeds() -> impl Iterator<Item = Args> {
    (1..=5).map(|seed| Args { seed, ..Args::parse_from(["balance"]) })
}

fn error_of(figures: &Figures) -> (f64, u32) {
    figures.error.map(|error| (error.mean, error.max)).expect("somebody picked")
}

#[test]
fn the_page_has_the_tables_that_are_printed_now() {
    for (title, table) in tables::all(&Args::parse_from(["balance"])) {
        let has = PAGE.contains(&table);
        assert!(has, "docs/balancing.md lacks what `--example balance` prints: {title}\n{table}");
    }
}

#[test]
fn with_weights_that_fit_everybody_keeps_its_distance_to_the_exact_best() {
    for args in seeds() {
        let scene = tables::eight(&args, &tables::SPEEDS);
        let best = world::run(&scene, Who::Best).queue_mean;
        let [least, two, peak, smooth, random] = [
            Balance::LeastConnections,
            Balance::TwoChoices,
            Balance::PeakEwma,
            Balance::WeightedRoundRobin,
            Balance::Random,
        ]
        .map(|balance| world::run(&scene, Who::Strategy(balance)));
        let seed = args.seed;
        let within = |figures: &Figures, times: f64| figures.queue_mean <= times * best;
        assert!(within(&least, 1.5), "seed {seed}: {least:?}, best {best}");
        assert!(within(&two, 2.0), "seed {seed}: {two:?}, best {best}");
        assert!(within(&peak, 2.4), "seed {seed}: {peak:?}, best {best}");
        assert!(smooth.queue_mean < random.queue_mean, "seed {seed}: {smooth:?} {random:?}");
        assert!(1.5 * two.queue_mean < random.queue_mean, "seed {seed}: {two:?} {random:?}");
        assert_eq!(error_of(&least), (0.0, 0), "seed {seed}: all counts are fresh");
    }
}

/// Whoever looks at no load drowns the slow ones; least connections keeps queues level.
#[test]
fn with_equal_weights_only_those_who_look_keep_queues_short() {
    for args in seeds() {
        let scene = tables::eight(&args, &[1; 8]);
        for (balance, looks) in [
            (Balance::LeastConnections, true),
            (Balance::TwoChoices, true),
            (Balance::PeakEwma, true),
            (Balance::RoundRobin, false),
            (Balance::WeightedRoundRobin, false),
            (Balance::Random, false),
            (Balance::Maglev, false),
        ] {
            let figures = world::run(&scene, Who::Strategy(balance));
            let fits = if looks { figures.queue_mean < 20.0 } else { figures.queue_mean > 100.0 };
            assert!(fits, "seed {}: {balance:?}: {figures:?}", args.seed);
            let level = balance != Balance::LeastConnections || figures.spread < 2.0;
            assert!(level, "seed {}: {figures:?}", args.seed);
        }
    }
}

#[test]
fn the_tree_of_a_large_pool_errs_by_what_is_stale() {
    for args in seeds().take(3) {
        let two_choices = tables::thousand(&args, 1, 1);
        let two = world::run(&two_choices, Who::Strategy(Balance::TwoChoices)).queue_mean;
        for (shards, mean, max) in [(1, 0.0, 0), (2, 0.75, 6), (8, 2.0, 16)] {
            let scene = tables::thousand(&args, shards, 1);
            let figures = world::run(&scene, Who::Strategy(Balance::LeastConnections));
            let (error_mean, error_max) = error_of(&figures);
            let holds = error_mean <= mean && error_max <= max && figures.queue_mean < two;
            assert!(holds, "seed {}, {shards} shards: {figures:?}, p2c {two}", args.seed);
        }
    }
}

#[test]
fn maglev_moves_at_most_2_percent_of_the_other_clients() {
    for seed in 1..=2 {
        for (backends, gone) in [(100, 1), (10, 1), (100, 10)] {
            let (mean, most) = keys::moved(backends, gone, seed);
            assert!(mean <= most && most <= 0.02, "seed {seed}: {gone} of {backends}: {most}");
        }
        assert!(keys::busiest(10, seed) < 1.05, "seed {seed}");
    }
}

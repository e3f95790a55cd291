//! The tables, as the page has them.

use std::{fmt::Write as _, time::Duration};

use ringway::{bridge::Balance, config::Word};

use crate::{
    Args, keys,
    tally::Figures,
    world::{self, Scene, Who},
};

/// Of the backends, and of their weights where those fit.
pub const SPEEDS: [u32; 8] = [1, 1, 2, 2, 4, 4, 8, 8];

/// A backend of speed 1 serves a connection in this time on average.
const UNIT: Duration = Duration::from_millis(40);

/// Backends of the large pool.
const LARGE: usize = 1000;

/// Everything that is printed: a title and a table each.
pub fn all(args: &Args) -> Vec<(&'static str, String)> {
    vec![
        ("Weights as the speeds are", figures(args, &SPEEDS)),
        ("All weights equal", figures(args, &[1; 8])),
        ("Mean delay in ms by the number of shards, weights as the speeds are", by_shards(args)),
        ("Least connections over 1,000 backends", large(args)),
        ("Maglev: clients of the busiest backend over the mean", busiest(args)),
        ("Maglev: clients of the other backends that move", moved(args)),
    ]
}

/// Eight backends of unequal speeds.
pub fn eight(args: &Args, weights: &[u32]) -> Scene {
    Scene {
        speeds: SPEEDS.to_vec(),
        weights: weights.to_vec(),
        unit: UNIT,
        shards: usize::from(args.shards),
        connections: args.connections as usize,
        seed: args.seed,
    }
}

/// The same mix over a pool that is not looked through whole; `slower` stretches time.
pub fn thousand(args: &Args, shards: usize, slower: u32) -> Scene {
    let speeds: Vec<u32> = SPEEDS.into_iter().cycle().take(LARGE).collect();
    let connections = 5 * args.connections as usize;
    let (weights, unit) = (speeds.clone(), UNIT * slower);
    Scene { speeds, weights, unit, shards, connections, seed: args.seed }
}

/// Everybody who is compared, and what the page calls it.
fn everybody() -> impl Iterator<Item = (String, Who)> {
    let strategy =
        |(name, balance): &(&str, Balance)| (format!("`{name}`"), Who::Strategy(*balance));
    let best = ("exact best".to_owned(), Who::Best);
    std::iter::once(best).chain(Balance::WORDS.iter().map(strategy))
}

fn figures(args: &Args, weights: &[u32]) -> String {
    let scene = eight(args, weights);
    let head = ["", "queue mean", "queue p99", "spread", "delay ms mean", "delay ms p99"];
    let mut table = header(&[&head[..], &ERROR].concat());
    for (name, who) in everybody() {
        let f = world::run(&scene, who);
        _ = writeln!(
            table,
            "| {name} | {:.2} | {} | {:.2} | {:.1} | {:.1} | {} |",
            f.queue_mean,
            f.queue_p99,
            f.spread,
            f.delay_ms_mean,
            f.delay_ms_p99,
            error(&f)
        );
    }
    table
}

/// The head of a table; columns without a name hold names.
fn header(names: &[&str]) -> String {
    let align = |name: &&str| if name.is_empty() { "---" } else { "--:" };
    let aligns: Vec<&str> = names.iter().map(align).collect();
    format!("| {} |\n| {} |\n", names.join(" | "), aligns.join(" | "))
}

/// The columns of [`error`].
const ERROR: [&str; 2] = ["error mean", "error max"];

fn error(figures: &Figures) -> String {
    figures.error.map_or("- | -".to_owned(), |error| format!("{:.2} | {}", error.mean, error.max))
}

fn by_shards(args: &Args) -> String {
    let mut table = header(&["", "1 shard", "2 shards", "8 shards"]);
    for (name, who) in everybody() {
        let delay = |shards| {
            let scene = Scene { shards, ..eight(args, &SPEEDS) };
            world::run(&scene, who).delay_ms_mean
        };
        _ = writeln!(table, "| {name} | {:.1} | {:.1} | {:.1} |", delay(1), delay(2), delay(8));
    }
    table
}

fn large(args: &Args) -> String {
    let head = ["connections a second", "shards", "queue mean", "of `p2c`", "of the exact best"];
    let mut table = header(&[&head[..], &ERROR].concat());
    for slower in [1, 10, 100] {
        let scene = |shards| thousand(args, shards, slower);
        let queue = |who| world::run(&scene(1), who).queue_mean;
        let best = queue(Who::Best);
        let p2c = queue(Who::Strategy(Balance::TwoChoices));
        for shards in [1, 2, 8] {
            let rate = scene(shards).arrivals_per_second();
            let f = world::run(&scene(shards), Who::Strategy(Balance::LeastConnections));
            let (queue, error) = (f.queue_mean, error(&f));
            _ = writeln!(
                table,
                "| {rate:.0} | {shards} | {queue:.2} | {p2c:.2} | {best:.2} | {error} |"
            );
        }
    }
    table
}

fn busiest(args: &Args) -> String {
    let mut table = header(&["backends", "busiest over mean"]);
    for backends in [10, 100, 1000] {
        let busiest = keys::busiest(backends, args.seed);
        _ = writeln!(table, "| {backends} | {busiest:.3} |");
    }
    table
}

fn moved(args: &Args) -> String {
    let mut table = header(&["go", "of", "mean", "most"]);
    for (gone, backends) in [(1, 10), (1, 100), (10, 100)] {
        let (mean, most) = keys::moved(backends, gone, args.seed);
        let (mean, most) = (mean * 100.0, most * 100.0);
        _ = writeln!(table, "| {gone} | {backends} | {mean:.2} % | {most:.2} % |");
    }
    table
}

//! How well each strategy balances, simulated: the tables of `docs/balancing.md`.
//!
//! `cargo run --release --example balance`. The strategies are the product's own; what they balance
//! is a simulation, so that the same seed gives the same tables on every machine. A test compares
//! them with the page, others hold the bounds over several seeds.

#[path = "balance/keys.rs"]
mod keys;
#[path = "balance/tables.rs"]
mod tables;
#[path = "balance/tally.rs"]
mod tally;
#[cfg(test)]
#[path = "balance/tests.rs"]
mod tests;
#[path = "balance/world.rs"]
mod world;

use clap::Parser;

/// Simulate every balancing strategy and print the tables of docs/balancing.md.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Begins the chance of everything; the page has seed 1
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Shards, each with a picker of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1024))]
    shards: u16,
    /// Connections over 8 backends; five times as many over 1,000
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    connections: u32,
}

fn main() {
    for (title, table) in tables::all(&Args::parse()) {
        println!("{title}\n\n{table}");
    }
}

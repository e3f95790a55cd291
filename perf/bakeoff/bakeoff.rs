//! The same minimal relay on each runtime: one thread, one backend, TCP_NODELAY on both sides,
//! half-closes kept, nothing else. Measured side by side with the floor, round by round.
//!
//! `cargo bench --manifest-path perf/bakeoff/Cargo.toml` measures and prints tables;
//! `cargo test --manifest-path perf/bakeoff/Cargo.toml` only proves that each relay is right.
//! The program starts itself once for each relay and each backend.

mod engine;
mod figure;
mod measure;
mod on_monoio;
mod on_tokio;
mod on_tokio_uring;
mod right;
mod ring;

use std::process::ExitCode;

use clap::Parser;

/// Measure relays on several runtimes, interleaved; without --bench only prove them right.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    plan: measure::Plan,
}

#[derive(clap::Subcommand)]
enum Part {
    /// One relay
    #[command(hide = true)]
    Relay(engine::Args),
    /// What the relays dial
    #[command(hide = true)]
    Backend(ringway::backend::Args),
}

fn main() -> ExitCode {
    let args = Args::parse();
    ringway::bench::raise_nofile();
    let outcome = match args.part {
        Some(Part::Backend(args)) => return ringway::backend::run(args),
        Some(Part::Relay(args)) => engine::run(&args),
        None if args.bench => measure::run(&args.plan),
        None => right::prove(&args.plan),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

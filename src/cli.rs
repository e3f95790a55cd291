//! The command line: what can be asked for, and which room answers.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "ringway",
    version,
    about = "Edge load balancer and sidecar proxy for Linux on io_uring, one shard per core"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArg,
}

#[derive(Args)]
struct ConfigArg {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Generate load and print its latency
    Bench(crate::bench::Args),
    /// Run a test server
    Backend(crate::backend::Args),
    /// Show the whole product with nothing installed
    Demo(crate::demo::Args),
}

/// Parses the arguments and runs what they name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Bench(args)) => crate::bench::run(args),
        Some(Command::Backend(args)) => crate::backend::run(args),
        Some(Command::Demo(args)) => crate::demo::run(args),
        None => ExitCode::from(2),
    }
}

//! The command line: what can be asked for, and which room answers.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  ringway demo                          see it work, with nothing installed
  ringway check --config config.toml    every problem of the file at once
  ringway run --config config.toml      serve
  curl -s http://127.0.0.1:9900/stats   everything it knows, as JSON

Exit codes: 0 good; 1 problems found, an operation failed, cannot start; 2 wrong usage.";

/// Edge load balancer and sidecar proxy for Linux: io_uring, one shard per core
#[derive(Parser)]
#[command(name = "ringway", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: ConfigArg,
}

#[derive(Args)]
struct ConfigArg {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "config.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Serve; also what `ringway` alone does
    #[command(after_help = "\
SIGTERM or SIGINT drains: no new connections, those that are there may finish within
runtime.drain_timeout. A second one cuts what is left.

Examples:
  ringway run --config config.toml
  ringway run --config config.toml 2> ringway.log")]
    Run(ConfigArg),
    /// Print every problem of a configuration file at once
    #[command(after_help = "\
Problems go to stdout, a summary to stderr. Exit code 0: valid, 1: not.

Example:
  ringway check --config config.toml && systemctl restart ringway")]
    Check(ConfigArg),
    /// Show the whole product with nothing installed
    Demo(crate::demo::Args),
    /// Watch a running instance in the terminal
    Top(crate::top::Args),
    /// Run a test server
    Backend(crate::backend::Args),
    /// Generate load and print its latency
    Bench(crate::bench::Args),
}

/// Parses the arguments and runs what they name.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::rt::end_process_on_panic();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => crate::run::run(&args.config),
        Command::Check(args) => crate::run::check(&args.config),
        Command::Demo(args) => crate::demo::run(args),
        Command::Top(args) => crate::top::run(args),
        Command::Backend(args) => crate::backend::run(args),
        Command::Bench(args) => crate::bench::run(args),
    }
}

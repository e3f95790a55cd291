pub mod stats;

use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {}

/// Runs.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::SUCCESS
}

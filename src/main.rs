//! The `ringway` binary: arguments in, exit code out. All meaning lives in the library.

use std::process::ExitCode;

/// Feature `no_thp` keeps it from asking for huge pages (see `Cargo.toml`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringway::cli::main()
}

//! Real servers and clients through the real binary, and what the kernel sees of it.
//!
//! `scripts/check --all` runs these; `.ci/run` installs what they need. A missing program fails a
//! test, it skips none.

mod kit;

#[path = "outside/browser.rs"]
mod browser;
#[path = "outside/disk.rs"]
mod disk;
#[path = "outside/headers.rs"]
mod headers;
#[path = "outside/latency.rs"]
mod latency;
#[path = "outside/measure.rs"]
mod measure;
#[path = "outside/names.rs"]
mod names;
#[path = "outside/page.rs"]
mod page;
#[path = "outside/page_told.rs"]
mod page_told;
#[path = "outside/process.rs"]
mod process;
#[path = "outside/programs.rs"]
mod programs;
#[path = "outside/prometheus.rs"]
mod prometheus;
#[path = "outside/python.rs"]
mod python;
#[path = "outside/top.rs"]
mod top;
#[path = "outside/traffic.rs"]
mod traffic;

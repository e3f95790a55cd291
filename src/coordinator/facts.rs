//! What stays as it is while the process runs, and where its shards are. A leaf: every room may
//! ask.

use std::{
    net::SocketAddr,
    time::{Instant, SystemTime},
};

use crate::{bridge::Bridge, config::Config, limits::Limits, log::LostLines, rt::Choice};

/// Facts of the process.
pub(super) struct Facts {
    /// The configuration in force.
    pub config: Config,
    /// What it shares with the shards.
    pub bridge: &'static Bridge,
    /// What the shards wait with, and why.
    pub driver: Choice,
    /// What fits this host.
    pub limits: Limits,
    /// The addresses each listener is bound to, in the order of the plan.
    pub bound: Vec<Vec<SocketAddr>>,
    /// Counts log lines that were dropped.
    pub lost_lines: LostLines,
    pub started: Instant,
    /// The same by the clock on the wall, read once: it may be set meanwhile.
    pub started_at: SystemTime,
}

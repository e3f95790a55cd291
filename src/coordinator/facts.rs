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
    pub(super) config: Config,
    /// What it shares with the shards.
    pub(super) bridge: &'static Bridge,
    /// What the shards wait with, and why.
    pub(super) driver: Choice,
    /// What fits this host.
    pub(super) limits: Limits,
    /// The addresses each listener is bound to, in the order of the plan.
    pub(super) bound: Vec<Vec<SocketAddr>>,
    /// Counts log lines that were dropped.
    pub(super) lost_lines: LostLines,
    pub(super) started: Instant,
    /// The same by the clock on the wall, read once: it may be set meanwhile.
    pub(super) started_at: SystemTime,
}

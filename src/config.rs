//! The configuration in force: meaning, already checked. A [`Config`] cannot be wrong.
//!
//! This room refuses to know the host: what does not fit this machine is `limits`' to say.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The whole configuration, defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Absolute path of the file it came from.
    pub path: PathBuf,
    /// SHA-256 of the file's bytes, lower-case hex.
    pub digest: String,
    pub runtime: Runtime,
    pub admin: Admin,
    pub log: Log,
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
}

/// A number, or what fits this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    Auto,
    Fixed(T),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Runtime {
    /// At least 1 where written.
    pub shards: Auto<usize>,
    pub driver: Driver,
    pub pin_cpus: bool,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    /// Over all listeners; at least 1 where written.
    pub max_connections: Auto<u32>,
    /// 0: never splice; at most 256.
    pub pipes_per_shard: Auto<u32>,
    /// Bytes; a power of two of at least 4096 and at most 1 MiB... as the kernel rounds it.
    pub pipe_size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    Auto,
    IoUring,
    Epoll,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// A loopback address.
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub level: Level,
    pub format: LogFormat,
    /// `None`: no report line.
    pub report: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    pub name: String,
    pub mode: Mode,
    /// At least one; no address twice in the file (port 0 apart).
    pub listen: Vec<SocketAddr>,
    /// Index into [`Config::pools`].
    pub pool: usize,
    /// `None`: the runtime's.
    pub max_connections: Option<u32>,
    /// `None`: off, as for all durations that may be off.
    pub idle_timeout: Option<Duration>,
    pub half_close_timeout: Option<Duration>,
    pub splice: Splice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Tcp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splice {
    Auto,
    On,
    Off,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub name: String,
    pub balance: Balance,
    /// Positive.
    pub connect_timeout: Duration,
    /// At least 1.
    pub max_attempts: u32,
    /// `None`: kind "none", or interval "0s".
    pub health_check: Option<HealthCheck>,
    /// At least one, names unique within the pool.
    pub backends: Vec<Backend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    WeightedRoundRobin,
    LeastConnections,
    Random,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Positive.
    pub interval: Duration,
    /// Positive ("0s" in the file: as long as the interval).
    pub timeout: Duration,
    /// At least 1.
    pub healthy_after: u32,
    /// At least 1.
    pub unhealthy_after: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    pub name: String,
    pub address: SocketAddr,
    /// 0 to 65,535; 0 takes no connections (not every backend of a pool may have 0).
    pub weight: u32,
    /// Lower first; 0 to 255.
    pub priority: u32,
}

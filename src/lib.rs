//! Ringway: an edge TCP load balancer for Linux, on io_uring or epoll, one shard per core.
//!
//! This page is the tour: the threads, the modules in reading order, and what always holds. The
//! longer walk, with the files that a connection goes through, is `docs/architecture.md`.
//!
//! # Threads
//!
//! ```text
//!  main thread: reads the file, binds, starts the rest, then is
//!  THE COORDINATOR (tokio, one thread): checks, lookups, gathering, admin endpoint, signals
//!       |  plan, rosters of pools, phase,         ^  counters, in-flight counts,
//!       v  empty histograms, bell                 |  filled histograms, state
//!  ------------------------------ the bridge (plain memory) ------------------------------
//!       v                                         |
//!  ringway-shard-0 .. ringway-shard-N (one thread each, pinned): THE DATA PLANE
//!       listen -> accept -> admit -> pick -> dial -> flow -> record
//!
//!  ringway-log, ringway-access: write log lines and the access log, so that nobody else waits
//! ```
//!
//! # Modules, in reading order
//!
//! 1. [`cli`] is the command line; [`run`] goes from a file to a serving process.
//! 2. [`config`] is the meaning of the file, and every sentence that is said when it is wrong;
//!    [`limits`] is what of it fits this host.
//! 3. [`bridge`] is the only door between the two planes, and between shards: what goes down, what
//!    comes up, fresh connections that one shard leaves to another, and the
//!    closed sets of words (why a connection ended, why a dial failed).
//! 4. [`shard`] is the data plane. Its folder lists a connection's way: accept, admit, pick, dial,
//!    flow, record; beside them the connection itself, the sweep over deadlines, and the drain.
//! 5. [`rt`] is the runtime seam: tasks, turns, waits, sockets, lent buffers and pipes, over
//!    io_uring or epoll. [`sock`] is the system calls under it.
//! 6. [`coordinator`] is the control plane: pools and their rosters, checks, names, changes by an
//!    operator, gathering, `/stats`, `/histograms`, `/metrics`, events, signals.
//! 7. [`counter`], [`hist`] and [`health`] are the small parts both planes count and judge with;
//!    [`maglev`] is a table that keeps clients with their servers; [`proxy_header`] is what a
//!    server is told of its client; [`log`](mod@log) is where lines go, and [`access_log`] those of
//!    connections; [`errno`] says why a system call failed.
//! 8. Tools, none of which the proxy needs: [`backend`] (a test server), [`bench`](mod@bench) (a
//!    load generator), [`demo`] (all of it together), [`top`] (a view in the terminal), with
//!    [`child`] and [`args`] under them.
//!
//! # What always holds
//!
//! * `shard` and `coordinator` do not import each other; they meet in `bridge`.
//! * A shard takes no lock and never waits for the coordinator. If the coordinator stalls, traffic
//!   goes on; rosters, gathering and the admin endpoint stand still.
//! * A counter has one writer. The exceptions are the two gates that a client passes
//!   ([`counter::Gate`]), which all shards share because a limit has to be exact.
//! * Each accepted connection is recorded exactly once, with exactly one
//!   [`EndReason`](bridge::EndReason): accepted = active + sum of ends.
//! * A connection that waits for its source holds neither buffer nor pipe; one that waits for its
//!   sink holds at most one of them per direction.
//! * A pipe is drained before it is refilled, before an end of stream counts, and before it goes
//!   back; one with bytes left in it is closed.
//! * No byte that was read is dropped unless its sink is gone or we ended the connection.
//! * Everything is bounded; [`limits`] lists the bounds and what happens at each.

pub mod access_log;
pub mod args;
pub mod backend;
pub mod bell;
pub mod bench;
pub mod bridge;
pub mod child;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod counter;
pub mod demo;
pub mod errno;
pub mod health;
pub mod hist;
pub mod limits;
pub mod log;
pub mod maglev;
pub mod meters;
mod planted;
pub mod proxy_header;
pub mod rt;
pub mod run;
pub mod shard;
#[cfg(test)]
mod sim;
pub mod sock;
pub mod top;
pub mod wire;

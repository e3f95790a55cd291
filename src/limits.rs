//! Every bound of the process, its arithmetic and what happens when it is full.
//!
//! | bound | when full |
//! |---|---|
//! | connections of a listener, of the runtime | the newest is reset, counted in `refused_total` |
//! | descriptors | accepting pauses, queued clients are reset, counted |
//! | descriptors but the last ([`FDS_KEPT_FOR_ADMIN`]) | the newest is reset, counted |
//! | connections of a client | the newest is reset, counted in `refused_total` |
//! | clients that are counted ([`SOURCE_SLOTS_MAX`]) | one without a place is reset, counted |
//! | our own dials above a connection ([`OWN_DIALS_MAX`]) | it is reset, counted |
//! | pipes of a shard, and their bytes | the direction copies, counted in `pipes_dry_total` |
//! | pipes of a shard that may grow | the others keep their size |
//! | buffers of a shard's ring | the socket is asked itself, counted |
//! | bytes parked for full sinks ([`crate::rt::PARKED_BYTES_MAX`]) | they stay where they are |
//! | buffers of a shard ([`crate::rt::CHUNKS_MAX`]) | bytes are passed on by peeking, counted |
//! | connections handed from shard to shard that wait | the one who accepted it keeps it |
//! | admin connections | the oldest silent one makes room, counted; none: a place for probes |
//! | admin connections for probes | the oldest silent one makes room, counted |
//! | words of a peer ([`PEER_WORD_MAX`]) | the rest is left out of logs and answers |
//! | lines of refused changes ([`REFUSED_LINES_MAX`]) | the others are logged as one sum, counted |
//! | pages of the admin endpoint in memory | the next one waits, then is told so |
//! | health checks at once | the next one waits, its pool's turn comes in fairness |
//! | health checks of silent servers at once ([`SILENT_CHECKS_MAX`]) | the next one waits |
//! | questions to name servers at once | the next one waits |
//! | addresses of one name ([`ENDPOINTS_MAX`]) | those after the first ones are left out, logged |
//! | time for what is queued at a cut ([`FLUSH_MAX`]) | the rest is dropped with a reset |
//! | words of an operator for addresses that have left a name (384, 10 minutes) | the oldest goes |
//! | time for a close in order after a cut ([`LINGER_MAX`]) | the rest is dropped with a reset |
//! | connections of a backend | it is passed over; all full: the newest is reset, counted |
//! | events kept ([`EVENTS_MAX`]) | the oldest goes, counted in `dropped_total` |
//! | seconds of the past ([`SECONDS_MAX`]) | the oldest goes |
//! | records waiting for the access log ([`ACCESS_RECORDS_MAX`]) | the newest is dropped, counted |
//! | early ends to be judged ([`EARLY_ENDS_MAX`]) | the newest is dropped, and counts for less |
//! | log lines waiting to be written | the newest is dropped, counted |
//!
//! What of it fits this host, `fit` computes.

mod fit;

use std::time::Duration;

pub use self::fit::{Host, Limits};

/// A client and a server socket; pipes are lent from a pool and counted apart.
pub const FDS_PER_CONN: u64 = 2;

/// The two ends.
pub const FDS_PER_PIPE: u64 = 2;

/// Kept from connections at least, on a host with enough of them; more where listeners and shards
/// need more.
pub const FDS_RESERVED: u64 = 256;

/// Of the process, whatever is configured: standard streams, signals, the coordinator's engine, the
/// admin listener, the access log, what is opened for a moment. 13 were seen.
pub const FDS_OF_PROCESS: u64 = 24;

/// Of each shard besides its listening sockets: its engine, its bell, what wakes it, the spare one,
/// which were seen at rest; the engine that waits for room, the socket that asks for a way.
pub const FDS_PER_SHARD: u64 = 6;

/// Of admin connections, health checks and questions to name servers, each of them at its bound.
pub const FDS_OF_CONTROL: u64 =
    (ADMIN_CONNS_MAX + PROBE_CONNS_MAX + CHECKS_AT_ONCE_MAX + QUESTIONS_AT_ONCE_MAX) as u64;

/// The last ones, which traffic never gets: whatever eats descriptors, the admin endpoint answers.
pub const FDS_KEPT_FOR_ADMIN: u64 = 16;

/// Our own dials that may be above a connection: what is deeper goes round in circles.
pub const OWN_DIALS_MAX: u8 = 4;

/// Places for clients of listeners with `max_connections_per_source`: 8 MiB. Four for each
/// connection that may be, up to this.
pub const SOURCE_SLOTS_MAX: usize = 1 << 20;

/// Connections to the admin endpoint that may ask for anything.
pub const ADMIN_CONNS_MAX: usize = 64;

/// Further ones, which may ask for `/health` and `/ready` only: whoever is asked whether we live
/// answers, however many others ask or do not read their answers.
pub const PROBE_CONNS_MAX: usize = 8;

/// Pages of the admin endpoint in memory at once, those that are not read included: 46 MB with a
/// thousand backends, whose `/metrics` has 5.7 MB.
pub const ADMIN_PAGES_MAX: usize = 8;

/// Bytes of a word of a peer (a path, a method, a header's value) that are logged or said back.
pub const PEER_WORD_MAX: usize = 128;

/// Lines in 10 s for changes that were refused: at most 500 bytes each, 5 kB.
pub const REFUSED_LINES_MAX: u32 = 10;

/// Health checks that run at once.
pub const CHECKS_AT_ONCE_MAX: usize = 64;

/// Of them, checks of servers that were silent when they were last asked: each keeps its place for
/// the whole timeout. With timeouts of 1 s 600 silent servers are asked in turns of 19 s.
pub const SILENT_CHECKS_MAX: usize = CHECKS_AT_ONCE_MAX / 2;

/// Log lines that may wait for a slow reader of stderr: at most 200 bytes each in practice,
/// 1.6 MiB.
pub const LOG_LINES_MAX: usize = 8192;

/// Records of a shard that may wait for the access log, which takes them each 50 ms: what 300,000
/// connections a second leave in that time, or 10,000 while the disk stops for a second and a half.
/// 2.9 MiB a shard, and none where there is no access log.
pub const ACCESS_RECORDS_MAX: usize = 16_384;

/// Early ends of a shard that wait to be looked at for outliers, which takes them each 20 ms: more
/// than that in one pool has ejected whom it was to eject. 16 KiB a shard.
pub const EARLY_ENDS_MAX: usize = 1024;

/// Events kept for `/stats/events`: at most 500 bytes each in practice, 0.5 MB.
pub const EVENTS_MAX: usize = 1000;

/// Seconds kept for `/stats/history`: five minutes, at most 920 bytes each, 0.3 MB; and 0.5 MB of
/// histograms for the one that is going on.
pub const SECONDS_MAX: usize = 300;

/// Most pipes one shard keeps, whatever the host allows.
pub const PIPES_PER_SHARD_MAX: u32 = 256;

/// Questions to name servers that wait for their answers at once.
pub const QUESTIONS_AT_ONCE_MAX: usize = 32;

/// Backends behind one name: as many as an answer may have, and half as many that are gone from it
/// and still have connections.
pub const SLOTS_PER_NAME: usize = ENDPOINTS_MAX + ENDPOINTS_MAX / 2;

/// Addresses of one name that are used; of a longer answer the first ones.
pub const ENDPOINTS_MAX: usize = 256;

/// Connections taken from one listener before others get a turn.
pub const ACCEPTS_PER_TURN: usize = 64;

/// How long what is queued for a side may take to be acknowledged, where the other side was reset
/// or we end the connection.
pub const FLUSH_MAX: Duration = Duration::from_secs(5);

/// How long a connection that we ended may take to be closed in order, however slowly its last side
/// acknowledges.
pub const LINGER_MAX: Duration = Duration::from_mins(10);

/// Fresh connections that may wait for one shard: what another one takes in a turn. More than that
/// would say that the receiver does not get to run, and then it is no place to hand work to.
pub const HANDED_WAITING_MAX: usize = ACCEPTS_PER_TURN;

/// Connections the sweep looks at before others get a turn.
pub const SWEEP_PER_TURN: usize = 1024;

const _: () = assert!(FDS_RESERVED > FDS_OF_PROCESS + FDS_OF_CONTROL + FDS_KEPT_FOR_ADMIN);
const _: () = assert!(FDS_KEPT_FOR_ADMIN >= PROBE_CONNS_MAX as u64);

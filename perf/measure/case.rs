//! What can be measured, by name, and what is promised of it.
//!
//! This room refuses to know how anything is started or driven.

/// Connections of the latency at a fixed rate and of the growth, where it begins and where it ends.
pub const SOME_CONNECTIONS: u32 = 64;
pub const MANY_CONNECTIONS: u32 = 8_000;
/// Backends of new connections: enough that no relay runs out of ports.
pub const CONNECT_BACKENDS: u32 = 4;
/// Backends where their growth ends, with one connection to each.
pub const MANY_BACKENDS: u32 = 1_000;
/// Streams beside a ping-pong.
pub const FAIR_STREAMS: u32 = 8;

/// What `perf/compare` runs, in its order.
pub const ALL: [&str; 13] = [
    "messages-1",
    "messages-64",
    "messages-1000",
    "bulk-1",
    "bulk-8",
    "bulk-64",
    "tail",
    "calls-64",
    "connect-32",
    "idle",
    "latency",
    "growth-connections",
    "growth-backends",
];
/// One more, by name only.
pub const FAIR: &str = "fair";

/// How the names of ours begin.
pub const OURS: &str = "ringway";

/// What the load does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Messages on so many held connections.
    Messages(u32),
    /// So many streams.
    Bulk(u32),
    /// Few bytes after many.
    Tail,
    /// Messages again, with every system call counted.
    Calls(u32),
    /// New connections, so many at once.
    Connect(u32),
    /// Connections that were used once.
    Idle,
    /// Messages by the clock.
    Latency,
    /// One ping-pong beside streams.
    Fair,
    /// Messages on few and on many connections.
    GrowthConnections,
    /// Messages and new connections with one backend and with many.
    GrowthBackends,
}

/// One thing to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// As on the command line.
    pub name: String,
    pub work: Work,
}

/// A number that a run gives; less is better in all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
}

/// Whose figure a ratio is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Floor,
    /// The peer with the lowest median, among all its settings.
    BestPeer,
    /// The same among settings that nobody has touched.
    BestDefault,
    /// The one with the lowest median among all settings of a peer.
    Best(&'static str),
    /// No ratio: the figure itself.
    Itself,
}

/// What is promised of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// To whom of ours it applies: how their names begin.
    pub whose: &'static str,
    /// Which of the case's figures.
    pub figure: usize,
    pub to: To,
    pub at_most: f64,
}

impl Figure {
    /// A ratio of a contender to itself; there is nobody else to compare it with.
    pub fn is_growth(&self) -> bool {
        self.unit == "times"
    }
}

impl Case {
    /// The case of a name such as `messages-64`, `bulk-8`, `connect-32` or `idle`.
    pub fn parse(name: &str) -> Result<Case, String> {
        let (word, count) = name.rsplit_once('-').unwrap_or((name, ""));
        let count = count.parse().ok().filter(|count| (1..=9_000).contains(count));
        let work = match (word, count, name) {
            ("messages", Some(count), _) => Work::Messages(count),
            ("bulk", Some(count), _) => Work::Bulk(count),
            ("calls", Some(count), _) => Work::Calls(count),
            ("connect", Some(count), _) => Work::Connect(count),
            (_, _, "tail") => Work::Tail,
            (_, _, "idle") => Work::Idle,
            (_, _, "latency") => Work::Latency,
            (_, _, FAIR) => Work::Fair,
            (_, _, "growth-connections") => Work::GrowthConnections,
            (_, _, "growth-backends") => Work::GrowthBackends,
            _ => {
                let known = ALL.join(", ");
                return Err(format!("no such case (there are {known}, {FAIR}; other counts too)"));
            }
        };
        Ok(Case { name: name.to_owned(), work })
    }

    /// One line about what is done.
    pub fn words(&self) -> String {
        match self.work {
            Work::Messages(1) => "messages of 128 bytes each way, 1 connection".to_owned(),
            Work::Messages(count) => format!("messages of 128 bytes each way, {count} connections"),
            Work::Bulk(1) => "bulk from server to client, 1 stream".to_owned(),
            Work::Bulk(count) => format!("bulk from server to client, {count} streams"),
            Work::Tail => "how late a tail of 777 bytes comes after 4 MiB, 1 stream".to_owned(),
            Work::Calls(count) => {
                format!("system calls for messages, {count} connections, counted by strace")
            }
            Work::Connect(count) => {
                format!(
                    "new connections: connect, one message, close; {count} at once, \
                     {CONNECT_BACKENDS} backends"
                )
            }
            Work::Idle => "idle connections that were used once, from 2,000 to 8,000".to_owned(),
            Work::Latency => "latency of messages at a fixed rate, 64 connections".to_owned(),
            Work::Fair => format!("one ping-pong beside {FAIR_STREAMS} bulk streams"),
            Work::GrowthConnections => "messages, from 64 to 8,000 connections".to_owned(),
            Work::GrowthBackends => "from 1 to 1,000 backends, balanced as by default: messages \
                on 1,000 connections, and 5,000 new connections a second"
                .to_owned(),
        }
    }

    /// What the figures do not show, where a reader would think they did.
    pub fn caveat(&self) -> Option<&'static str> {
        match self.work {
            Work::Messages(_) | Work::Bulk(_) => Some(
                "wall time is over all connections together, the inverse of throughput; client and \
                 backend share the CPUs that the proxy does not have, which may be what bounds it",
            ),
            Work::Idle => Some(
                "memory of the process alone: what the kernel keeps for a connection beside its \
                 sockets, more for a ring than for epoll, is not in it",
            ),
            Work::Connect(_) => Some(
                "a port is used again after a second or two, so with one backend whoever makes \
                 14,000 connections a second begins to search for a free one, at up to 200 us \
                 each; hence several",
            ),
            Work::Tail => Some(
                "the tail leaves the server when the client has all that came before; the last \
                 figure is of a stream whose odd end follows at once",
            ),
            Work::Calls(_) => Some(
                "strace slows the proxy alone, so one that takes many messages at once (a ring, or \
                 epoll with many events) makes fewer calls here than untraced",
            ),
            _ => None,
        }
    }

    /// What a run gives, in this order.
    pub fn figures(&self) -> &'static [Figure] {
        const fn figure(name: &'static str, unit: &'static str) -> Figure {
            Figure { name, unit }
        }
        match self.work {
            Work::Messages(_) => {
                &const { [figure("CPU time per message", "us"), figure("wall time per message", "us")] }
            }
            Work::Bulk(_) => {
                &const { [figure("CPU time per GB", "s"), figure("wall time per GB", "s")] }
            }
            Work::Tail => {
                &const {
                    [
                        figure("delay of a tail, p50", "us"),
                        figure("delay of a tail, p99", "us"),
                        figure("time of 4 MiB and 777 bytes, p50", "us"),
                    ]
                }
            }
            Work::Calls(_) => &const { [figure("system calls per message", "calls")] },
            Work::Connect(_) => {
                &const {
                    [
                        figure("CPU time per new connection", "us"),
                        figure("wall time per new connection", "us"),
                    ]
                }
            }
            Work::Idle => &const { [figure("memory per connection", "B")] },
            Work::Latency => {
                &const {
                    [
                        figure("latency, p50", "us"),
                        figure("latency, p90", "us"),
                        figure("latency, p99", "us"),
                        figure("latency, p99.9", "us"),
                    ]
                }
            }
            Work::Fair => {
                &const {
                    [
                        figure("p50 of the ping-pong", "us"),
                        figure("p99 of the ping-pong", "us"),
                        figure("time per GB of all streams", "s"),
                    ]
                }
            }
            Work::GrowthConnections => {
                &const {
                    [
                        figure("CPU time per message, 64 connections", "us"),
                        figure("CPU time per message, 8,000 connections", "us"),
                        figure("CPU time per message, 8,000 to 64 connections", "times"),
                    ]
                }
            }
            Work::GrowthBackends => {
                &const {
                    [
                        figure("CPU time per message, 1 backend", "us"),
                        figure("CPU time per message, 1,000 backends", "us"),
                        figure("CPU time per message, 1,000 to 1 backend", "times"),
                        figure("CPU time per new connection, 1 backend", "us"),
                        figure("CPU time per new connection, 1,000 backends", "us"),
                        figure("CPU time per new connection, 1,000 to 1 backend", "times"),
                    ]
                }
            }
        }
    }

    /// The bare relay that such work is compared with; of bulk, with pipes of 256 KiB.
    pub fn floor(&self) -> &'static str {
        match self.work {
            Work::Bulk(_) | Work::Tail | Work::Fair => "floor-splice",
            _ => "floor-copy",
        }
    }

    /// True exactly when a contender takes part unless others are named.
    pub fn wants(&self, contender: &str) -> bool {
        // Two pipes for each connection are no floor of anything but bulk.
        let bulk_only = contender == "floor-splice" || contender.ends_with("-1mib");
        // What grows is compared with itself, as it is by default.
        let best = contender.ends_with("-best");
        self.takes(contender)
            && match self.work {
                Work::Bulk(_) | Work::Tail | Work::Fair => true,
                Work::GrowthConnections | Work::GrowthBackends => !bulk_only && !best,
                _ => !bulk_only,
            }
    }

    /// True exactly when a contender can do it: the floor has one listener.
    pub fn takes(&self, contender: &str) -> bool {
        !contender.starts_with("floor") || self.work != Work::Fair
    }

    /// Memory, system calls and tails hardly differ between rounds, and of the growth from 1 to 1,000
    /// backends nothing is promised: they take fewer rounds.
    pub fn rounds(&self, rounds: usize) -> usize {
        match self.work {
            Work::Idle | Work::Calls(_) | Work::Tail => rounds.div_ceil(3),
            Work::GrowthBackends => rounds.div_ceil(2),
            _ => rounds,
        }
    }

    /// What ours is held to.
    pub fn limits(&self) -> Vec<Limit> {
        let limit = |figure, to, at_most| Limit { whose: OURS, figure, to, at_most };
        let first = |to, at_most| limit(0, to, at_most);
        match self.work {
            Work::Messages(1) => vec![first(To::Floor, 1.15), first(To::BestPeer, 1.0)],
            Work::Messages(1_000) => vec![first(To::Floor, 1.10), first(To::BestPeer, 0.85)],
            Work::Messages(_) | Work::Connect(_) => {
                vec![first(To::Floor, 1.10), first(To::BestPeer, 1.0)]
            }
            Work::Bulk(streams) => {
                let mut limits = vec![first(To::Floor, 1.05), first(To::Best("haproxy"), 0.95)];
                limits.extend((streams == 8).then(|| first(To::BestDefault, 0.35)));
                limits
            }
            // From the server's call to the client's: more than what the relay adds.
            Work::Tail => vec![limit(1, To::Itself, 2_000.0)],
            // An engine that asks for readiness first cannot have fewer than four.
            Work::Calls(_) => {
                vec![Limit { whose: "ringway-io_uring", ..first(To::Itself, 1.5) }]
            }
            Work::Idle => vec![first(To::Itself, 1024.0)],
            Work::Latency => vec![limit(2, To::BestPeer, 1.0), limit(3, To::BestPeer, 1.0)],
            Work::GrowthConnections => vec![limit(2, To::Itself, 1.3)],
            Work::Fair | Work::GrowthBackends => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_its_figures_and_limits_within_them() {
        for name in ALL.iter().chain([&FAIR]) {
            let case = Case::parse(name).unwrap();
            assert!(!case.figures().is_empty() && !case.words().is_empty(), "{name}");
            assert!(case.limits().iter().all(|limit| limit.figure < case.figures().len()));
            assert!(case.wants("ringway-epoll") && case.wants("envoy"), "{name}");
        }
    }

    #[test]
    fn other_counts_are_cases_too_and_other_words_are_not() {
        assert_eq!(Case::parse("messages-17").unwrap().work, Work::Messages(17));
        assert_eq!(Case::parse("bulk-2").unwrap().work, Work::Bulk(2));
        for wrong in ["", "tcp", "bulk", "bulk-0", "bulk-x", "messages-10000", "idle-3"] {
            let refused = Case::parse(wrong);
            assert!(refused.is_err_and(|why| why.contains("messages-64")), "{wrong:?} was taken");
        }
    }
}

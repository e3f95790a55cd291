//! The words of the file that stand for one of a closed set, in both directions.

use super::{
    Balance, Counted, Driver, Level, LogFormat, Mode, OnUnhealthy, Ready, SendProxy, Splice,
};

/// A closed set of values, each with its one word in file, JSON and metrics.
pub trait Word: Copy + PartialEq + 'static {
    /// Every value with its word, in the order they are listed to the user.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, value)| *value == self).map_or("", |(word, _)| word)
    }
}

impl Word for Driver {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
}

impl Word for Level {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Level::Error),
        ("warn", Level::Warn),
        ("info", Level::Info),
        ("debug", Level::Debug),
        ("trace", Level::Trace),
    ];
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}

impl Word for Mode {
    const WORDS: &'static [(&'static str, Self)] = &[("tcp", Mode::Tcp)];
}

impl Word for Ready {
    const WORDS: &'static [(&'static str, Self)] = &[("any", Ready::Any), ("all", Ready::All)];
}

impl Word for Splice {
    const WORDS: &'static [(&'static str, Self)] =
        &[("auto", Splice::Auto), ("on", Splice::On), ("off", Splice::Off)];
}

impl Word for SendProxy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("off", SendProxy::Off), ("v1", SendProxy::V1), ("v2", SendProxy::V2)];
}

impl Word for OnUnhealthy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("leave", OnUnhealthy::Leave), ("cut", OnUnhealthy::Cut)];
}

impl Word for Counted {
    const WORDS: &'static [(&'static str, Self)] =
        &[("dial", Counted::Dial), ("reset", Counted::Reset), ("closed", Counted::Closed)];
}

impl Word for Balance {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round_robin", Balance::RoundRobin),
        ("weighted_round_robin", Balance::WeightedRoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("random", Balance::Random),
        ("p2c", Balance::TwoChoices),
        ("peak_ewma", Balance::PeakEwma),
        ("maglev", Balance::Maglev),
    ];
}

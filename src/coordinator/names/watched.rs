//! What a new answer, or a failure, means for what was known of a name. Pure.

use std::{mem::discriminant, time::Duration};

use super::answer::{Answer, Endpoint};

/// After the first failure; doubled with each one that follows.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Why a name could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// NXDOMAIN.
    NoSuchName,
    /// It exists, and has nothing of what was asked for.
    Empty,
    /// The server does not talk to us.
    Refused,
    /// The server cannot tell: its code.
    Server(String),
    /// Nobody answered.
    Timeout,
    /// The answer, or the way to the server, is broken.
    Broken(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::NoSuchName => f.write_str("no such name"),
            Why::Empty => f.write_str("the name has no address"),
            Why::Refused => f.write_str("the server refuses to answer"),
            Why::Server(code) => write!(f, "the server cannot tell ({code})"),
            Why::Timeout => f.write_str("no server answered in time"),
            Why::Broken(cause) => write!(f, "no usable answer ({cause})"),
        }
    }
}

/// What is known of a name.
#[derive(Debug, Default)]
pub(super) struct Watched {
    endpoints: Vec<Endpoint>,
    failed: Option<Why>,
    /// In a row.
    failures: u32,
}

/// What follows from a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// True exactly when the endpoints are not what they were.
    pub(super) changed: bool,
    pub(super) dropped: usize,
    /// What is worth a line in the log: a change of state, not each failure.
    pub(super) told: Option<Told>,
    /// Until the next lookup.
    pub(super) wait: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Failed(Why),
    Recovered,
}

impl Watched {
    /// The last good answer.
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Takes the outcome of a lookup in.
    pub(super) fn take(&mut self, outcome: Result<Answer, Why>) -> News {
        match outcome {
            Ok(answer) => {
                let told = self.failed.take().map(|_| Told::Recovered);
                self.failures = 0;
                let changed = self.endpoints != answer.endpoints;
                self.endpoints = answer.endpoints;
                News { changed, dropped: answer.dropped, told, wait: answer.valid_for }
            }
            Err(why) => {
                let same = self.failed.as_ref().map(discriminant) == Some(discriminant(&why));
                let told = (!same).then(|| Told::Failed(why.clone()));
                self.failed = Some(why);
                let wait = backoff(self.failures);
                self.failures = self.failures.saturating_add(1);
                News { changed: false, dropped: 0, told, wait }
            }
        }
    }
}

/// How long to wait after one more failure than `before`.
fn backoff(before: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << before.min(16)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(last: u8) -> Answer {
        let address = ([10, 0, 0, last], 80).into();
        let endpoints = vec![Endpoint { priority: 0, address, weight: 1 }];
        Answer { endpoints, dropped: 0, valid_for: Duration::from_secs(30) }
    }

    #[test]
    fn failures_wait_from_one_to_ten_seconds() {
        let mut watched = Watched::default();
        let mut wait = || watched.take(Err(Why::Timeout)).wait.as_secs();
        let waits: Vec<u64> = (0..6).map(|_| wait()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff(u32::MAX), RETRY_MAX);
        assert_eq!(watched.take(Ok(answer(1))).wait.as_secs(), 30);
        assert_eq!(watched.take(Err(Why::Timeout)).wait.as_secs(), 1);
    }

    #[test]
    fn a_failure_changes_nothing_and_is_told_once() {
        let mut watched = Watched::default();
        assert!(watched.take(Ok(answer(1))).changed);
        assert!(!watched.take(Ok(answer(1))).changed);
        let failed = |why| Some(Told::Failed(why));
        assert_eq!(watched.take(Err(Why::Timeout)).told, failed(Why::Timeout));
        assert_eq!(watched.take(Err(Why::Timeout)).told, None);
        let news = watched.take(Err(Why::NoSuchName));
        assert_eq!((news.told, news.changed), (failed(Why::NoSuchName), false));
        let broken = |text: &str| Why::Broken(text.to_owned());
        assert_eq!(watched.take(Err(broken("a"))).told, failed(broken("a")));
        assert_eq!(watched.take(Err(broken("b"))).told, None, "the same state");
        assert_eq!(watched.endpoints(), answer(1).endpoints);
        let news = watched.take(Ok(answer(1)));
        assert_eq!((news.told, news.changed), (Some(Told::Recovered), false));
        let news = watched.take(Ok(answer(2)));
        assert_eq!((news.told, news.changed), (None, true));
    }
}

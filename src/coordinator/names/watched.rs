//! What a new answer, or a failure, means for what was known of a name. Pure.

use std::{mem::discriminant, time::Duration};

use super::answer::{Answer, Endpoint};
use crate::limits::ENDPOINTS_MAX;

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
                let endpoints = self.with_what_was_lost(&answer);
                let changed = self.endpoints != endpoints;
                self.endpoints = endpoints;
                let (told, wait) = match answer.why {
                    Some(why) => self.fail(why),
                    None => {
                        self.failures = 0;
                        let told = self.failed.take().map(|_| Told::Recovered);
                        (told, answer.valid_for)
                    }
                };
                News { changed, dropped: answer.dropped, told, wait }
            }
            Err(why) => {
                let (told, wait) = self.fail(why);
                News { changed: false, dropped: 0, told, wait }
            }
        }
    }

    /// Why the last lookup failed, or a part of it.
    pub(super) fn failed(&self) -> Option<&Why> {
        self.failed.as_ref()
    }

    fn fail(&mut self, why: Why) -> (Option<Told>, Duration) {
        let same = self.failed.as_ref().map(discriminant) == Some(discriminant(&why));
        let told = (!same).then(|| Told::Failed(why.clone()));
        self.failed = Some(why);
        let wait = backoff(self.failures);
        self.failures = self.failures.saturating_add(1);
        (told, wait)
    }

    /// An answer says nothing of what could not be looked up, so what was known there stays.
    fn with_what_was_lost(&self, answer: &Answer) -> Vec<Endpoint> {
        let mut endpoints = answer.endpoints.clone();
        let kept = self.endpoints.iter().filter(|known| {
            let named = answer.endpoints.iter().any(|endpoint| endpoint.address == known.address);
            !named && answer.lost.iter().any(|lost| lost.covers(known))
        });
        endpoints.extend(kept);
        endpoints.sort();
        endpoints.truncate(ENDPOINTS_MAX);
        endpoints
    }
}

/// How long to wait after one more failure than `before`.
fn backoff(before: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << before.min(16)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::answer::Lost, *};

    fn endpoint(address: &str) -> Endpoint {
        Endpoint { priority: 0, address: address.parse().unwrap(), weight: 1 }
    }

    fn of(addresses: &[&str]) -> Answer {
        let endpoints = addresses.iter().map(|address| endpoint(address)).collect();
        let valid_for = Duration::from_secs(30);
        Answer { endpoints, dropped: 0, valid_for, lost: Vec::new(), why: None }
    }

    fn answer(last: u8) -> Answer {
        of(&[&format!("10.0.0.{last}:80")])
    }

    #[test]
    fn what_an_answer_says_nothing_of_stays() {
        let mut watched = Watched::default();
        watched.take(Ok(of(&["10.0.0.1:80", "10.0.0.2:81", "[::1]:80"])));
        let mut partial = of(&["10.0.0.3:80"]);
        partial.lost = vec![Lost { port: 80, is_v6: Some(true) }, Lost { port: 81, is_v6: None }];
        partial.why = Some(Why::Timeout);
        let news = watched.take(Ok(partial.clone()));
        let expected = ["10.0.0.2:81", "10.0.0.3:80", "[::1]:80"].map(endpoint);
        assert_eq!(watched.endpoints(), expected);
        assert_eq!((news.changed, news.told), (true, Some(Told::Failed(Why::Timeout))));
        assert_eq!(news.wait, RETRY_MIN);
        let news = watched.take(Ok(partial));
        assert_eq!((news.changed, news.told), (false, None));
        let news = watched.take(Ok(of(&["10.0.0.3:80"])));
        assert_eq!((news.changed, news.told), (true, Some(Told::Recovered)));
        assert_eq!(watched.endpoints(), ["10.0.0.3:80"].map(endpoint));
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

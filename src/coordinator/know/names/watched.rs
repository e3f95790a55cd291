//! What a new answer, or a failure, means for what was known of a name. Pure.

use std::{collections::BTreeSet, mem::discriminant, time::Duration};

use super::{
    answer::{Answer, Cut, Endpoint, Heard, Lost},
    why::Why,
};
use crate::limits::ENDPOINTS_MAX;

/// After the first failure; doubled with each one that follows.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait after a failure.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What is known of a name.
#[derive(Debug, Default)]
pub(super) struct Watched {
    endpoints: Vec<Endpoint>,
    heard: BTreeSet<Heard>,
    cut: Cut,
    failed: Option<Why>,
    /// In a row.
    failures: u32,
}

/// What follows from a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    /// True exactly when the endpoints are not what they were.
    pub(super) changed: bool,
    /// True exactly when something is left out for another reason than before, or nothing any
    /// more: how much it is may be another number each second.
    pub(super) cut_changed: bool,
    /// What is worth telling: a change of state, not each failure.
    pub(super) told: Option<Told>,
    /// Until the next lookup.
    pub(super) wait: Duration,
}

/// A change of what lookups come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// They fail, for a new reason.
    Failed(Why),
    /// They succeed again.
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
                let kept = self.lost_in(&answer);
                let of_known = |lost: &Lost| kept.iter().any(|heard| lost.covers(heard));
                let counts = |lost: &&Lost| lost.always_counts() || of_known(lost);
                let failure = answer.lost.iter().find(counts).map(|lost| lost.why.clone());
                let (cut, valid_for) = (answer.cut, answer.valid_for);
                let (changed, too_many) = self.replace(answer, kept);
                let cut = Cut { dropped: cut.dropped + too_many, ..cut };
                let kinds = |cut: Cut| (cut.dropped > 0, cut.unreachable > 0);
                let cut_changed = kinds(std::mem::replace(&mut self.cut, cut)) != kinds(cut);
                let (told, wait) = match failure {
                    Some(why) => {
                        let (told, wait) = self.fail(why);
                        (told, wait.min(valid_for))
                    }
                    None => {
                        self.failures = 0;
                        let told = self.failed.take().map(|_| Told::Recovered);
                        (told, valid_for)
                    }
                };
                News { changed, cut_changed, told, wait }
            }
            Err(why) => {
                let (told, wait) = self.fail(why);
                News { changed: false, cut_changed: false, told, wait }
            }
        }
    }

    /// What was left out of the last answer.
    pub(super) fn cut(&self) -> Cut {
        self.cut
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

    /// What was known of that which could not be looked up.
    fn lost_in(&self, answer: &Answer) -> BTreeSet<Heard> {
        let is_lost = |heard: &&Heard| answer.lost.iter().any(|lost| lost.covers(heard));
        self.heard.iter().filter(is_lost).cloned().collect()
    }

    /// Takes an answer in, and keeps `kept`, of which it says nothing. Whether anything changed,
    /// and how many are too many with them.
    fn replace(&mut self, answer: Answer, kept: BTreeSet<Heard>) -> (bool, usize) {
        let Answer { mut endpoints, mut heard, .. } = answer;
        let named: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        let is_kept = |known: &&Endpoint| {
            !named.contains(&known.address) && kept.iter().any(|(is, _)| *is == known.address)
        };
        endpoints.extend(self.endpoints.iter().filter(is_kept));
        endpoints.sort();
        let too_many = endpoints.len().saturating_sub(ENDPOINTS_MAX);
        endpoints.truncate(ENDPOINTS_MAX);
        heard.extend(kept);
        heard.retain(|(address, _)| endpoints.iter().any(|e| e.address == *address));
        let changed = self.endpoints != endpoints;
        (self.endpoints, self.heard) = (endpoints, heard);
        (changed, too_many)
    }
}

/// How long to wait after one more failure than `before`.
fn backoff(before: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << before.min(16)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        super::place::{Found, Host, Place},
        *,
    };

    const TTL_S: u64 = 30;

    type Outcome = (Host, Result<Found, Why>);

    fn found(ips: &[&str], lost: Option<(bool, Why)>) -> Result<Found, Why> {
        let ips = ips.iter().map(|ip| ip.parse().unwrap());
        Ok(Found { lost, ..Found::new(ips, Duration::from_secs(TTL_S)) })
    }

    /// A host of a service.
    fn host(name: &str, outcome: Result<Found, Why>) -> Outcome {
        (Host::Named(name.into()), outcome)
    }

    /// A service whose hosts all have this port.
    fn service(port: u16, hosts: &[Outcome]) -> Result<Answer, Why> {
        let place = |(host, _): &Outcome| Place { host: host.clone(), ..Place::of_name(port) };
        Ok(Answer::new(&hosts.iter().map(place).collect::<Vec<_>>(), hosts))
    }

    fn name(ips: &[&str], lost: Option<(bool, Why)>) -> Result<Answer, Why> {
        Ok(Answer::new(&[Place::of_name(80)], &[(Host::Itself, found(ips, lost))]))
    }

    fn answer(last: u8) -> Answer {
        name(&[&format!("10.0.0.{last}")], None).unwrap()
    }

    fn known(watched: &Watched) -> Vec<String> {
        watched.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    #[test]
    fn a_host_that_fails_keeps_its_own_addresses_and_no_others() {
        for why in [Why::NoSuchName, Why::Empty, Why::Timeout] {
            let mut watched = Watched::default();
            let b = host("b", found(&["10.0.0.2"], None));
            watched.take(service(80, &[host("a", found(&["10.0.0.1"], None)), b]));
            let partial = || {
                let b = host("b", Err(why.clone()));
                service(80, &[host("a", found(&["10.0.0.3"], None)), b])
            };
            let news = watched.take(partial());
            assert_eq!(known(&watched), ["10.0.0.2:80", "10.0.0.3:80"]);
            assert_eq!((news.changed, news.told), (true, Some(Told::Failed(why.clone()))));
            assert_eq!(news.wait, RETRY_MIN);
            let news = watched.take(partial());
            assert_eq!((news.changed, news.told), (false, None));
            let news = watched.take(service(81, &[host("b", found(&["10.0.0.2"], None))]));
            assert_eq!((news.changed, news.told), (true, Some(Told::Recovered)));
            assert_eq!(known(&watched), ["10.0.0.2:81"]);
        }
    }

    #[test]
    fn an_address_of_two_hosts_stays_while_one_of_them_may_have_it() {
        let mut watched = Watched::default();
        let both = |ip| host("a", found(&["10.0.0.1", ip], None));
        watched.take(service(80, &[both("10.0.0.2"), host("b", found(&["10.0.0.1"], None))]));
        let a = || host("a", Err(Why::Timeout));
        watched.take(service(80, &[a(), host("b", found(&["10.0.0.1"], None))]));
        watched.take(service(80, &[a(), host("b", found(&["10.0.0.3"], None))]));
        assert_eq!(known(&watched), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"]);
        watched.take(service(80, &[host("b", found(&["10.0.0.3"], None))]));
        assert_eq!(known(&watched), ["10.0.0.3:80"], "the service no longer has host a");
    }

    #[test]
    fn a_host_that_never_was_is_no_failure_and_one_that_cannot_be_told_is() {
        for (why, is_failure) in [
            (Why::NoSuchName, false),
            (Why::Empty, false),
            (Why::Refused, true),
            (Why::Server("x".into()), true),
            (Why::Timeout, true),
            (Why::Broken("x".into()), true),
        ] {
            let mut watched = Watched::default();
            let b = host("b", Err(why));
            let news = watched.take(service(80, &[host("a", found(&["10.0.0.1"], None)), b]));
            assert_eq!(watched.failed().is_some(), is_failure);
            assert_eq!(news.wait.as_secs(), if is_failure { 1 } else { TTL_S });
        }
    }

    #[test]
    fn a_family_that_fails_counts_where_an_address_of_it_was_known() {
        let mut watched = Watched::default();
        let v6_refused = || name(&["10.0.0.1"], Some((true, Why::Refused)));
        let news = watched.take(v6_refused());
        assert_eq!((watched.failed(), news.wait.as_secs()), (None, TTL_S));
        watched.take(name(&["10.0.0.1", "::1"], None));
        let waits: Vec<u64> = (0..7).map(|_| watched.take(v6_refused()).wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(watched.failed(), Some(&Why::Refused));
        assert_eq!(known(&watched), ["10.0.0.1:80", "[::1]:80"]);
        watched.take(name(&["10.0.0.1"], None));
        assert_eq!((known(&watched), watched.failed()), (vec!["10.0.0.1:80".into()], None));
    }

    #[test]
    fn a_part_that_fails_is_asked_for_again_within_the_ttl() {
        let mut watched = Watched::default();
        watched.take(name(&["10.0.0.1", "::1"], None));
        let mut short = name(&["10.0.0.1"], Some((true, Why::Timeout))).unwrap();
        short.last_at_most(Duration::from_secs(3));
        let mut wait = || watched.take(Ok(short.clone())).wait.as_secs();
        assert_eq!([wait(), wait(), wait(), wait()], [1, 2, 3, 3]);
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

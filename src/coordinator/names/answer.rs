//! What an answer is: a sorted set of endpoints, and how long it lasts. Pure.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::watched::Why;
use crate::limits::ENDPOINTS_MAX;

/// An answer lasts at least this long, whatever it says: nobody is asked all the time.
pub const VALID_MIN: Duration = Duration::from_secs(1);

/// And at most this long: a wrong answer with a long life heals within minutes.
pub const VALID_MAX: Duration = Duration::from_secs(300);

/// Somebody behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Lower first; 0 without SRV records.
    pub priority: u16,
    /// Where it is.
    pub address: SocketAddr,
    /// At least 1; 1 without SRV records.
    pub weight: u16,
}

/// Everybody behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Sorted, each address once, at most [`ENDPOINTS_MAX`].
    pub endpoints: Vec<Endpoint>,
    /// Endpoints that were too many.
    pub dropped: usize,
    /// From 1 s to 5 minutes.
    pub valid_for: Duration,
    /// From which hosts each address is: several may have the same one.
    pub(super) heard: BTreeSet<Heard>,
    /// What could not be looked up: whatever was known there still counts.
    pub(super) lost: Vec<Lost>,
}

/// An address, and a host that has it.
pub(super) type Heard = (SocketAddr, Host);

/// What an answer says nothing of: a host at this port, in one family if one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) is_v6: Option<bool>,
    pub(super) why: Why,
}

impl Lost {
    pub(super) fn covers(&self, (address, host): &Heard) -> bool {
        let is_it = self.host == *host && self.port == address.port();
        is_it && self.is_v6.is_none_or(|is_v6| is_v6 == address.is_ipv6())
    }

    /// True exactly when this is a failure also where nothing was known. That a host has nothing is
    /// an answer, and one family is enough of it: plain name servers refuse AAAA for ever.
    pub(super) fn always_counts(&self) -> bool {
        self.is_v6.is_none() && !self.why.is_answer()
    }
}

/// Whose addresses a place has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// Those of the name itself.
    Itself,
    /// Those of another one, which an SRV record names.
    Named(String),
}

/// What an SRV record says; a plain name is one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) priority: u16,
    pub(super) host: Host,
    pub(super) port: u16,
    /// At least 1.
    pub(super) weight: u16,
}

impl Place {
    pub(super) fn of_name(port: u16) -> Place {
        Place { host: Host::Itself, port, priority: 0, weight: 1 }
    }

    pub(super) fn host(&self) -> Option<String> {
        match &self.host {
            Host::Itself => None,
            Host::Named(name) => Some(name.clone()),
        }
    }
}

/// The places that are asked for: each once, as many as there may be endpoints.
pub(super) fn first_places(mut places: Vec<Place>) -> Vec<Place> {
    places.sort();
    places.dedup();
    places.truncate(ENDPOINTS_MAX);
    places
}

/// The addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ips: Vec<IpAddr>,
    pub(super) ttl: Duration,
    /// The family that could not be looked up, and why: whether it is IPv6.
    pub(super) lost: Option<(bool, Why)>,
}

impl Found {
    /// The other family could not be looked up. That it has nothing is an answer too.
    pub(super) fn without(mut self, is_v6: bool, why: Why) -> Found {
        self.lost = (!why.is_answer()).then_some((is_v6, why));
        self
    }

    pub(super) fn both(mut one: Found, other: Found) -> Found {
        // A family that the host does not have says nothing about how long the other one lasts.
        if one.ips.is_empty() || other.ips.is_empty() {
            return if one.ips.is_empty() { other } else { one };
        }
        one.ips.extend(other.ips);
        one.ttl = one.ttl.min(other.ttl);
        one
    }
}

impl Answer {
    /// An address is its own answer.
    pub(super) fn fixed(address: SocketAddr) -> Answer {
        let endpoints = vec![Endpoint { priority: 0, address, weight: 1 }];
        let (heard, lost) = (BTreeSet::new(), Vec::new());
        Answer { endpoints, dropped: 0, valid_for: VALID_MAX, heard, lost }
    }

    /// Every place at every address of its host. An address that is named twice keeps its lowest
    /// priority, and there its highest weight. A host that failed does not spoil the others.
    pub(super) fn new(places: &[Place], hosts: &[(Host, Result<Found, Why>)]) -> Answer {
        let (mut endpoints, mut heard, mut lost) = (Vec::new(), BTreeSet::new(), Vec::new());
        for Place { priority, host, port, weight } in places {
            let (priority, port, weight) = (*priority, *port, *weight);
            let lose =
                |is_v6, why: &Why| Lost { host: host.clone(), port, is_v6, why: why.clone() };
            for (_, outcome) in hosts.iter().filter(|(its, _)| its == host) {
                let found = match outcome {
                    Ok(found) => found,
                    Err(why) => {
                        lost.push(lose(None, why));
                        continue;
                    }
                };
                for address in found.ips.iter().map(|ip| SocketAddr::new(*ip, port)) {
                    endpoints.push(Endpoint { priority, address, weight });
                    heard.insert((address, host.clone()));
                }
                lost.extend(found.lost.iter().map(|(is_v6, why)| lose(Some(*is_v6), why)));
            }
        }
        endpoints.sort_by_key(|e| (e.address, e.priority, Reverse(e.weight)));
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        endpoints.sort();
        let dropped = endpoints.len().saturating_sub(ENDPOINTS_MAX);
        endpoints.truncate(ENDPOINTS_MAX);
        let mut answer = Answer { endpoints, dropped, valid_for: VALID_MAX, heard, lost };
        let found = hosts.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
        found.for_each(|found| answer.last_at_most(found.ttl));
        answer
    }

    pub(super) fn last_at_most(&mut self, ttl: Duration) {
        self.valid_for = self.valid_for.min(ttl).clamp(VALID_MIN, VALID_MAX);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(ips: &[&str], ttl_s: u64) -> Found {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Found { ips, ttl: Duration::from_secs(ttl_s), lost: None }
    }

    fn named(host: &str, found: Found) -> (Host, Result<Found, Why>) {
        (Host::Named(host.into()), Ok(found))
    }

    fn place(priority: u16, host: &str, port: u16, weight: u16) -> Place {
        Place { priority, host: Host::Named(host.into()), port, weight }
    }

    #[test]
    fn a_service_has_every_address_of_its_hosts_once_in_order() {
        let places = vec![
            place(1, "b", 80, 1),
            place(0, "a", 80, 2),
            place(0, "a", 80, 5),
            place(2, "a", 81, 1),
            place(0, "gone", 80, 1),
        ];
        let hosts = [
            named("a", found(&["10.0.0.1", "::1"], 60)),
            named("b", found(&["10.0.0.2", "10.0.0.1"], 30)),
        ];
        let answer = Answer::new(&places, &hosts);
        let shown: Vec<String> = answer
            .endpoints
            .iter()
            .map(|e| format!("{} {} {}", e.priority, e.address, e.weight))
            .collect();
        let expected = [
            "0 10.0.0.1:80 5",
            "0 [::1]:80 5",
            "1 10.0.0.2:80 1",
            "2 10.0.0.1:81 1",
            "2 [::1]:81 1",
        ];
        assert_eq!(shown, expected);
        assert_eq!((answer.dropped, answer.valid_for), (0, Duration::from_secs(30)));
    }

    #[test]
    fn an_answer_lasts_from_a_second_to_five_minutes() {
        for (ttl_s, valid_s) in [(0, 1), (1, 1), (7, 7), (300, 300), (301, 300), (86_400, 300)] {
            let hosts = [(Host::Itself, Ok(found(&["10.0.0.1"], ttl_s)))];
            let answer = Answer::new(&[Place::of_name(80)], &hosts);
            assert_eq!(answer.valid_for, Duration::from_secs(valid_s), "{ttl_s}");
        }
    }

    proptest! {
        #[test]
        fn endpoints_are_sorted_unique_and_bounded(
            ips in proptest::collection::vec(any::<[u8; 4]>(), 0..200),
            ports in proptest::collection::vec(1u16..4, 1..4),
        ) {
            let ips: Vec<IpAddr> = ips.into_iter().map(IpAddr::from).collect();
            let mut all: Vec<(IpAddr, u16)> =
                ips.iter().flat_map(|ip| ports.iter().map(|port| (*ip, *port))).collect();
            all.sort();
            all.dedup();
            let places: Vec<_> = ports.iter().map(|port| place(0, "a", *port, 1)).collect();
            let hosts = [named("a", Found { ips, ttl: Duration::ZERO, lost: None })];
            let answer = Answer::new(&places, &hosts);
            let sorted = answer.endpoints.is_sorted_by(|a, b| a.address < b.address);
            prop_assert!(sorted && answer.endpoints.len() <= ENDPOINTS_MAX);
            prop_assert_eq!(answer.endpoints.len() + answer.dropped, all.len());
        }
    }
}

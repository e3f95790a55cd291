//! What an answer is: a sorted set of endpoints, and how long it lasts. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    net::SocketAddr,
    time::Duration,
};

use super::{
    place::{Found, Host, Place},
    why::Why,
};
use crate::limits::ENDPOINTS_MAX;

/// An answer lasts at least this long, whatever it says: nobody is asked all the time.
pub const VALID_MIN: Duration = Duration::from_secs(1);

/// And at most this long: a wrong answer with a long life heals within minutes.
pub const VALID_MAX: Duration = Duration::from_secs(300);

/// Of an answer of which a family was left out: a host that starts may have its routes in a moment.
const LEFT_OUT_MAX: Duration = Duration::from_secs(10);

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

/// What of an answer is not used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Endpoints and hosts that were too many, each as often as it is named.
    pub dropped: usize,
    /// Endpoints that this host has no way to, by their family.
    pub unreachable: usize,
}

/// From how many hosts of a service an address is remembered.
const HEARD_FROM_MAX: usize = 4;

/// Everybody behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Sorted, each address once, at most [`ENDPOINTS_MAX`].
    pub endpoints: Vec<Endpoint>,
    /// What was left out of it.
    pub cut: Cut,
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

impl Answer {
    /// An address is its own answer.
    pub(super) fn fixed(address: SocketAddr) -> Answer {
        let endpoints = vec![Endpoint { priority: 0, address, weight: 1 }];
        let (heard, lost, cut) = (BTreeSet::new(), Vec::new(), Cut::default());
        Answer { endpoints, cut, valid_for: VALID_MAX, heard, lost }
    }

    /// Every place at every address of its host, as many as there may be: by priority, then by
    /// host. An address that is named twice keeps its lowest priority, and there its highest
    /// weight. A host that failed does not spoil the others.
    pub(super) fn new(places: &[Place], hosts: &[(Host, Result<Found, Why>)]) -> Answer {
        let mut named = Named::default();
        let mut lost = Vec::new();
        let mut places: Vec<&Place> = places.iter().collect();
        places.sort();
        places.dedup();
        for place in places {
            let lose = |is_v6, why: &Why| Lost {
                host: place.host.clone(),
                port: place.port,
                is_v6,
                why: why.clone(),
            };
            for (_, outcome) in hosts.iter().filter(|(its, _)| *its == place.host) {
                match outcome {
                    Ok(found) => {
                        named.add(place, found);
                        lost.extend(found.lost.iter().map(|(is_v6, why)| lose(Some(*is_v6), why)));
                    }
                    Err(why) => lost.push(lose(None, why)),
                }
            }
        }
        let Named { endpoints, heard, dropped } = named;
        let endpoint = |(address, (priority, weight))| Endpoint { priority, address, weight };
        let mut endpoints: Vec<Endpoint> = endpoints.into_iter().map(endpoint).collect();
        endpoints.sort();
        let cut = Cut { dropped, unreachable: 0 };
        let mut answer = Answer { endpoints, cut, valid_for: VALID_MAX, heard, lost };
        let found = hosts.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
        found.for_each(|found| answer.last_at_most(found.ttl));
        answer
    }

    /// Leaves those of a family out of which this host has a way to none, unless nobody would be
    /// left. A way may come soon, so such an answer does not last.
    pub(super) fn keep_reachable(&mut self, has_way: impl Fn(SocketAddr) -> bool) {
        let of = |v4: bool| self.endpoints.iter().filter(move |e| e.address.is_ipv4() == v4);
        let [v6, v4] = [false, true].map(|v4| of(v4).any(|endpoint| has_way(endpoint.address)));
        if v4 == v6 {
            return;
        }
        let before = self.endpoints.len();
        self.endpoints.retain(|endpoint| endpoint.address.is_ipv4() == v4);
        self.cut.unreachable = before - self.endpoints.len();
        if self.cut.unreachable > 0 {
            self.last_at_most(LEFT_OUT_MAX);
        }
    }

    pub(super) fn last_at_most(&mut self, ttl: Duration) {
        self.valid_for = self.valid_for.min(ttl).clamp(VALID_MIN, VALID_MAX);
    }
}

/// Endpoints that were named so far.
#[derive(Default)]
struct Named {
    /// Priority and weight by address.
    endpoints: BTreeMap<SocketAddr, (u16, u16)>,
    heard: BTreeSet<Heard>,
    dropped: usize,
}

impl Named {
    /// Places come in the order of their priority.
    fn add(&mut self, place: &Place, found: &Found) {
        self.dropped += found.dropped;
        for address in found.ips.iter().map(|ip| SocketAddr::new(*ip, place.port)) {
            let is_full = self.endpoints.len() >= ENDPOINTS_MAX;
            match self.endpoints.entry(address) {
                btree_map::Entry::Occupied(mut known) => {
                    let (priority, weight) = known.get_mut();
                    if *priority == place.priority {
                        *weight = place.weight.max(*weight);
                    }
                }
                btree_map::Entry::Vacant(_) if is_full => {
                    self.dropped += 1;
                    continue;
                }
                btree_map::Entry::Vacant(free) => {
                    free.insert((place.priority, place.weight));
                }
            }
            let of_it = (address, Host::Itself)..;
            let from = self.heard.range(of_it).take_while(|(of, _)| *of == address).count();
            if from < HEARD_FROM_MAX {
                self.heard.insert((address, place.host.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    fn found(ips: &[&str], ttl_s: u64) -> Found {
        let ips = ips.iter().map(|ip| ip.parse().unwrap());
        Found::new(ips, Duration::from_secs(ttl_s))
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
        assert_eq!((answer.cut.dropped, answer.valid_for), (0, Duration::from_secs(30)));
    }

    #[test]
    fn an_answer_lasts_from_a_second_to_five_minutes() {
        for (ttl_s, valid_s) in [(0, 1), (1, 1), (7, 7), (300, 300), (301, 300), (86_400, 300)] {
            let hosts = [(Host::Itself, Ok(found(&["10.0.0.1"], ttl_s)))];
            let answer = Answer::new(&[Place::of_name(80)], &hosts);
            assert_eq!(answer.valid_for, Duration::from_secs(valid_s), "{ttl_s}");
        }
    }

    /// 1. A service has as many hosts as there may be, each with thousands of addresses. 2. What is
    ///    kept of it is bounded, and the rest is counted.
    #[test]
    fn an_answer_is_cut_before_it_is_expanded() {
        let many = |host: u8| {
            (0..4000u32)
                .map(move |i| IpAddr::from((10 << 24 | u32::from(host) << 16 | i).to_be_bytes()))
        };
        let hosts: Vec<_> = (0..=255)
            .map(|i: u8| named(&format!("h{i:03}"), Found::new(many(i), Duration::from_secs(9))))
            .collect();
        let places: Vec<_> = (0..=255).map(|i| place(0, &format!("h{i:03}"), 80, 1)).collect();
        let kept = |(_, found): &(Host, Result<Found, Why>)| found.as_ref().unwrap().ips.capacity();
        assert!(hosts.iter().map(kept).all(|kept| kept == ENDPOINTS_MAX));
        let answer = Answer::new(&places, &hosts);
        assert_eq!(answer.endpoints.len() + answer.cut.dropped, 256 * 4000);
        assert_eq!((answer.endpoints.len(), answer.heard.len()), (ENDPOINTS_MAX, ENDPOINTS_MAX));
        // The same addresses behind every host.
        let hosts: Vec<_> = (0..=255)
            .map(|i: u8| named(&format!("h{i:03}"), Found::new(many(0), Duration::from_secs(9))))
            .collect();
        let heard = Answer::new(&places, &hosts).heard.len();
        assert_eq!(heard, ENDPOINTS_MAX * HEARD_FROM_MAX);
    }

    #[test]
    fn who_cannot_be_reached_is_left_out_unless_nobody_is_left() {
        let answer = || {
            let hosts = [(Host::Itself, Ok(found(&["10.0.0.1", "10.0.0.2", "::1"], 60)))];
            Answer::new(&[Place::of_name(80)], &hosts)
        };
        let kept = |has_way: fn(SocketAddr) -> bool| {
            let mut answer = answer();
            answer.keep_reachable(has_way);
            (answer.endpoints.len(), answer.cut.unreachable)
        };
        assert_eq!(kept(|address| address.is_ipv4()), (2, 1));
        // A family is left out as a whole, or not at all.
        assert_eq!(kept(|address| address.ip() == IpAddr::from([10, 0, 0, 2])), (2, 1));
        assert_eq!((kept(|_| true), kept(|_| false)), ((3, 0), (3, 0)));
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
            let hosts = [named("a", Found::new(ips.into_iter(), Duration::ZERO))];
            let answer = Answer::new(&places, &hosts);
            let sorted = answer.endpoints.is_sorted_by(|a, b| a.address < b.address);
            prop_assert!(sorted && answer.endpoints.len() <= ENDPOINTS_MAX);
            prop_assert_eq!(answer.endpoints.len() + answer.cut.dropped, all.len());
        }
    }
}

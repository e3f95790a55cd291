//! Where to look: the places that a name stands for, and the addresses found there. Pure.

use std::{net::IpAddr, time::Duration};

use super::why::Why;
use crate::limits::ENDPOINTS_MAX;

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

/// The places that are asked for, each once, as many as there may be endpoints; and how many are
/// too many.
pub(super) fn first_places(mut places: Vec<Place>) -> (Vec<Place>, usize) {
    places.sort();
    places.dedup();
    let dropped = places.len().saturating_sub(ENDPOINTS_MAX);
    places.truncate(ENDPOINTS_MAX);
    (places, dropped)
}

/// The addresses of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Sorted, each once, of a family at most [`ENDPOINTS_MAX`].
    pub(super) ips: Vec<IpAddr>,
    /// Those that were too many.
    pub(super) dropped: usize,
    pub(super) ttl: Duration,
    /// The family that could not be looked up, and why: whether it is IPv6.
    pub(super) lost: Option<(bool, Why)>,
}

impl Found {
    /// What one question has brought. Cut here, before every place gets all of it.
    pub(super) fn new(ips: impl Iterator<Item = IpAddr>, ttl: Duration) -> Found {
        let mut ips: Vec<IpAddr> = ips.collect();
        ips.sort();
        ips.dedup();
        let dropped = ips.len().saturating_sub(ENDPOINTS_MAX);
        ips.truncate(ENDPOINTS_MAX);
        ips.shrink_to_fit();
        Found { ips, dropped, ttl, lost: None }
    }

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
        one.dropped += other.dropped;
        one.ttl = one.ttl.min(other.ttl);
        one
    }
}

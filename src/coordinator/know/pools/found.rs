//! Who is behind a name: backends that come, stay and go while the process runs.
//!
//! A backend of the file that has a name owns a range of slots. Each address takes one of them and
//! keeps it, counters and all, as long as the name has it. When it goes it is left to finish; its
//! slot is free again once its last connection is over.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    Pool,
    backend::{Backend, Gone},
};
use crate::{
    bridge::Bridge,
    config::{self, WEIGHT_MAX},
    coordinator::know::{counts, names::Endpoint},
    health::standing::Order,
    limits::SLOTS_PER_NAME,
};

/// How long a slot rests before somebody else gets it: what was recorded for the old one is
/// gathered by then.
const REST: Duration = Duration::from_secs(1);

/// How long an operator's word for an address outlives it: a server that is started anew, or a
/// record that is missing for a moment, is the same one to whoever said it.
const SAID_FOR: Duration = Duration::from_secs(600);

/// What an operator has said of an address that has left its name.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    endpoint: Endpoint,
    order: Order,
    weight: Option<u32>,
    until: Instant,
}

impl Pool {
    /// From now on these are behind `spec`, which has the slots `slots`. Gives the slots of those
    /// who were not there before, and how many found none.
    pub(super) fn found(
        &mut self,
        slots: Range<usize>,
        spec: &config::Backend,
        endpoints: &[Endpoint],
        bridge: &Bridge,
    ) -> (Vec<usize>, usize) {
        let first = slots.clone().all(|slot| self.at(slot).is_none());
        for slot in slots.clone() {
            let Some(backend) = self.at(slot) else { continue };
            let there = endpoints.iter().any(|endpoint| endpoint.address == backend.address);
            if !there && backend.gone.is_none() {
                let reason = format!("no longer behind {}", spec.address);
                backend.gone = Some(Gone { reason, idle_since: None });
                self.settle(slot, "");
            }
        }
        let (mut fresh, mut no_room) = (Vec::new(), 0);
        for endpoint in endpoints {
            let is_it = |backend: &Backend| backend.address == endpoint.address;
            let known = |pool: &Pool, slot: &usize| pool.get(*slot).is_some_and(is_it);
            if let Some(slot) = slots.clone().find(|slot| known(self, slot)) {
                self.stays(slot, spec, endpoint);
            } else if let Some(slot) = slots.clone().find(|slot| self.get(*slot).is_none()) {
                let before = counts::board_sums(bridge, slot);
                self.comes(slot, spec, endpoint, (before, first));
                fresh.push(slot);
            } else {
                no_room += 1;
            }
        }
        (fresh, no_room)
    }

    fn stays(&mut self, slot: usize, spec: &config::Backend, endpoint: &Endpoint) {
        let Some(backend) = self.at(slot) else { return };
        // What the operator has said of its weight stands until the name says something new.
        if backend.found.replace(*endpoint) != Some(*endpoint) {
            (backend.weight, backend.priority) = share(spec, endpoint);
            backend.ordered_weight = None;
            self.changed = true;
        }
        let Some(backend) = self.at(slot) else { return };
        if backend.gone.take().is_some() {
            self.settle(slot, &format!("behind {} again", spec.address));
        }
    }

    /// `before` and `first`: what the slot has counted, and whether this is the first answer.
    fn comes(
        &mut self,
        slot: usize,
        spec: &config::Backend,
        endpoint: &Endpoint,
        (before, first): (counts::BackendSums, bool),
    ) {
        self.ids += 1;
        let mut backend = Backend::new(self.ids, spec, endpoint.address, before);
        backend.name = spec.name_at(endpoint.address).into_owned();
        backend.found = Some(*endpoint);
        (backend.weight, backend.priority) = share(spec, endpoint);
        let said = self.said_of(slot, endpoint);
        if let Some(said) = said {
            (backend.order, backend.ordered_weight) = (said.order, said.weight);
            backend.weight = said.weight.unwrap_or(backend.weight);
        }
        let slowly = !first && !self.rules.slow_start.is_zero();
        backend.since = slowly.then(Instant::now);
        let (pool, name) = (self.name.as_str(), backend.name.as_str());
        tracing::info!(pool, backend = name, "found behind {}", spec.address);
        self.put(slot, Some(backend));
        self.changed = true;
        if said.is_some() {
            self.settle(slot, "");
        }
    }

    /// What an operator has said of `endpoint` before it left; nobody else gets it.
    fn said_of(&mut self, slot: usize, endpoint: &Endpoint) -> Option<Said> {
        let name = self.names.iter_mut().find(|name| name.slots.contains(&slot))?;
        let at = name.said.iter().position(|said| said.endpoint.address == endpoint.address)?;
        let mut said = name.said.remove(at);
        // A name that says something new of its weight is believed.
        said.weight = said.weight.filter(|_| said.endpoint == *endpoint);
        (Instant::now() < said.until).then_some(said)
    }

    /// Keeps what an operator has said of somebody who leaves.
    fn keep_word(&mut self, slot: usize, now: Instant) {
        let Some(backend) = self.get(slot) else { return };
        let (order, weight) = (backend.order, backend.ordered_weight);
        let Some(endpoint) = backend.found else { return };
        if order == Order::Enable && weight.is_none() {
            return;
        }
        let Some(name) = self.names.iter_mut().find(|name| name.slots.contains(&slot)) else {
            return;
        };
        name.said.retain(|said| now < said.until && said.endpoint.address != endpoint.address);
        if name.said.len() == SLOTS_PER_NAME {
            name.said.remove(0);
        }
        name.said.push(Said { endpoint, order, weight, until: now + SAID_FOR });
    }

    /// Lets go of those that are gone and have finished.
    pub(super) fn let_go(&mut self, in_flight: impl Fn(usize) -> u32, now: Instant) {
        for slot in self.slots.clone() {
            let Some(Gone { idle_since, .. }) = self.at(slot).and_then(|b| b.gone.as_mut()) else {
                continue;
            };
            if in_flight(slot) > 0 {
                *idle_since = None;
            } else if now.saturating_duration_since(*idle_since.get_or_insert(now)) >= REST {
                self.keep_word(slot, now);
                self.put(slot, None);
            }
        }
    }
}

/// Weight and priority of somebody behind a name: what the file says, times and plus what the name
/// says.
fn share(spec: &config::Backend, endpoint: &Endpoint) -> (u32, u32) {
    let weight = spec.weight.saturating_mul(u32::from(endpoint.weight)).min(WEIGHT_MAX);
    (weight, spec.priority + u32::from(endpoint.priority))
}

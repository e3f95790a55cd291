//! What has changed: told in one place, as a line in the log and as an entry of `/stats/events`.
//!
//! Both are made from the same [`Event`], so that they cannot differ. The newest [`EVENTS_MAX`] are
//! kept; a reader that asks `?after=SEQ` sees from the numbers whether it has missed some.

mod line;

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::{health::standing, limits::EVENTS_MAX};

/// A change of state; the variant is its `kind`, the fields are its fields.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A backend is judged differently.
    BackendState {
        pool: String,
        backend: String,
        #[serde(serialize_with = "state_name")]
        from: standing::State,
        #[serde(serialize_with = "state_name")]
        to: standing::State,
        reason: String,
    },
    /// A pool has too few healthy backends, or no longer.
    PoolPanic { pool: String, panic: bool, healthy: usize, backends: usize, threshold: f64 },
    /// A name cannot be looked up, for a new reason; or can again, and the reason is empty.
    NameLookup { pool: String, name: String, reason: String },
    /// The process serves, and with what.
    Driver(Serving),
    /// A bound is full, or has turned somebody away.
    LimitReached(Bound),
    /// It has been neither for a while.
    LimitLeft(Bound),
    /// The process goes on in its life.
    Phase { from: &'static str, to: &'static str, reason: String },
    /// An operator has said something of a backend; `was` is the weight before.
    OperatorChange {
        pool: String,
        backend: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        weight: Option<u32>,
        was: u32,
    },
}

/// What a process serves with.
#[derive(Debug, Serialize)]
pub struct Serving {
    pub version: &'static str,
    pub driver: &'static str,
    pub driver_reason: String,
    pub shards: usize,
    pub max_connections: u32,
    pub pipes_per_shard: u32,
    pub config: String,
    pub digest: String,
}

/// One of the bounds of the process, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bound {
    pub limit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<usize>,
}

fn state_name<S: Serializer>(state: &standing::State, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.name())
}

#[derive(Debug, Serialize)]
struct Entry {
    /// From 1 on, without a gap.
    seq: u64,
    unix_ms: u64,
    #[serde(flatten)]
    event: Event,
}

/// The newest events.
#[derive(Debug, Default)]
pub struct Events(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<Entry>,
    /// Entries that had to go for newer ones.
    dropped: u64,
}

impl Events {
    /// Logs it and keeps it.
    pub fn tell(&self, event: Event) {
        line::log(&event);
        // A clock before 1970 is no reason not to tell.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.0.lock().expect("nobody panics holding it").push(unix_ms, event);
    }

    /// How many there were, and how many of them had to go.
    pub fn counts(&self) -> (u64, u64) {
        let ring = self.0.lock().expect("nobody panics holding it");
        (ring.told(), ring.dropped)
    }

    /// Those with a higher number, as `/stats/events` says them.
    pub fn after(&self, seq: u64) -> Value {
        self.0.lock().expect("nobody panics holding it").after(seq)
    }
}

impl Ring {
    fn told(&self) -> u64 {
        self.dropped + self.entries.len() as u64
    }

    fn push(&mut self, unix_ms: u64, event: Event) {
        let seq = self.told() + 1;
        if self.entries.len() == EVENTS_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(Entry { seq, unix_ms, event });
    }

    /// Those with a higher number, newest last.
    fn after(&self, seq: u64) -> Value {
        let newer: Vec<&Entry> = self.entries.iter().filter(|entry| entry.seq > seq).collect();
        json!({ "events": newer, "dropped_total": self.dropped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(weight: u32) -> Event {
        let (pool, backend) = ("web".to_owned(), "a".to_owned());
        Event::OperatorChange { pool, backend, state: None, weight: Some(weight), was: 1 }
    }

    #[test]
    fn the_oldest_goes_and_is_counted() {
        let mut ring = Ring::default();
        (0..EVENTS_MAX as u32 + 3).for_each(|weight| ring.push(7, change(weight)));
        let all = ring.after(0);
        let events = all["events"].as_array().unwrap();
        assert_eq!((events.len(), &all["dropped_total"]), (EVENTS_MAX, &3.into()));
        assert_eq!((&events[0]["seq"], &events[0]["weight"]), (&4.into(), &3.into()));
        let last = EVENTS_MAX as u64 + 3;
        let one = json!([{
            "seq": last, "unix_ms": 7, "kind": "operator_change",
            "pool": "web", "backend": "a", "weight": last - 1, "was": 1
        }]);
        assert_eq!(ring.after(last - 1)["events"], one);
        assert_eq!(ring.after(u64::MAX)["events"], json!([]));
    }

    #[test]
    fn no_text_is_too_strange_for_a_page() {
        let strange = "\"}],\\\n\u{0}\u{1b}[31m\u{fffd}";
        let (pool, name) = ("web".to_owned(), "db:80".to_owned());
        let mut ring = Ring::default();
        ring.push(7, Event::NameLookup { pool, name, reason: strange.to_owned() });
        let read: Value = serde_json::from_str(&ring.after(0).to_string()).unwrap();
        assert_eq!(read["events"][0]["reason"], strange);
    }
}

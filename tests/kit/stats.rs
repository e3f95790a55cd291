//! `/stats` of a proxy, by what tests ask of it.

use serde_json::Value;

/// One reading of `/stats`.
#[derive(Clone)]
pub struct Stats(pub Value);

impl Stats {
    /// A number of the listener.
    pub fn listener(&self, key: &str) -> u64 {
        number(&self.0["listeners"][0], key)
    }

    /// A number of the backend at that place in the file.
    pub fn backend(&self, place: usize, key: &str) -> u64 {
        number(&self.0["pools"][0]["backends"][place], key)
    }

    /// Failures of a backend for that cause.
    pub fn failures(&self, place: usize, cause: &str) -> u64 {
        number(&self.0["pools"][0]["backends"][place]["failures_total"], cause)
    }

    /// The state of a backend.
    pub fn state(&self, place: usize) -> &str {
        self.0["pools"][0]["backends"][place]["state"].as_str().unwrap()
    }

    /// A number summed over all shards.
    pub fn shards(&self, key: &str) -> u64 {
        self.0["shards"].as_array().unwrap().iter().map(|shard| number(shard, key)).sum()
    }

    /// Buffers and pipes with bytes in them, and bytes that were moved out of such.
    pub fn held(&self) -> u64 {
        ["buffers_in_use", "ring_buffers_in_use", "pipes_in_use", "parked_bytes"]
            .map(|key| self.shards(key))
            .iter()
            .sum()
    }

    /// Connections ended for that reason; a reason that never occurred may be absent.
    pub fn ended(&self, reason: &str) -> u64 {
        self.0["listeners"][0]["ended_total"][reason].as_u64().unwrap_or(0)
    }

    pub fn ended_in_all(&self) -> u64 {
        let ended = self.0["listeners"][0]["ended_total"].as_object().unwrap();
        ended.values().map(|count| count.as_u64().unwrap()).sum()
    }

    /// Connections refused for that cause.
    pub fn refused(&self, cause: &str) -> u64 {
        self.0["listeners"][0]["refused_total"][cause].as_u64().unwrap_or(0)
    }

    /// `P` of a phase of the listener, since the start.
    pub fn phase(&self, phase: &str) -> &Value {
        &self.0["listeners"][0]["latency"][phase]["total"]
    }

    /// `P` of a phase of a backend, since the start.
    pub fn backend_phase(&self, place: usize, phase: &str) -> &Value {
        &self.0["pools"][0]["backends"][place]["latency"][phase]["total"]
    }

    /// The same in a window.
    pub fn phase_in(&self, window: &str, phase: &str) -> &Value {
        &self.0["listeners"][0]["latency"][phase][window]
    }

    /// The same in a window.
    pub fn backend_phase_in(&self, window: &str, place: usize, phase: &str) -> &Value {
        &self.0["pools"][0]["backends"][place]["latency"][phase][window]
    }

    /// For reading in a failure.
    pub fn without_latency(&self) -> Value {
        let mut value = self.0.clone();
        for list in ["/listeners", "/pools/0/backends"] {
            for entry in value.pointer_mut(list).and_then(Value::as_array_mut).unwrap() {
                entry.as_object_mut().unwrap().remove("latency");
            }
        }
        value
    }
}

fn number(table: &Value, key: &str) -> u64 {
    table[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {table:#}"))
}

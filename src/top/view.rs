//! What is known of the instance that is watched, and what of it is looked at. Pure.

use std::collections::HashMap;

use crate::demo::stats::{History, Stats};

/// The phases whose latency can be shown, by their names in the pages.
pub const PHASES: [&str; 3] = ["connect", "first_byte", "session"];

/// Both pages, read one after the other.
#[derive(Debug, Default)]
pub struct Reading {
    pub stats: Stats,
    pub history: History,
}

/// What is shown.
#[derive(Debug)]
pub struct View {
    /// Whom it is about.
    pub admin: String,
    /// The last good one; what it shows stays when the instance is gone.
    pub reading: Option<Reading>,
    /// Why the last reading failed; empty where it did not.
    pub trouble: String,
    /// The first backend of the table.
    pub first: usize,
    phase: usize,
    /// By pool and backend: connections in all, and those between the last two readings.
    connections: HashMap<(String, String), (u64, u64)>,
}

impl View {
    /// Nothing is known yet.
    pub fn new(admin: String) -> View {
        let trouble = "nothing read yet".to_owned();
        let connections = HashMap::new();
        View { admin, reading: None, trouble, first: 0, phase: 0, connections }
    }

    /// Takes what came of a reading.
    pub fn take(&mut self, read: Result<Reading, String>) {
        let reading = match read {
            Ok(reading) => reading,
            Err(trouble) => return self.trouble = trouble,
        };
        self.trouble.clear();
        let mut connections = HashMap::new();
        for pool in &reading.stats.pools {
            for backend in &pool.backends {
                let key = (pool.name.clone(), backend.name.clone());
                let total = backend.connections_total;
                let before = self.connections.get(&key).map_or(total, |(total, _)| *total);
                connections.insert(key, (total, total.saturating_sub(before)));
            }
        }
        self.connections = connections;
        self.reading = Some(reading);
        self.scroll(0);
    }

    /// The phase whose latency is shown.
    pub fn phase(&self) -> &'static str {
        PHASES[self.phase]
    }

    /// Shows the next phase.
    pub fn next_phase(&mut self) {
        self.phase = (self.phase + 1) % PHASES.len();
    }

    /// Moves the table by so many backends, never past the last one.
    pub fn scroll(&mut self, by: isize) {
        let pools = self.reading.iter().flat_map(|reading| &reading.stats.pools);
        let backends: usize = pools.map(|pool| pool.backends.len()).sum();
        self.first = self.first.saturating_add_signed(by).min(backends.saturating_sub(1));
    }

    /// A backend's share of what its pool got between the last two readings; `None` where the pool
    /// got nothing.
    pub fn share(&self, pool: &str, backend: &str) -> Option<f64> {
        let of_pool = self.connections.iter().filter(|((name, _), _)| name == pool);
        let all: u64 = of_pool.map(|(_, (_, fresh))| fresh).sum();
        let (_, ours) = self.connections.get(&(pool.to_owned(), backend.to_owned()))?;
        (all > 0).then(|| *ours as f64 / all as f64)
    }
}

impl History {
    /// A column of counts as counts per second.
    pub fn per_second(&self, counts: &[u64]) -> Vec<u64> {
        let spans = self.span_ms.iter().map(|ms| (*ms).max(1) as f64);
        let rate = |(count, ms): (&u64, f64)| (*count as f64 * 1e3 / ms).round() as u64;
        counts.iter().zip(spans).map(rate).collect()
    }

    /// Name and column of each percentile of a phase.
    pub fn percentiles(&self, phase: &str) -> [(&'static str, &[u64]); 3] {
        let none: [&[u64]; 3] = [&[]; 3];
        let columns = self.latency.get(phase);
        let [p50, p99, p999] = columns.map_or(none, |p| [&p.p50_us, &p.p99_us, &p.p999_us]);
        [("p50", p50), ("p99", p99), ("p99.9", p999)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::stats::{Backend, Pool};

    fn reading(totals: [u64; 2]) -> Reading {
        let backend = |(name, connections_total)| Backend {
            name: String::from(name),
            connections_total,
            ..Backend::default()
        };
        let backends = ["a", "b"].into_iter().zip(totals).map(backend).collect();
        let pools = vec![Pool { name: "web".to_owned(), backends }];
        Reading { stats: Stats { pools, ..Stats::default() }, history: History::default() }
    }

    #[test]
    fn a_share_is_of_what_came_since_the_reading_before() {
        let mut view = View::new("here".to_owned());
        view.take(Ok(reading([100, 900])));
        assert_eq!(view.share("web", "a"), None);
        view.take(Ok(reading([103, 901])));
        assert_eq!((view.share("web", "a"), view.share("web", "b")), (Some(0.75), Some(0.25)));
        assert_eq!(view.share("web", "c"), None);
    }

    #[test]
    fn what_was_known_stays_when_the_instance_is_gone() {
        let mut view = View::new("here".to_owned());
        view.take(Ok(reading([1, 2])));
        view.take(Err("connection refused".to_owned()));
        assert_eq!(view.trouble, "connection refused");
        assert_eq!(view.reading.as_ref().unwrap().stats.pools.len(), 1);
        view.take(Ok(reading([1, 2])));
        assert_eq!(view.trouble, "");
    }

    #[test]
    fn the_table_stops_at_its_ends() {
        let mut view = View::new("here".to_owned());
        view.scroll(5);
        assert_eq!(view.first, 0);
        view.take(Ok(reading([1, 2])));
        view.scroll(5);
        assert_eq!(view.first, 1);
        view.scroll(-9);
        assert_eq!(view.first, 0);
    }

    #[test]
    fn a_long_sample_is_no_peak() {
        let history = History { span_ms: vec![1000, 4000], ..History::default() };
        assert_eq!(history.per_second(&[10, 40]), [10, 10]);
    }
}

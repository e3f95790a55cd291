//! The figures of the demo as a table: redrawn in place on a terminal, plain lines elsewhere.
//!
//! This room refuses to know where the figures come from.

use std::{collections::HashMap, fmt::Write as _, time::Instant};

use super::{
    stats::{Backend, Stats},
    traffic::Interval,
};
use crate::bench::{
    Percentiles,
    print::{bytes, micros},
};

/// Draws the figures, and keeps what the last drawing needs for the next.
pub struct Table {
    in_place: bool,
    /// Lines of the last drawing.
    drawn: usize,
    start: Instant,
    last: Instant,
    /// Connections of each backend at the last drawing.
    totals: HashMap<String, u64>,
}

impl Table {
    /// `in_place`: stdout is a terminal.
    pub fn new(in_place: bool) -> Self {
        let now = Instant::now();
        Self { in_place, drawn: 0, start: now, last: now, totals: HashMap::new() }
    }

    /// The text that shows `stats`, the last `traffic` (new connections, held ones) and a `note`.
    pub fn render(&mut self, stats: &Stats, traffic: &[Interval; 2], note: &str) -> String {
        let passed = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        let mut text = self.headline(traffic, note);
        if self.in_place {
            text.push_str(
                "backend  state         active      total     rate   connect p50/p99       \
                 first byte p50/p99\n",
            );
        }
        for backend in stats.pools.iter().flat_map(|pool| &pool.backends) {
            let rate = self.rate(backend, passed);
            text.push_str(&self.backend(backend, rate));
        }
        for listener in &stats.listeners {
            _ = writeln!(
                text,
                "{}: {} active, {} accepted, {} up, {} down",
                listener.name,
                listener.connections_active,
                listener.accepted_total,
                bytes(listener.bytes_up_total as f64),
                bytes(listener.bytes_down_total as f64)
            );
            text.push_str("ended:");
            for (reason, count) in listener.ended_total.iter().filter(|(_, count)| **count > 0) {
                _ = write!(text, "  {reason} {count}");
            }
            text.push('\n');
        }
        if self.in_place { self.over_the_last(&text) } else { text }
    }

    fn headline(&self, [fresh, held]: &[Interval; 2], note: &str) -> String {
        format!(
            "{:>5.1} s  {note}; clients: {:.0} connections/s p99 {}, {:.0} echoes/s p99 {}\n",
            self.start.elapsed().as_secs_f64(),
            fresh.per_second,
            micros(fresh.latency.p99_us),
            held.per_second,
            micros(held.latency.p99_us)
        )
    }

    /// New connections per second since the last drawing.
    fn rate(&mut self, backend: &Backend, passed: f64) -> f64 {
        let total = backend.connections_total;
        let last = self.totals.insert(backend.name.clone(), total).unwrap_or(total);
        total.saturating_sub(last) as f64 / passed.max(0.001)
    }

    fn backend(&self, backend: &Backend, rate: f64) -> String {
        let Backend { name, state, connections_active: active, connections_total: total, .. } =
            backend;
        let (connect, first) =
            (percentiles(backend, "connect"), percentiles(backend, "first_byte"));
        if self.in_place {
            format!(
                "{name:<9}{state:<12}{active:>8}{total:>11}{rate:>7.0}/s   {connect:<22}{first}\n"
            )
        } else {
            format!(
                "  {name} {state} active {active} total {total} rate {rate:.0}/s \
                 connect {connect} first byte {first}\n"
            )
        }
    }

    /// Goes up over the last drawing and clears what is left of each line and below.
    fn over_the_last(&mut self, text: &str) -> String {
        let up = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A"),
        };
        self.drawn = text.lines().count();
        format!("{up}{}\x1b[J", text.replace('\n', "\x1b[K\n"))
    }
}

/// p50 and p99 of the last ten seconds, or of all time before the first ten are over.
fn percentiles(backend: &Backend, phase: &str) -> String {
    let windows = backend.latency.get(phase);
    let shown = windows.map_or_else(Percentiles::default, |windows| {
        let recent = &windows.ten_seconds;
        if recent.count > 0 { *recent } else { windows.total }
    });
    format!("{} / {}", micros(shown.p50_us), micros(shown.p99_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> Stats {
        let text = r#"{ "driver": "epoll", "shards": [], "listeners": [ { "name": "demo",
            "connections_active": 3, "accepted_total": 9, "bytes_up_total": 2048,
            "bytes_down_total": 1, "ended_total": { "client_fin": 6, "max_age": 0 } } ],
            "pools": [ { "backends": [ { "name": "a", "state": "healthy", "connections_active": 1,
            "connections_total": 3, "latency": {} } ] } ] }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn plain_lines_have_no_escape_codes() {
        let mut table = Table::new(false);
        let text = table.render(&stats(), &Default::default(), "all up");
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(text.contains("a healthy active 1 total 3"), "{text}");
        assert!(text.contains("demo: 3 active, 9 accepted, 2.0 kB up"), "{text}");
        assert!(text.contains("ended:  client_fin 6\n"), "{text}");
    }

    #[test]
    fn a_terminal_is_redrawn_over_the_same_lines() {
        let mut table = Table::new(true);
        let first = table.render(&stats(), &Default::default(), "all up");
        assert!(!first.starts_with('\x1b'));
        let second = table.render(&stats(), &Default::default(), "all up");
        assert!(second.starts_with("\x1b[5A"), "{second:?}");
    }
}

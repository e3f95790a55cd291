//! What the load generator shows to people.
//!
//! This room refuses to know where the figures come from.

use std::fmt::Write as _;

use super::{Mode, Percentiles, Report, Tally};

/// One line about the last interval.
pub fn progress(mode: Mode, seconds: f64, last: &Tally) -> String {
    let p = Percentiles::of(&last.latency);
    let mut line = match mode {
        Mode::Bulk => format!("{seconds:>4.0} s  {:>9}/s", bytes(last.bytes as f64)),
        Mode::Tcp | Mode::Connect => format!(
            "{seconds:>4.0} s  {:>7}/s  p50 {:>8}  p99 {:>8}",
            last.operations,
            micros(p.p50_us),
            micros(p.p99_us)
        ),
    };
    line.push_str(&losses(last));
    line
}

/// The result, for people.
pub fn table(mode: Mode, report: &Report) -> String {
    let (tally, seconds) = (&report.tally, report.seconds.max(1e-9));
    let mut text = format!(
        "{} operations in {:.1} s: {:.0}/s, {} received ({}/s){}\n",
        tally.operations,
        report.seconds,
        tally.operations as f64 / seconds,
        bytes(tally.bytes as f64),
        bytes(tally.bytes as f64 / seconds),
        losses(tally),
    );
    let p = Percentiles::of(&tally.latency);
    if p.count > 0 {
        let heads = ["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
        let mean = p.mean_us.round() as u64;
        let values =
            [p.min_us, mean, p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.p9999_us, p.max_us];
        heads.iter().for_each(|head| _ = write!(text, "{head:>10}"));
        text.push('\n');
        values.iter().for_each(|value| _ = write!(text, "{:>10}", micros(*value)));
        text.push('\n');
    }
    if mode == Mode::Bulk && p.count > 0 {
        text.push_str("the times are of whole streams, from the dial done to the end\n");
    }
    if report.unbegun > 0 {
        let unbegun = report.unbegun;
        _ = writeln!(text, "{unbegun} operations were due and found no free connection in time");
    }
    text
}

fn losses(tally: &Tally) -> String {
    let mut text = String::new();
    for (kind, count) in tally.failures() {
        _ = write!(text, "  failed {} {count}", kind.name());
    }
    if tally.cut > 0 {
        _ = write!(text, "  cut {}", tally.cut);
    }
    text
}

/// A time in the unit that suits it.
pub fn micros(us: u64) -> String {
    match us {
        0..10_000 => format!("{us} us"),
        10_000..10_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.1} s", us as f64 / 1e6),
    }
}

/// A size in the unit that suits it.
pub fn bytes(count: f64) -> String {
    match count {
        ..1e3 => format!("{count:.0} B"),
        1e3..1e6 => format!("{:.1} kB", count / 1e3),
        1e6..1e9 => format!("{:.1} MB", count / 1e6),
        _ => format!("{:.2} GB", count / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_failures_and_what_was_never_begun() {
        let mut tally = Tally::default();
        tally.done(1_000_000);
        tally.failed[0] = 2;
        let report = Report { tally, seconds: 2.0, unbegun: 3 };
        let text = table(Mode::Tcp, &report);
        assert!(text.contains("1 operations in 2.0 s"), "{text}");
        assert!(text.contains("failed refused 2"), "{text}");
        assert!(text.contains("3 operations were due"), "{text}");
        assert!(text.contains("p99.99"), "{text}");
    }

    #[test]
    fn units_suit_the_size() {
        assert_eq!(micros(999), "999 us");
        assert_eq!(micros(15_000), "15.0 ms");
        assert_eq!(bytes(2.5e9), "2.50 GB");
    }
}

//! What lies between two readings of `/histograms`, as a table: `latency BEFORE AFTER`, two files.
//!
//! Both hold everything since the start, so their difference is exactly what came between, at their
//! full resolution. `scripts/latency` reads them and calls this.

use std::{collections::HashMap, env, fs, io::Cursor, process::ExitCode};

use base64::{Engine, prelude::BASE64_STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{
        Deserializer,
        interval_log::{IntervalLogIterator, LogEntry},
    },
};
use ringway::hist::Percentiles;

/// Each tag with its values, in the order of the log.
type Log = Vec<(String, Histogram<u64>)>;

fn main() -> ExitCode {
    let files: Vec<String> = env::args().skip(1).collect();
    let [before, after] = files.as_slice() else {
        eprintln!("usage: latency BEFORE AFTER (two files from /histograms; see scripts/latency)");
        return ExitCode::from(2);
    };
    match read(before).and_then(|before| Ok(table(before, read(after)?))) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

fn read(file: &str) -> Result<Log, String> {
    let text = fs::read(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    log(&text).ok_or_else(|| format!("{file}: no interval log (read it from /histograms)"))
}

/// `None` for what is no log of ours.
fn log(text: &[u8]) -> Option<Log> {
    let mut log = Log::new();
    for entry in IntervalLogIterator::new(text) {
        if let LogEntry::Interval(interval) = entry.ok()? {
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).ok()?;
            let values = Deserializer::new().deserialize(&mut Cursor::new(bytes)).ok()?;
            log.push((interval.tag()?.as_str().to_owned(), values));
        }
    }
    (!log.is_empty()).then_some(log)
}

/// A line for each tag with a value in between, in columns with tabs.
fn table(before: Log, after: Log) -> String {
    let before: HashMap<String, Histogram<u64>> = before.into_iter().collect();
    let mut table = "of\tcount\tmin us\tmean\tp50\tp90\tp99\tp99.9\tp99.99\tmax us\n".to_owned();
    for (tag, now) in after {
        let between = since(&now, before.get(&tag));
        let p = Percentiles::of(&between);
        if p.count > 0 {
            let Percentiles { count, min_us, mean_us, p50_us, p90_us, .. } = p;
            let Percentiles { p99_us, p999_us, p9999_us, max_us, .. } = p;
            table += &format!(
                "{tag}\t{count}\t{min_us}\t{mean_us}\t{p50_us}\t{p90_us}\t{p99_us}\t{p999_us}\t\
                 {p9999_us}\t{max_us}\n"
            );
        }
    }
    table
}

/// Where there was more before, somebody has started anew, from zero.
fn since(now: &Histogram<u64>, before: Option<&Histogram<u64>>) -> Histogram<u64> {
    let mut between = now.clone();
    match before.map(|before| between.subtract(before)) {
        None | Some(Ok(())) => between,
        Some(Err(_)) => now.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    fn log_of(tag: &str, values: &[u64]) -> Log {
        vec![(tag.to_owned(), of(values))]
    }

    #[test]
    fn only_what_came_between_is_in_the_table() {
        let table = table(log_of("a", &[10, 5000]), log_of("a", &[10, 20, 30, 5000]));
        let line = table.lines().nth(1).unwrap();
        assert_eq!(line, "a\t2\t20\t25\t20\t30\t30\t30\t30\t30");
    }

    #[test]
    fn silence_has_no_line_and_a_new_start_counts_from_zero() {
        let head = table(log_of("a", &[10]), log_of("a", &[10]));
        assert_eq!(head.lines().count(), 1);
        let anew = table(log_of("a", &[10, 10]), log_of("a", &[20]));
        assert!(anew.contains("a\t1\t20"), "{anew}");
        let came = table(log_of("a", &[10]), log_of("b", &[20]));
        assert!(came.contains("b\t1\t20"), "{came}");
    }
}

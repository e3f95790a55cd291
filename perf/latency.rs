//! What lies between two readings of `/histograms`, as a table: `latency BEFORE AFTER`, two files.
//!
//! Both hold everything since the start, so their difference is exactly what came between, at their
//! full resolution. `scripts/latency` reads them and calls this. Of two lives of an instance, which
//! their start times tell apart, only the second one counts.

use std::{collections::HashMap, env, fs, io::Cursor, process::ExitCode, time::Duration};

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
type Tags = Vec<(String, Histogram<u64>)>;

/// What one reading says.
struct Log {
    /// When the instance was started, since 1970.
    started: Duration,
    tags: Tags,
}

fn main() -> ExitCode {
    let files: Vec<String> = env::args().skip(1).collect();
    let [before, after] = files.as_slice() else {
        eprintln!("usage: latency BEFORE AFTER (two files from /histograms; see scripts/latency)");
        return ExitCode::from(2);
    };
    match read(before).and_then(|before| Ok((before, read(after)?))) {
        Ok((before, after)) => {
            let before = of_the_same_life(before, &after).unwrap_or_else(|| {
                eprintln!("the instance was started anew meanwhile: this is all since that start");
                Tags::new()
            });
            print!("{}", table(before, after.tags));
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
    let (mut started, mut tags) = (None, Tags::new());
    for entry in IntervalLogIterator::new(text) {
        match entry.ok()? {
            LogEntry::StartTime(time) => started = Some(time),
            LogEntry::BaseTime(_) => {}
            LogEntry::Interval(interval) => {
                let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).ok()?;
                let values = Deserializer::new().deserialize(&mut Cursor::new(bytes)).ok()?;
                tags.push((interval.tag()?.as_str().to_owned(), values));
            }
        }
    }
    let log = Log { started: started?, tags };
    (!log.tags.is_empty()).then_some(log)
}

/// What `before` has to be taken off `after`; `None` where another life of the instance is told.
fn of_the_same_life(before: Log, after: &Log) -> Option<Tags> {
    (before.started == after.started).then_some(before.tags)
}

/// A line for each tag with a value in between, in columns with tabs.
fn table(before: Tags, after: Tags) -> String {
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

/// Where there was more before, a backend went and came back, and counts from zero.
fn since(now: &Histogram<u64>, before: Option<&Histogram<u64>>) -> Histogram<u64> {
    let mut between = now.clone();
    match before.map(|before| between.subtract(before)) {
        None | Some(Ok(())) => between,
        Some(Err(_)) => now.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use hdrhistogram::serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    };

    use super::*;

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    fn tags_of(tag: &str, values: &[u64]) -> Tags {
        vec![(tag.to_owned(), of(values))]
    }

    /// What `/histograms` gives, of an instance that was started at this second.
    fn reading(started: u64, tags: &Tags) -> Log {
        let (mut text, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let started = UNIX_EPOCH + Duration::from_secs(started);
        let mut writer = IntervalLogWriterBuilder::new()
            .with_start_time(started)
            .with_base_time(started)
            .begin_log_with(&mut text, &mut serializer)
            .unwrap();
        for (tag, values) in tags {
            let tag = Tag::new(tag).unwrap();
            writer.write_histogram(values, Duration::ZERO, Duration::ZERO, Some(tag)).unwrap();
        }
        log(&text).unwrap()
    }

    #[test]
    fn only_what_came_between_is_in_the_table() {
        let table = table(tags_of("a", &[10, 5000]), tags_of("a", &[10, 20, 30, 5000]));
        let line = table.lines().nth(1).unwrap();
        assert_eq!(line, "a\t2\t20\t25\t20\t30\t30\t30\t30\t30");
    }

    #[test]
    fn silence_has_no_line_and_who_came_back_counts_from_zero() {
        let head = table(tags_of("a", &[10]), tags_of("a", &[10]));
        assert_eq!(head.lines().count(), 1);
        let anew = table(tags_of("a", &[10, 10]), tags_of("a", &[20]));
        assert!(anew.contains("a\t1\t20"), "{anew}");
        let came = table(tags_of("a", &[10]), tags_of("b", &[20]));
        assert!(came.contains("b\t1\t20"), "{came}");
    }

    #[test]
    fn nothing_of_an_earlier_life_is_taken_off() {
        // Fewer of each value than there are now: a subtraction would not fail.
        let (before, after) = (tags_of("a", &[10]), tags_of("a", &[10, 10, 20]));
        let between = |started| {
            let after = reading(7, &after);
            let before = of_the_same_life(reading(started, &before), &after);
            before.map(|before| table(before, after.tags))
        };
        assert!(between(7).unwrap().contains("a\t2\t10"));
        assert_eq!(between(6), None);
        assert!(log(b"#[Something else]\n").is_none());
    }
}

//! What the process says of its connections, from each place where it says it.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::{kit::Stats, servers::Bytes};

/// How many connections ended how: listener and reason. None is zero.
pub type Ends = BTreeMap<(String, String), u64>;

pub fn of_stats(stats: &Stats) -> Ends {
    let listeners = stats.0["listeners"].as_array().unwrap();
    listeners
        .iter()
        .flat_map(|listener| named(&listener["name"], &listener["ended_total"]))
        .collect()
}

/// The reasons of one listener.
fn named(listener: &Value, ended: &Value) -> Vec<((String, String), u64)> {
    let name = listener.as_str().unwrap();
    let reasons = ended.as_object().unwrap().iter();
    let end = |(reason, count): (&String, &Value)| {
        ((name.to_owned(), reason.clone()), count.as_u64().unwrap())
    };
    reasons.map(end).filter(|(_, count)| *count > 0).collect()
}

pub fn of_metrics(page: &str) -> Ends {
    let end = |line: &str| {
        let labels = line.strip_prefix("ringway_listener_ended_total{")?;
        let (labels, value) = labels.split_once("} ")?;
        let label = |key: &str| {
            let found = labels.split(',').find_map(|label| label.strip_prefix(key)).unwrap();
            found.trim_matches('"').to_owned()
        };
        let count = value.parse::<f64>().unwrap() as u64;
        (count > 0).then(|| ((label("listener="), label("reason=")), count))
    };
    page.lines().filter_map(end).collect()
}

/// The lines that the process logs at its end.
pub fn of_last_words(stderr: &str) -> Ends {
    let lines = stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let drained = lines.filter(|line| line["message"] == "drained");
    let ended =
        |line: Value| -> Value { serde_json::from_str(line["ended"].as_str().unwrap()).unwrap() };
    drained.flat_map(|line| named(&line["listener"].clone(), &ended(line))).collect()
}

/// The access log.
#[derive(Default)]
pub struct Log {
    pub ends: Ends,
    bytes: BTreeMap<String, Bytes>,
}

impl Log {
    /// Bytes of all connections that ended so.
    pub fn bytes(&self, reason: &str) -> Bytes {
        self.bytes.get(reason).copied().unwrap_or_default()
    }
}

pub fn of_log(path: &Path) -> Log {
    let mut log = Log::default();
    for line in fs::read_to_string(path).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let number = |key: &str| line[key].as_u64().unwrap();
        *log.ends.entry((text("listener"), text("end"))).or_default() += 1;
        let bytes = log.bytes.entry(text("end")).or_default();
        bytes.add(number("bytes_up"), number("bytes_down"));
        assert!(number("bytes_spliced") <= number("bytes_up") + number("bytes_down"), "{line}");
    }
    log
}

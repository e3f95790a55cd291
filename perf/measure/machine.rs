//! What figures mean nothing without: machine, kernel, versions, commit, command.

use std::{fs, path::Path, process::Command};

use time::OffsetDateTime;

/// Facts and their values.
pub type Facts = Vec<(&'static str, String)>;

/// All that is known of where we run; `contenders` says whose versions.
pub fn facts(contenders: &[String], ringway: &Path) -> Facts {
    let commit = match output("git", &["status", "--porcelain"]) {
        Some(changes) => {
            let head = output("git", &["rev-parse", "HEAD"]).unwrap_or_default();
            let dirty = if changes.is_empty() { "clean" } else { "with changes on top" };
            format!("{head}, {dirty}")
        }
        None => "not in a repository".to_owned(),
    };
    let load = read("/proc/loadavg");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("measure {}", words.join(" "));
    let mut facts = vec![
        ("time", OffsetDateTime::now_utc().to_string()),
        ("machine", machine()),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("load before", load.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        ("commit", commit),
        ("command", command),
        ("ringway", output(ringway, &["--version"]).unwrap_or_default()),
    ];
    for (name, option) in [("haproxy", "-v"), ("nginx", "-v"), ("envoy", "--version")] {
        if contenders.iter().any(|contender| contender.starts_with(name)) {
            facts.push((name, output(name, &[option]).unwrap_or_else(|| "missing".to_owned())));
        }
    }
    facts
}

fn machine() -> String {
    let value = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let cpus = read("/proc/cpuinfo");
    let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let model = value(&cpus, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = value(&read("/proc/meminfo"), "MemTotal");
    let kib = memory.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
    format!("{count} CPUs ({model}), {} MiB of memory", kib.unwrap_or(0) >> 10)
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The first line that a program says, wherever it says it; nothing where it failed.
fn output(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    output.status.success().then(|| first.trim().to_owned())
}

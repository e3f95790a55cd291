//! How many system calls a message takes, under strace.
//!
//! It slows the proxy and nobody else. For one call after the other that changes no count; whoever
//! takes what is there at once finds more each time, and makes fewer calls for each message than
//! untraced. So the figure of a ring is its least.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use ringway::{
    bench::{self, Mode, Plan},
    child::Guarded,
};

use crate::{launch, load::Lab};

/// Making and closing connections takes calls too: they are the same in a short and in a long run,
/// so what is between the two is what messages take.
const SHARES: [u32; 2] = [1, 3];
const ATTACHED_MAX: Duration = Duration::from_secs(10);

/// Calls for each message through a contender, by two runs of it.
pub fn each(lab: &Lab, name: &str, connections: u32) -> Result<Vec<f64>, String> {
    let [short, long] = SHARES.map(|share| {
        counted(lab, name, connections, lab.seconds * share / SHARES.iter().sum::<u32>())
    });
    let (short, long) = (short?, long?);
    Ok(vec![(long.0 - short.0) / (long.1 - short.1)])
}

/// Calls and messages of a whole run.
fn counted(
    lab: &Lab,
    name: &str,
    connections: u32,
    seconds: Duration,
) -> Result<(f64, f64), String> {
    let (_backend, relay) = lab.start(name, "echo", 1)?;
    let file = lab.place.files.join("calls");
    let mut command = launch::command("strace", None)?;
    command.args(["-c", "-f", "-q", "-p", &relay.process.pid().to_string(), "-o"]).arg(&file);
    let mut tracer = Guarded::start("strace", command.stdout(Stdio::null()))?;
    wait_until_traced(relay.process.pid(), &mut tracer)?;
    let mut plan = Plan::new(Mode::Tcp, relay.listeners[0], connections as usize);
    plan.seconds = Some(seconds);
    let report = bench::drive(&plan, lab.stop, |_| {})?;
    lab.check(&report)?;
    tracer.terminate(ATTACHED_MAX)?;
    let text =
        fs::read_to_string(&file).map_err(|error| format!("strace wrote nothing: {error}"))?;
    let calls = total(&text).ok_or_else(|| format!("strace counted nothing:\n{text}"))?;
    Ok((calls, report.tally.operations as f64))
}

fn wait_until_traced(pid: u32, tracer: &mut Guarded) -> Result<(), String> {
    let deadline = Instant::now() + ATTACHED_MAX;
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let by = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if by.is_some_and(|by| by.trim() != "0") {
            return Ok(());
        }
        if tracer.ended().is_some() || Instant::now() > deadline {
            return Err("strace does not trace (its own words are above)".to_owned());
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The calls in the last line of its summary: share, seconds, time for each, calls.
fn total(summary: &str) -> Option<f64> {
    let line = summary.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_number_of_calls() {
        let summary = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 17.17    0.046918          12      3758           sendto
------ ----------- ----------- --------- --------- ----------------
100.00    0.273287           8     34130      1948 total
";
        assert_eq!(total(summary), Some(34130.0));
        assert_eq!(total("nothing"), None);
    }
}

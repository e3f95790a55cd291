//! The line of `[log] report`, and the last words of a process.

use std::{sync::Arc, time::Duration};

use super::{
    Recorded,
    stats::{self, Sums},
};
use crate::{
    bridge::{Bridge, Direction, ListenerLatency, ListenerPhase},
    coordinator::facts::Facts,
    hist::Latency,
};

/// Logs one line per listener and period, for ever.
pub async fn run(facts: Arc<Facts>, recorded: Arc<Recorded>) {
    let Some(every) = facts.config.log.report else { return };
    let mut before = sums(facts.bridge);
    loop {
        tokio::time::sleep(every).await;
        let now = sums(facts.bridge);
        log((facts.bridge, &recorded), &before, &now, every);
        before = now;
    }
}

fn sums(bridge: &Bridge) -> Vec<Sums> {
    (0..bridge.plan.listeners.len()).map(|l| stats::sums(&bridge.boards, l)).collect()
}

fn log((bridge, recorded): (&Bridge, &Recorded), before: &[Sums], now: &[Sums], every: Duration) {
    let mut gathered = recorded.gathered();
    for (i, (before, now)) in before.iter().zip(now).enumerate() {
        let latency = &gathered.since_report[i];
        let (connect, first) = (
            latency[ListenerPhase::Connect].percentiles(),
            latency[ListenerPhase::FirstByte].percentiles(),
        );
        let rate = |n: u64, m: u64| (n - m) as f64 / every.as_secs_f64();
        let bytes = |way| rate(now.bytes(way), before.bytes(way)) / 1e6;
        tracing::info!(
            listener = bridge.plan.listeners[i].name,
            active = now.active(),
            accepted_per_s = format_args!("{:.1}", rate(now.accepted, before.accepted)),
            up_mb_per_s = format_args!("{:.2}", bytes(Direction::Up)),
            down_mb_per_s = format_args!("{:.2}", bytes(Direction::Down)),
            connect_p50_us = connect.p50_us,
            connect_p99_us = connect.p99_us,
            first_byte_p50_us = first.p50_us,
            first_byte_p99_us = first.p99_us,
            first_byte_p999_us = first.p999_us,
            "report"
        );
    }
    let phases = gathered.since_report.iter_mut().flat_map(ListenerLatency::each_mut);
    phases.for_each(Latency::clear);
}

/// What the process did in its life; logged when it ends.
pub fn totals(bridge: &Bridge, in_time: bool) {
    for (i, listener) in bridge.plan.listeners.iter().enumerate() {
        let sums = stats::sums(&bridge.boards, i);
        let ended = serde_json::to_string(&sums.ended_by_name()).unwrap_or_default();
        tracing::info!(listener = listener.name, accepted = sums.accepted, ended, "drained");
    }
    if !in_time {
        tracing::error!("some connections could not be closed in time");
    }
}

//! Gathers what the shards recorded, a few times a second.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::Recorded;
use crate::{
    bridge::{Bridge, Histograms, ListenerLatency, ShardBoard},
    coordinator::facts::Facts,
    hist::{History, Latency},
};

/// How often histograms are collected. With the shards' tick of the same length a value is in the
/// totals 150 ms after it was recorded; the contract says 250 ms.
const PERIOD: Duration = Duration::from_millis(50);

/// How often the shards' CPU time is read.
const BUSY_PERIOD: Duration = Duration::from_secs(1);

/// How long a slot of the windows is; the first one begins when the process starts.
const SLOT: Duration = Duration::from_secs(10);

/// Everything recorded since the start and in windows, and of listeners since the last report line
/// and since the last sample of `seconds`.
pub struct Gathered {
    pub kept: Histograms<History>,
    pub since_report: Vec<ListenerLatency<Latency<u64>>>,
    /// Of all listeners together.
    pub since_sample: ListenerLatency<Latency<u64>>,
    /// Slots that are over.
    slots_closed: u64,
    /// One per shard.
    pub busy: Vec<Busy>,
}

/// How much of a core a shard used lately.
pub struct Busy {
    read_at: Instant,
    cpu: Duration,
    ratio: f64,
}

impl Busy {
    fn new() -> Self {
        Busy { read_at: Instant::now(), cpu: Duration::ZERO, ratio: 0.0 }
    }

    /// CPU time over wall time of the last second, 0 to 1.
    pub fn ratio(&self) -> f64 {
        self.ratio
    }

    fn refresh(&mut self, shard: &ShardBoard) {
        let elapsed = self.read_at.elapsed();
        if elapsed < BUSY_PERIOD {
            return;
        }
        // proc(5): the first number is the thread's time on a CPU in nanoseconds.
        let tid = shard.tid.load(Ordering::Relaxed);
        let text = std::fs::read_to_string(format!("/proc/self/task/{tid}/schedstat"));
        let first = text.ok().and_then(|t| t.split(' ').next().and_then(|n| n.parse().ok()));
        let cpu = first.map_or(self.cpu, Duration::from_nanos);
        let used = cpu.saturating_sub(self.cpu).as_secs_f64() / elapsed.as_secs_f64();
        self.ratio = (used * 1000.0).round() / 1000.0;
        (self.cpu, self.read_at) = (cpu, Instant::now());
    }
}

impl Gathered {
    /// Empty, with an empty set sent down to each shard for exchange.
    pub fn new(bridge: &Bridge) -> Self {
        for shard in &bridge.boards.shards {
            let _ = shard.fresh.push(Box::new(Histograms::new(&bridge.plan, Latency::new)));
        }
        let listeners = bridge.plan.listeners.iter();
        Gathered {
            kept: Histograms::new(&bridge.plan, History::new),
            since_report: listeners.map(|_| ListenerLatency::new(Latency::new)).collect(),
            since_sample: ListenerLatency::new(Latency::new),
            slots_closed: 0,
            busy: bridge.boards.shards.iter().map(|_| Busy::new()).collect(),
        }
    }

    /// Somebody else stands in a slot from now on.
    pub fn forget(&mut self, slot: usize) {
        self.kept.backends[slot].each_mut().into_iter().for_each(History::clear);
    }

    /// Slots end although nothing is recorded.
    fn close_slots(&mut self, uptime: Duration) {
        let over = uptime.as_secs() / SLOT.as_secs();
        let passed = over - self.slots_closed;
        if passed > 0 {
            self.kept.each_mut().for_each(|history| history.close_slots(passed));
            self.slots_closed = over;
        }
    }

    fn add(&mut self, filled: &Histograms) {
        self.kept.each_mut().zip(filled.each()).for_each(|(into, from)| into.add(from));
        for (into, from) in self.since_report.iter_mut().zip(&filled.listeners) {
            for into in [into, &mut self.since_sample] {
                let phases = into.each_mut().into_iter().zip(from.phases());
                phases.for_each(|(into, (_, from))| into.merge(from));
            }
        }
    }
}

/// Gathers for ever.
pub async fn run(facts: Arc<Facts>, recorded: Arc<Recorded>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        gather(&facts, &recorded);
    }
}

/// Takes what the shards have filled and sends the emptied sets back.
pub fn gather(facts: &Facts, recorded: &Recorded) {
    let mut gathered = recorded.gathered();
    for (busy, shard) in gathered.busy.iter_mut().zip(&facts.bridge.boards.shards) {
        busy.refresh(shard);
    }
    // Before the values: what comes late belongs to the slot it comes in.
    gathered.close_slots(facts.started.elapsed());
    for shard in &facts.bridge.boards.shards {
        if let Some(mut filled) = shard.filled.pop() {
            gathered.add(&filled);
            filled.each_mut().for_each(Latency::clear);
            let _ = shard.fresh.push(filled);
        }
    }
}

//! Limits that are reached, and left again: seen in the gates and in what shards count anyway.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::stats;
use crate::{
    bridge::{Refusal, ShardBoard},
    coordinator::{
        facts::Facts,
        know::events::{Bound, Event, Events},
    },
    counter::Gate,
};

/// How often is looked: well within the second in which a limit is told.
const PERIOD: Duration = Duration::from_millis(250);

/// How long a limit has to be quiet to be left: traffic that touches it now and then is one story.
const QUIET: Duration = Duration::from_secs(10);

/// What is known of a bound at one moment.
struct Reading {
    bound: Bound,
    /// True exactly when no place is left, whether or not anybody asked for one.
    full: bool,
    /// How often it turned somebody away, since the start.
    refusals: u64,
}

/// What was known of it before.
#[derive(Debug, Default)]
struct Mark {
    refusals: u64,
    /// When it was last pressed, while it counts as reached.
    pressed_at: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    Reached,
    Left,
}

/// Looks for ever.
pub async fn run(facts: Arc<Facts>, events: Arc<Events>) {
    let mut marks: Vec<Mark> = readings(&facts).iter().map(|_| Mark::default()).collect();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let now = Instant::now();
        facts.bridge.set_scarce(tcp_memory().is_some_and(|(pages, low)| pages > low / 2));
        for (mark, reading) in marks.iter_mut().zip(readings(&facts)) {
            match mark.look(reading.full, reading.refusals, now) {
                Some(News::Reached) => events.tell(Event::LimitReached(reading.bound)),
                Some(News::Left) => events.tell(Event::LimitLeft(reading.bound)),
                None => {}
            }
        }
    }
}

/// Pages that all TCP sockets of this host have, and how many the kernel grants without pressure
/// (tcp(7), `tcp_mem`).
fn tcp_memory() -> Option<(u64, u64)> {
    let sockets = std::fs::read_to_string("/proc/net/sockstat").ok()?;
    let of_tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let pages = of_tcp.split(' ').skip_while(|word| *word != "mem").nth(1)?.parse().ok()?;
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok()?;
    Some((pages, limits.split_whitespace().next()?.parse().ok()?))
}

impl Mark {
    fn look(&mut self, full: bool, refusals: u64, now: Instant) -> Option<News> {
        let pressed = full || refusals > self.refusals;
        self.refusals = refusals;
        if pressed {
            return self.pressed_at.replace(now).is_none().then_some(News::Reached);
        }
        let quiet = now.saturating_duration_since(self.pressed_at?) >= QUIET;
        quiet.then(|| {
            self.pressed_at = None;
            News::Left
        })
    }
}

/// Every bound, always in the same order.
fn readings(facts: &Facts) -> Vec<Reading> {
    let (gates, boards) = (&facts.bridge.gates, &facts.bridge.boards);
    let names: Vec<&String> = facts.bridge.plan.listeners.iter().map(|l| &l.name).collect();
    let sums: Vec<stats::Sums> = (0..names.len()).map(|l| stats::sums(boards, l)).collect();
    let of_all = |refusal: Refusal| sums.iter().map(|s| s.refused[refusal as usize]).sum::<u64>();
    let pauses: u64 = boards.shards.iter().map(|shard| shard.accept_pauses.get()).sum();
    let of_process = |limit: &'static str, full: bool, refusals: u64| {
        let bound = Bound { limit, listener: None, shard: None };
        Reading { bound, full, refusals }
    };
    let runtime_refusals = of_all(Refusal::RuntimeFull);
    let mut readings = vec![
        of_process(Refusal::RuntimeFull.name(), is_full(&gates.runtime), runtime_refusals),
        of_process(Refusal::Descriptors.name(), false, pauses + of_all(Refusal::Descriptors)),
        of_process("access_log", false, facts.bridge.access_lines_dropped()),
        of_process("tcp_memory", facts.bridge.is_scarce(), 0),
    ];
    for (i, (name, sums)) in names.iter().zip(&sums).enumerate() {
        let gate = &gates.listeners[i];
        // One without a limit of its own has the runtime's, and that is told once.
        let full = gate.places() < gates.runtime.places() && is_full(gate);
        for (refusal, full) in [
            (Refusal::ListenerFull, full),
            (Refusal::BackendsFull, false),
            (Refusal::SourceFull, false),
        ] {
            let listener = Some((*name).clone());
            let bound = Bound { limit: refusal.name(), listener, shard: None };
            readings.push(Reading { bound, full, refusals: sums.refused[refusal as usize] });
        }
    }
    let shards = boards.shards.iter().enumerate();
    readings
        .extend(shards.flat_map(|(id, shard)| of_shard(facts.limits.pipes_per_shard, id, shard)));
    readings
}

fn of_shard(pipes_max: u32, id: usize, shard: &ShardBoard) -> [Reading; 2] {
    // Where pipes are not wanted, none are missed.
    let pipes_dry = match pipes_max {
        0 => 0,
        _ => shard.meters.pipes_dry.get(),
    };
    [("pipes", pipes_dry), ("buffers", shard.meters.chunks_dry.get())].map(|(limit, refusals)| {
        let bound = Bound { limit, listener: None, shard: Some(id) };
        Reading { bound, full: false, refusals }
    })
}

fn is_full(gate: &Gate) -> bool {
    gate.taken() >= gate.places()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_once_and_left_when_it_has_been_quiet() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut mark = Mark::default();
        for (full, refusals, seconds, news) in [
            (false, 0, 0, None),
            (true, 0, 1, Some(News::Reached)),
            (true, 0, 60, None),
            (false, 0, 69, None),
            (false, 1, 69, None),
            (false, 1, 78, None),
            (false, 1, 79, Some(News::Left)),
            (false, 1, 200, None),
            (false, 2, 201, Some(News::Reached)),
        ] {
            assert_eq!(mark.look(full, refusals, at(seconds)), news, "after {seconds} s");
        }
    }
}

//! What a simulation counts, and the figures that come of it.

use std::collections::BTreeMap;

/// Counts, as they come.
#[derive(Debug, Default)]
pub struct Tally {
    /// How often a queue of this length was seen.
    queues: BTreeMap<u32, u64>,
    /// The longest minus the shortest queue at each look, summed.
    spread: u64,
    looks: u64,
    delays_ns: Vec<u64>,
    errors: Vec<u32>,
}

/// One line of a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub queue_mean: f64,
    pub queue_p99: u32,
    /// Longest minus shortest queue, mean over the looks.
    pub spread: f64,
    pub delay_ms_mean: f64,
    pub delay_ms_p99: f64,
    /// What `Picker::error` says of the picks that were looked at; `None` where nobody picked.
    pub error: Option<Error>,
}

#[derive(Clone, Copy, Debug)]
pub struct Error {
    pub mean: f64,
    pub max: u32,
}

impl Tally {
    /// All queues, as a connection finds them.
    pub fn look(&mut self, queues: &[u32]) {
        queues.iter().for_each(|queue| *self.queues.entry(*queue).or_default() += 1);
        let (least, most) = (queues.iter().min(), queues.iter().max());
        self.spread += u64::from(most.unwrap_or(&0) - least.unwrap_or(&0));
        self.looks += 1;
    }

    /// One connection: how long until it is done, and how far its pick was from the least busy one.
    pub fn connection(&mut self, ns: u64, error: Option<u32>) {
        self.delays_ns.push(ns);
        self.errors.extend(error);
    }

    pub fn figures(mut self) -> Figures {
        self.delays_ns.sort_unstable();
        let seen: u64 = self.queues.values().sum();
        let in_all: u64 = self.queues.iter().map(|(queue, n)| u64::from(*queue) * n).sum();
        let delays = self.delays_ns.len().max(1);
        let error = self.errors.iter().max().map(|max| Error {
            mean: self.errors.iter().map(|e| f64::from(*e)).sum::<f64>() / self.errors.len() as f64,
            max: *max,
        });
        Figures {
            queue_mean: in_all as f64 / seen.max(1) as f64,
            queue_p99: self.queue_at(seen - seen / 100),
            spread: self.spread as f64 / self.looks.max(1) as f64,
            delay_ms_mean: self.delays_ns.iter().sum::<u64>() as f64 / delays as f64 / 1e6,
            delay_ms_p99: self
                .delays_ns
                .get(delays - delays / 100 - 1)
                .map_or(0.0, |ns| *ns as f64 / 1e6),
            error,
        }
    }

    /// The length that `rank` of the queues seen do not exceed.
    fn queue_at(&self, rank: u64) -> u32 {
        let mut below = 0;
        let reaches = |(_, n): &(&u32, &u64)| {
            below += **n;
            below >= rank
        };
        self.queues.iter().find(reaches).map_or(0, |(queue, _)| *queue)
    }
}

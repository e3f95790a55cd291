//! Changes that were refused: the first ones of each while are logged one by one, the rest as a
//! sum, because whoever is refused can ask again as often as it likes.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use crate::{coordinator::admin::Clients, limits::REFUSED_LINES_MAX};

/// How often what was not logged is summed.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts them.
#[derive(Default)]
pub struct Refused(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    total: u64,
    /// In this period.
    logged: u32,
    summed: u64,
}

impl Refused {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().expect("nobody panics holding it")
    }

    /// Since the start.
    pub fn total(&self) -> u64 {
        self.counts().total
    }

    /// Counts one. Whether it gets a line of its own.
    pub fn count(&self) -> bool {
        let mut counts = self.counts();
        counts.total += 1;
        let logs = counts.logged < REFUSED_LINES_MAX;
        match logs {
            true => counts.logged += 1,
            false => counts.summed += 1,
        }
        logs
    }

    /// Begins a period anew; gives how many got no line in the last one.
    fn next_period(&self) -> u64 {
        let mut counts = self.counts();
        counts.logged = 0;
        std::mem::take(&mut counts.summed)
    }
}

/// Logs sums, for ever.
pub async fn run(clients: Arc<Clients>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let more = clients.refused.next_period();
        if more > 0 {
            tracing::warn!(more, "changes refused that were not logged one by one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_some_lines_and_one_sum() {
        let refused = Refused::default();
        let logged = (0..1000).filter(|_| refused.count()).count() as u32;
        assert_eq!((logged, refused.next_period()), (REFUSED_LINES_MAX, 1000 - u64::from(logged)));
        assert!(refused.count());
        assert_eq!((refused.next_period(), refused.total()), (0, 1001));
    }
}

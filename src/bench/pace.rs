//! When operations are due.
//!
//! This room refuses to know sockets and clocks: nanoseconds since the start are arguments.

/// Closed loop: whenever a connection is free. Open loop: by the schedule, free or not.
#[derive(Clone, Debug)]
pub enum Pace {
    /// The next operation is due when the last one is done.
    Closed,
    /// Operation `next` is due at `first_ns + next * step_ns`.
    Open {
        /// When the first operation is due.
        first_ns: f64,
        /// Between two operations.
        step_ns: f64,
        /// The operation that is due next.
        next: u64,
    },
}

impl Pace {
    /// The share of worker `index` of `workers` in `rate` operations per second.
    pub fn new(rate: Option<f64>, index: usize, workers: usize) -> Self {
        rate.map_or(Self::Closed, |rate| Self::Open {
            first_ns: index as f64 * 1e9 / rate,
            step_ns: workers as f64 * 1e9 / rate,
            next: 0,
        })
    }

    /// When the next operation is due, `now_ns` at the latest in a closed loop.
    pub fn due_ns(&self, now_ns: u64) -> u64 {
        match self {
            Self::Closed => now_ns,
            Self::Open { first_ns, step_ns, next } => (first_ns + *next as f64 * step_ns) as u64,
        }
    }

    /// The operation that was due is begun.
    pub fn begun(&mut self) {
        if let Self::Open { next, .. } = self {
            *next += 1;
        }
    }

    /// Operations due before `end_ns` that were never begun.
    pub fn unbegun(&self, end_ns: u64) -> u64 {
        match self {
            Self::Closed => 0,
            Self::Open { first_ns, step_ns, next } => {
                let due = ((end_ns as f64 - first_ns) / step_ns).ceil().max(0.0) as u64;
                due.saturating_sub(*next)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_the_rate_evenly_and_alternate() {
        let [mut a, b] = [0, 1].map(|index| Pace::new(Some(1000.0), index, 2));
        assert_eq!((a.due_ns(0), b.due_ns(0)), (0, 1_000_000));
        a.begun();
        assert_eq!(a.due_ns(0), 2_000_000);
    }

    #[test]
    fn what_was_due_and_not_begun_is_counted() {
        let mut pace = Pace::new(Some(10.0), 0, 1);
        assert_eq!(pace.unbegun(1_000_000_000), 10);
        (0..10).for_each(|_| pace.begun());
        assert_eq!(pace.unbegun(1_000_000_000), 0);
        assert_eq!(Pace::Closed.unbegun(1_000_000_000), 0);
    }
}

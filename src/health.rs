//! When a backend counts as healthy: thresholds over a series of checks. Pure.
//!
//! [`outlier`] judges by what becomes of the clients' connections, [`standing`] puts everything
//! together that decides whether a backend may be picked.

pub mod outlier;
pub mod standing;

/// What the active checks say of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Proven, or not yet disproven.
    Healthy,
    /// Enough checks in a row have failed.
    Unhealthy,
}

/// Why an active check failed, in words. Which kind of failure it is says what is known: a backend
/// that cannot be connected to is a fact, what is wrong with an answer is an opinion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// No connection stood: refused, unreachable, or no answer in time while connecting.
    Connect(String),
    /// A connection stood, and what came of it was wrong or came too late.
    AfterConnect(String),
}

impl CheckFailure {
    /// What was wrong, for logs and `/stats`.
    pub fn text(&self) -> &str {
        match self {
            CheckFailure::Connect(text) | CheckFailure::AfterConnect(text) => text,
        }
    }
}

/// One backend's series of active checks.
#[derive(Debug)]
pub struct Series {
    healthy_after: u32,
    unhealthy_after: u32,
    health: Health,
    /// Checks in a row that speak for the other state.
    against: u32,
    /// True exactly before the first result.
    first: bool,
}

impl Series {
    /// Healthy until proven otherwise. Both thresholds are at least 1.
    pub fn new(healthy_after: u32, unhealthy_after: u32) -> Self {
        Series { healthy_after, unhealthy_after, health: Health::Healthy, against: 0, first: true }
    }

    /// Checks were off for a while: the next result counts as the whole series.
    pub fn begin_anew(&mut self) {
        (self.first, self.against) = (true, 0);
    }

    /// Takes one result; says so when the state changes. A failed first check counts as the whole
    /// series: a backend that was never seen alive gets no traffic.
    pub fn result(&mut self, passed: bool) -> Option<Health> {
        let first = std::mem::take(&mut self.first);
        let (other, needed) = match self.health {
            Health::Healthy => (Health::Unhealthy, self.unhealthy_after),
            Health::Unhealthy => (Health::Healthy, self.healthy_after),
        };
        let speaks_for_other = passed == (other == Health::Healthy);
        if !speaks_for_other {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < needed && !first {
            return None;
        }
        self.health = other;
        self.against = 0;
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(results: &[bool]) -> Vec<(usize, Health)> {
        let mut series = Series::new(2, 3);
        let step = |(i, passed): (usize, &bool)| series.result(*passed).map(|h| (i, h));
        results.iter().enumerate().filter_map(step).collect()
    }

    #[test]
    fn three_failures_in_a_row_and_two_passes_in_a_row() {
        let results = [true, false, false, true, false, false, false, true, false, true, true];
        assert_eq!(changes(&results), [(6, Health::Unhealthy), (10, Health::Healthy)]);
    }

    #[test]
    fn after_a_pause_the_first_check_counts_as_the_whole_series() {
        let mut series = Series::new(2, 3);
        assert_eq!(series.result(true), None);
        series.begin_anew();
        assert_eq!(series.result(false), Some(Health::Unhealthy));
        series.begin_anew();
        assert_eq!(series.result(true), Some(Health::Healthy));
    }

    #[test]
    fn a_failed_first_check_counts_as_the_whole_series() {
        let results = [false, true, true];
        assert_eq!(changes(&results), [(0, Health::Unhealthy), (2, Health::Healthy)]);
    }
}

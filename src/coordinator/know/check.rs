//! Active health checks: one task per backend, a bounded number at once.
//!
//! What is asked and what a good answer is, `probe` knows; when a backend is out, `health` does.

mod places;
mod turns;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

pub use self::places::Places;
use self::turns::Whose;
use super::{
    Known,
    probe::{self, Failed, probe},
};
use crate::{
    config::{HealthCheck, SendProxy},
    health::{Series, standing::State},
};

/// The share of the interval by which a check may come earlier or later.
const JITTER: f64 = 0.1;

/// Who is checked, and how.
struct Target {
    /// Its place in the plan.
    pool_index: usize,
    pool: String,
    name: String,
    slot: usize,
    id: u64,
    address: SocketAddr,
    check: HealthCheck,
    send_proxy: SendProxy,
}

/// Starts the checks of every pool that has them.
pub fn start(known: &Arc<Known>) {
    for pool in 0..known.facts.config.pools.len() {
        let slots: Vec<usize> = known.pools().get(pool).backends().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| begin(known, pool, slot));
    }
}

/// Checks the backend that stands in a slot of a pool, if the pool has checks, as long as it stands
/// there.
pub fn begin(known: &Arc<Known>, pool: usize, slot: usize) {
    let config = &known.facts.config.pools[pool];
    let pools = known.pools();
    let found = pools.get(pool).backends().find(|(at, _)| *at == slot);
    let (Some(check), Some((_, backend))) = (&config.health_check, found) else { return };
    let target = Target {
        pool_index: pool,
        pool: config.name.clone(),
        name: backend.name.clone(),
        slot,
        id: backend.id,
        address: backend.address,
        check: check.clone(),
        send_proxy: config.send_proxy,
    };
    let known = Arc::clone(known);
    tokio::spawn(async move { watch(&known, &target).await });
}

async fn watch(known: &Known, target: &Target) {
    let Target { pool, name, slot, id, check, .. } = target;
    let mut series = Series::new(check.healthy_after, check.unhealthy_after);
    let (mut first, mut disabled) = (true, false);
    let mut whose = Whose { pool: target.pool_index, silent: false };
    let mut next = Instant::now();
    let place = probe::place(target.address, check);
    let on_traffic_port = place == target.address;
    let mut orders = known.orders.subscribe();
    loop {
        // An order may be for this one: once it is enabled again, one check at once tells what
        // became of it.
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            _ = orders.changed() => {}
        }
        match known.pools().standing(*slot, *id) {
            None => return,
            Some(backend) if backend.state == State::Disabled => {
                disabled = true;
                next = Instant::now() + check.interval;
                continue;
            }
            Some(_) if std::mem::take(&mut disabled) => series.begin_anew(),
            Some(_) if Instant::now() < next => continue,
            Some(_) => {}
        }
        let first = std::mem::take(&mut first);
        next = Instant::now() + pause(check.interval, first, fastrand::f64());
        let Some(_place) = known.check_places.one(whose).await else { return };
        let began = Instant::now();
        let outcome = probe(place, check, target.send_proxy).await;
        whose.silent = began.elapsed() >= check.timeout;
        let result = match outcome {
            Ok(()) => Ok(()),
            Err(Failed::Backend(failure)) => Err(failure),
            Err(Failed::Shortage(error)) => {
                tracing::warn!(pool, backend = name, error, "cannot check");
                continue;
            }
        };
        let turned = series.result(result.is_ok());
        known.pools().checked((*slot, *id), &result, on_traffic_port, turned);
    }
}

/// How long after a check the next one is due; `chance` is from 0 to 1. Backends are all checked
/// first at the same moment; from the second check on they spread over the interval, and the jitter
/// keeps those of many instances from falling into step.
fn pause(interval: Duration, first: bool, chance: f64) -> Duration {
    let part = if first { chance } else { 1.0 - JITTER + 2.0 * JITTER * chance };
    interval.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_spread_over_the_interval_and_then_keep_it_within_a_tenth() {
        let pause = |first, chance| pause(Duration::from_secs(10), first, chance);
        assert_eq!((pause(true, 0.0), pause(true, 1.0)), (Duration::ZERO, Duration::from_secs(10)));
        assert_eq!(pause(false, 0.0), Duration::from_secs(9));
        assert_eq!(pause(false, 0.5), Duration::from_secs(10));
        assert_eq!(pause(false, 1.0), Duration::from_secs(11));
    }
}

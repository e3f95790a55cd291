//! The line in the log of each event. Every field is named: one that is added has to be logged.

use super::{Bound, Event, Serving};
use crate::health::standing::State;

pub(super) fn log(event: &Event) {
    match event {
        Event::BackendState { pool, backend, from, to, reason } => {
            let (from, name) = (from.name(), to.name());
            match to {
                State::Unhealthy | State::Ejected => {
                    tracing::warn!(pool, backend, from, reason, "{name}");
                }
                State::Healthy | State::Draining | State::Disabled => {
                    tracing::info!(pool, backend, from, reason, "{name}");
                }
            }
        }
        Event::PoolPanic { pool, panic: true, healthy, backends, threshold } => {
            let sentence = "panic: too few healthy backends, all of them are used";
            tracing::error!(pool, healthy, backends, threshold, "{sentence}");
        }
        Event::PoolPanic { pool, panic: false, healthy, backends, threshold } => {
            tracing::info!(pool, healthy, backends, threshold, "panic is over");
        }
        Event::NameLookup { pool, name, reason } if reason.is_empty() => {
            tracing::info!(pool, name, "looked up again");
        }
        Event::NameLookup { pool, name, reason } => {
            tracing::warn!(pool, name, reason, "cannot look it up: what was known stays");
        }
        Event::LimitReached(Bound { limit, listener, shard }) => {
            tracing::warn!(limit, listener, shard, "limit reached");
        }
        Event::LimitLeft(Bound { limit, listener, shard }) => {
            tracing::info!(limit, listener, shard, "limit left");
        }
        Event::Phase { from, to: "cutting", reason } => {
            tracing::warn!(from, reason, "cutting what is left");
        }
        Event::Phase { from, to, reason } => tracing::info!(from, reason, "{to}"),
        Event::OperatorChange { pool, backend, state, weight, was } => {
            tracing::info!(pool, backend, state, weight, was, "changed by the operator");
        }
        Event::Driver(with) => serving(with),
    }
}

fn serving(serving: &Serving) {
    let Serving {
        version,
        driver,
        driver_reason,
        shards,
        max_connections,
        pipes_per_shard,
        config,
        digest,
    } = serving;
    tracing::info!(
        version,
        driver,
        driver_reason,
        shards,
        max_connections,
        pipes_per_shard,
        config = %config,
        digest,
        "serving"
    );
}

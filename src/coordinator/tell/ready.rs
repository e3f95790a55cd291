//! `/ready` and `/ready/{listener}`: whether clients should be sent here.
//!
//! A listener can serve while its pool has a backend that is healthy and has a weight. Whether one
//! such listener is enough for the whole instance, or all of them are needed, `[admin] ready` says.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{
    bridge::{Bridge, Phase, ShardState},
    config::Ready,
    coordinator::{
        facts::Facts,
        know::{Known, pools::Pool},
        shown::shown,
    },
};

/// `GET /ready`.
pub async fn page(State(facts): State<Arc<Facts>>, State(known): State<Arc<Known>>) -> Response {
    let listeners: Vec<usize> = (0..facts.bridge.plan.listeners.len()).collect();
    answer(&facts, &known, &listeners)
}

/// `GET /ready/{listener}`.
pub async fn page_of(
    State(facts): State<Arc<Facts>>,
    State(known): State<Arc<Known>>,
    Path(name): Path<String>,
) -> Response {
    let listeners = &facts.bridge.plan.listeners;
    match listeners.iter().position(|listener| listener.name == name) {
        Some(listener) => answer(&facts, &known, &[listener]),
        None => {
            let known: Vec<&str> = listeners.iter().map(|l| l.name.as_str()).collect();
            let (name, known) = (shown(&name), known.join(", "));
            let sentence = format!("no listener {name:?} (known: {known})\n");
            (StatusCode::NOT_FOUND, sentence).into_response()
        }
    }
}

/// What is to be said of some listeners together.
fn answer(facts: &Facts, known: &Known, listeners: &[usize]) -> Response {
    let mut unable = Vec::new();
    let mut warnings = Vec::new();
    let pools = known.pools_in_force();
    for listener in listeners.iter().map(|i| &facts.bridge.plan.listeners[*i]) {
        let pool = pools.get(listener.speaks.pool());
        if pool.healthy() == 0 {
            let (pool, name) = (&pool.name, &listener.name);
            unable.push(format!("listener {name}: pool {pool} has no usable backend"));
        }
        let sentence = panicking(pool);
        warnings.extend(sentence.filter(|sentence| !warnings.contains(sentence)));
    }
    drop(pools);
    let mut reasons = life(facts.bridge);
    if is_enough(facts.config.admin.ready, listeners.len() - unable.len(), listeners.len()) {
        unable.append(&mut warnings);
        warnings = unable;
    } else {
        reasons.append(&mut unable);
    }
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let ready = reasons.is_empty();
    let answer = json!({ "ready": ready, "reasons": reasons, "warnings": warnings });
    (status, Json(answer)).into_response()
}

/// Whether clients should come, where `able` of `all` listeners can serve.
fn is_enough(rule: Ready, able: usize, all: usize) -> bool {
    match rule {
        Ready::Any => able > 0,
        Ready::All => able == all,
    }
}

/// Why nobody should come, whatever the pools are like.
fn life(bridge: &Bridge) -> Vec<String> {
    let mut reasons = Vec::new();
    if bridge.phase() > Phase::Running {
        reasons.push("draining".to_owned());
    }
    if bridge.boards.shards.iter().any(|shard| shard.state() == ShardState::Starting) {
        reasons.push("starting".to_owned());
    }
    reasons
}

/// Not ready is more than this: a pool in panic serves whom it can.
fn panicking(pool: &Pool) -> Option<String> {
    let (name, healthy) = (&pool.name, pool.healthy());
    let all = pool.backends().count();
    let sentence =
        || format!("pool {name} is in panic: {healthy} of {all} backends healthy, all are used");
    pool.panicking.then(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_needs_one_listener_and_all_needs_every_one() {
        let enough = |rule| [(0, 2), (1, 2), (2, 2)].map(|(able, all)| is_enough(rule, able, all));
        assert_eq!(enough(Ready::Any), [false, true, true]);
        assert_eq!(enough(Ready::All), [false, false, true]);
    }
}

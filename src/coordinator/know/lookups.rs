//! Joins names to pools: who is behind a name becomes the backends of its entry.

use std::{sync::Arc, time::Duration};

use super::{
    Known, check,
    events::Event,
    names::{Endpoint, Look, Names, TRY_MAX, Told},
    pools::Pool,
};
use crate::{
    config::{Config, Target},
    sock,
};

/// How often a starting process looks whether every name was looked up.
const POLL: Duration = Duration::from_millis(5);

/// Who is asked, where there are names.
///
/// # Errors
/// A sentence: no name server is known.
pub fn names(config: &Config) -> Result<Option<Names>, String> {
    let mut targets = config.pools.iter().flat_map(|pool| &pool.backends).map(|b| &b.address);
    match targets.any(|target| !matches!(target, Target::Address(_))) {
        true => Names::new(&config.dns.servers, TRY_MAX).map(Some),
        false => Ok(None),
    }
}

/// Looks all names up, again and again.
///
/// `on_fresh` hears of each slot that somebody else gets: who keeps something for slots forgets it.
pub fn start(
    known: &Arc<Known>,
    names: Option<Names>,
    on_fresh: impl Fn(usize) + Clone + Send + Sync + 'static,
) {
    let Some(names) = names else { return };
    for pool in 0..known.facts.config.pools.len() {
        let targets: Vec<Target> =
            known.pools().get(pool).names.iter().map(|name| name.spec.address.clone()).collect();
        for (name, target) in targets.into_iter().enumerate() {
            let (known, names) = (Arc::clone(known), names.clone());
            let on_fresh = on_fresh.clone();
            tokio::spawn(async move {
                let on_look = |look: Look<'_>| {
                    if let Some(told) = look.told {
                        tell(&known, pool, &target, told);
                    }
                    take(&known, (pool, name), &look, &on_fresh);
                };
                names.watch(&target, on_look).await;
            });
        }
    }
}

fn tell(known: &Known, pool: usize, name: &Target, told: &Told) {
    let reason = match told {
        Told::Failed(why) => why.to_string(),
        Told::Recovered => String::new(),
    };
    let pool = known.facts.config.pools[pool].name.clone();
    known.events.tell(Event::NameLookup { pool, name: name.to_string(), reason });
}

fn take(known: &Arc<Known>, name: (usize, usize), look: &Look<'_>, on_fresh: &impl Fn(usize)) {
    let endpoints = without_ourselves(known, name, look.endpoints);
    let look = Look { endpoints: &endpoints, ..*look };
    let fresh = known.pools().looked_up(name, &look, known.facts.bridge);
    for (slot, backend) in known.pools().get(name.0).backends() {
        if fresh.contains(&slot) {
            let listeners = known.references.listeners_at(backend.address, sock::is_of_this_host);
            known.facts.bridge.loops.put(slot, &listeners);
        }
    }
    fresh.iter().for_each(|slot| on_fresh(*slot));
    drop(known.pools_in_force());
    fresh.into_iter().for_each(|slot| check::begin(known, name.0, slot));
}

/// Without those of the answer that lead back to a listener of the pool, or to the admin endpoint.
fn without_ourselves(
    known: &Known,
    (pool, name): (usize, usize),
    endpoints: &[Endpoint],
) -> Vec<Endpoint> {
    let refusal = |endpoint: &Endpoint| {
        known.references.refusal(pool, endpoint.address, sock::is_of_this_host)
    };
    let (refused, kept): (Vec<Endpoint>, Vec<Endpoint>) =
        endpoints.iter().copied().partition(|endpoint| refusal(endpoint).is_some());
    let mut pools = known.pools();
    let fresh = pools.refused((pool, name), refused.iter().map(|e| e.address).collect());
    // One line a lookup, however many the answer has.
    let mut news = refused.iter().filter(|endpoint| fresh.contains(&endpoint.address));
    if let Some(endpoint) = news.next() {
        let (pool, address) = (&known.facts.config.pools[pool].name, endpoint.address);
        let (rule, more) = (refusal(endpoint).unwrap_or_default(), news.count());
        tracing::warn!(pool, %address, more, "an answer is left out: {rule}");
    }
    kept
}

/// Waits until every pool has somebody without a name, or all its names were looked up once,
/// whatever that came to.
pub async fn somebody_everywhere(known: &Known) {
    while !known.pools().all().all(Pool::can_start) {
        tokio::time::sleep(POLL).await;
    }
}

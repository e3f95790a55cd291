//! Joins names to pools: who is behind a name becomes the backends of its entry.

use std::{sync::Arc, time::Duration};

use super::{
    check,
    events::Event,
    names::{Endpoint, Look, Names, TRY_MAX, Told},
    pools::Pool,
};
use crate::{
    config::{Config, Target},
    coordinator::App,
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
pub fn start(app: &Arc<App>, names: Option<Names>) {
    let Some(names) = names else { return };
    for pool in 0..app.config.pools.len() {
        let targets: Vec<Target> =
            app.pools().get(pool).names.iter().map(|name| name.spec.address.clone()).collect();
        for (name, target) in targets.into_iter().enumerate() {
            let (app, names) = (Arc::clone(app), names.clone());
            tokio::spawn(async move {
                let on_look = |look: Look<'_>| {
                    if let Some(told) = look.told {
                        tell(&app, pool, &target, told);
                    }
                    take(&app, (pool, name), &look);
                };
                names.watch(&target, on_look).await;
            });
        }
    }
}

fn tell(app: &App, pool: usize, name: &Target, told: &Told) {
    let reason = match told {
        Told::Failed(why) => why.to_string(),
        Told::Recovered => String::new(),
    };
    let pool = app.config.pools[pool].name.clone();
    app.events.tell(Event::NameLookup { pool, name: name.to_string(), reason });
}

fn take(app: &Arc<App>, name: (usize, usize), look: &Look<'_>) {
    let endpoints = without_ourselves(app, name, look.endpoints);
    let look = Look { endpoints: &endpoints, ..*look };
    let fresh = app.pools().looked_up(name, &look, app.bridge);
    for (slot, backend) in app.pools().get(name.0).backends() {
        if fresh.contains(&slot) {
            let listeners = app.references.listeners_at(backend.address, sock::is_of_this_host);
            app.bridge.loops.put(slot, &listeners);
        }
    }
    for slot in &fresh {
        // What was recorded there was somebody else's.
        let mut gathered = app.gathered.lock().expect("nobody panics holding it");
        gathered.forget(*slot);
    }
    drop(app.pools_in_force());
    fresh.into_iter().for_each(|slot| check::begin(app, name.0, slot));
}

/// Without those of the answer that lead back to a listener of the pool, or to the admin endpoint.
fn without_ourselves(
    app: &App,
    (pool, name): (usize, usize),
    endpoints: &[Endpoint],
) -> Vec<Endpoint> {
    let refusal =
        |endpoint: &Endpoint| app.references.refusal(pool, endpoint.address, sock::is_of_this_host);
    let (refused, kept): (Vec<Endpoint>, Vec<Endpoint>) =
        endpoints.iter().copied().partition(|endpoint| refusal(endpoint).is_some());
    let mut pools = app.pools();
    let fresh = pools.refused((pool, name), refused.iter().map(|e| e.address).collect());
    // One line a lookup, however many the answer has.
    let mut news = refused.iter().filter(|endpoint| fresh.contains(&endpoint.address));
    if let Some(endpoint) = news.next() {
        let (pool, address) = (&app.config.pools[pool].name, endpoint.address);
        let (rule, more) = (refusal(endpoint).unwrap_or_default(), news.count());
        tracing::warn!(pool, %address, more, "an answer is left out: {rule}");
    }
    kept
}

/// Waits until every pool has somebody without a name, or all its names were looked up once,
/// whatever that came to.
pub async fn somebody_everywhere(app: &App) {
    while !app.pools().all().all(Pool::can_start) {
        tokio::time::sleep(POLL).await;
    }
}

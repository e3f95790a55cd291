//! The keys of `[[pool]]` and of the tables in it.

use std::time::Duration;

use super::{Taken, health_check::health_check, unique};
use crate::config::{
    Backend, Balance, Counted, OnUnhealthy, Outlier, Pool, SendProxy, WEIGHT_MAX, Word,
    file::{Entry, Table},
    target::{Target, target},
    value::{duration, is_name, number, positive, ratio, word},
};

const PRIORITY_MAX: u32 = 255;
/// Ten attempts more for each first one; what is more than that is no budget.
const RETRY_BUDGET_MAX: f64 = 10.0;
/// Addresses that are kept apart for each backend.
const MIN_CLIENTS_MAX: u32 = 16;

pub(super) fn pool(mut table: Table<'_>, names: &mut Taken<String>) -> Option<Pool> {
    let name = table.need("name", "name = \"web\"", |entry| unique(entry, names));
    let balance = table.or("balance", Balance::LeastConnections, word);
    let connect_timeout = table.or("connect_timeout", Duration::from_secs(2), positive);
    let max_attempts = table.or("max_attempts", 3, |entry| number(entry, 1..=u32::MAX));
    let default_budget = Some(0.2);
    let retry_budget = table.or("retry_budget", default_budget, |entry| {
        ratio(entry, RETRY_BUDGET_MAX).map(|budget| (budget > 0.0).then_some(budget))
    });
    table.or("hash_on", SourceIp, word);
    let slow_start = table.or("slow_start", Duration::ZERO, duration);
    let panic_threshold = table.or("panic_threshold", 0.5, |entry| ratio(entry, 1.0));
    let on_unhealthy = table.or("on_unhealthy", OnUnhealthy::Leave, word);
    let send_proxy = table.or("send_proxy", SendProxy::Off, word);
    let health_check = health_check(table.table("health_check"));
    let outlier = outlier(table.table("outlier"));
    let mut taken = Taken::new();
    let tables = table.need_tables("backend");
    let written = tables.len();
    let read = |table| backend(table, &mut taken);
    let backends: Vec<Backend> = tables.into_iter().filter_map(read).collect();
    let whole = written > 0 && backends.len() == written;
    if whole && backends.iter().all(|backend| backend.weight == 0) {
        let rule = "every weight is 0 (one backend needs at least 1)";
        return table.refuse("backend", rule);
    }
    let names = |(_, backend): &(usize, &Backend)| !matches!(backend.address, Target::Address(_));
    for (i, backend) in backends.iter().enumerate().filter(names) {
        let others = backends.iter().enumerate().filter(|(j, _)| *j != i);
        if let Some((_, other)) = others.into_iter().find(|(_, other)| backend.may_be_called(other))
        {
            let (name, address) = (&other.name, &backend.address);
            let rule = format_args!(
                "{name:?} may be what a server found behind {address} is called (choose another \
                 name)"
            );
            return table.refuse("backend", rule);
        }
    }
    Some(Pool {
        name: name?,
        balance,
        connect_timeout,
        max_attempts,
        retry_budget,
        slow_start,
        panic_threshold,
        on_unhealthy,
        send_proxy,
        health_check,
        outlier,
        backends,
    })
}

/// What tells clients apart; of a TCP connection there is only one thing.
#[derive(Clone, Copy, PartialEq)]
struct SourceIp;

impl Word for SourceIp {
    const WORDS: &'static [(&'static str, Self)] = &[("source_ip", SourceIp)];
}

fn outlier(mut table: Table<'_>) -> Option<Outlier> {
    let default = Outlier::default();
    let count = |entry: &Entry<'_>| number(entry, 0..=u32::MAX);
    let outlier = Outlier {
        count: table.or("count", default.count, counted),
        min_clients: table
            .or("min_clients", default.min_clients, |entry| number(entry, 1..=MIN_CLIENTS_MAX)),
        consecutive_failures: table.or("consecutive_failures", default.consecutive_failures, count),
        ejection: table.or("ejection", default.ejection, duration),
        max_ejected: table.or("max_ejected", default.max_ejected, |entry| ratio(entry, 1.0)),
    };
    let counts = outlier.consecutive_failures > 0 && outlier.count.contains(&true);
    (counts && !outlier.ejection.is_zero()).then_some(outlier)
}

/// The kinds of failures in an array; none of them: nothing counts.
fn counted(entry: &Entry<'_>) -> Option<[bool; 3]> {
    let elements =
        entry.array("an array of \"dial\", \"reset\", \"closed\" (for example [\"dial\"])")?;
    let mut count = [false; 3];
    for element in &elements {
        let kind: Counted = word(element)?;
        count[kind as usize] = true;
    }
    Some(count)
}

fn backend(mut table: Table<'_>, taken: &mut Taken<String>) -> Option<Backend> {
    let written = table.get("name");
    let place = table.need("address", "address = \"IP:PORT\"", |entry| {
        let target = target(entry)?;
        if written.is_none() {
            let name = target.default_name();
            if !is_name(&name) {
                return entry.refuse("its address is no name (write a `name` too)");
            }
            taken.claim(name, entry)?;
        }
        Some(target)
    });
    let name = match &written {
        Some(entry) => unique(entry, taken),
        None => place.as_ref().map(Target::default_name),
    };
    let weight = table.or("weight", 1, |entry| number(entry, 0..=WEIGHT_MAX));
    let priority = table.or("priority", 0, |entry| number(entry, 0..=PRIORITY_MAX));
    let max_connections = table.or("max_connections", 0, |entry| number(entry, 0..=u32::MAX));
    Some(Backend { name: name?, address: place?, weight, priority, max_connections })
}

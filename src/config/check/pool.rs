//! The keys of `[[pool]]` and of the tables in it.

use std::time::Duration;

use super::{Taken, unique};
use crate::config::{
    Backend, Balance, HealthCheck, Pool, Word,
    file::{Entry, Table},
    value::{address, duration, is_name, number, positive, word},
};

const WEIGHT_MAX: u32 = 65_535;
const PRIORITY_MAX: u32 = 255;

pub(super) fn pool(mut table: Table<'_>, names: &mut Taken<String>) -> Option<Pool> {
    let name = table.need("name", "name = \"web\"", |entry| unique(entry, names));
    let balance = table.or("balance", Balance::LeastConnections, word);
    let connect_timeout = table.or("connect_timeout", Duration::from_secs(2), positive);
    let max_attempts = table.or("max_attempts", 3, |entry| number(entry, 1..=u32::MAX));
    let health_check = health_check(table.table("health_check"));
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
    Some(Pool { name: name?, balance, connect_timeout, max_attempts, health_check, backends })
}

/// How a backend is checked.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    None,
}

impl Word for Kind {
    const WORDS: &'static [(&'static str, Self)] = &[("tcp", Kind::Tcp), ("none", Kind::None)];
}

fn health_check(mut table: Table<'_>) -> Option<HealthCheck> {
    let default = HealthCheck::default();
    let kind = table.or("kind", Kind::Tcp, word);
    let interval = table.or("interval", default.interval, duration);
    let timeout = table.or("timeout", default.timeout, duration);
    let count = |entry: &Entry<'_>| number(entry, 1..=u32::MAX);
    let healthy_after = table.or("healthy_after", default.healthy_after, count);
    let unhealthy_after = table.or("unhealthy_after", default.unhealthy_after, count);
    let timeout = if timeout.is_zero() { interval } else { timeout };
    let check = HealthCheck { interval, timeout, healthy_after, unhealthy_after };
    (kind == Kind::Tcp && !interval.is_zero()).then_some(check)
}

fn backend(mut table: Table<'_>, taken: &mut Taken<String>) -> Option<Backend> {
    let written = table.get("name");
    let place = table.need("address", "address = \"IP:PORT\"", |entry| {
        let address = address(entry)?;
        if written.is_none() {
            let name = address.to_string();
            if !is_name(&name) {
                return entry.refuse("its address is no name (write a `name` too)");
            }
            taken.claim(name, entry)?;
        }
        Some(address)
    });
    let name = match &written {
        Some(entry) => unique(entry, taken),
        None => place.map(|address| address.to_string()),
    };
    let weight = table.or("weight", 1, |entry| number(entry, 0..=WEIGHT_MAX));
    let priority = table.or("priority", 0, |entry| number(entry, 0..=PRIORITY_MAX));
    Some(Backend { name: name?, address: place?, weight, priority })
}

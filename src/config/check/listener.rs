//! The keys of `[[listener]]`.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;

use super::{Taken, unique};
use crate::config::{
    Access, Listener, Mode, Splice,
    file::{Entry, Table},
    near::nearest,
    value::{address, maybe, network, number, quoted, word},
};

/// Networks in one list: each of them is looked at for each new connection, which then costs a few
/// microseconds.
const NETWORKS_MAX: usize = 1000;

/// What listeners share: addresses and names are theirs alone, pools are there for all.
pub(super) struct ListenersSeen<'n> {
    pub(super) addresses: Taken<SocketAddr>,
    pub(super) names: Taken<String>,
    pub(super) pool_names: &'n [Option<&'n str>],
}

pub(super) fn listener(mut table: Table<'_>, seen: &mut ListenersSeen<'_>) -> Option<Listener> {
    let name = table.need("name", "name = \"edge\"", |entry| unique(entry, &mut seen.names));
    let mode = table.or("mode", Mode::Tcp, word);
    let listen = table.need("listen", "listen = [\"0.0.0.0:8080\"]", |entry| {
        addresses(entry, &mut seen.addresses)
    });
    let pool = table.need("pool", "pool = \"NAME\"", |entry| pool_named(entry, seen.pool_names));
    let max_connections = table.or("max_connections", 0, |entry| number(entry, 0..=u32::MAX));
    let idle_timeout = table.or("idle_timeout", Some(Duration::from_mins(10)), maybe);
    let half_close_timeout = table.or("half_close_timeout", Some(Duration::from_mins(1)), maybe);
    let splice = table.or("splice", Splice::Auto, word);
    let access = Access {
        allow: table.or("allow", Vec::new(), networks),
        deny: table.or("deny", Vec::new(), networks),
    };
    Some(Listener {
        name: name?,
        mode,
        listen: listen?,
        pool: pool?,
        max_connections: (max_connections > 0).then_some(max_connections),
        idle_timeout,
        half_close_timeout,
        splice,
        access,
    })
}

fn addresses(entry: &Entry<'_>, taken: &mut Taken<SocketAddr>) -> Option<Vec<SocketAddr>> {
    const EXAMPLE: &str = "(for example [\"0.0.0.0:8080\"])";
    let elements = entry.array(format_args!("an array of addresses {EXAMPLE}"))?;
    if elements.is_empty() {
        return entry.refuse(format_args!("needs at least one address {EXAMPLE}"));
    }
    let read = |element: &Entry<'_>| {
        let address = address(element)?;
        if address.port() != 0 {
            taken.claim(address, element)?;
        }
        Some(address)
    };
    Some(elements.iter().filter_map(read).collect())
}

fn networks(entry: &Entry<'_>) -> Option<Vec<IpNet>> {
    let elements = entry.array("an array of networks (for example [\"10.0.0.0/8\", \"::1\"])")?;
    if elements.len() > NETWORKS_MAX {
        let count = elements.len();
        let rule = format_args!("{count} networks (write at most {NETWORKS_MAX}, or wider ones)");
        return entry.refuse(rule);
    }
    Some(elements.iter().filter_map(network).collect())
}

fn pool_named(entry: &Entry<'_>, names: &[Option<&str>]) -> Option<usize> {
    let text = entry.text("the name of a pool (for example \"web\")")?;
    if let Some(index) = names.iter().position(|name| *name == Some(text)) {
        return Some(index);
    }
    let known: Vec<&str> = names.iter().flatten().copied().collect();
    match nearest(text, known.iter().copied()) {
        Some(meant) => entry.refuse(format_args!("no such pool (did you mean {meant:?}?)")),
        None if known.is_empty() => entry.refuse("no such pool (write a [[pool]] of that name)"),
        None => entry.refuse(format_args!("no such pool (known: {})", quoted(&known))),
    }
}

//! The keys of `[[listener]]`.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;

use super::{Taken, unique};
use crate::config::{
    Access, Listener, Mode, SourceLimit, Splice,
    file::{Entry, Table},
    near::nearest,
    value::{address, maybe, network, number, quoted, word},
};

/// Networks in one list: each of them is looked at for each new connection, which then costs a few
/// microseconds.
const NETWORKS_MAX: usize = 1000;

/// Kernel: `MAX_TCP_KEEPIDLE`, include/net/tcp.h; of it the whole hours.
const KEEPALIVE_SECONDS_MAX: u64 = 9 * 60 * 60;

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
    let per_source = table.or("max_connections_per_source", 0, |entry| number(entry, 0..=u32::MAX));
    let source = SourceLimit {
        max_connections: (per_source > 0).then_some(per_source),
        prefix: table.or("source_prefix", SourceLimit::default().prefix, source_prefix),
    };
    let keepalive = table.or("keepalive", Some(Duration::from_mins(1)), keepalive);
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
        source,
        keepalive,
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
        if let Some(v4) = mapped(address) {
            let rule = "an IPv4 address in IPv6 form, which cannot be listened on";
            return element.refuse(format_args!("{rule} (write \"{v4}\")"));
        }
        if address.port() != 0 {
            taken.claim(address, element)?;
        }
        Some(address)
    };
    Some(elements.iter().filter_map(read).collect())
}

/// A listener on an IPv6 address takes IPv6 alone.
fn mapped(address: SocketAddr) -> Option<SocketAddr> {
    let ip = address.ip().to_canonical();
    (ip != address.ip()).then(|| SocketAddr::new(ip, address.port()))
}

/// The kernel counts the idle time in seconds, up to 32,767 of them (tcp(7)).
fn keepalive(entry: &Entry<'_>) -> Option<Option<Duration>> {
    let idle = maybe(entry)?;
    let fits = |idle: Duration| idle.subsec_nanos() == 0 && idle.as_secs() <= KEEPALIVE_SECONDS_MAX;
    match idle {
        Some(idle) if !fits(idle) => {
            entry.refuse("not whole seconds up to \"9h\" (for example \"1m\"; \"0s\": off)")
        }
        idle => Some(idle),
    }
}

fn source_prefix(entry: &Entry<'_>) -> Option<[u8; 2]> {
    let rule = "two lengths, of IPv4 and of IPv6 addresses (for example [32, 64])";
    let elements = entry.array(rule)?;
    let [v4, v6] = elements.as_slice() else { return entry.refuse(format_args!("not {rule}")) };
    let length = |entry, most| number(entry, 1..=most).and_then(|length| length.try_into().ok());
    let (v4, v6) = (length(v4, 32), length(v6, 128));
    Some([v4?, v6?])
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

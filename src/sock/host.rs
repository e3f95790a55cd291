//! What this host has: ways to others, addresses of its own, descriptors.

use std::net::{IpAddr, SocketAddr};

use rustix::process::{Resource, Rlimit};

#[cfg(not(test))]
use super::calls as kernel;
use super::is_shortage;
#[cfg(test)]
use crate::sim::calls as kernel;

/// Whether this host has a route to `address` and an address of that family to come from. A
/// datagram socket is connected to it, which sends nothing. What cannot be told for want of a
/// descriptor or of memory is taken for true.
pub fn has_way_to(address: SocketAddr) -> bool {
    kernel::connect_datagram(address).map_or_else(|error| is_shortage(&error), |()| true)
}

/// Whether an address is one of this host.
///
/// Kernel: who talks to an address of its own host does so from that very address, unless it is a
/// loopback one. Binding to it would tell too, but not where `net.ipv4.ip_nonlocal_bind` is set.
pub fn is_of_this_host(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let source = || kernel::datagram_source(SocketAddr::new(ip, DISCARD));
    ip.is_loopback() || ip.is_unspecified() || source().is_ok_and(|source| source.ip() == ip)
}

/// A port, since there has to be one; nothing is sent there.
const DISCARD: u16 = 9;

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_nofile() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_datagram_could_be_sent_to_has_a_way() {
        assert!(has_way_to("127.0.0.1:9".parse().unwrap()));
        // The limited broadcast address is nobody's.
        assert!(!has_way_to("255.255.255.255:9".parse().unwrap()));
    }
}

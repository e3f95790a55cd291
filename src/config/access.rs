//! Whose connections a listener takes. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

/// The networks a listener takes connections from. Both lists empty: everybody's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Access {
    /// Not empty: only clients in one of these.
    pub allow: Vec<IpNet>,
    /// None in one of these, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether a client at `address` may come in.
    pub fn admits(&self, address: IpAddr) -> bool {
        // An IPv4 client of an IPv6 socket is the same client.
        let address = address.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn admits(allow: &[&str], deny: &[&str], address: &str) -> bool {
        let access = Access { allow: networks(allow), deny: networks(deny) };
        access.admits(address.parse().unwrap())
    }

    #[test]
    fn without_lists_everybody_comes_in() {
        assert!(admits(&[], &[], "192.0.2.1"));
        assert!(admits(&[], &[], "2001:db8::1"));
    }

    #[test]
    fn deny_wins_over_allow_and_allow_keeps_out_what_it_does_not_contain() {
        let (allow, deny) = (&["10.0.0.0/8", "2001:db8::/32"], &["10.1.0.0/16"]);
        for (address, admitted) in [
            ("10.0.0.1", true),
            ("10.0.255.255", true),
            ("10.1.0.0", false),
            ("10.1.255.255", false),
            ("10.2.0.0", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("2001:db8::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(admits(allow, deny, address), admitted, "{address}");
        }
        assert!(!admits(&["10.0.0.1/32"], &["10.0.0.1/32"], "10.0.0.1"));
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_compares_as_ipv4() {
        assert!(admits(&["10.0.0.0/8"], &[], "::ffff:10.0.0.1"));
        assert!(!admits(&[], &["10.0.0.0/8"], "::ffff:10.0.0.1"));
        assert!(admits(&[], &["::/0"], "::ffff:10.0.0.1"), "no IPv6 network contains it");
    }
}

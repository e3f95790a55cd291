//! The header of the PROXY protocol: who the client is, for a server that sees only us. Pure.
//!
//! Versions 1 and 2 of the protocol as HAProxy describes it; we only ever write it.

use std::net::SocketAddr;

use proxy_header::{ProxiedAddress, ProxyHeader};

use crate::config::SendProxy;

/// Room for every header: the protocol allows 107 bytes in version 1, version 2 without
/// extensions has 52.
const BYTES_MAX: usize = 107;

/// A header as it goes out.
#[derive(Debug)]
pub struct Header {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl Header {
    /// For a connection of `client`, who connected to our `address`; `None` where nothing is sent.
    pub fn of_client(
        version: SendProxy,
        client: SocketAddr,
        address: SocketAddr,
    ) -> Option<Header> {
        // Two ends of one connection are of one family; if they ever were not, a server that is
        // told nothing is better off than one that is told half.
        let header = match client.is_ipv4() == address.is_ipv4() {
            true => ProxyHeader::with_address(ProxiedAddress::stream(client, address)),
            false => ProxyHeader::with_local(),
        };
        Header::new(version, &header)
    }

    /// For a connection of our own, on which nobody is behind us.
    pub fn of_ourselves(version: SendProxy) -> Option<Header> {
        Header::new(version, &ProxyHeader::with_local())
    }

    fn new(version: SendProxy, header: &ProxyHeader<'_>) -> Option<Header> {
        let mut bytes = [0; BYTES_MAX];
        let length = match version {
            SendProxy::Off => return None,
            SendProxy::V1 => header.encode_to_slice_v1(&mut bytes),
            SendProxy::V2 => header.encode_to_slice_v2(&mut bytes),
        };
        let length = length.expect("addresses of one family, without extensions, have room");
        Some(Header { bytes, length })
    }

    /// What goes out.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_client(version: SendProxy, client: &str, address: &str) -> Vec<u8> {
        let (client, address) = (client.parse().unwrap(), address.parse().unwrap());
        Header::of_client(version, client, address).unwrap().bytes().to_vec()
    }

    #[test]
    fn version_1_is_a_line() {
        let line = of_client(SendProxy::V1, "192.0.2.1:51000", "198.51.100.7:443");
        assert_eq!(line, b"PROXY TCP4 192.0.2.1 198.51.100.7 51000 443\r\n");
        let line = of_client(SendProxy::V1, "[2001:db8::1]:51000", "[::1]:443");
        assert_eq!(line, b"PROXY TCP6 2001:db8::1 ::1 51000 443\r\n");
    }

    #[test]
    fn version_2_is_binary() {
        let v4 = of_client(SendProxy::V2, "192.0.2.1:256", "198.51.100.7:443");
        let signature = b"\r\n\r\n\0\r\nQUIT\n";
        let rest = [0x21, 0x11, 0, 12, 192, 0, 2, 1, 198, 51, 100, 7, 1, 0, 1, 187];
        assert_eq!(v4, [&signature[..], &rest].concat());
        let v6 = of_client(SendProxy::V2, "[2001:db8::1]:256", "[::1]:443");
        assert_eq!((v6.len(), &v6[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        assert_eq!(v6[16..20], [0x20, 0x01, 0x0d, 0xb8]);
    }

    #[test]
    fn the_longest_addresses_have_room() {
        let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
        for version in [SendProxy::V1, SendProxy::V2] {
            assert!(of_client(version, longest, longest).len() <= BYTES_MAX);
        }
    }

    #[test]
    fn ourselves_and_mixed_families_name_nobody() {
        let v1 = b"PROXY UNKNOWN\r\n";
        let v2 = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
        assert_eq!(Header::of_ourselves(SendProxy::V1).unwrap().bytes(), v1);
        assert_eq!(Header::of_ourselves(SendProxy::V2).unwrap().bytes(), v2);
        assert!(Header::of_ourselves(SendProxy::Off).is_none());
        assert_eq!(of_client(SendProxy::V1, "192.0.2.1:1", "[::1]:443"), v1);
        assert_eq!(of_client(SendProxy::V2, "192.0.2.1:1", "[::1]:443"), v2);
    }
}

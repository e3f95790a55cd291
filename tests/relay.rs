//! Bytes through the real binary: exact in any rhythm, in any order of ends, on both drivers.

mod kit;

#[path = "relay/cut.rs"]
mod cut;
#[path = "relay/ends.rs"]
mod ends;
#[path = "relay/exact.rs"]
mod exact;
#[path = "relay/fair.rs"]
mod fair;
#[path = "relay/finished.rs"]
mod finished;
#[path = "relay/flush.rs"]
mod flush;
#[path = "relay/slow.rs"]
mod slow;
#[path = "relay/urgent.rs"]
mod urgent;

use std::net::TcpStream;

use kit::{Config, Hand, Proxy};

/// A proxy before a backend that the test holds in its hand.
fn proxy_and_hand(driver: &'static str, listener_line: &str) -> (Proxy, Hand) {
    let hand = Hand::new();
    (Config::new(driver).listener(listener_line).backend(hand.address()).start(), hand)
}

/// Both ends of one relayed connection.
fn pair(proxy: &Proxy, hand: &Hand) -> (TcpStream, TcpStream) {
    let client = proxy.connect();
    (client, hand.take())
}

//! The life of the process: start, limits, timeouts, drain, end.

mod kit;

#[path = "life/admin.rs"]
mod admin;
#[path = "life/drain.rs"]
mod drain;
#[path = "life/limits.rs"]
mod limits;
#[path = "life/operator.rs"]
mod operator;
#[path = "life/start.rs"]
mod start;
#[path = "life/timeouts.rs"]
mod timeouts;

use std::net::{SocketAddr, TcpStream};

use kit::{Hand, Proxy, peer};

/// Both ends of a relayed connection that has carried something.
fn settled_pair(proxy: &Proxy, hand: &Hand) -> (TcpStream, TcpStream) {
    let mut client = proxy.connect();
    let mut server = hand.take();
    peer::pass(&mut client, &mut server, b"hello");
    peer::pass(&mut server, &mut client, b"world");
    (client, server)
}

/// Whether nobody takes connections there. A connection that is taken all the same is reset, so
/// that it does not stay.
fn refuses(address: SocketAddr) -> bool {
    match TcpStream::connect(address) {
        Ok(stream) => {
            peer::reset(stream);
            false
        }
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
    }
}

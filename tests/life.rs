//! The life of the process: start, limits, timeouts, drain, end.

mod kit;

#[path = "life/access.rs"]
mod access;
#[path = "life/access_log.rs"]
mod access_log;
#[path = "life/admin.rs"]
mod admin;
#[path = "life/admin_bounds.rs"]
mod admin_bounds;
#[path = "life/admin_hostile.rs"]
mod admin_hostile;
#[path = "life/drain.rs"]
mod drain;
#[path = "life/edges.rs"]
mod edges;
#[path = "life/events.rs"]
mod events;
#[path = "life/history.rs"]
mod history;
#[path = "life/hostile.rs"]
mod hostile;
#[path = "life/limits.rs"]
mod limits;
#[path = "life/operator.rs"]
mod operator;
#[path = "life/page.rs"]
mod page;
#[path = "life/panics.rs"]
mod panics;
#[path = "life/ready.rs"]
mod ready;
#[path = "life/spread.rs"]
mod spread;
#[path = "life/start.rs"]
mod start;
#[path = "life/timeouts.rs"]
mod timeouts;
#[path = "life/top.rs"]
mod top;

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
};

use kit::{End, Hand, Proxy, peer};

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

/// True when the echo came back and the end after it. A client whose handshake the kernel finished
/// between the last accept and the close of the listener is reset before anything is read.
fn served_or_never_accepted(stream: &mut TcpStream) -> bool {
    if stream.write_all(b"x").is_err() || !peer::answers(stream) {
        return false;
    }
    peer::finish(stream);
    assert_eq!(peer::end_of(stream), End::Fin);
    true
}

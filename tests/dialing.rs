//! Which backend gets a connection, and what happens when it does not answer.

mod kit;

#[path = "dialing/asked.rs"]
mod asked;
#[path = "dialing/balance.rs"]
mod balance;
#[path = "dialing/capacity.rs"]
mod capacity;
#[path = "dialing/dying.rs"]
mod dying;
#[path = "dialing/failover.rs"]
mod failover;
#[path = "dialing/failures.rs"]
mod failures;
#[path = "dialing/health.rs"]
mod health;
#[path = "dialing/http_checks.rs"]
mod http_checks;
#[path = "dialing/opinions.rs"]
mod opinions;
#[path = "dialing/outlier.rs"]
mod outlier;
#[path = "dialing/own_host.rs"]
mod own_host;
#[path = "dialing/panic.rs"]
mod panic;
#[path = "dialing/tcp_checks.rs"]
mod tcp_checks;

use std::{io::Read, net::TcpStream};

use kit::Proxy;

/// Connects to backends that say their names; the name of the one that answered.
fn who_answers(proxy: &Proxy) -> (char, TcpStream) {
    let mut client = proxy.connect();
    let mut name = [0];
    client.read_exact(&mut name).unwrap();
    (char::from(name[0]), client)
}

/// The same, and hangs up.
fn ask_who(proxy: &Proxy) -> char {
    who_answers(proxy).0
}

//! What a dial meets on a host of its own kind: itself, or no way at all.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use crate::kit::{
    Config, End, Server, drivers, each_driver, let_pass, netns::on_a_host_of_its_own, peer,
};

/// The ports that dials may come from: the backend's is one of them, and the proxies' are not.
const FEW_PORTS: &str = "echo 40000 40063 > /proc/sys/net/ipv4/ip_local_port_range";

/// Clients, and so dials: each of the ports is somebody's turn more than once.
const CLIENTS: u64 = 200;

/// 1. Nobody listens on the backend's port, and the kernel gives dials that very port as their own.
///    2. No client gets its own bytes back: each is reset, the dials count as refused. 3. Its check
///    is refused as often, and the backend never counts as healthy again.
#[test]
fn a_dial_that_met_itself_is_refused() {
    on_a_host_of_its_own(FEW_PORTS, || {
        for (driver, port) in drivers().into_iter().zip([30_001, 30_002]) {
            let dead: SocketAddr = "127.0.0.1:40000".parse().unwrap();
            let proxy = Config::new(driver)
                .listen(&[&format!("127.0.0.1:{port}")])
                .admin("listen = \"127.0.0.1:30000\"")
                .backend(dead)
                .start();
            for number in 1..=CLIENTS {
                // The reset may be there before the call that connects is over.
                let Ok(client) = TcpStream::connect(proxy.edge[0]) else { continue };
                let mut client = peer::with_deadlines(client);
                let _ = client.write_all(b"mirror");
                let mut back = Vec::new();
                let _ = client.read_to_end(&mut back);
                assert_eq!(back, b"", "client {number} got its own bytes back");
            }
            let stats = proxy.wait_ended_only("connect_refused", CLIENTS);
            assert_eq!(stats.failures(0, "refused"), CLIENTS);
            assert_eq!(stats.backend(0, "connections_total"), 0);
        }
    });
}

/// 1. Nobody listens on the backend's port, and its checks are given that very port now and then: a
///    thousand of them in a second. 2. None counts as a good one: nobody is told that it is well.
#[test]
fn a_check_that_met_itself_is_refused() {
    on_a_host_of_its_own(FEW_PORTS, || {
        let config = Config::new("epoll")
            .listen(&["127.0.0.1:30001"])
            .admin("listen = \"127.0.0.1:30000\"")
            .health("interval = \"1ms\"\nhealthy_after = 1\nunhealthy_after = 1");
        let proxy = config.backend("127.0.0.1:40000".parse().unwrap()).start();
        proxy.wait_stats("a failed check", |s| s.state(0) == "unhealthy");
        // Requests would take the few ports: one afterwards tells of all that time.
        let_pass(Duration::from_secs(1));
        let events = proxy.get("/stats/events").json();
        let changes = events["events"].as_array().unwrap().iter();
        let well = changes.filter(|event| event["to"] == "healthy").count();
        assert_eq!(well, 0, "{events:#}");
    });
}

/// 1. The host has no IPv6. One of two backends is an IPv6 address. 2. It is out after its check,
///    for a reason that names it, and all clients are served by the other one. 3. Alone it makes
///    the process not ready, and its clients are told that it cannot be reached, not that this host
///    is short of something.
#[test]
fn an_address_of_a_family_that_this_host_lacks_is_unreachable() {
    let without = "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6";
    on_a_host_of_its_own(without, || {
        each_driver(|driver| {
            let there = Server::named(b'a');
            let nowhere: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
            let checked = "kind = \"tcp\"\ninterval = \"50ms\"\nunhealthy_after = 1";
            let both = Config::new(driver).health(checked).backend(there.address).backend(nowhere);
            let proxy = both.start();
            proxy.wait_stats("a failed check", |s| s.state(1) == "unhealthy");
            (0..20).for_each(|_| peer::expect(&mut proxy.connect(), b"a"));
            let alone = Config::new(driver).health(checked).backend(nowhere).start();
            alone.wait_stats("a failed check", |s| s.state(0) == "unhealthy");
            assert_eq!(alone.get("/ready").status, 503);
            let unchecked = Config::new(driver).backend(nowhere).start();
            assert_eq!(unchecked.turns_away(), End::Reset);
            let stats = unchecked.wait_ended_only("connect_unreachable", 1);
            assert_eq!((stats.failures(0, "unreachable"), stats.failures(0, "local")), (1, 0));
        });
    });
}

/// 1. All ports that a dial may come from are taken. 2. That is our own shortage: the client is
///    told so, and no check says that the backend is ill.
#[test]
fn want_of_local_ports_is_no_fault_of_the_backend() {
    let few = "echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range";
    on_a_host_of_its_own(few, || {
        for (driver, port) in drivers().into_iter().zip([30_001, 30_002]) {
            let server = Server::echo_at(SocketAddr::from(([127, 0, 0, 1], port + 100)));
            let proxy = Config::new(driver)
                .listen(&[&format!("127.0.0.1:{port}")])
                .admin("listen = \"127.0.0.1:30000\"")
                .backend(server.address)
                .start();
            // Each of them takes one of the four ports towards the server.
            let mut held: Vec<_> = (0..4).map(|_| from_127_2(proxy.edge[0])).collect();
            held.iter_mut().for_each(|client| peer::echo(client, b"held"));
            assert_eq!(peer::end_of(&mut from_127_2(proxy.edge[0])), End::Reset);
            let stats = proxy.wait_ended_only("connect_local", 1);
            assert_eq!((stats.failures(0, "local"), stats.failures(0, "unreachable")), (1, 0));
        }
    });
}

/// 1. A listener and a backend have link-local addresses with the number of their interface. 2.
///    They are bound, dialed, checked and shown as such.
#[test]
fn link_local_addresses_have_the_number_of_their_interface() {
    let link = "ip link add d0 index 77 type veth peer name d1\nip link set d0 up\n\
                ip link set d1 up\nip -6 addr add fe80::77/64 dev d0 nodad";
    on_a_host_of_its_own(link, || {
        each_driver(|driver| {
            let server = Server::echo_at("[fe80::77%77]:0".parse().unwrap());
            let config = Config::new(driver).listen(&["[fe80::77%77]:0"]);
            let config = config.health("kind = \"tcp\"\ninterval = \"50ms\"");
            let proxy = config.backend(server.address).start();
            (0..10).for_each(|_| peer::echo(&mut proxy.connect(), b"over the link"));
            let stats = proxy.stats();
            let address = stats.0["listeners"][0]["addresses"][0].as_str().unwrap();
            assert!(address.starts_with("[fe80::77%77]:"), "{address}");
            assert_eq!(stats.state(0), "healthy");
        });
    });
}

/// A client that takes no port of the proxy's dials.
fn from_127_2(to: SocketAddr) -> TcpStream {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let from = SocketAddr::from(([127, 0, 0, 2], PORT.fetch_add(1, Ordering::Relaxed)));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    peer::with_deadlines(socket.into())
}

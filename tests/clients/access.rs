//! Networks that may come in, and networks that may not.

use std::net::{IpAddr, Ipv4Addr};

use crate::kit::{Config, End, Hand, Proxy, Server, each_driver, peer};

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const THREE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 3));

/// One backend that echoes, and these lines for the listener on `127.0.0.1`.
fn start(driver: &'static str, server: &Server, lines: &str) -> Proxy {
    Config::new(driver).listener(lines).backend(server.address).start()
}

/// A client at `from` is served.
fn served(proxy: &Proxy, from: IpAddr) {
    peer::echo(&mut peer::connect_from(from, proxy.edge[0]), b"welcome");
}

/// A client at `from` is reset.
fn denied(proxy: &Proxy, from: IpAddr) {
    peer::kept_out(from, proxy.edge[0]);
}

/// 1. Only 127.0.0.1 may come in. 2. It is served; 127.0.0.2 is reset, twice. 3. The two are
///    counted as refused and ended, with a word of their own. 4. The backend never heard of them.
#[test]
fn an_allow_list_admits_only_what_it_contains() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = start(driver, &server, "allow = [\"127.0.0.1\", \"10.0.0.0/8\"]");
        served(&proxy, ONE);
        denied(&proxy, TWO);
        denied(&proxy, TWO);
        let stats = proxy.wait_stats("three have ended", |s| s.ended_in_all() == 3);
        assert_eq!((stats.ended("denied"), stats.ended("client_fin")), (2, 1));
        assert_eq!((stats.refused("denied"), stats.ended("overload")), (2, 0));
        assert_eq!(stats.listener("accepted_total"), 3);
        assert_eq!(stats.backend(0, "connections_total"), 1);
        assert_eq!(server.accepted(), 1);
        let metrics = proxy.get("/metrics").body;
        let line = "ringway_listener_refused_total{listener=\"edge\",reason=\"denied\"} 2";
        assert!(metrics.lines().any(|l| l.starts_with(line)), "{metrics}");
    });
}

/// 1. 127.0.0.0/8 may come in, 127.0.0.0/24 may not. 2. Who is in both is reset; who is in the
///    first alone is served.
#[test]
fn deny_wins_over_allow() {
    each_driver(|driver| {
        let server = Server::echo();
        let lines = "allow = [\"127.0.0.0/8\"]\ndeny = [\"127.0.0.0/24\"]";
        let proxy = start(driver, &server, lines);
        denied(&proxy, ONE);
        denied(&proxy, TWO);
        served(&proxy, THREE);
        let stats = proxy.wait_stats("three have ended", |s| s.ended_in_all() == 3);
        assert_eq!((stats.ended("denied"), stats.ended("client_fin")), (2, 1));
    });
}

/// 1. One listener, on IPv4 and on IPv6. 2. An IPv6 network lets nobody of IPv4 in or out, and the
///    other way round.
#[test]
fn networks_of_one_family_say_nothing_of_the_other() {
    each_driver(|driver| {
        for (lines, v4_comes_in, v6_comes_in) in [
            ("allow = [\"::1\"]", false, true),
            ("allow = [\"0.0.0.0/0\"]", true, false),
            ("deny = [\"::/0\"]", true, false),
            ("deny = [\"127.0.0.0/8\"]", false, true),
            ("allow = [\"::/0\"]\ndeny = [\"::1\"]", false, false),
        ] {
            let server = Server::echo();
            let listen = ["127.0.0.1:0", "[::1]:0"];
            let config = Config::new(driver).listen(&listen).listener(lines);
            let proxy = config.backend(server.address).start();
            for (address, comes_in) in proxy.edge.iter().zip([v4_comes_in, v6_comes_in]) {
                let mut client = peer::connect(*address);
                match comes_in {
                    true => peer::echo(&mut client, b"welcome"),
                    false => assert_eq!(peer::end_of(&mut client), End::Reset, "{lines} {address}"),
                }
            }
        }
    });
}

/// 1. The one place of the listener is taken. 2. A client that is not wanted is denied, not one too
///    many. 3. One that is wanted is one too many.
#[test]
fn a_client_that_is_not_wanted_needs_no_place() {
    each_driver(|driver| {
        let hand = Hand::new();
        let config = Config::new(driver).listener("max_connections = 1\nallow = [\"127.0.0.1\"]");
        let proxy = config.backend(hand.address()).start();
        let (mut client, mut server) = (proxy.connect(), hand.take());
        denied(&proxy, TWO);
        denied(&proxy, ONE);
        let stats = proxy.wait_stats("two have ended", |s| s.ended_in_all() == 2);
        assert_eq!((stats.refused("denied"), stats.refused("listener_max_connections")), (1, 1));
        assert_eq!((stats.ended("denied"), stats.ended("overload")), (1, 1));
        peer::pass(&mut client, &mut server, b"unharmed");
    });
}

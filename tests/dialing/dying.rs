//! Servers that die while they are in use, and links that are cut: one refuses from now on, the
//! other says nothing any more.
//!
//! `cargo test --test dialing dying -- --nocapture` prints what clients met before the checks knew,
//! and how long they waited for a server's first byte from then on.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    asked::Asked,
    kit::{Config, Proxy, Server, drivers, let_pass, netns::on_a_host_of_its_own, peer},
};

/// Addresses of `lo` that answer; once deleted they are behind a cable whose far end takes
/// nothing.
fn with_addresses(hosts: impl Iterator<Item = u8>) -> String {
    let mut lines = String::from(
        "ip link add d0 type veth peer name d1\nip link set d0 up\nip link set d1 up\n\
         ip addr add 10.9.0.1/24 dev d0\n",
    );
    for host in hosts {
        lines += &format!(
            "ip addr add 10.9.0.{host}/32 dev lo\n\
             ip neigh add 10.9.0.{host} lladdr 02:00:00:00:00:{host:02x} dev d0 nud permanent\n"
        );
    }
    lines
}

fn address(host: u8) -> IpAddr {
    [10, 9, 0, host].into()
}

/// From now on nothing that is sent there arrives, and nothing comes from there.
fn cut_link(to: IpAddr) {
    let deleted =
        Command::new("ip").args(["addr", "del", &format!("{to}/32"), "dev", "lo"]).status();
    assert!(deleted.unwrap().success());
}

/// How a server dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Its process ends: its host refuses.
    Refusing,
    /// Its link is cut.
    Silent,
}

const CHECKS: &str = "interval = \"100ms\"\ntimeout = \"300ms\"\nunhealthy_after = 3";

/// 1. All servers are well; then all but a few die at once. 2. Until the checks know, some clients
///    may fail: they are counted. 3. From then on nobody fails.
#[test]
fn when_most_servers_die_nobody_fails_once_the_checks_know() {
    for driver in drivers() {
        for (alive, all) in [(5, 20), (1, 20), (4, 5)] {
            for death in [Death::Refusing, Death::Silent] {
                let hosts = 10..10 + all;
                on_a_host_of_its_own(&with_addresses(hosts.clone()), || {
                    let mut servers: Vec<Server> = hosts
                        .map(|host| Server::named_at(SocketAddr::new(address(host), 0), b'l'))
                        .collect();
                    let config = Config::new(driver).shards(2).health(CHECKS);
                    let config = config.pool("connect_timeout = \"500ms\"");
                    let proxy = servers
                        .iter()
                        .fold(config, |config, server| config.backend(server.address))
                        .start();
                    let dying = servers.split_off(alive);
                    let before = ask_while_they_die(&proxy, dying, death);
                    let after = Asked::of(&proxy, 300);
                    eprintln!(
                        "{driver}, {alive} of {all} live, {death:?}: until the checks knew \
                        {before}; then {after}"
                    );
                    assert_eq!(after.failed, 0, "{alive} of {all}, {death:?}");
                });
            }
        }
    }
}

/// What clients meet from the moment of death until the checks know of it.
fn ask_while_they_die(proxy: &Proxy, dying: Vec<Server>, death: Death) -> Asked {
    let (count, known) = (dying.len(), AtomicBool::new(false));
    thread::scope(|scope| {
        let asking = scope.spawn(|| Asked::until(proxy, || known.load(Relaxed)));
        let places: Vec<IpAddr> = dying.iter().map(|server| server.address.ip()).collect();
        match death {
            Death::Refusing => drop(dying),
            Death::Silent => {
                places.into_iter().for_each(cut_link);
                // Their ports stay taken: who listens there hears nothing.
                std::mem::forget(dying);
            }
        }
        let is_out = |state: &str| state == "unhealthy";
        proxy.wait_stats("the checks know", |s| {
            let all = s.0["pools"][0]["backends"].as_array().unwrap();
            all.iter().filter(|b| is_out(b["state"].as_str().unwrap())).count() == count
        });
        known.store(true, Relaxed);
        asking.join().unwrap()
    })
}

/// The last one of a minute and a bit.
const PROBED: Duration = Duration::from_secs(63);

/// 1. Clients are idle; their links are cut. 2. Keepalive finds it: they are ended, once all six
///    probes were left without an answer, and those of clients who are there go on.
#[test]
fn clients_behind_a_cut_link_are_ended_by_keepalive() {
    thread::scope(|scope| {
        for driver in drivers() {
            scope.spawn(move || {
                on_a_host_of_its_own(&with_addresses(2..3), || {
                    // It waits for its clients for longer than the servers of other stories.
                    let server = Server::new(|mut stream| {
                        stream.set_read_timeout(None).unwrap();
                        let mut byte = [0];
                        while stream.read_exact(&mut byte).is_ok() {
                            let _ = stream.write_all(&byte);
                        }
                    });
                    let proxy = Config::new(driver)
                        .listen(&["10.9.0.1:0"])
                        .listener("keepalive = \"1s\"")
                        .backend(server.address)
                        .start();
                    let mut cut: Vec<_> =
                        (0..10).map(|_| peer::connect_from(address(2), proxy.edge[0])).collect();
                    let mut well = proxy.connect();
                    cut.iter_mut().for_each(|client| peer::echo(client, b"here"));
                    peer::echo(&mut well, b"here");
                    let since = Instant::now();
                    cut_link(address(2));
                    let_pass(PROBED - Duration::from_secs(10));
                    proxy.wait_ended_only("client_reset", 10);
                    eprintln!("{driver}: ten clients gone {:?} after the cut", since.elapsed());
                    peer::echo(&mut well, b"still here");
                });
            });
        }
    });
}

//! A name server of others: dnsmasq says who the backends are.

use std::{fs, path::Path};

use rustix::process::Signal;

use crate::{
    kit::{Config, Folder, Proxy, Server, Stats, Steady, each_driver},
    programs::Outside,
};

/// From now on dnsmasq has these lines: addresses and names.
fn say(files: &Path, lines: &str) {
    fs::write(files.join("hosts"), lines).unwrap();
}

/// Addresses, without their port, of those who may be picked.
fn healthy(stats: &Stats) -> Vec<String> {
    let backends = stats.0["pools"][0]["backends"].as_array().unwrap();
    let well = backends.iter().filter(|backend| backend["state"] == "healthy");
    well.map(|b| b["address"].as_str().unwrap().split(':').next().unwrap().to_owned()).collect()
}

/// Whether these may be picked, and the lookups are well.
fn well(stats: &Stats, addresses: &[&str]) -> bool {
    stats.0["pools"][0]["names"][0]["state"] == "ok" && healthy(stats) == addresses
}

/// Waits until the lookups fail for this reason; then the next 50 clients are served all the same.
fn stays(proxy: &Proxy, clients: &Steady, error: &str) {
    let name = |s: &Stats| s.0["pools"][0]["names"][0].clone();
    let stats = proxy.wait_stats(error, |s| {
        name(s)["state"] == "failing" && name(s)["error"].as_str().unwrap().starts_with(error)
    });
    assert_eq!(healthy(&stats), ["127.0.0.2"]);
    clients.more(50);
}

/// 1. A name has one address, and clients connect all the time. 2. A second address comes, and then
///    the first one goes: the pool follows, each time. 3. The name is gone, the name server stands
///    still, it is killed: the pool stays as it was, and after the first two the name is looked up
///    again. 4. In all that time every client was served.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_pool_follows_dnsmasq_and_outlives_it() {
    each_driver(|driver| {
        let (port, servers) = Server::neighbours(b"ab");
        let files = Folder::new();
        let (one, two) = ("127.0.0.1 db.internal\n", "127.0.0.2 db.internal\n");
        say(files.path(), one);
        let dnsmasq = Outside::dnsmasq(files.path(), &[]);
        let now = |lines: &str| {
            say(files.path(), lines);
            dnsmasq.signal(Signal::HUP);
        };
        let proxy = Config::new(driver)
            .shards(2)
            .name_server(dnsmasq.address)
            .backend_at(&format!("db.internal:{port}"), "")
            .start();
        let clients = Steady::start(proxy.edge[0]);
        assert!(well(&proxy.stats(), &["127.0.0.1"]));
        clients.more(50);

        now(&[one, two].concat());
        let stats = proxy.wait_stats("both", |s| healthy(s).len() == 2);
        assert!(well(&stats, &["127.0.0.1", "127.0.0.2"]));
        clients.more(50);
        assert!(servers[1].accepted() > 0);
        now(two);
        proxy.wait_stats("the first is gone", |s| {
            s.0["pools"][0]["names"][0]["backends"] == 1 && well(s, &["127.0.0.2"])
        });
        clients.more(50);

        let again = |s: &Stats| s.0["pools"][0]["names"][0]["state"] == "ok";
        now("");
        stays(&proxy, &clients, "no such name");
        now(two);
        proxy.wait_stats("the name is back", again);
        dnsmasq.signal(Signal::STOP);
        stays(&proxy, &clients, "no server answered in time");
        dnsmasq.signal(Signal::CONT);
        proxy.wait_stats("it goes on", again);
        dnsmasq.signal(Signal::KILL);
        stays(&proxy, &clients, "no server answered in time");

        assert_eq!(clients.stop(), [""; 0]);
        let accepted = proxy.stats().listener("accepted_total");
        proxy.wait_ended_only("client_fin", accepted);
    });
}

/// 1. dnsmasq has an address in a domain that is not its own: it answers A, and refuses AAAA. 2.
///    The lookups are well. 3. There is another address: the pool follows, and they still are.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_refused_family_of_dnsmasq_is_no_failure() {
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"ab");
        let files = Folder::new();
        say(files.path(), "127.0.0.1 db.elsewhere\n");
        let dnsmasq = Outside::dnsmasq(files.path(), &[]);
        let proxy = Config::new(driver)
            .name_server(dnsmasq.address)
            .backend_at(&format!("db.elsewhere:{port}"), "")
            .start();
        let stats = proxy.stats();
        assert!(well(&stats, &["127.0.0.1"]), "{}", stats.0["pools"][0]["names"]);
        say(files.path(), "127.0.0.2 db.elsewhere\n");
        dnsmasq.signal(Signal::HUP);
        let stats = proxy.wait_stats("another one", |s| healthy(s) == ["127.0.0.2"]);
        assert!(well(&stats, &["127.0.0.2"]), "{}", stats.0["pools"][0]["names"]);
    });
}

/// 1. dnsmasq has a service of two hosts, of priority 0 and 1. 2. Backends have port, weight and
///    priority from the records, and the first one serves. 3. The first host has another address:
///    the pool follows.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_service_of_dnsmasq_gives_port_weight_and_priority() {
    each_driver(|driver| {
        let (port, servers) = Server::neighbours(b"abc");
        let files = Folder::new();
        say(files.path(), "127.0.0.1 one.internal\n127.0.0.2 two.internal\n");
        let host = |name: &str, priority: u8, weight: u8| {
            format!("--srv-host=_db._tcp.internal,{name}.internal,{port},{priority},{weight}")
        };
        let dnsmasq = Outside::dnsmasq(files.path(), &[host("one", 0, 5), host("two", 1, 0)]);
        let proxy = Config::new(driver)
            .name_server(dnsmasq.address)
            .backend_at("srv:_db._tcp.internal", "")
            .start();
        let stats = proxy.stats();
        assert!(well(&stats, &["127.0.0.1", "127.0.0.2"]));
        let share = |b| (stats.backend(b, "weight"), stats.backend(b, "priority"));
        assert_eq!([0, 1].map(share), [(5, 0), (1, 1)]);
        let clients = Steady::start(proxy.edge[0]);
        clients.more(50);
        assert_eq!(servers[1].accepted(), 0);

        say(files.path(), "127.0.0.3 one.internal\n127.0.0.2 two.internal\n");
        dnsmasq.signal(Signal::HUP);
        proxy.wait_stats("another one", |s| healthy(s) == ["127.0.0.2", "127.0.0.3"]);
        clients.more(50);
        assert!(servers[2].accepted() > 0);
        assert_eq!((servers[1].accepted(), clients.stop()), (0, Vec::new()));
    });
}

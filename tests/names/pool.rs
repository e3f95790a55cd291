//! A pool whose backends have names: they come, stay and go with the records.

use std::{io::Read, net::TcpStream};

use crate::{
    kit::{
        Config, FreePort, Proxy, Seed, Server, Stats, Steady, each_driver, http, peer,
        proxy::run_to_end_while, wait_until,
    },
    server::{A, Data, NameServer, Question, Reply, SRV},
};

/// Every name has these addresses, for a second.
fn hosts(last: &[u8]) -> impl FnMut(&Question) -> Reply + Send + use<> {
    let record = |last: &u8| (1, Data::V4([127, 0, 0, *last].into()));
    let records: Vec<_> = last.iter().map(record).collect();
    move |question| match question.kind {
        A => Reply::Records(records.clone()),
        _ => Reply::Records(Vec::new()),
    }
}

fn who(proxy: &Proxy) -> (char, TcpStream) {
    let mut client = proxy.connect();
    let mut name = [0];
    client.read_exact(&mut name).unwrap();
    (char::from(name[0]), client)
}

fn order(proxy: &Proxy, picks: usize) -> String {
    (0..picks).map(|_| who(proxy).0).collect()
}

/// Addresses and states of the pool.
fn states(stats: &Stats) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let backends = stats.0["pools"][0]["backends"].as_array().unwrap();
    backends.iter().map(|b| (text(&b["address"]), text(&b["state"]))).collect()
}

fn name<'s>(stats: &'s Stats, key: &str) -> &'s str {
    stats.0["pools"][0]["names"][0][key].as_str().unwrap()
}

/// 1. A name has one address; a client stays there. 2. A second address comes: both serve, and the
///    first has kept its counters. 3. The first goes: it takes nobody new, its client is still
///    served. 4. The client leaves, and it is gone. 5. It comes back as a new one, from zero.
#[test]
fn backends_come_stay_and_go_with_the_records() {
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"ab");
        let dns = NameServer::new(hosts(&[1]));
        let proxy = Config::new(driver)
            .name_server(dns.address)
            .pool("balance = \"round_robin\"")
            .backend_at(&format!("db.internal:{port}"), "")
            .start();
        let (a, b) = (format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}"));
        let healthy = |address: &String| (address.clone(), "healthy".to_owned());
        assert_eq!(states(&proxy.stats()), [healthy(&a)], "looked up before the first client");
        let (first, mut held) = who(&proxy);
        assert_eq!((first, order(&proxy, 3)), ('a', "aaa".into()));

        dns.now(hosts(&[1, 2]));
        let stats = proxy.wait_stats("both", |s| states(s) == [healthy(&a), healthy(&b)]);
        assert_eq!(stats.backend(0, "connections_total"), 4);
        assert_eq!(stats.0["pools"][0]["backends"][1]["name"], format!("a-{b}"));
        let both = order(&proxy, 4);
        assert!(both == "abab" || both == "baba", "{both}");

        dns.now(hosts(&[2]));
        let draining = (a.clone(), "draining".to_owned());
        let stats =
            proxy.wait_stats("a is going", |s| states(s) == [draining.clone(), healthy(&b)]);
        let reason = stats.0["pools"][0]["backends"][0]["reason"].as_str().unwrap();
        assert_eq!(reason, format!("no longer behind db.internal:{port}"));
        assert_eq!(order(&proxy, 4), "bbbb");
        peer::finish(&held);
        assert_eq!(peer::end_of(&mut held), crate::kit::End::Fin);
        proxy.wait_stats("a is gone", |s| states(s) == [healthy(&b)]);

        dns.now(hosts(&[1, 2]));
        let stats = proxy.wait_stats("a is back", |s| states(s) == [healthy(&a), healthy(&b)]);
        assert_eq!(stats.backend(0, "connections_total"), 0, "somebody new");
        assert_eq!(stats.backend_phase(0, "connect")["count"], 0);
    });
}

/// 1. A name has an address. 2. The server fails in every way there is: that is said, and the
///    address keeps serving. 3. It answers again, and that is said too.
#[test]
fn a_name_server_that_fails_changes_nothing() {
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"a");
        let dns = NameServer::new(hosts(&[1]));
        let proxy = Config::new(driver)
            .name_server(dns.address)
            .backend_at(&format!("db.internal:{port}"), "")
            .start();
        assert_eq!(name(&proxy.stats(), "state"), "ok");
        for (reply, error) in [
            (Reply::Code(2), "the server cannot tell (Server Failure)"),
            (Reply::Code(3), "no such name"),
            (Reply::Records(Vec::new()), "the name has no address"),
            (Reply::Code(5), "the server refuses to answer"),
        ] {
            dns.now(move |_| reply.clone());
            let failing = |s: &Stats| name(s, "state") == "failing" && name(s, "error") == error;
            proxy.wait_stats(error, failing);
            assert_eq!(order(&proxy, 3), "aaa");
        }
        dns.now(hosts(&[1]));
        proxy.wait_stats("it is looked up again", |s| name(s, "state") == "ok");
        wait_until("a word of it", || proxy.stderr().contains("looked up again"));
        let log = proxy.stderr();
        assert_eq!(log.matches("looked up again").count(), 1, "{log}");
        assert!(log.contains("cannot look it up: what was known stays"), "{log}");
        let events = proxy.get("/stats/events").json()["events"].clone();
        let lookups = events.as_array().unwrap().iter().filter(|e| e["kind"] == "name_lookup");
        let reasons: Vec<_> = lookups.map(|event| event["reason"].clone()).collect();
        assert_eq!(reasons[..2], ["the server cannot tell (Server Failure)", "no such name"]);
        assert_eq!((reasons.len(), &reasons[4]), (5, &"".into()), "{reasons:?}");
    });
}

/// 1. Nobody is behind the name when the process starts. 2. It starts all the same, is not ready,
///    and resets clients. 3. An address comes: ready, and served.
#[test]
fn a_name_without_an_address_is_waited_for() {
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"a");
        let dns = NameServer::new(|_: &Question| Reply::Code(3));
        let proxy = Config::new(driver)
            .name_server(dns.address)
            .backend_at(&format!("db.internal:{port}"), "")
            .start();
        assert_eq!(proxy.get("/ready").status, 503);
        assert_eq!(proxy.turns_away(), crate::kit::End::Reset);
        proxy.wait_ended_only("no_backend", 1);
        dns.now(hosts(&[1]));
        proxy.wait_stats("an address", |s| states(s).len() == 1);
        assert_eq!((proxy.get("/ready").status, order(&proxy, 2)), (200, "aa".into()));
    });
}

/// 1. A service has two hosts, of priority 0 and 1, the first with weight 5. 2. The backends have
///    port, weight and priority from the records; the fallback gets nothing.
#[test]
fn a_service_gives_port_weight_and_priority() {
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"ab");
        let dns = NameServer::new(move |question: &Question| {
            let one = |last| Reply::Records(vec![(1, Data::V4([127, 0, 0, last].into()))]);
            match (&*question.name, question.kind) {
                ("_db._tcp.example", SRV) => Reply::Records(vec![
                    (1, Data::Service { priority: 0, weight: 5, port, target: "one.example" }),
                    (1, Data::Service { priority: 1, weight: 0, port, target: "two.example" }),
                ]),
                ("one.example", A) => one(1),
                ("two.example", A) => one(2),
                _ => Reply::Records(Vec::new()),
            }
        });
        let proxy = Config::new(driver)
            .name_server(dns.address)
            .backend_at("srv:_db._tcp.example", "weight = 2\npriority = 3\n")
            .start();
        let stats = proxy.stats();
        let shares: Vec<_> =
            [0, 1].map(|b| (stats.backend(b, "weight"), stats.backend(b, "priority"))).into();
        assert_eq!(shares, [(10, 3), (2, 4)]);
        assert_eq!(order(&proxy, 5), "aaaaa");
    });
}

/// 1. A service has two hosts at one port. 2. One of them is gone, and the other has another
///    address: the pool has that one, and what was known of the host that is gone, which is said.
///    3. The service no longer names that host: it goes, and all is well.
#[test]
fn a_host_that_is_gone_keeps_no_address_of_another() {
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"abc");
        let hosts = move |one: Option<u8>, two: Option<u8>, both: bool| {
            move |question: &Question| {
                let data = |target| Data::Service { priority: 0, weight: 1, port, target };
                let named = ["one.example", "two.example"].map(|target| (1, data(target)));
                let last = match (&*question.name, question.kind) {
                    (_, SRV) => return Reply::Records(named[usize::from(!both)..].to_vec()),
                    ("one.example", A) => one,
                    (_, A) => two,
                    _ => return Reply::Records(Vec::new()),
                };
                let record = |last| vec![(1, Data::V4([127, 0, 0, last].into()))];
                last.map_or(Reply::Code(3), |last| Reply::Records(record(last)))
            }
        };
        let dns = NameServer::new(hosts(Some(1), Some(2), true));
        let proxy = Config::new(driver)
            .name_server(dns.address)
            .backend_at("srv:_db._tcp.example", "")
            .start();
        let healthy = |last| (format!("127.0.0.{last}:{port}"), "healthy".to_owned());
        assert_eq!(states(&proxy.stats()), [1, 2].map(healthy));
        dns.now(hosts(None, Some(3), true));
        let stats = proxy.wait_stats("another one", |s| states(s) == [1, 3].map(healthy));
        assert_eq!((name(&stats, "state"), name(&stats, "error")), ("failing", "no such name"));
        dns.now(hosts(None, Some(3), false));
        let well = |s: &Stats| states(s) == [healthy(3)] && name(s, "state") == "ok";
        proxy.wait_stats("the host is no longer named", well);
    });
}

/// 1. A name server answers A, and refuses AAAA in every way: that is no failure. 2. It does answer
///    AAAA, and then refuses again: now it is one, and the address stays.
#[test]
fn a_family_that_never_was_is_no_failure() {
    each_driver(|driver| {
        let dns = NameServer::new(hosts(&[1]));
        let only_v4 = |code| {
            let mut v4 = hosts(&[1]);
            dns.now(move |question| match question.kind {
                A => v4(question),
                _ => Reply::Code(code),
            });
        };
        for code in [5, 2, 4] {
            only_v4(code);
            let proxy = Config::new(driver)
                .name_server(dns.address)
                .backend_at("db.internal:9", "")
                .start();
            assert_eq!(name(&proxy.stats(), "state"), "ok", "{code}");
            let asked = dns.asked();
            wait_until("it is asked again", || dns.asked() >= asked + 4);
            assert_eq!(name(&proxy.stats(), "state"), "ok", "{code}");
        }
        let mut v4 = hosts(&[1]);
        dns.now(move |question| match question.kind {
            A => v4(question),
            _ => Reply::Records(vec![(1, Data::V6(std::net::Ipv6Addr::LOCALHOST))]),
        });
        let proxy =
            Config::new(driver).name_server(dns.address).backend_at("db.internal:9", "").start();
        assert_eq!(states(&proxy.stats()).len(), 2);
        only_v4(5);
        proxy.wait_stats("it fails", |s| name(s, "state") == "failing");
        assert_eq!(name(&proxy.stats(), "error"), "the server refuses to answer");
        assert_eq!(states(&proxy.stats()).len(), 2);
    });
}

/// 1. Many names have two addresses each, and clients connect all the time. 2. A thousand answers
///    in a row are broken or random: every lookup fails. 3. The pool is what it was, and every
///    client was served.
#[test]
fn a_thousand_broken_answers_change_no_pool() {
    const NAMES: usize = 80;
    const ANSWERS: u64 = 1_000;
    let seed = Seed::new();
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"ab");
        let dns = NameServer::new(hosts(&[1, 2]));
        let named = |i| format!("[[pool.backend]]\naddress = \"db-{i}.internal:{port}\"\n");
        let backends: String = (0..NAMES).map(named).collect();
        let config = Config::new(driver).name_server(dns.address).text();
        let proxy = Proxy::start(&(config + &backends));
        let before = states(&proxy.stats());
        assert_eq!(before.len(), 2 * NAMES);
        let clients = Steady::start(proxy.edge[0]);
        let mut rng = seed.rng(0);
        dns.now(move |_| Reply::spoiled(&mut rng));
        let asked = dns.asked();
        wait_until("a thousand answers", || dns.asked() >= asked + ANSWERS);
        let failing = |s: &Stats| {
            let names = s.0["pools"][0]["names"].as_array().unwrap();
            names.len() == NAMES && names.iter().all(|name| name["state"] == "failing")
        };
        proxy.wait_stats("all lookups fail", failing);
        clients.more(50);
        assert_eq!(states(&proxy.stats()), before);
        assert_eq!(clients.stop(), [""; 0]);
    });
}

/// 1. The name server is silent, and the pool has nobody else: the process waits, is not ready and
///    says why. 2. SIGTERM: it ends at once and well, and has never said that it serves.
#[test]
fn a_process_that_waits_for_names_can_be_stopped() {
    each_driver(|driver| {
        let (dns, admin) = (NameServer::new(|_: &Question| Reply::Silence), FreePort::new());
        let text = Config::new(driver)
            .name_server(dns.address)
            .admin(&format!("listen = \"{}\"", admin.address))
            .backend_at("db.internal:80", "")
            .text();
        let (code, stdout, stderr) = run_to_end_while(&text, |process| {
            wait_until("it is starting", || {
                TcpStream::connect(admin.address).is_ok()
                    && http::get(admin.address, "/ready").json()["reasons"][0] == "starting"
            });
            rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        });
        assert_eq!((code, &*stdout), (Some(0), ""), "{stderr}");
        assert!(stderr.contains("stopped before it served"), "{stderr}");
    });
}

/// 1. The name server is silent, but the pool has an address too. 2. The process serves at once.
#[test]
fn a_pool_that_has_somebody_waits_for_no_name() {
    each_driver(|driver| {
        let dns = NameServer::new(|_: &Question| Reply::Silence);
        let server = Server::named(b'a');
        let proxy = Config::new(driver)
            .name_server(dns.address)
            .backend(server.address)
            .backend_at("db.internal:80", "")
            .backend_at("db.internal:80", "priority = 1\n")
            .start();
        assert_eq!(name(&proxy.stats(), "state"), "waiting");
        // A scraper refuses a page with a series twice.
        let page = proxy.get("/metrics").body;
        let mut series: Vec<&str> =
            page.lines().filter_map(|line| line.rsplit_once(' ').map(|(s, _)| s)).collect();
        let all = series.len();
        series.sort();
        series.dedup();
        assert_eq!(series.len(), all);
        assert_eq!(order(&proxy, 2), "aa");
    });
}

/// 1. An operator drains one of two addresses and weighs the other. 2. Both leave the name until
///    they are gone, and come back. 3. What the operator said counts again.
#[test]
fn an_operators_word_outlives_an_address_that_leaves_for_a_moment() {
    each_driver(|driver| {
        let (port, _servers) = Server::neighbours(b"abc");
        let dns = NameServer::new(hosts(&[1, 2, 3]));
        let proxy = Config::new(driver)
            .name_server(dns.address)
            .backend_at(&format!("db.internal:{port}"), "")
            .start();
        let backend = |last: u8| format!("a-127.0.0.{last}:{port}");
        assert_eq!(proxy.change(&backend(1), r#"{"state": "drain"}"#).status, 200);
        assert_eq!(proxy.change(&backend(2), r#"{"weight": 7}"#).status, 200);
        dns.now(hosts(&[3]));
        proxy.wait_stats("both are gone", |s| states(s).len() == 1);
        dns.now(hosts(&[1, 2, 3]));
        let stats = proxy.wait_stats("both are back", |s| states(s).len() == 3);
        let backends = stats.0["pools"][0]["backends"].as_array().unwrap();
        let of = |last: u8| backends.iter().find(|b| b["name"] == backend(last)).unwrap();
        assert_eq!((&of(1)["state"], &of(2)["weight"]), (&"draining".into(), &7.into()));
        assert_eq!(of(1)["reason"], "asked for by the operator");
        assert_eq!((&of(3)["state"], &of(3)["weight"]), (&"healthy".into(), &1.into()));
        assert!(!order(&proxy, 9).contains('a'));
        assert_eq!(proxy.change(&backend(1), r#"{"state": "enable"}"#).status, 200);
        assert_eq!(proxy.stats().0["pools"][0]["backends"].as_array().unwrap().len(), 3);
    });
}

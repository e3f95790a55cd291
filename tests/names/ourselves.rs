//! Names that lead back to the process that asked for them.

use std::net::SocketAddr;

use crate::{
    kit::{Config, End, FreePort, Proxy, Server, each_driver, peer, wait_until},
    server::{A, Data, NameServer, Question, Reply},
};

fn loopback(last: &[u8]) -> impl FnMut(&Question) -> Reply + Send + use<> {
    let record = |last: &u8| (1, Data::V4([127, 0, 0, *last].into()));
    let records: Vec<_> = last.iter().map(record).collect();
    move |question| match question.kind {
        A => Reply::Records(records.clone()),
        _ => Reply::Records(Vec::new()),
    }
}

/// 1. A name has two addresses: a server's, and the one on which the listener itself is. 2. The
///    second is left out, said once and counted; every client is served by the first. 3. The same
///    for a name that is the admin endpoint.
#[test]
fn an_answer_that_is_the_listener_or_the_admin_endpoint_is_left_out() {
    each_driver(|driver| {
        let free = FreePort::new();
        let port = free.address.port();
        let server = Server::named_at(SocketAddr::from(([127, 0, 0, 1], port)), b'a');
        let dns = NameServer::new(loopback(&[1, 2]));
        let own = format!("127.0.0.2:{port}");
        let name = format!("web.internal:{port}");
        let config = Config::new(driver).name_server(dns.address).backend_at(&name, "");
        let as_listener = config.clone().listen(&[&own]).start();
        left_out(&as_listener, &own, "which leads back to this pool");
        drop(as_listener);
        let as_admin = config.admin(&format!("listen = \"{own}\"")).start();
        left_out(&as_admin, &own, "it is the admin endpoint");
        drop(server);
    });
}

fn left_out(proxy: &Proxy, own: &str, rule: &str) {
    for _ in 0..20 {
        let mut client = proxy.connect();
        peer::expect(&mut client, b"a");
    }
    // Answers come each second; it is said once.
    let stats = proxy.stats();
    let name = &stats.0["pools"][0]["names"][0];
    assert_eq!(name["refused"], serde_json::json!([own]), "{name:#}");
    assert_eq!((name["refused_total"].as_u64(), name["backends"].as_u64()), (Some(1), Some(1)));
    let said: Vec<String> =
        proxy.stderr().lines().filter(|l| l.contains("left out")).map(str::to_owned).collect();
    assert!(said.len() == 1 && said[0].contains(own) && said[0].contains(rule), "{said:?}");
}

/// 1. Two listeners whose pools have names, each of which is the other listener: no rule of one
///    answer sees that. 2. A client connects. 3. Four of our own dials deep it goes on, the fifth
///    is refused: six connections in all, and the client is reset. 4. The next client fares alike.
#[test]
fn a_loop_of_names_ends_at_the_fifth_dial_of_our_own() {
    each_driver(|driver| {
        let (a, b) = (FreePort::new(), FreePort::new());
        let dns = NameServer::new(loopback(&[1]));
        let text = format!(
            "[runtime]\ndriver = \"{driver}\"\nshards = 2\npin_cpus = false\n\
             [dns]\nservers = [\"{}\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             {}{}",
            dns.address,
            listener("edge", a.address, b.address.port()),
            listener("inner", b.address, a.address.port()),
        );
        let proxy = Proxy::start(&text);
        for client in 1..=3_u64 {
            assert_eq!(proxy.turns_away(), End::Reset);
            let of = |stats: &crate::kit::Stats, listener: usize, path: &str| {
                // What never occurred may be absent.
                let value = stats.0["listeners"][listener].pointer(path);
                value.map_or(0, |value| value.as_u64().unwrap())
            };
            let stats = proxy.wait_stats("all have ended", |s| {
                s.0["connections_active"] == 0 && of(s, 1, "/refused_total/loop") == client
            });
            assert_eq!(of(&stats, 0, "/accepted_total"), 3 * client);
            assert_eq!(of(&stats, 1, "/accepted_total"), 3 * client);
            assert_eq!(of(&stats, 1, "/ended_total/denied"), client);
            assert_eq!(of(&stats, 0, "/refused_total/loop"), 0);
        }
    });
}

/// A listener with a pool of its name, whose one backend is a name with that port.
fn listener(name: &str, listen: SocketAddr, port: u16) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nlisten = [\"{listen}\"]\npool = \"{name}\"\n\
         [[pool]]\nname = \"{name}\"\n[pool.health_check]\nkind = \"none\"\n\
         [[pool.backend]]\nname = \"n\"\naddress = \"back.internal:{port}\"\n"
    )
}

/// 1. A listener's pool is another listener, whose pool is a server. 2. That is a row and no loop:
///    `check` takes it, and clients are served, many at once and by two shards.
#[test]
fn two_listeners_in_a_row_serve() {
    each_driver(|driver| {
        let server = Server::echo();
        let (outer, inner) = (FreePort::new(), FreePort::new());
        let text = format!(
            "[runtime]\ndriver = \"{driver}\"\nshards = 2\npin_cpus = false\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n{}{}",
            row("edge", outer.address, inner.address),
            row("inner", inner.address, server.address),
        );
        let proxy = Proxy::start(&text);
        let mut clients: Vec<_> = (0..200).map(|_| proxy.connect()).collect();
        clients.iter_mut().for_each(|client| peer::echo(client, b"through both"));
        drop(clients);
        wait_until("all have ended", || proxy.stats().0["connections_active"] == 0);
        let stats = proxy.stats();
        for listener in 0..2 {
            let listener = &stats.0["listeners"][listener];
            assert_eq!(listener["accepted_total"], 200, "{listener:#}");
            let refused = listener["refused_total"].as_object().unwrap();
            assert!(refused.values().all(|count| *count == 0), "{listener:#}");
        }
    });
}

fn row(name: &str, listen: SocketAddr, backend: SocketAddr) -> String {
    listener(name, listen, 1).replace("back.internal:1", &backend.to_string())
}

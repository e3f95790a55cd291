//! Fresh connections are spread evenly over the shards, and none is lost on the way.

use std::{
    collections::VecDeque,
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::Barrier,
    thread,
};

use rustix::process::Signal;

use crate::{
    kit::{Config, End, Proxy, Server, each_driver, peer},
    served_or_never_accepted,
};

/// Connections of each shard.
fn active(proxy: &Proxy) -> Vec<u64> {
    let stats = proxy.stats();
    let shards = stats.0["shards"].as_array().unwrap();
    shards.iter().map(|shard| shard["connections_active"].as_u64().unwrap()).collect()
}

/// Clients that connect in the same moment and are served.
fn at_once(edge: SocketAddr, count: usize) -> Vec<TcpStream> {
    let start = Barrier::new(count);
    let connect = || {
        start.wait();
        let mut client = peer::connect(edge);
        peer::echo(&mut client, b"here");
        client
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(connect)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

/// 1. Eight clients connect at once to a proxy with two shards. 2. Each shard has four of them, and
///    the spread is 1. 3. They go, and others come: a hundred times. 4. That took hand-overs, which
///    are counted where they were given; each connection counts once, where it was served.
#[test]
fn eight_clients_at_once_are_four_on_each_of_two_shards() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).shards(2).backend(server.address).start();
        for round in 0..100 {
            let clients = at_once(proxy.edge[0], 8);
            assert_eq!(active(&proxy), [4, 4], "round {round}");
            assert_eq!(proxy.stats().0["shard_spread"], 1.0);
            drop(clients);
            proxy.wait_stats("all gone", |s| s.shards("connections_active") == 0);
        }
        let stats = proxy.stats();
        assert_eq!(stats.shards("accepted_total"), 800);
        let handed = stats.shards("handed_off_total");
        assert!(handed > 0, "the kernel's hash alone is never that even");
        let page = proxy.get("/metrics").body;
        let given = page.lines().filter(|l| l.starts_with("ringway_shard_handed_off_total{"));
        let given = given.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
        assert_eq!(given.sum::<f64>(), handed as f64);
    });
}

/// 1. One shard. 2. It hands nothing over.
#[test]
fn a_shard_alone_keeps_everything() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let _clients = at_once(proxy.edge[0], 8);
        assert_eq!(active(&proxy), [8]);
        assert_eq!(proxy.stats().shards("handed_off_total"), 0);
    });
}

/// 1. A process with four shards stands still while SIGTERM comes and 100 clients connect, which
///    the kernel accepts for it. 2. It goes on: shards hand connections over while others stop
///    accepting already. 3. Every client is served to its end. Ten times.
#[test]
fn what_is_handed_over_while_sigterm_comes_is_served() {
    each_driver(|driver| {
        let server = Server::echo();
        for _ in 0..10 {
            let mut proxy = Config::new(driver).shards(4).backend(server.address).start();
            proxy.stop();
            let mut clients: Vec<TcpStream> = (0..100).map(|_| proxy.connect()).collect();
            clients.iter_mut().for_each(|client| client.write_all(b"queued").unwrap());
            proxy.signal(Signal::TERM);
            proxy.go_on();
            for client in &mut clients {
                peer::expect(client, b"queued");
                peer::finish(client);
                assert_eq!(peer::end_of(client), End::Fin);
            }
            assert!(proxy.last_words().replace('\\', "").contains("\"client_fin\":100}"));
        }
    });
}

/// 1. Clients come, stay for a while and go, so that shards hand over all the time; meanwhile
///    SIGTERM comes. 2. Each one is either refused or served to its end.
#[test]
fn no_handed_over_client_is_lost_by_a_drain_under_traffic() {
    const HELD: usize = 20;
    each_driver(|driver| {
        let server = Server::echo();
        let mut proxy = Config::new(driver).shards(4).backend(server.address).start();
        let edge = proxy.edge[0];
        let come_and_go = move || {
            let (mut held, mut served) = (VecDeque::new(), 0u64);
            while let Ok(stream) = TcpStream::connect(edge) {
                let mut stream = peer::with_deadlines(stream);
                if stream.write_all(b"x").is_ok() && peer::answers(&mut stream) {
                    held.push_back(stream);
                }
                if held.len() > HELD {
                    served += u64::from(served_or_never_accepted(&mut held[0]));
                    held.pop_front();
                }
            }
            let rest =
                held.iter_mut().filter_map(|stream| served_or_never_accepted(stream).then_some(()));
            served + rest.count() as u64
        };
        let clients: Vec<_> = (0..4).map(|_| thread::spawn(come_and_go)).collect();
        proxy.wait_stats("hand-overs", |s| s.shards("handed_off_total") > 50);
        proxy.signal(Signal::TERM);
        let served: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(proxy.wait_exit().code(), Some(0));
        let words = proxy.last_words().replace('\\', "");
        assert!(words.contains(&format!("\"client_fin\":{served}}}")), "{served}: {words}");
    });
}

//! Signals, and the way to the end.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    kit::{Blackhole, Config, End, Hand, Proxy, Server, each_driver, peer, wait_until},
    refuses, served_or_never_accepted, settled_pair,
};

fn proxy(driver: &'static str, hand: &Hand, runtime: &str) -> Proxy {
    Config::new(driver).shards(2).runtime(runtime).backend(hand.address()).start()
}

/// The last words name the reason and its count.
fn assert_last_words(proxy: &mut Proxy, ended: &str) {
    let words = proxy.last_words();
    let words = words.replace('\\', "");
    assert!(words.contains(ended), "no {ended} in {words}");
}

/// 1. A connection is open when SIGTERM comes. 2. The process is not ready, and takes no new
///    connections. 3. The open one goes on, and ends as it would have. 4. Then the process ends
///    with exit code 0.
#[test]
fn sigterm_lets_what_is_there_finish() {
    each_driver(|driver| {
        for signal in [Signal::TERM, Signal::INT] {
            let hand = Hand::new();
            let mut proxy = proxy(driver, &hand, "");
            let (mut client, mut server) = settled_pair(&proxy, &hand);
            proxy.signal(signal);
            wait_until("no more connections", || refuses(proxy.edge[0]));
            let ready = proxy.get("/ready");
            assert_eq!((ready.status, &ready.json()["ready"]), (503, &false.into()));
            assert_eq!(ready.json()["reasons"], serde_json::json!(["draining"]));
            assert_eq!(proxy.stats().0["state"], "draining");
            assert_eq!(proxy.get("/health").status, 200);
            peer::pass(&mut client, &mut server, b"still");
            peer::pass(&mut server, &mut client, b"here");
            drop(server);
            assert_eq!(peer::end_of(&mut client), End::Fin);
            drop(client);
            assert_eq!(proxy.wait_exit().code(), Some(0));
            assert_last_words(&mut proxy, "\"server_fin\":1");
        }
    });
}

/// 1. Nothing is open when SIGTERM comes. 2. The process ends at once.
#[test]
fn an_idle_process_ends_at_once() {
    each_driver(|driver| {
        let hand = Hand::new();
        let mut proxy = proxy(driver, &hand, "");
        let began = Instant::now();
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    });
}

/// 1. A silent connection and one that is half-closed outlive `drain_timeout`. 2. Both are reset
///    and recorded as `drained`. 3. Exit code 0.
#[test]
fn what_outlives_the_drain_timeout_is_cut() {
    each_driver(|driver| {
        let hand = Hand::new();
        let mut proxy = proxy(driver, &hand, "drain_timeout = \"300ms\"");
        let (mut silent, mut its_server) = settled_pair(&proxy, &hand);
        let (mut half, mut half_server) = settled_pair(&proxy, &hand);
        peer::finish(&half);
        assert_eq!(peer::end_of(&mut half_server), End::Fin);
        let began = Instant::now();
        proxy.signal(Signal::TERM);
        assert_eq!(peer::end_of(&mut silent), End::Reset);
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
        assert_eq!(peer::end_of(&mut its_server), End::Reset);
        assert_eq!(peer::end_of(&mut half), End::Reset);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert_last_words(&mut proxy, "\"drained\":2");
    });
}

/// 1. A dial that nobody answers outlives `drain_timeout`. 2. Its client is reset, as `drained`.
#[test]
fn a_dial_that_outlives_the_drain_timeout_is_cut() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let mut proxy = Config::new(driver)
            .runtime("drain_timeout = \"300ms\"")
            .pool("connect_timeout = \"10m\"")
            .backend(hole.address)
            .start();
        let mut client = proxy.connect();
        proxy.wait_stats("a dial in flight", |s| s.backend(0, "connections_active") == 1);
        proxy.signal(Signal::TERM);
        assert_eq!(peer::end_of(&mut client), End::Reset);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert_last_words(&mut proxy, "\"drained\":1");
    });
}

/// 1. A connection is open when SIGTERM comes, there are ten minutes. 2. A second signal cuts at
///    once.
#[test]
fn a_second_signal_cuts_at_once() {
    each_driver(|driver| {
        for second in [Signal::TERM, Signal::INT] {
            let hand = Hand::new();
            let mut proxy = proxy(driver, &hand, "drain_timeout = \"10m\"");
            let (mut client, mut server) = settled_pair(&proxy, &hand);
            proxy.signal(Signal::TERM);
            wait_until("no more connections", || refuses(proxy.edge[0]));
            proxy.signal(second);
            assert_eq!(peer::end_of(&mut client), End::Reset);
            assert_eq!(peer::end_of(&mut server), End::Reset);
            assert_eq!(proxy.wait_exit().code(), Some(0));
            assert_last_words(&mut proxy, "\"drained\":1");
        }
    });
}

/// 1. `drain_delay` is long. 2. After SIGTERM the process is not ready and goes on accepting.
/// 3. The second signal ends that too.
#[test]
fn during_the_drain_delay_it_still_accepts() {
    each_driver(|driver| {
        let hand = Hand::new();
        let mut proxy = proxy(driver, &hand, "drain_delay = \"10m\"");
        proxy.signal(Signal::TERM);
        wait_until("not ready", || proxy.get("/ready").status == 503);
        let (mut client, _server) = settled_pair(&proxy, &hand);
        proxy.signal(Signal::TERM);
        assert_eq!(peer::end_of(&mut client), End::Reset);
        assert_eq!(proxy.wait_exit().code(), Some(0));
    });
}

/// 1. A short `drain_delay`. 2. When it is over, no more is accepted, and the process ends.
#[test]
fn after_the_drain_delay_it_drains() {
    each_driver(|driver| {
        let hand = Hand::new();
        let mut proxy = proxy(driver, &hand, "drain_delay = \"200ms\"");
        let (client, server) = settled_pair(&proxy, &hand);
        proxy.signal(Signal::TERM);
        wait_until("no more connections", || refuses(proxy.edge[0]));
        drop((client, server));
        assert_eq!(proxy.wait_exit().code(), Some(0));
    });
}

/// 1. SIGHUP and SIGUSR2 come, which mean nothing yet, and SIGUSR1 without an access log. 2. Each
///    is logged, and nothing else happens.
#[test]
fn signals_without_a_meaning_are_logged_and_ignored() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = proxy(driver, &hand, "");
        let (mut client, mut server) = settled_pair(&proxy, &hand);
        for (signal, name) in
            [(Signal::HUP, "SIGHUP"), (Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")]
        {
            proxy.signal(signal);
            wait_until("the log line", || proxy.stderr().contains(name));
        }
        peer::pass(&mut client, &mut server, b"as before");
        assert_eq!(proxy.get("/ready").status, 200);
    });
}

/// 1. While the process stands still, SIGTERM comes and 200 clients connect, which the kernel
///    accepts for it. 2. It goes on. 3. Every one of them is served to its end, none is reset.
#[test]
fn clients_queued_when_sigterm_comes_are_served() {
    each_driver(|driver| {
        let server = Server::echo();
        let mut proxy = Config::new(driver).shards(2).backend(server.address).start();
        proxy.stop();
        let mut clients: Vec<TcpStream> = (0..200).map(|_| proxy.connect()).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"queued").unwrap());
        proxy.signal(Signal::TERM);
        proxy.go_on();
        for client in &mut clients {
            peer::expect(client, b"queued");
            peer::finish(client);
            assert_eq!(peer::end_of(client), End::Fin);
        }
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert_last_words(&mut proxy, "\"client_fin\":200");
    });
}

/// 1. Clients come all the time while SIGTERM does. 2. Each one is either refused or served to its
///    end; none that was accepted is reset.
#[test]
fn no_accepted_client_is_lost_by_a_drain_under_traffic() {
    each_driver(|driver| {
        let server = Server::echo();
        let mut proxy = Config::new(driver).shards(2).backend(server.address).start();
        let edge = proxy.edge[0];
        let clients: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut served = 0u64;
                    while let Ok(stream) = TcpStream::connect(edge) {
                        let mut stream = peer::with_deadlines(stream);
                        if served_or_never_accepted(&mut stream) {
                            served += 1;
                        }
                    }
                    served
                })
            })
            .collect();
        proxy.wait_stats("traffic", |s| s.listener("accepted_total") > 200);
        proxy.signal(Signal::TERM);
        let served: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert_last_words(&mut proxy, &format!("\"client_fin\":{served}}}"));
    });
}

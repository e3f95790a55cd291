//! A dial that fails goes to somebody else.

use std::time::{Duration, Instant};

use crate::{
    ask_who,
    kit::{Blackhole, Config, End, Hand, Refusing, Server, each_driver, peer, wait_until},
    who_answers,
};

/// 1. The first backend in turn refuses. 2. The client is served by the other one, and notices
///    nothing. 3. The failure is the dead backend's.
#[test]
fn a_refused_dial_goes_to_the_next_backend() {
    each_driver(|driver| {
        let (dead, live) = (Refusing::new(), Server::named(b'b'));
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"")
            .backend(dead.address)
            .backend(live.address)
            .start();
        assert_eq!(ask_who(&proxy), 'b');
        let stats = proxy.wait_ended_only("client_fin", 1);
        assert_eq!(stats.failures(0, "refused"), 1);
        assert_eq!(stats.backend(0, "connections_total"), 0);
        assert_eq!(stats.backend(1, "connections_total"), 1);
        assert_eq!(stats.backend(0, "connections_active"), 0);
    });
}

/// 1. The first backend in turn never answers. 2. After its time the other one is dialed. 3. The
///    client waited for the timeout once, the next ones do not.
#[test]
fn a_dial_without_answer_goes_to_the_next_backend() {
    each_driver(|driver| {
        let (hole, live) = (Blackhole::new(), Server::named(b'b'));
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"\nconnect_timeout = \"200ms\"")
            .backend(hole.address)
            .backend(live.address)
            .start();
        let began = Instant::now();
        assert_eq!(ask_who(&proxy), 'b');
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
        (0..3).for_each(|_| assert_eq!(ask_who(&proxy), 'b'));
        let stats = proxy.wait_ended_only("client_fin", 4);
        assert_eq!(stats.failures(0, "timeout"), 1);
    });
}

/// 1. Two backends of priority 0 are dead, one of priority 1 is alive. 2. With three attempts every
///    connection is served. 3. With two as well: the last attempt goes to the next priority.
#[test]
fn dead_primaries_leave_an_attempt_for_the_fallback() {
    each_driver(|driver| {
        for attempts in [3, 2] {
            let (one, other) = (Refusing::new(), Refusing::new());
            let live = Server::named(b'c');
            let proxy = Config::new(driver)
                .pool(&format!("max_attempts = {attempts}"))
                .backend(one.address)
                .backend(other.address)
                .backend_with(live.address, "priority = 1\n")
                .start();
            (0..50).for_each(|_| assert_eq!(ask_who(&proxy), 'c'));
            let stats = proxy.wait_ended_only("client_fin", 50);
            assert_eq!(stats.backend(2, "connections_total"), 50);
        }
    });
}

/// 1. The primary is alive. 2. The fallback gets nothing.
#[test]
fn a_fallback_rests_while_the_primary_lives() {
    each_driver(|driver| {
        let (primary, fallback) = (Server::named(b'a'), Server::named(b'b'));
        let proxy = Config::new(driver)
            .backend(primary.address)
            .backend_with(fallback.address, "priority = 1\n")
            .start();
        (0..20).for_each(|_| assert_eq!(ask_who(&proxy), 'a'));
        assert_eq!(fallback.accepted(), 0);
    });
}

/// 1. The primary is dead and only one attempt is allowed. 2. The first client is reset. 3. The
///    primary is now last choice, so the following ones are served.
#[test]
fn one_attempt_with_a_dead_primary_fails() {
    each_driver(|driver| {
        let (dead, live) = (Refusing::new(), Server::named(b'b'));
        let proxy = Config::new(driver)
            .pool("max_attempts = 1")
            .backend(dead.address)
            .backend_with(live.address, "priority = 1\n")
            .start();
        assert_eq!(proxy.turns_away(), End::Reset);
        assert_eq!(ask_who(&proxy), 'b');
        let stats = proxy.wait_stats("both have ended", |s| s.ended_in_all() == 2);
        assert_eq!(stats.ended("connect_refused"), 1);
        assert_eq!(stats.failures(0, "refused"), 1);
    });
}

/// 1. One of two backends refuses, and has never anything in flight. 2. All of 200 clients are
///    served. 3. It was tried a few times only: a backend that failed is last choice for a second.
#[test]
fn a_backend_that_fails_fast_does_not_attract_everything() {
    each_driver(|driver| {
        let (dead, live) = (Refusing::new(), Server::named(b'b'));
        let proxy = Config::new(driver).backend(dead.address).backend(live.address).start();
        let began = Instant::now();
        let held: Vec<_> = (0..200).map(|_| who_answers(&proxy)).collect();
        assert!(held.iter().all(|(name, _)| *name == 'b'));
        let stats = proxy.stats();
        let most = 2 + began.elapsed().as_secs();
        let refused = stats.failures(0, "refused");
        assert!(refused <= most, "{refused} dials went to a dead backend in {:?}", began.elapsed());
        assert_eq!(stats.backend(1, "connections_active"), 200);
    });
}

/// 1. Nobody answers the dial; the client sends, ends its direction and waits. 2. The dial goes on,
///    and counts as in flight. 3. The backend answers after all: it gets the bytes and the end, the
///    client gets the answer.
#[test]
fn a_clients_fin_does_not_stop_the_dial() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let proxy =
            Config::new(driver).pool("connect_timeout = \"20s\"").backend(hole.address).start();
        let mut client = proxy.connect();
        std::io::Write::write_all(&mut client, b"early").unwrap();
        peer::finish(&client);
        proxy.wait_stats("a dial in flight", |s| s.backend(0, "connections_active") == 1);
        assert_eq!(proxy.stats().backend(0, "connections_total"), 0);
        let streams = hole.open();
        let mut server = wait_for_ours(&streams);
        let seen = peer::read_to_end(&mut server);
        assert_eq!((seen.digest, seen.end), (peer::digest(b"early"), End::Fin));
        peer::pass(&mut server, &mut client, b"late");
        drop(server);
        assert_eq!(peer::end_of(&mut client), End::Fin);
        proxy.wait_ended_only("client_fin", 1);
    });
}

/// The first connection that is not one of the fillers, which are closed already.
fn wait_for_ours(streams: &std::sync::mpsc::Receiver<std::net::TcpStream>) -> std::net::TcpStream {
    crate::kit::wait_for("the proxy's dial", || {
        let stream = streams.try_recv().ok()?;
        (stream.peek(&mut [0; 1]).ok()? > 0).then_some(stream)
    })
}

/// 1. Nobody answers the dial, and the client resets. 2. The connection is over at once, long
///    before the dial's time, by the client's reset. 3. The backend is not to blame.
#[test]
fn a_client_that_resets_stops_the_dial() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let proxy =
            Config::new(driver).pool("connect_timeout = \"25s\"").backend(hole.address).start();
        let client = proxy.connect();
        proxy.wait_stats("a dial in flight", |s| s.backend(0, "connections_active") == 1);
        let began = Instant::now();
        peer::reset(client);
        let stats = proxy.wait_ended_only("client_reset", 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert_eq!(stats.failures(0, "timeout"), 0);
        assert_eq!(stats.backend(0, "connections_active"), 0);
        assert_eq!(stats.phase("session")["count"], 0);
    });
}

/// 1. A client connects, sends, and resets while the process stands still. 2. The process learns
///    all at once. 3. The connection ends as the client's reset, whatever the dial came to.
#[test]
fn a_client_that_is_gone_before_it_is_served_is_a_client_reset() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        proxy.stop();
        let mut client = proxy.connect();
        std::io::Write::write_all(&mut client, b"bye").unwrap();
        wait_until("the bytes at the proxy", || ringway::sock::unsent(&client) == 0);
        peer::reset(client);
        proxy.go_on();
        proxy.wait_ended_only("client_reset", 1);
    });
}

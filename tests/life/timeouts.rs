//! Connections that fell silent.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use crate::{
    kit::{Blackhole, Config, End, Hand, each_driver, let_pass, peer},
    settled_pair,
};

/// 1. A connection is silent for `idle_timeout`. 2. Both sides are reset, not before that time.
/// 3. One that moves a byte now and then lives on.
#[test]
fn a_silent_connection_ends_after_its_idle_timeout() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy =
            Config::new(driver).listener("idle_timeout = \"2s\"").backend(hand.address()).start();
        let (mut lively, mut lively_server) = settled_pair(&proxy, &hand);
        let silent_since = Instant::now();
        let (silent, mut its_server) = settled_pair(&proxy, &hand);
        silent.set_nonblocking(true).unwrap();
        while silent.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock) {
            peer::pass(&mut lively, &mut lively_server, b"tick");
            peer::pass(&mut lively_server, &mut lively, b"tock");
            crate::kit::pause(Duration::from_millis(50));
            assert!(silent_since.elapsed() < Duration::from_secs(20), "it never ended");
        }
        let lived = silent_since.elapsed();
        assert!(lived >= Duration::from_secs(2), "too early: {lived:?}");
        assert_eq!(peer::end_of(&mut its_server), End::Reset);
        let stats = proxy.wait_ended_only("idle_timeout", 1);
        assert_eq!(stats.listener("connections_active"), 1);
    });
}

/// 1. One direction has ended and the other is silent for `half_close_timeout`. 2. The rest is
///    reset. 3. From either side. 4. A connection with both directions open is not touched.
#[test]
fn a_silent_half_closed_connection_ends_sooner() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver)
            .listener("half_close_timeout = \"500ms\"")
            .backend(hand.address())
            .start();
        let (mut open, mut open_server) = settled_pair(&proxy, &hand);
        for client_first in [true, false] {
            let (client, server) = settled_pair(&proxy, &hand);
            let (mut one, mut other) = match client_first {
                true => (client, server),
                false => (server, client),
            };
            let began = Instant::now();
            peer::finish(&one);
            assert_eq!(peer::end_of(&mut other), End::Fin);
            assert_eq!(peer::end_of(&mut one), End::Reset);
            let lived = began.elapsed();
            assert!(lived >= Duration::from_millis(500), "too early: {lived:?}");
            assert!(lived < Duration::from_secs(15), "too late: {lived:?}");
        }
        proxy.wait_ended_only("half_close_timeout", 2);
        peer::pass(&mut open, &mut open_server, b"both ways");
        peer::pass(&mut open_server, &mut open, b"open");
    });
}

/// 1. One direction has ended, the other goes on with a byte now and then. 2. It lives far longer
///    than `half_close_timeout`, and ends as it wants.
#[test]
fn a_half_closed_connection_that_moves_lives_on() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver)
            .listener("half_close_timeout = \"4s\"")
            .backend(hand.address())
            .start();
        let (mut client, mut server) = settled_pair(&proxy, &hand);
        peer::finish(&client);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(9) {
            peer::pass(&mut server, &mut client, b"more");
            crate::kit::pause(Duration::from_millis(50));
        }
        drop(server);
        assert_eq!(peer::end_of(&mut client), End::Fin);
        proxy.wait_ended_only("client_fin", 1);
    });
}

/// 1. Both timeouts are off. 2. A silent and a half-closed connection are still there after others
///    have been ended by the shortest timeout there is.
#[test]
fn timeouts_of_zero_are_off() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver)
            .listener("idle_timeout = \"0s\"\nhalf_close_timeout = \"0s\"")
            .backend(hand.address())
            .start();
        let (mut client, mut server) = settled_pair(&proxy, &hand);
        peer::finish(&client);
        assert_eq!(peer::end_of(&mut server), End::Fin);
        crate::kit::pause(Duration::from_secs(2));
        peer::pass(&mut server, &mut client, b"still there");
        assert_eq!(proxy.stats().ended_in_all(), 0);
    });
}

/// 1. The process stands still for longer than `idle_timeout`, while a client sends. 2. It goes on.
/// 3. The bytes arrive, and the connection is not taken for a silent one: nobody could have moved
///    a byte meanwhile.
#[test]
fn time_in_which_the_process_stood_still_is_no_silence() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy =
            Config::new(driver).listener("idle_timeout = \"4s\"").backend(hand.address()).start();
        let (mut client, mut server) = settled_pair(&proxy, &hand);
        proxy.stop();
        client.write_all(b"are you there?").unwrap();
        crate::kit::pause(Duration::from_secs(9));
        proxy.go_on();
        peer::expect(&mut server, b"are you there?");
        for _ in 0..10 {
            peer::pass(&mut client, &mut server, b"ping");
            peer::pass(&mut server, &mut client, b"pong");
            crate::kit::pause(Duration::from_millis(50));
        }
        assert_eq!(proxy.stats().ended_in_all(), 0);
    });
}

/// 1. A connection is silent for longer than `half_close_timeout`. 2. Then the client asks its last
///    and ends its direction. 3. The answer, a moment later, arrives: the time counts from the end.
#[test]
fn half_close_timeout_counts_from_the_end_of_a_direction() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver)
            .listener("half_close_timeout = \"4s\"")
            .backend(hand.address())
            .start();
        let (mut client, mut server) = settled_pair(&proxy, &hand);
        let_pass(Duration::from_millis(4500));
        peer::finish(&client);
        assert_eq!(peer::end_of(&mut server), End::Fin);
        let_pass(Duration::from_millis(300));
        peer::pass(&mut server, &mut client, b"the answer");
        drop(server);
        assert_eq!(peer::end_of(&mut client), End::Fin);
        proxy.wait_ended_only("client_fin", 1);
    });
}

/// 1. The first backend answers no dial for longer than `idle_timeout`; the second takes the
///    connection. 2. Nobody speaks for a moment. 3. It is still there: the time counts from when it
///    was established.
#[test]
fn idle_timeout_counts_from_established() {
    each_driver(|driver| {
        let (hole, hand) = (Blackhole::new(), Hand::new());
        let proxy = Config::new(driver)
            .listener("idle_timeout = \"4s\"")
            .pool("connect_timeout = \"4500ms\"")
            .backend(hole.address)
            .backend_with(hand.address(), "priority = 1")
            .start();
        let mut client = proxy.connect();
        let mut server = hand.take();
        let_pass(Duration::from_millis(500));
        peer::pass(&mut client, &mut server, b"still");
        peer::pass(&mut server, &mut client, b"there");
        let stats = proxy.stats();
        assert_eq!((stats.failures(0, "timeout"), stats.ended_in_all()), (1, 0));
    });
}

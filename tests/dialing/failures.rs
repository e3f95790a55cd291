//! What is said where nobody could be reached, and what a backend did wrong early.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use crate::kit::{Blackhole, Config, End, Hand, Refusing, each_driver, let_pass, peer};

/// 1. All backends refuse. 2. The client is reset, never given a FIN. 3. The reason is the last
///    dial's cause, and no phase of a served connection is recorded.
#[test]
fn a_client_that_gets_no_backend_is_reset() {
    each_driver(|driver| {
        let dead = [Refusing::new(), Refusing::new()];
        let proxy = Config::new(driver).backend(dead[0].address).backend(dead[1].address).start();
        for _ in 0..5 {
            assert_eq!(proxy.turns_away(), End::Reset);
        }
        let stats = proxy.wait_ended_only("connect_refused", 5);
        assert_eq!(stats.failures(0, "refused") + stats.failures(1, "refused"), 10);
        assert_eq!(stats.phase("connect")["count"], 0);
        assert_eq!(stats.phase("session")["count"], 0);
    });
}

/// 1. Fewer attempts are allowed than there are dead backends. 2. No more are made.
#[test]
fn no_more_attempts_are_made_than_allowed() {
    each_driver(|driver| {
        let dead: Vec<Refusing> = (0..5).map(|_| Refusing::new()).collect();
        let config = Config::new(driver).pool("max_attempts = 2");
        let proxy = dead.iter().fold(config, |config, dead| config.backend(dead.address)).start();
        assert_eq!(proxy.turns_away(), End::Reset);
        let stats = proxy.wait_ended_only("connect_refused", 1);
        let refused: u64 = (0..5).map(|place| stats.failures(place, "refused")).sum();
        assert_eq!(refused, 2);
    });
}

/// 1. The only backend never answers. 2. After `connect_timeout`, and not before, the client is
///    reset.
#[test]
fn a_dial_without_answer_times_out() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let proxy =
            Config::new(driver).pool("connect_timeout = \"200ms\"").backend(hole.address).start();
        let began = Instant::now();
        assert_eq!(proxy.turns_away(), End::Reset);
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
        let stats = proxy.wait_ended_only("connect_timeout", 1);
        assert_eq!(stats.failures(0, "timeout"), 1);
        assert_eq!(stats.backend(0, "connections_active"), 0);
    });
}

/// 1. The process stands still before the only backend has answered its dial. 2. The answer comes,
///    and the time for it passes. 3. The process goes on: the answer came in time, and the client
///    is served.
#[test]
fn an_answer_that_came_while_nobody_looked_counts() {
    each_driver(|driver| {
        let hole = Blackhole::new();
        let proxy =
            Config::new(driver).pool("connect_timeout = \"3s\"").backend(hole.address).start();
        let mut client = proxy.connect();
        let began = Instant::now();
        proxy.wait_stats("a dial", |s| s.backend(0, "connections_active") == 1);
        proxy.stop();
        let answered = hole.open();
        let echo = thread::spawn(move || {
            for mut stream in answered {
                // Those that filled the queue say nothing.
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_ok() {
                    return stream.write_all(&byte).unwrap();
                }
            }
        });
        // The kernel asks once more after a second.
        let_pass(Duration::from_secs(4).saturating_sub(began.elapsed()));
        proxy.go_on();
        peer::echo(&mut client, b"x");
        echo.join().unwrap();
        assert_eq!(proxy.stats().failures(0, "timeout"), 0);
    });
}

/// 1. A backend refuses first, then one never answers. 2. The last cause is what is recorded, here
///    and the other way round.
#[test]
fn the_last_cause_is_the_reason() {
    each_driver(|driver| {
        for hole_is_last in [true, false] {
            let (dead, hole) = (Refusing::new(), Blackhole::new());
            let (first, last, reason) = match hole_is_last {
                true => (dead.address, hole.address, "connect_timeout"),
                false => (hole.address, dead.address, "connect_refused"),
            };
            let proxy = Config::new(driver)
                .pool("connect_timeout = \"200ms\"")
                .backend(first)
                .backend_with(last, "priority = 1\n")
                .start();
            assert_eq!(proxy.turns_away(), End::Reset);
            proxy.wait_ended_only(reason, 1);
        }
    });
}

/// 1. The backend's address is one that the kernel has no way to (the limited broadcast address).
///    2. The client is reset, the reason says so.
#[test]
fn a_backend_without_a_route_is_unreachable() {
    each_driver(|driver| {
        let proxy = Config::new(driver).backend("255.255.255.255:9".parse().unwrap()).start();
        assert_eq!(proxy.turns_away(), End::Reset);
        let stats = proxy.wait_ended_only("connect_unreachable", 1);
        assert_eq!(stats.failures(0, "unreachable"), 1);
    });
}

/// 1. The backend accepts and resets without a word. 2. That is a failure of the backend as well as
///    the connection's end. 3. The client is reset.
#[test]
fn a_reset_before_the_first_byte_is_the_backends_failure() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        let mut client = proxy.connect();
        let mut server = hand.take();
        peer::pass(&mut client, &mut server, b"anybody?");
        peer::reset(server);
        assert_eq!(peer::end_of(&mut client), End::Reset);
        let stats = proxy.wait_ended_only("server_reset", 1);
        assert_eq!(stats.failures(0, "reset_before_first_byte"), 1);
        assert_eq!(stats.failures(0, "closed_before_first_byte"), 0);
        assert_eq!(stats.backend(0, "connections_total"), 1);
    });
}

/// 1. The client asks, the backend closes without a byte: a failure. 2. A client that never asked
///    gets the same close: none. 3. A backend that answered first: none.
#[test]
fn a_close_before_the_first_byte_is_a_failure_when_something_was_asked() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        for (asks, answers, failures) in [(true, false, 1), (false, false, 1), (true, true, 1)] {
            let mut client = proxy.connect();
            let mut server = hand.take();
            if asks {
                peer::pass(&mut client, &mut server, b"question");
            }
            if answers {
                peer::pass(&mut server, &mut client, b"answer");
            }
            drop(server);
            assert_eq!(peer::end_of(&mut client), End::Fin);
            drop(client);
            let ended = proxy.wait_stats("an end", |s| s.listener("connections_active") == 0);
            assert_eq!(ended.failures(0, "closed_before_first_byte"), failures);
        }
        // A client that closes at once may do so in the turn in which its server did.
        let stats = proxy.wait_stats("all have ended", |s| s.ended_in_all() == 3);
        assert_eq!(stats.ended("server_fin") + stats.ended("client_fin"), 3);
        assert_eq!(stats.failures(0, "reset_before_first_byte"), 0);
    });
}

/// 1. A reset after the first byte. 2. It is the connection's end, not a failure of the dial's
///    kind.
#[test]
fn a_reset_after_the_first_byte_is_no_failure() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        let mut client = proxy.connect();
        let mut server = hand.take();
        peer::pass(&mut server, &mut client, b"hello");
        client.write_all(b"hi").unwrap();
        peer::expect(&mut server, b"hi");
        peer::reset(server);
        assert_eq!(peer::end_of(&mut client), End::Reset);
        let stats = proxy.wait_ended_only("server_reset", 1);
        let failures = stats.0["pools"][0]["backends"][0]["failures_total"].as_object().unwrap();
        let keys: Vec<&str> = failures.keys().map(String::as_str).collect();
        let mut expected = [
            "refused",
            "timeout",
            "unreachable",
            "local",
            "reset_before_first_byte",
            "closed_before_first_byte",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert!(failures.values().all(|count| count == 0), "{failures:?}");
    });
}

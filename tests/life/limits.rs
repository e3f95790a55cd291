//! Past a limit the newest connection is reset and counted; nothing else changes.

use std::time::{Duration, Instant};

use crate::{
    kit::{Config, End, Hand, Server, each_driver, each_driver_alone, peer, proxy::run_to_end},
    settled_pair,
};

/// 1. Three places, three clients. 2. The fourth is reset, and counted with its cause. 3. The three
///    still work. 4. One leaves: the next client gets its place. 5. The same for the limit of the
///    process.
#[test]
fn past_a_limit_the_newest_is_reset_and_a_freed_place_is_used_again() {
    each_driver(|driver| {
        for (of_listener, cause) in
            [(true, "listener_max_connections"), (false, "runtime_max_connections")]
        {
            let hand = Hand::new();
            let config = Config::new(driver).backend(hand.address());
            let proxy = match of_listener {
                true => config.listener("max_connections = 3").start(),
                false => config.runtime("max_connections = 3").start(),
            };
            let mut held: Vec<_> = (0..3).map(|_| settled_pair(&proxy, &hand)).collect();
            for _ in 0..2 {
                assert_eq!(proxy.turns_away(), End::Reset);
            }
            let stats = proxy.wait_ended_only("overload", 2);
            assert_eq!(stats.refused(cause), 2);
            assert_eq!(stats.listener("accepted_total"), 5);
            assert_eq!(stats.listener("connections_active"), 3);
            for (client, server) in &mut held {
                peer::pass(client, server, b"unharmed");
            }
            held.pop();
            proxy.wait_stats("a free place", |s| s.listener("connections_active") == 2);
            held.push(settled_pair(&proxy, &hand));
            assert_eq!(proxy.stats().refused(cause), 2);
        }
    });
}

/// 1. More connections are written than the limit of open files allows. 2. The process does not
///    start: exit code 1, and the sentence shows the sum and the way out.
#[test]
fn a_written_limit_that_does_not_fit_is_refused_with_the_sum() {
    each_driver(|driver| {
        let nowhere = "127.0.0.1:9".parse().unwrap();
        let config = Config::new(driver).runtime("max_connections = 100000000").backend(nowhere);
        let (code, stdout, stderr) = run_to_end(&config.text());
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        for part in ["runtime.max_connections = 100000000", "2 x 100000000 sockets", "ulimit -n"] {
            assert!(stderr.contains(part), "no {part:?} in {stderr}");
        }
    });
}

/// 1. Ten clients are served; then the process may open no more descriptors. 2. New clients are
///    reset, counted under `descriptors`. 3. The ten are unharmed. 4. Two seconds without a free
///    descriptor cost next to no CPU time, although clients keep coming. 5. Some of the ten leave:
///    new clients are served.
#[test]
fn out_of_descriptors_it_refuses_and_recovers_without_spinning() {
    each_driver_alone(|driver| {
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        let mut held: Vec<_> = (0..10).map(|_| settled_pair(&proxy, &hand)).collect();
        let open = proxy.settled_descriptors() as u64;
        proxy.limit_descriptors(proxy.first_free_descriptor());
        assert_eq!(proxy.turns_away(), End::Reset);
        let (cpu, began) = (proxy.cpu_time(), Instant::now());
        let mut refused = 1;
        while began.elapsed() < Duration::from_secs(2) {
            assert_eq!(proxy.turns_away(), End::Reset);
            refused += 1;
        }
        let used = proxy.cpu_time() - cpu;
        assert!(used < Duration::from_millis(800), "{used:?} of CPU time for {refused} refusals");
        for (client, server) in &mut held {
            peer::pass(client, server, b"unharmed");
        }
        held.truncate(5);
        crate::kit::wait_until("sockets closed", || (proxy.descriptors() as u64) <= open - 10);
        held.push(settled_pair(&proxy, &hand));
        proxy.limit_descriptors(1024);
        let stats = proxy.stats();
        assert_eq!(stats.refused("descriptors"), refused);
        assert_eq!(stats.ended("overload"), refused);
        assert!(stats.shards("accept_pauses_total") > 0);
    });
}

/// 1. Fewer descriptors are left than a connection needs: a client is taken, its dial is not
///    possible. 2. It is reset as our own fault, and the backend is not blamed for longer than
///    that. 3. With descriptors again, the next client is served.
#[test]
fn a_dial_without_a_descriptor_is_our_own_fault() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        peer::echo(&mut proxy.connect(), b"before");
        proxy.wait_stats("quiet", |s| s.listener("connections_active") == 0);
        proxy.settled_descriptors();
        proxy.limit_descriptors(proxy.first_free_descriptor() + 1);
        assert_eq!(proxy.turns_away(), End::Reset);
        proxy.limit_descriptors(1024);
        let stats = proxy.wait_stats("the end", |s| s.ended_in_all() == 2);
        assert_eq!(stats.ended("connect_local"), 1, "{}", stats.without_latency());
        assert_eq!(stats.failures(0, "local"), 1);
        peer::echo(&mut proxy.connect(), b"after");
    });
}

//! What has changed: `/stats/events`, and the same in the log.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    kit::{
        Config, End, Hand, Proxy, Refusing, Server, each_driver, http, peer, wait_for, wait_until,
    },
    settled_pair,
};

/// The events with a number above `after`.
fn events(proxy: &Proxy, after: u64) -> Vec<Value> {
    let answer = proxy.get(&format!("/stats/events?after={after}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["events"].as_array().unwrap().clone()
}

/// Whether it is about this test, and not about the host's memory for TCP, which others may take.
fn is_of_us(event: &Value) -> bool {
    event["limit"] != "tcp_memory"
}

/// Those of a kind.
fn of_kind(proxy: &Proxy, kind: &str) -> Vec<Value> {
    let is_it = |event: &Value| event["kind"] == kind && is_of_us(event);
    events(proxy, 0).into_iter().filter(is_it).collect()
}

/// Waits for that many of a kind, and gives them without number and time.
fn wait_kind(proxy: &Proxy, kind: &str, count: usize) -> Vec<Value> {
    let mut found = wait_for(kind, || {
        let found = of_kind(proxy, kind);
        (found.len() >= count).then_some(found)
    });
    for event in &mut found {
        let event = event.as_object_mut().unwrap();
        assert!(event.remove("seq").unwrap().as_u64() > Some(0));
        // Later than this was written, which is enough to know that the unit is right.
        assert!(event.remove("unix_ms").unwrap().as_u64() > Some(1_700_000_000_000));
        assert_eq!(event.remove("kind").unwrap(), kind);
    }
    found
}

/// 1. The first event says what serves. 2. A backend is drained, and gets a weight: the change,
///    then what came of it, in this order and with numbers without a gap. 3. `after` gives only
///    what is newer. 4. The log has the same.
#[test]
fn the_start_and_an_operators_change_are_told_in_order() {
    each_driver(|driver| {
        let servers = [Server::echo(), Server::echo()];
        let proxy =
            Config::new(driver).backend(servers[0].address).backend(servers[1].address).start();
        let started = events(&proxy, 0);
        let of_us = started.iter().filter(|event| is_of_us(event)).count();
        assert_eq!((of_us, &started[0]["seq"]), (1, &json!(1)), "{started:?}");
        let (kind, chosen) = (&started[0]["kind"], &started[0]["driver"]);
        assert_eq!((kind, chosen), (&json!("driver"), &json!(driver)));
        assert_eq!(started[0]["driver_reason"], proxy.stats().0["driver_reason"]);
        proxy.change("a", r#"{"state": "drain", "weight": 7}"#);
        let change =
            json!({"pool": "web", "backend": "a", "state": "drain", "weight": 7, "was": 1});
        assert_eq!(wait_kind(&proxy, "operator_change", 1), [change]);
        let reason = "asked for by the operator";
        let state = json!(
            {"pool": "web", "backend": "a", "from": "healthy", "to": "draining", "reason": reason}
        );
        assert_eq!(wait_kind(&proxy, "backend_state", 1), [state]);
        let all = events(&proxy, 0);
        let numbers: Vec<_> = all.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=all.len() as u64).collect::<Vec<_>>(), "{all:?}");
        let told: Vec<&Value> = all.iter().filter(|event| is_of_us(event)).collect();
        let kinds: Vec<_> = told.iter().map(|event| &event["kind"]).collect();
        assert_eq!(kinds, ["driver", "operator_change", "backend_state"]);
        for place in 1..told.len() {
            let newer = events(&proxy, told[place - 1]["seq"].as_u64().unwrap());
            let newer: Vec<&Value> = newer.iter().filter(|event| is_of_us(event)).collect();
            assert_eq!(newer, told[place..]);
        }
        wait_until("the log has both", || {
            let log = proxy.stderr();
            let changed =
                "changed by the operator pool=\"web\" backend=\"a\" state=\"drain\" weight=7";
            let drained = format!("from=\"healthy\" reason=\"{reason}\"");
            log.contains(changed) && log.contains(&drained)
        });
    });
}

/// 1. What is asked for is not understood: 400, with the value and the way out. 2. No other method.
///    3. The page is named where another is not found.
#[test]
fn what_is_not_understood_is_refused_with_a_sentence() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        for query in ["after=", "after=-1", "after=x", "before=1", "after=18446744073709551616"] {
            let answer = proxy.get(&format!("/stats/events?{query}"));
            let rule = "not understood (write after=SEQ, SEQ of an event)";
            assert_eq!((answer.status, answer.body), (400, format!("{query:?}: {rule}\n")));
        }
        assert_eq!(http::patch(proxy.admin, "/stats/events", "{}").status, 405);
        assert!(proxy.get("/event").body.contains(" /stats/events,"));
        assert!(events(&proxy, u64::MAX).is_empty());
    });
}

/// 1. The only backend dies, and its checks see it: unhealthy for a reason, and the pool is in
///    panic. 2. It is repaired: both are told, once each.
#[test]
fn a_backend_that_dies_and_the_panic_of_its_pool_are_told() {
    each_driver(|driver| {
        let place = Refusing::new();
        let alive = Server::echo_at(place.address);
        let proxy = Config::new(driver)
            .health("interval = \"50ms\"\nhealthy_after = 1\nunhealthy_after = 1")
            .backend(place.address)
            .start();
        drop(alive);
        let states = wait_kind(&proxy, "backend_state", 1);
        assert_eq!(
            (&states[0]["from"], &states[0]["to"]),
            (&json!("healthy"), &json!("unhealthy"))
        );
        wait_kind(&proxy, "pool_panic", 1);
        let _again = Server::echo_at(place.address);
        let states = wait_kind(&proxy, "backend_state", 2);
        assert_eq!(
            (&states[1]["to"], &states[1]["reason"]),
            (&json!("healthy"), &json!("its checks pass"))
        );
        let panic = |panic, healthy| {
            json!({
                "pool": "web", "panic": panic, "healthy": healthy, "backends": 1, "threshold": 0.5
            })
        };
        assert_eq!(wait_kind(&proxy, "pool_panic", 2), [panic(true, 0), panic(false, 1)]);
    });
}

/// 1. One of two backends refuses its clients. 2. It is ejected, which is told with the reason.
#[test]
fn an_ejection_is_told() {
    each_driver(|driver| {
        let (bad, good) = (Refusing::new(), Server::echo());
        let proxy = Config::new(driver)
            .pool("balance = \"round_robin\"")
            .health("kind = \"none\"\n[pool.outlier]\nconsecutive_failures = 1\nejection = \"10m\"")
            .backend(bad.address)
            .backend(good.address)
            .start();
        wait_until("an ejection", || {
            peer::echo(&mut proxy.connect(), b"served all the same");
            !of_kind(&proxy, "backend_state").is_empty()
        });
        let states = wait_kind(&proxy, "backend_state", 1);
        assert_eq!((&states[0]["backend"], &states[0]["to"]), (&json!("a"), &json!("ejected")));
        assert!(states[0]["reason"].as_str().unwrap().contains("failures in a row"), "{states:?}");
    });
}

/// 1. The one place of a listener is taken: that is told. 2. Several clients are reset there: no
///    more is told. 3. The place is free again, and the limit quiet for a while: that is told.
///    4. Once more from the start: it is told again.
#[test]
fn a_limit_is_told_when_it_is_reached_and_when_it_has_been_left() {
    each_driver(|driver| {
        let hand = Hand::new();
        let proxy =
            Config::new(driver).listener("max_connections = 1").backend(hand.address()).start();
        let of_listener = [json!({"limit": "listener_max_connections", "listener": "edge"})];
        let held = settled_pair(&proxy, &hand);
        assert_eq!(wait_kind(&proxy, "limit_reached", 1), of_listener);
        for _ in 0..3 {
            assert_eq!(proxy.turns_away(), End::Reset);
        }
        assert!(of_kind(&proxy, "limit_left").is_empty());
        drop(held);
        assert_eq!(wait_kind(&proxy, "limit_left", 1), of_listener);
        assert_eq!(of_kind(&proxy, "limit_reached").len(), 1);
        let _held = settled_pair(&proxy, &hand);
        assert_eq!(wait_kind(&proxy, "limit_reached", 2)[1], of_listener[0]);
        wait_until("the log has it", || {
            proxy.stderr().contains("limit left limit=\"listener_max_connections\"")
        });
    });
}

/// 1. All places of the process are taken, a backend is full, and no descriptor is left. 2. Each
///    is told under its own word.
#[test]
fn each_limit_has_its_word() {
    each_driver(|driver| {
        let hand = Hand::new();
        let config = Config::new(driver).backend(hand.address());
        let proxy = config.runtime("max_connections = 1").start();
        let _held = settled_pair(&proxy, &hand);
        let of_process = json!({"limit": "runtime_max_connections"});
        assert_eq!(wait_kind(&proxy, "limit_reached", 1), [of_process]);

        let hand = Hand::new();
        let config = Config::new(driver).backend_with(hand.address(), "max_connections = 1");
        let proxy = config.start();
        let _held = settled_pair(&proxy, &hand);
        assert_eq!(proxy.turns_away(), End::Reset);
        let of_backend = json!({"limit": "backend_max_connections", "listener": "edge"});
        assert_eq!(wait_kind(&proxy, "limit_reached", 1), [of_backend]);

        let proxy = Config::new(driver).backend(hand.address()).start();
        proxy.settled_descriptors();
        proxy.limit_descriptors(proxy.first_free_descriptor());
        assert_eq!(proxy.turns_away(), End::Reset);
        proxy.limit_descriptors(1024);
        assert_eq!(wait_kind(&proxy, "limit_reached", 1), [json!({"limit": "descriptors"})]);
    });
}

/// 1. A connection is open when SIGTERM comes. 2. The process leaves, then drains; both are told.
///    3. The second signal cuts, which the log says.
#[test]
fn the_phases_of_a_drain_are_told() {
    each_driver(|driver| {
        let hand = Hand::new();
        let mut proxy =
            Config::new(driver).runtime("drain_timeout = \"10m\"").backend(hand.address()).start();
        let (mut client, _server) = settled_pair(&proxy, &hand);
        proxy.signal(Signal::TERM);
        let phases = wait_kind(&proxy, "phase", 2);
        let ways: Vec<_> = phases.iter().map(|phase| (&phase["from"], &phase["to"])).collect();
        let (running, leaving) = (&json!("running"), &json!("leaving"));
        assert_eq!(ways, [(running, leaving), (leaving, &json!("draining"))]);
        proxy.signal(Signal::TERM);
        assert_eq!(peer::end_of(&mut client), End::Reset);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        let words = proxy.last_words();
        assert!(words.contains("cutting what is left from=\"draining\" reason=\"second signal\""));
    });
}

/// 1. An operator changes 1,100 weights. 2. The last 1,000 events are there, in order, and the
///    others are counted.
#[test]
fn the_oldest_events_go_and_are_counted() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        for weight in 1..=1100 {
            assert_eq!(proxy.change("a", &format!(r#"{{"weight": {weight}}}"#)).status, 200);
        }
        let page = proxy.get("/stats/events").json();
        let seen = page["events"].as_array().unwrap();
        let last = seen.last().unwrap()["seq"].as_u64().unwrap();
        // The first of all is the driver.
        assert!(last > 1100, "{last}");
        assert_eq!((seen.len(), &page["dropped_total"]), (1000, &json!(last - 1000)));
        let weights = seen.iter().filter(|event| is_of_us(event));
        let weights: Vec<u64> = weights.map(|event| event["weight"].as_u64().unwrap()).collect();
        assert_eq!(weights, (1101 - weights.len() as u64..=1100).collect::<Vec<u64>>());
        assert_eq!(events(&proxy, last - 1)[0]["seq"], last);
        assert_eq!(proxy.stats().backend(0, "weight"), 1100);
    });
}

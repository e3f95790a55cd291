//! The last five minutes, second by second: `/stats/history`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kit::{Config, End, Proxy, Refusing, Server, each_driver, let_pass, peer, wait_for};

/// The samples with a number above `after`.
fn history(proxy: &Proxy, after: u64) -> Value {
    let answer = proxy.get(&format!("/stats/history?after={after}"));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

fn sum(column: &Value) -> u64 {
    column.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum()
}

/// The counts of all seconds and buckets of a phase.
fn heat(history: &Value, phase: &str) -> u64 {
    let seconds = history["latency"][phase]["heat"].as_array().unwrap();
    let buckets = seconds.iter().flat_map(|second| second.as_array().unwrap());
    buckets.map(|bucket| bucket[1].as_u64().unwrap()).sum()
}

/// Waits until all seconds together are so.
fn wait_history(proxy: &Proxy, so: impl Fn(&Value) -> bool) -> Value {
    wait_for("seconds", || {
        let history = history(proxy, 0);
        so(&history).then_some(history)
    })
}

/// 1. Ten clients are served, one stays. 2. The seconds together have the counts, the bytes, the
///    latencies and no error. 3. `after` gives only what is newer; all columns are as long.
#[test]
fn the_seconds_together_are_what_happened() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        (0..10).for_each(|_| peer::echo(&mut proxy.connect(), b"some bytes"));
        let _stays = proxy.connect();
        // What is counted and what is measured may come in different seconds.
        let seen = wait_history(&proxy, |seen| {
            let counts = (sum(&seen["accepted"]), sum(&seen["ended"]));
            counts == (11, 10) && heat(seen, "session") == 10
        });
        assert_eq!(seen["active"].as_array().unwrap().last(), Some(&json!(1)));
        assert_eq!((sum(&seen["bytes_up"]), sum(&seen["bytes_down"])), (100, 100));
        assert_eq!((sum(&seen["bytes_copied"]), sum(&seen["bytes_spliced"])), (200, 0));
        assert_eq!((sum(&seen["ended_by"]["client_fin"]), sum(&seen["errors"])), (10, 0));
        assert_eq!(sum(&seen["latency"]["session"]["count"]), 10);
        let newest = seen["newest"].as_u64().unwrap();
        let newer = wait_for("another second", || {
            let newer = history(&proxy, newest);
            (newer["newest"].as_u64() > Some(newest)).then_some(newer)
        });
        assert_eq!(newer["seq"][0], newest + 1);
        let length = newer["seq"].as_array().unwrap().len();
        for column in ["unix_ms", "span_ms", "active", "accepted", "ended", "errors", "bytes_up"] {
            assert_eq!(newer[column].as_array().unwrap().len(), length, "{column}");
        }
        assert_eq!(newer["started_unix_ms"], seen["started_unix_ms"]);
    });
}

/// 1. Nobody serves: three clients are reset, and that is an error each.
#[test]
fn an_end_that_should_not_be_is_an_error() {
    each_driver(|driver| {
        let dead = Refusing::new();
        let proxy = Config::new(driver).backend(dead.address).start();
        (0..3).for_each(|_| assert_eq!(proxy.turns_away(), End::Reset));
        let seen = wait_history(&proxy, |seen| sum(&seen["ended"]) == 3);
        assert_eq!((sum(&seen["errors"]), sum(&seen["ended_by"]["connect_refused"])), (3, 3));
        assert_eq!(heat(&seen, "connect"), 0);
    });
}

/// 1. The process stands still between two samples, for longer than a second. 2. The sample after
///    that is longer, and none is shorter than a second: whoever divides by it sees no spike.
#[test]
fn no_second_is_shorter_because_one_was_longer() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let begun = wait_history(&proxy, |seen| seen["newest"].as_u64() > Some(0));
        proxy.stop();
        let_pass(Duration::from_millis(1400));
        proxy.go_on();
        let after = begun["newest"].as_u64().unwrap() + 2;
        let seen = wait_history(&proxy, |seen| seen["newest"].as_u64() > Some(after));
        let spans: Vec<u64> =
            seen["span_ms"].as_array().unwrap().iter().map(|span| span.as_u64().unwrap()).collect();
        assert!(spans.iter().any(|span| *span >= 1400), "{spans:?}");
        assert!(spans.iter().all(|span| *span >= 1000), "{spans:?}");
    });
}

/// 1. What is asked for is not understood: 400, with the value and the way out. 2. The page is
///    named where another is not found.
#[test]
fn a_question_that_is_not_understood_is_refused_with_a_sentence() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        for query in ["after=", "after=-1", "since=1"] {
            let answer = proxy.get(&format!("/stats/history?{query}"));
            let rule = "not understood (write after=SEQ, SEQ of a sample)";
            assert_eq!((answer.status, answer.body), (400, format!("{query:?}: {rule}\n")));
        }
        assert!(proxy.get("/past").body.contains(" /stats/history,"));
    });
}

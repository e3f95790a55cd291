//! A shard that is busy with bulk still has time for others.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    kit::{End, Hand, Proxy, each_driver_alone, peer},
    pair, proxy_and_hand,
};

/// Streams that move as fast as they can until dropped.
struct Bulk {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Bulk {
    fn start(proxy: &Proxy, hand: &Hand, streams: usize, piece: usize) -> Bulk {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..streams {
            let (mut client, mut server): (TcpStream, TcpStream) = pair(proxy, hand);
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                let piece = vec![1; piece];
                while !stop.load(Ordering::Relaxed) {
                    server.write_all(&piece).unwrap();
                }
            }));
            threads.push(thread::spawn(move || {
                let mut buffer = vec![0; 256 * 1024];
                while client.read(&mut buffer).unwrap() > 0 {}
            }));
        }
        Bulk { stop, threads }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// 1. Six bulk streams saturate the only shard. 2. Twenty clients in turn connect and get an
///    answer, none of them waits long. 3. A connection that was silent all the while is ended by
///    its idle timeout, about when it was due. 4. The bulk has moved on meanwhile.
#[test]
fn a_saturated_shard_delays_neither_a_new_client_nor_a_timer() {
    each_driver_alone(|driver| {
        for splice in ["off", "on"] {
            let line = format!("splice = \"{splice}\"\nidle_timeout = \"2s\"");
            let (proxy, hand) = proxy_and_hand(driver, &line);
            let bulk = Bulk::start(&proxy, &hand, 6, 256 * 1024);
            let before = proxy.wait_stats("bulk", |s| s.listener("bytes_down_total") > 64 << 20);
            let silent_since = Instant::now();
            let (mut silent, _its_server) = pair(&proxy, &hand);
            let worst = (0..20).map(|_| round_trip(&proxy, &hand)).max().unwrap();
            assert!(worst < Duration::from_secs(3), "a new client waited {worst:?} ({splice})");
            assert_eq!(peer::end_of(&mut silent), End::Reset);
            let fired = silent_since.elapsed();
            assert!(fired >= Duration::from_secs(2), "too early: {fired:?}");
            assert!(fired < Duration::from_secs(8), "too late: {fired:?} ({splice})");
            let after = proxy.wait_stats("the idle timeout", |s| s.ended_in_all() > 20);
            let moved = after.listener("bytes_down_total") - before.listener("bytes_down_total");
            assert!(moved > 16 << 20, "bulk stood still: {moved}");
            assert_eq!(after.ended("idle_timeout"), 1, "a busy stream was taken for an idle one");
            let turn_max = Duration::from_micros(after.shards("turn_max_us"));
            assert!(turn_max < Duration::from_millis(500), "a turn of {turn_max:?} ({splice})");
            bulk.finish();
        }
    });
}

/// Connect, ask, answer.
fn round_trip(proxy: &Proxy, hand: &Hand) -> Duration {
    let began = Instant::now();
    let (mut client, mut server) = pair(proxy, hand);
    peer::pass(&mut client, &mut server, b"ping");
    peer::pass(&mut server, &mut client, b"pong");
    began.elapsed()
}

/// 1. One stream writes 4 KiB at a time, as fast as it can, so that there is always something and
///    never much. 2. Others have their turn all the same.
#[test]
fn a_stream_that_never_runs_dry_leaves_others_their_turn() {
    each_driver_alone(|driver| {
        for splice in ["off", "on", "auto"] {
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let bulk = Bulk::start(&proxy, &hand, 1, 4 * 1024);
            proxy.wait_stats("bulk", |s| s.listener("bytes_down_total") > 32 << 20);
            let worst = (0..20).map(|_| round_trip(&proxy, &hand)).max().unwrap();
            assert!(worst < Duration::from_secs(3), "a new client waited {worst:?} ({splice})");
            let turn_max = Duration::from_micros(proxy.stats().shards("turn_max_us"));
            assert!(turn_max < Duration::from_millis(500), "a turn of {turn_max:?} ({splice})");
            bulk.finish();
        }
    });
}

//! Connections that we end ourselves: what is queued comes first.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use rustix::process::Signal;

use crate::kit::{
    Config, End, Hand, Proxy, Seed, Seen, each_driver, let_pass, pause, peer, wait_until,
};

/// More than any kernel between proxy and client takes at once.
const BYTES: u64 = 2 << 20;

/// A proxy before a hand, whose kernel takes all of an answer, and a client that does not read yet.
fn slow_pair(driver: &'static str, runtime: &str, listener: &str) -> (Proxy, TcpStream, TcpStream) {
    let hand = Hand::new();
    let config = Config::new(driver).runtime("unsent_max = \"0B\"").runtime(runtime);
    let proxy = config.listener(listener).backend(hand.address()).start();
    let client = proxy.connect();
    let server = hand.take();
    (proxy, client, server)
}

/// The server answers, and all of it is in the proxy's kernel.
fn answer(proxy: &Proxy, server: &mut TcpStream) -> String {
    let digest = peer::write_bulk(server, &mut Seed::new().rng(0), BYTES);
    proxy.wait_stats("all of it passed on", |s| s.listener("bytes_down_total") == BYTES);
    digest
}

/// Reads in pieces with rests, for three seconds at least.
fn read_slowly(client: &mut TcpStream) -> Seen {
    peer::read_ragged(client, &mut |_| {
        pause(Duration::from_millis(50));
        32 * 1024
    })
}

/// 1. A server answers and ends; the client reads for longer than `half_close_timeout`. 2. It gets
///    everything and the end: who acknowledges is not silent.
#[test]
fn a_slow_reader_outlives_the_half_close_timeout() {
    each_driver(|driver| {
        let (proxy, mut client, mut server) =
            slow_pair(driver, "", "half_close_timeout = \"1s\"\nidle_timeout = \"1s\"");
        let digest = answer(&proxy, &mut server);
        peer::finish(&server);
        let seen = read_slowly(&mut client);
        assert_eq!((seen.bytes, seen.digest, seen.end), (BYTES, digest, End::Fin));
        drop(client);
        proxy.wait_ended_only("server_fin", 1);
    });
}

/// 1. A server has answered and ended; the client reads slowly, and goes on sending. 2. The process
///    drains, its time is over. 3. The client gets everything and the end all the same.
#[test]
fn at_the_end_of_a_drain_a_finished_answer_is_delivered() {
    each_driver(|driver| {
        let (mut proxy, mut client, mut server) =
            slow_pair(driver, "drain_timeout = \"100ms\"", "");
        let digest = answer(&proxy, &mut server);
        peer::finish(&server);
        wait_until("the FIN at the proxy", || ringway::sock::unsent(&server) == 0);
        proxy.signal(Signal::TERM);
        assert_eq!(peer::end_of(&mut server), End::Reset);
        client.write_all(b"nobody listens any more").unwrap();
        let seen = read_slowly(&mut client);
        assert_eq!((seen.bytes, seen.digest, seen.end), (BYTES, digest, End::Fin));
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert!(proxy.last_words().replace('\\', "").contains("\"drained\":1"));
    });
}

/// 1. A server has said much and may say more; the client reads slowly. 2. The process drains, its
///    time is over. 3. What was in the proxy's hands arrives, and then a reset: an end would say
///    that this was all.
#[test]
fn at_the_end_of_a_drain_what_is_queued_comes_before_the_reset() {
    each_driver(|driver| {
        let (mut proxy, mut client, mut server) =
            slow_pair(driver, "drain_timeout = \"100ms\"", "");
        let digest = answer(&proxy, &mut server);
        proxy.signal(Signal::TERM);
        assert_eq!(peer::end_of(&mut server), End::Reset);
        let seen = peer::read_ragged(&mut client, &mut |_| {
            pause(Duration::from_millis(2));
            32 * 1024
        });
        assert_eq!((seen.bytes, seen.digest, seen.end), (BYTES, digest, End::Reset));
        assert_eq!(proxy.wait_exit().code(), Some(0));
    });
}

/// 1. A client stops reading for good. 2. `idle_timeout` ends it, with a reset, after its time.
#[test]
fn a_reader_that_has_stopped_is_no_slow_one() {
    each_driver(|driver| {
        let (proxy, mut client, mut server) = slow_pair(driver, "", "idle_timeout = \"1s\"");
        peer::write_bulk(&mut server, &mut Seed::new().rng(0), BYTES);
        let_pass(Duration::from_secs(1));
        proxy.wait_ended_only("idle_timeout", 1);
        let seen = peer::read_to_end(&mut client);
        assert_eq!((seen.end, seen.bytes < BYTES), (End::Reset, true));
    });
}

/// 1. A client does not read; what the proxy has received and its kernel does not take is held in
///    buffers and pipes. 2. The process drains, its time is over, and the client reads. 3. It gets
///    what was held as well, and then the reset.
#[test]
fn at_the_end_of_a_drain_what_is_held_comes_before_the_reset() {
    each_driver(|driver| {
        for splice in ["off", "on", "auto"] {
            let hand = Hand::new();
            let config = Config::new(driver).runtime("drain_timeout = \"100ms\"");
            let config = config.listener(&format!("splice = \"{splice}\""));
            let mut proxy = config.backend(hand.address()).start();
            let mut client = peer::connect_narrow(proxy.edge[0], 64 * 1024);
            let mut server = hand.take();
            peer::write_until_full(&mut server, &mut Seed::new().rng(0));
            let stalled = proxy.wait_stats("bytes in hand", |s| s.held() > 0);
            let before = stalled.listener("bytes_down_total");
            proxy.signal(Signal::TERM);
            assert_eq!(peer::read_to_end(&mut server).end, End::Reset);
            let seen = peer::read_to_end(&mut client);
            assert_eq!(seen.end, End::Reset);
            assert!(seen.bytes > before, "{splice}: {} of {before} and what was held", seen.bytes);
            assert_eq!(proxy.wait_exit().code(), Some(0));
        }
    });
}

/// 1. A client has sent much, ended, and reads late. Its server reads nothing of it and talks, a
///    little at a time. 2. The process drains, its time is over, and the client reads. 3. It gets
///    the beginning of what was said, without a hole: behind what was dropped comes nothing.
#[test]
fn nothing_is_delivered_behind_what_a_cut_has_dropped() {
    each_driver(|driver| {
        let hand = Hand::narrow(16 * 1024);
        let config = Config::new(driver).runtime("drain_timeout = \"100ms\"");
        let proxy = config.listener("splice = \"off\"").backend(hand.address()).start();
        let mut client = peer::connect_narrow(proxy.edge[0], 64 * 1024);
        let mut server = hand.take();
        const ASKED: usize = 96 * 1024;
        client.write_all(&[b'?'; ASKED]).unwrap();
        peer::finish(&client);
        proxy.wait_stats("all of it passed on", |s| s.listener("bytes_up_total") == ASKED as u64);
        let mut said: u64 = 0;
        let mut say = |numbers: u64| {
            let words: Vec<u8> = (said..said + numbers).flat_map(u64::to_be_bytes).collect();
            said += numbers;
            server.write_all(&words).is_ok()
        };
        assert!(say(128 * 1024));
        let stalled = proxy.wait_stats("bytes in hand", |s| s.held() > 0);
        let before = stalled.listener("bytes_down_total") as usize;
        proxy.signal(Signal::TERM);
        wait_until("the cut", || proxy.stderr().contains("cutting what is left"));
        let heard = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let (mut all, mut piece) = (Vec::new(), vec![0; 16 * 1024]);
                while let Ok(n @ 1..) = client.read(&mut piece) {
                    all.extend_from_slice(&piece[..n]);
                    pause(Duration::from_millis(5));
                }
                all
            });
            while !reading.is_finished() && say(500) {
                pause(Duration::from_millis(1));
            }
            reading.join().unwrap()
        });
        for (number, word) in heard.chunks_exact(8).enumerate() {
            assert_eq!(word, (number as u64).to_be_bytes(), "a hole before word {number}");
        }
        assert!(heard.len() > before, "{} of {before} and what was held", heard.len());
    });
}

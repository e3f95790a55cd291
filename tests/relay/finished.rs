//! Clients that have ended their direction and take their time over the answer.

use std::{
    io::{ErrorKind, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::{
    kit::{End, Proxy, Seed, each_driver, peer, wait_until},
    pair, proxy_and_hand,
};

const SPLICE: [&str; 3] = ["off", "on", "auto"];

/// Tells the story on every path at the same time.
fn each_path(story: impl Fn(&'static str) + Sync) {
    let story = &story;
    thread::scope(|scope| {
        for splice in SPLICE {
            scope.spawn(move || story(splice));
        }
    });
}

/// The server has heard all that the client had to say.
fn asked(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"question").unwrap();
    peer::finish(client);
    let asked = peer::read_to_end(server);
    assert_eq!((asked.bytes, asked.end), (8, End::Fin));
}

/// 1. A client asks, ends its direction and does not read. 2. The server answers until nobody takes
///    a byte any more, and tries for another second. 3. The proxy uses next to no CPU time in that
///    second. 4. The client reads: every byte arrives.
#[test]
fn a_finished_client_that_does_not_read_costs_no_cpu_time() {
    each_driver(|driver| {
        each_path(|splice| {
            let seed = Seed::new();
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let (mut client, mut server) = pair(&proxy, &hand);
            asked(&mut client, &mut server);
            let (bytes, digest) = peer::write_until_full(&mut server, &mut seed.rng(0));
            assert!(bytes > 1 << 20, "only {bytes} bytes fill the way");
            server.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            let (used, window) = proxy.cpu_during(|| {
                let refused = server.write(b"more").unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::WouldBlock);
            });
            assert!(window >= Duration::from_secs(1) && used < window / 10, "{used:?} ({splice})");
            peer::finish(&server);
            let seen = peer::read_to_end(&mut client);
            assert_eq!((seen.bytes, seen.digest, seen.end), (bytes, digest, End::Fin));
            proxy.wait_ended_only("client_fin", 1);
        });
    });
}

/// 1. A client asks, ends its direction and does not read. 2. The server answers until the proxy
///    cannot pass it on, and ends too; its last words and its end have reached the proxy. 3. The
///    client reads only after longer than a reset would be given. 4. Every byte arrives, and nobody
///    is said to have reset anything.
#[test]
fn two_ends_in_order_wait_for_a_client_that_reads_late() {
    const STALL: Duration = Duration::from_millis(6500);
    each_driver(|driver| {
        each_path(|splice| {
            let seed = Seed::new();
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let mut client = peer::connect_narrow(proxy.edge[0], 8 * 1024);
            let mut server = hand.take();
            asked(&mut client, &mut server);
            let (bytes, digest) = answer_until_held_up(&proxy, &mut server, &mut seed.rng(0));
            peer::finish(&server);
            wait_until("all of it at the proxy", || ringway::sock::unsent(&server) == 0);
            let stalled = Instant::now();
            proxy.wait_stats("a long stall", |s| {
                assert_eq!(s.ended_in_all(), 0, "{}", s.without_latency());
                stalled.elapsed() > STALL
            });
            let seen = peer::read_to_end(&mut client);
            assert_eq!((seen.bytes, seen.digest, seen.end), (bytes, digest, End::Fin));
            proxy.wait_ended_only("client_fin", 1);
        });
    });
}

/// Looks at the proxy that have to see the same: its kernel finds more room for a while yet.
const LOOKS: usize = 100;

/// Sends pieces that the proxy's kernel has room for, until the proxy holds bytes that it cannot
/// pass on, and one more; how much, and the digest.
pub fn answer_until_held_up(
    proxy: &Proxy,
    server: &mut TcpStream,
    rng: &mut fastrand::Rng,
) -> (u64, String) {
    let (mut hash, mut bytes, mut held_up) = (Sha256::new(), 0, false);
    loop {
        let mut piece = vec![0; 32 * 1024];
        rng.fill(&mut piece);
        hash.update(&piece);
        server.write_all(&piece).unwrap();
        bytes += piece.len() as u64;
        if held_up {
            return (bytes, peer::hex(hash));
        }
        let (mut before, mut same) = (u64::MAX, 0);
        proxy.wait_stats("passed on, or held up", |s| {
            let now = s.listener("bytes_down_total");
            let held = s.held();
            same = if now == before && held > 0 { same + 1 } else { 0 };
            before = now;
            held_up = same == LOOKS;
            held_up || now == bytes
        });
    }
}

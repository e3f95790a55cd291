//! Urgent data: the byte itself may be lost, and nothing else.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use rustix::net::{SendFlags, send};

use crate::{
    kit::{End, Proxy, Seed, each_driver, let_pass, peer, wait_until},
    pair, proxy_and_hand,
};

const BULK: usize = 1 << 20;
const URGENT: u8 = b'!';

/// Tells the story on every path and in both directions, all at the same time.
fn each_path(story: impl Fn(&'static str, bool) + Sync) {
    let story = &story;
    thread::scope(|scope| {
        for splice in ["off", "on", "auto"] {
            for up in [true, false] {
                scope.spawn(move || story(splice, up));
            }
        }
    });
}

fn bulk(seed: &Seed, part: u64) -> Vec<u8> {
    let mut bytes = vec![0; BULK];
    seed.rng(part).fill(&mut bytes);
    bytes
}

fn send_urgent(stream: &TcpStream) {
    assert_eq!(send(stream, &[URGENT], SendFlags::OOB).unwrap(), 1);
}

/// Sends bulk until it is spliced, where it may be; everything has arrived then.
fn warm_up(proxy: &Proxy, splice: &str, from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    wait_until("the path that is wanted", || {
        thread::scope(|scope| {
            scope.spawn(|| from.write_all(bytes).unwrap());
            peer::expect(to, bytes);
        });
        splice == "off" || proxy.stats().listener("bytes_spliced_total") > 0
    });
}

/// All of it arrives, with the urgent byte or without, and then the end.
fn expect_all(to: &mut TcpStream, (before, after): (&[u8], &[u8]), end: End) {
    let seen = peer::read_to_end(to);
    let without = [before, after].concat();
    let with = [before, &[URGENT], after].concat();
    assert_eq!(seen.end, end);
    assert!(
        [peer::digest(&without), peer::digest(&with)].contains(&seen.digest),
        "{} bytes came for {}",
        seen.bytes,
        without.len()
    );
}

/// 1. In the middle of bulk comes an urgent byte, then 1 MiB more and the end. 2. Meanwhile another
///    client is served. 3. Every other byte arrives, and the end.
#[test]
fn an_urgent_byte_in_the_middle_costs_no_other_byte() {
    each_driver(|driver| {
        each_path(|splice, up| {
            let seed = Seed::new();
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let (client, server) = pair(&proxy, &hand);
            let (mut from, mut to) = if up { (client, server) } else { (server, client) };
            let (before, after) = (bulk(&seed, 0), bulk(&seed, 1));
            warm_up(&proxy, splice, &mut from, &mut to, &before);
            thread::scope(|scope| {
                scope.spawn(|| {
                    from.write_all(&before).unwrap();
                    send_urgent(&from);
                    from.write_all(&after).unwrap();
                    peer::finish(&from);
                });
                let (mut client, mut server) = pair(&proxy, &hand);
                peer::pass(&mut client, &mut server, b"served");
                peer::pass(&mut server, &mut client, b"meanwhile");
                expect_all(&mut to, (&before, &after), End::Fin);
            });
        });
    });
}

/// 1. After bulk come an urgent byte and a few others, and then nothing for a second. 2. Another
///    client is served, and the proxy uses next to no CPU time in that second. 3. 1 MiB more comes,
///    and the end: every other byte arrives.
#[test]
fn silence_after_an_urgent_byte_costs_no_cpu_time() {
    const SILENCE: Duration = Duration::from_secs(1);
    each_driver(|driver| {
        each_path(|splice, up| {
            let seed = Seed::new();
            let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
            let mut second = pair(&proxy, &hand);
            let (client, server) = pair(&proxy, &hand);
            let (mut from, mut to) = if up { (client, server) } else { (server, client) };
            let bytes = bulk(&seed, 0);
            warm_up(&proxy, splice, &mut from, &mut to, &bytes);
            send_urgent(&from);
            from.write_all(b"a few others").unwrap();
            peer::pass(&mut second.0, &mut second.1, b"served");
            peer::pass(&mut second.1, &mut second.0, b"meanwhile");
            let (used, window) = proxy.cpu_during(|| let_pass(SILENCE));
            assert!(used < window / 10, "{used:?} of {window:?} ({splice}, up: {up})");
            thread::scope(|scope| {
                scope.spawn(|| {
                    from.write_all(&bytes).unwrap();
                    peer::finish(&from);
                });
                let after = [b"a few others", &bytes[..]].concat();
                expect_all(&mut to, (b"", &after), End::Fin);
            });
        });
    });
}

/// 1. While the process stands still, a few bytes, an urgent one, a few more and the end arrive: a
///    FIN or a reset. 2. The proxy learns all of it at once. 3. What stands behind the urgent byte
///    is passed on before the end.
#[test]
fn an_end_that_waits_behind_an_urgent_byte_hides_nothing() {
    each_driver(|driver| {
        each_path(|splice, up| {
            for end in [End::Fin, End::Reset] {
                let seed = Seed::new();
                let (proxy, hand) = proxy_and_hand(driver, &format!("splice = \"{splice}\""));
                let (client, server) = pair(&proxy, &hand);
                let (mut from, mut to) = if up { (client, server) } else { (server, client) };
                warm_up(&proxy, splice, &mut from, &mut to, &bulk(&seed, 0));
                proxy.stop();
                from.write_all(b"before").unwrap();
                send_urgent(&from);
                from.write_all(b"and behind").unwrap();
                if end == End::Fin {
                    peer::finish(&from);
                }
                wait_until("all of it at the proxy", || ringway::sock::unsent(&from) == 0);
                if end == End::Reset {
                    peer::reset(from);
                }
                proxy.go_on();
                expect_all(&mut to, (b"before", b"and behind"), end);
            }
        });
    });
}

//! What a side sent before it was gone, on its way to a client that reads slowly.

use std::{
    io::Write,
    net::{SocketAddr, SocketAddrV4, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    finished::answer_until_held_up,
    kit::{Config, End, Hand, Proxy, Seed, Seen, each_driver, kernel, pause, peer, wait_until},
    pair,
};

/// Tells the story on every path at the same time; what the kernel takes of it is not bounded.
fn each_path(driver: &'static str, story: impl Fn(Proxy, Hand) + Sync) {
    let story = &story;
    thread::scope(|scope| {
        for splice in ["off", "on", "auto"] {
            let hand = Hand::new();
            let config = Config::new(driver).runtime("unsent_max = \"0B\"");
            let config = config.listener(&format!("splice = \"{splice}\""));
            let proxy = config.backend(hand.address()).start();
            scope.spawn(move || story(proxy, hand));
        }
    });
}

/// Of the connection between proxy and server: the proxy's end and the server's.
type Leg = (SocketAddrV4, SocketAddrV4);

/// The server, all of whose words are at the proxy, ends its direction and is gone.
fn close(server: TcpStream) -> Leg {
    wait_until("all of it at the proxy", || ringway::sock::unsent(&server) == 0);
    peer::finish(&server);
    let ends = [server.peer_addr(), server.local_addr()].map(Result::unwrap);
    let [SocketAddr::V4(ours), SocketAddr::V4(its)] = ends else { panic!("no IPv4: {ends:?}") };
    assert!(kernel::has_connection(ours, its), "tcp_diag does not know {ours} to {its}");
    drop(server);
    (ours, its)
}

/// The client goes on sending to a server that is gone, whose kernel says so, and ends. All of that
/// is at the proxy before the client reads.
fn upload_in_vain(proxy: &Proxy, client: &mut TcpStream, (ours, its): Leg) {
    client.write_all(b"first chunk").unwrap();
    proxy.wait_stats("the chunk that is answered by a reset", |s| {
        s.listener("bytes_up_total") == b"first chunk".len() as u64
    });
    // On a busy machine the kernel may carry the reset later than the client's next words.
    wait_until("the reset at the proxy's kernel", || !kernel::has_connection(ours, its));
    client.write_all(b"second chunk").unwrap();
    peer::finish(client);
    wait_until("the FIN at the proxy", || ringway::sock::unsent(&*client) == 0);
}

/// Takes its time, and less than a reset is given.
fn read_slowly(client: &mut TcpStream) -> Seen {
    peer::read_ragged(client, &mut |_| {
        pause(Duration::from_millis(2));
        16 * 1024
    })
}

/// 1. The server answers with more than the proxy can pass on, ends and closes; the client does not
///    read. 2. The client sends a chunk, which the server's kernel answers with a reset, another,
///    and its end. 3. It reads slowly: all of the answer arrives, and then the reset.
#[test]
fn an_answer_that_is_held_up_survives_the_servers_reset() {
    each_driver(|driver| {
        each_path(driver, |proxy, hand| {
            let seed = Seed::new();
            let mut client = peer::connect_narrow(proxy.edge[0], 8 * 1024);
            let mut server = hand.take();
            let (bytes, digest) = answer_until_held_up(&proxy, &mut server, &mut seed.rng(0));
            let leg = close(server);
            let held = proxy.stats();
            assert!(held.held() > 0);
            upload_in_vain(&proxy, &mut client, leg);
            let seen = read_slowly(&mut client);
            assert_eq!((seen.bytes, seen.digest, seen.end), (bytes, digest, End::Reset));
            proxy.wait_ended_only("server_reset", 1);
        });
    });
}

/// 1. The server answers, ends and closes; the proxy has passed all of that on to its kernel, and
///    the client does not read. 2. The client sends a chunk, which the server's kernel answers with
///    a reset, another, and its end: both directions have ended. 3. It reads slowly: all of the
///    answer arrives, and an end.
#[test]
fn an_answer_in_the_kernels_hands_survives_both_ends_and_a_reset() {
    const BYTES: u64 = 2 << 20;
    each_driver(|driver| {
        each_path(driver, |proxy, hand| {
            let seed = Seed::new();
            let (mut client, mut server) = pair(&proxy, &hand);
            let digest = peer::write_bulk(&mut server, &mut seed.rng(0), BYTES);
            let leg = close(server);
            proxy.wait_stats("all of it passed on", |s| s.listener("bytes_down_total") == BYTES);
            assert!(unread(&client) < BYTES, "nothing is left to be flushed");
            upload_in_vain(&proxy, &mut client, leg);
            let seen = read_slowly(&mut client);
            assert_eq!((seen.bytes, seen.digest), (BYTES, digest));
            proxy.wait_ended_only("server_reset", 1);
        });
    });
}

/// What this kernel has taken in and nobody has read.
fn unread(stream: &TcpStream) -> u64 {
    rustix::io::ioctl_fionread(stream).unwrap()
}

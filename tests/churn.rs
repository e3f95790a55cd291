//! Connections by the tens of thousands, and then nothing is left of them.
//!
//! `RINGWAY_CHURN=100000 cargo test --release --test churn` makes that many for each driver.

#[path = "churn/flapping.rs"]
mod flapping;
mod kit;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use kit::{Config, Proxy, Seed, Stats, each_driver_alone, peer};

const CLIENTS: u64 = 16;

/// For each driver, unless `RINGWAY_CHURN` says otherwise.
const CONNECTIONS: u64 = 50_000;

/// An echo with a fixed number of threads, each serving one connection at a time: as many as there
/// are clients, and some for those whose end is still on its way.
struct Echoes {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Echoes {
    fn start(threads: usize) -> Echoes {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        socket2::SockRef::from(&*listener).listen(4096).unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let serve = || {
            let (listener, stop) = (Arc::clone(&listener), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    listener.accept().into_iter().for_each(|(stream, _)| echo(stream));
                }
            })
        };
        Echoes { address, threads: (0..threads).map(|_| serve()).collect(), stop }
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 256];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

impl Drop for Echoes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for _ in &self.threads {
            drop(TcpStream::connect(self.address));
        }
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// One connection: an echo, or a reset at some moment of it. True when it was reset.
fn one(edge: SocketAddr, rng: &mut fastrand::Rng) -> bool {
    let mut stream = peer::connect(edge);
    let message = &[7; 64][..rng.usize(1..=64)];
    // Before a byte, with bytes on their way, after the answer.
    let reset_at = if rng.u8(..10) == 0 { rng.u8(..3) } else { u8::MAX };
    if reset_at == 0 {
        peer::reset(stream);
        return true;
    }
    stream.write_all(message).unwrap();
    if reset_at == 1 {
        peer::reset(stream);
        return true;
    }
    peer::expect(&mut stream, message);
    if reset_at == 2 {
        peer::reset(stream);
        return true;
    }
    peer::finish(&stream);
    assert_eq!(peer::end_of(&mut stream), kit::End::Fin);
    false
}

/// Makes the connections; how many were reset.
fn churn(edge: SocketAddr, connections: u64, seed: &Seed) -> u64 {
    let left = AtomicU64::new(connections);
    let take = || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    };
    let resets = |client: u64| {
        let mut rng = seed.rng(client);
        let mut resets = 0;
        while take() {
            resets += u64::from(one(edge, &mut rng));
        }
        resets
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|i| scope.spawn(move || resets(i))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    })
}

/// Whether nothing is held, neither in the numbers nor in the process.
fn nothing_is_left(proxy: &Proxy, stats: &Stats, descriptors: usize) -> bool {
    // The connection that asked is one of the descriptors, until it is closed.
    stats.listener("connections_active") == 0
        && stats.0["connections_active"] == 0
        && stats.backend(0, "connections_active") == 0
        && stats.shards("connections_active") == 0
        && stats.shards("buffers_in_use") == 0
        && stats.shards("pipes_in_use") == 0
        && proxy.descriptors() == descriptors + 2 * stats.shards("pipes_open") as usize
}

/// 1. Tens of thousands of connections are made, a tenth of them reset by the client at some
///    moment. 2. Every one is accounted for. 3. Descriptors, buffers, pipes, places and in-flight
///    counts are exactly as at the start.
#[test]
fn after_a_churn_nothing_is_left() {
    let given = std::env::var("RINGWAY_CHURN").ok().and_then(|number| number.parse().ok());
    let connections = given.unwrap_or(CONNECTIONS);
    each_driver_alone(|driver| {
        let (seed, echoes) = (Seed::new(), Echoes::start(2 * CLIENTS as usize));
        let proxy = Config::new(driver).shards(2).backend(echoes.address).start();
        let descriptors = proxy.settled_descriptors();
        let resets = churn(proxy.edge[0], connections, &seed);
        assert!(resets > 0 && resets < connections / 5, "{resets} of {connections}");
        let stats = proxy.wait_stats("nothing left", |s| nothing_is_left(&proxy, s, descriptors));
        assert_accounted(&stats, connections, resets);
        proxy.wait_stats("a session for each established connection", |s| {
            s.phase("session")["count"] == s.backend(0, "connections_total")
        });
    });
}

/// A client that resets early may be gone before it is accepted, and then it never was.
fn assert_accounted(stats: &Stats, connections: u64, resets: u64) {
    let accepted = stats.listener("accepted_total");
    assert!(accepted <= connections && accepted >= connections - resets, "{accepted}");
    assert_eq!(stats.ended_in_all(), accepted);
    assert_eq!(stats.ended("client_fin"), connections - resets, "{}", stats.without_latency());
    assert_eq!(stats.ended("client_reset"), accepted - (connections - resets));
}

//! Every kind of client that means no good, all at once, beside some that mean well.
//!
//! `RINGWAY_HOSTILE=1000 RINGWAY_HOSTILE_SECONDS=60 cargo test --release --test life hostile --
//! --nocapture` has a thousand of each kind and 300 at the admin endpoint, one driver after the
//! other, and prints memory and what probes took.

use std::{
    fs,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    str::FromStr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::kit::{
    Config, Proxy, Server, Stats, each_driver, each_driver_alone, let_pass, pause, peer, wait_until,
};

const SMALL: &[u8] = b"GET /small\n";
const BIG: &[u8] = b"GET /large\n";
const HALF: &[u8] = b"GET /sma";
const ANSWER: &[u8] = b"this is all there is to say";

/// Who means well, and how long each of them rests between two connections: a client for each
/// local port would be more than this host has.
const GOOD: usize = 4;
const REST: Duration = Duration::from_millis(20);

/// Between two looks at whether a hostile client has to come again.
const LOOK: Duration = Duration::from_millis(50);

/// How many of each kind, and for how long.
#[derive(Clone, Copy)]
struct Scale {
    each: usize,
    time: Duration,
    is_full: bool,
}

impl Scale {
    fn of_environment() -> Scale {
        let given = number("RINGWAY_HOSTILE");
        let seconds = number("RINGWAY_HOSTILE_SECONDS").unwrap_or(10);
        let time = Duration::from_secs(seconds);
        Scale { each: given.unwrap_or(200), time, is_full: given.is_some() }
    }

    fn at_admin(self) -> usize {
        self.each * 3 / 10
    }

    /// How long a server waits for the rest of a request: each half one meets that a few times.
    fn patience(self) -> Duration {
        self.time / 4
    }
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A server like those of HTTP: it waits for ever for a first byte, and not long for the rest.
fn server(patience: Duration) -> Server {
    Server::new(move |mut stream| {
        let _ = serve(&mut stream, patience);
    })
}

fn serve(stream: &mut TcpStream, patience: Duration) -> io::Result<()> {
    // Its own queues are not what is looked at.
    SockRef::from(&*stream).set_send_buffer_size(64 << 10)?;
    stream.set_write_timeout(None)?;
    stream.set_read_timeout(None)?;
    let mut request = [0; SMALL.len()];
    stream.read_exact(&mut request[..1])?;
    stream.set_read_timeout(Some(patience))?;
    stream.read_exact(&mut request[1..])?;
    if request == SMALL {
        return stream.write_all(ANSWER);
    }
    loop {
        stream.write_all(&[b'x'; 16 << 10])?;
    }
}

/// Clients that say something, read nothing, and come again when they are thrown out.
struct Crowd {
    to: SocketAddr,
    words: &'static [u8],
    streams: Vec<TcpStream>,
}

impl Crowd {
    fn gather(to: SocketAddr, words: &'static [u8], count: usize) -> Crowd {
        let streams = (0..count).map(|_| come(to, words)).collect();
        Crowd { to, words, streams }
    }

    /// Whoever was thrown out comes again, until it is over; gives how many had to.
    fn stay(&mut self, is_over: &AtomicBool) -> u64 {
        let mut again = 0;
        while !is_over.load(Relaxed) {
            for stream in self.streams.iter_mut().filter(|stream| is_gone(stream)) {
                *stream = come(self.to, self.words);
                again += 1;
            }
            pause(LOOK);
        }
        again
    }
}

fn come(to: SocketAddr, words: &[u8]) -> TcpStream {
    let mut stream = peer::connect(to);
    // It may be over already.
    let _ = stream.write_all(words);
    stream.set_nonblocking(true).unwrap();
    stream
}

/// Looks without reading.
fn is_gone(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// One connection after the other; gives what went wrong.
fn mean_well(edge: SocketAddr, served: &AtomicU64, is_over: &AtomicBool) -> Vec<String> {
    let mut failed = Vec::new();
    while !is_over.load(Relaxed) {
        match ask(edge) {
            Ok(()) => _ = served.fetch_add(1, Relaxed),
            Err(error) => failed.push(error.to_string()),
        }
        pause(REST);
    }
    failed
}

fn ask(edge: SocketAddr) -> io::Result<()> {
    let (mut client, mut answer) = (peer::connect(edge), Vec::new());
    client.write_all(SMALL)?;
    client.read_to_end(&mut answer)?;
    match answer == ANSWER {
        true => Ok(()),
        false => Err(io::Error::other(format!("answered {:?}", answer.escape_ascii().to_string()))),
    }
}

/// Asks as an orchestrator does; gives what each answer took.
fn probe(proxy: &Proxy, is_over: &AtomicBool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !is_over.load(Relaxed) {
        for path in ["/health", "/ready"] {
            let began = Instant::now();
            assert_eq!(proxy.get(path).status, 200, "{path}");
            took.push(began.elapsed());
        }
        pause(LOOK);
    }
    took.sort_unstable();
    took
}

/// Kernel memory of all TCP sockets of this host, and memory of the process, both in KiB.
fn memory(proxy: &Proxy) -> (u64, u64) {
    let field = |path: &str, line: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with(line)).unwrap_or_default();
        let mut words = line.split_whitespace().skip_while(|word| *word != key).skip(1);
        words.next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    let rollup = format!("/proc/{}/smaps_rollup", proxy.pid().as_raw_nonzero());
    (4 * field("/proc/net/sockstat", "TCP:", "mem"), field(&rollup, "Pss:", "Pss:"))
}

/// 1. Clients stop reading, say nothing, or half of a request, and say nothing to the admin
///    endpoint, all at once; who is thrown out comes again. 2. All the while clients that mean well
///    are served, without a failure, and probes are answered. 3. No server is left out or found
///    ill. 4. When they have gone, everything that they held is given back.
#[test]
fn hostile_clients_of_all_kinds_at_once_harm_nobody() {
    let scale = Scale::of_environment();
    match scale.is_full {
        true => each_driver_alone(|driver| hold_out(driver, scale)),
        false => each_driver(|driver| hold_out(driver, scale)),
    }
}

fn hold_out(driver: &'static str, scale: Scale) {
    let servers = [server(scale.patience()), server(scale.patience())];
    let config = Config::new(driver).shards(2).health("interval = \"1s\"\ntimeout = \"20s\"");
    let proxy = servers.iter().fold(config, |config, one| config.backend(one.address)).start();
    let (before, at_first) = (proxy.settled_descriptors(), memory(&proxy));
    let (edge, is_over, served) = (proxy.edge[0], AtomicBool::new(false), AtomicU64::new(0));
    let mut crowds: Vec<Crowd> =
        [BIG, b"", HALF].map(|words| Crowd::gather(edge, words, scale.each)).into();
    crowds.push(Crowd::gather(proxy.admin, b"", scale.at_admin()));
    let (failed, again, took, during) = thread::scope(|scope| {
        let (is_over, served, proxy) = (&is_over, &served, &proxy);
        let good: Vec<_> =
            (0..GOOD).map(|_| scope.spawn(|| mean_well(edge, served, is_over))).collect();
        let hostile: Vec<_> =
            crowds.iter_mut().map(|crowd| scope.spawn(|| crowd.stay(is_over))).collect();
        let probes = scope.spawn(|| probe(proxy, is_over));
        let_pass(scale.time);
        let during = memory(proxy);
        is_over.store(true, Relaxed);
        let failed: Vec<String> = good.into_iter().flat_map(|one| one.join().unwrap()).collect();
        let again: Vec<u64> = hostile.into_iter().map(|one| one.join().unwrap()).collect();
        (failed, again, probes.join().unwrap(), during)
    });
    let stats = proxy.stats();
    drop(crowds);
    assert_eq!(failed, [""; 0], "of {} that were served", served.load(Relaxed));
    assert!(served.load(Relaxed) > 0 && again[2] >= scale.each as u64, "{again:?} came again");
    assert_unharmed(&stats);
    let after = proxy.wait_stats("everything given back", |stats| {
        let of_backends = (0..2).map(|place| stats.backend(place, "connections_active"));
        stats.listener("connections_active") + stats.held() + of_backends.sum::<u64>() == 0
    });
    wait_until("all descriptors given back", || proxy.descriptors() <= before + kept(&after));
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    eprintln!(
        "{driver}: {} served, came again {again:?}; KiB of the kernel and of the process before \
         {at_first:?}, during {during:?}, after {:?}; {} probes p50 {:?} p99 {:?} max {:?}",
        served.load(Relaxed),
        memory(&proxy),
        took.len(),
        at(50),
        at(99),
        at(100),
    );
}

/// Descriptors that stay once they are there: of pipes, and for each shard of the engine that waits
/// for room and of the socket that asks for a way.
fn kept(stats: &Stats) -> usize {
    2 * (stats.shards("pipes_open") as usize + stats.0["shards"].as_array().unwrap().len())
}

fn assert_unharmed(stats: &Stats) {
    for place in 0..2 {
        assert_eq!(stats.state(place), "healthy", "{}", stats.without_latency());
        assert_eq!(stats.backend(place, "ejections_total"), 0);
    }
    for reason in ["internal_error", "overload", "no_backend", "connect_timeout"] {
        assert_eq!(stats.ended(reason), 0, "{}", stats.without_latency());
    }
}

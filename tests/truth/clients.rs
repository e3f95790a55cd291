//! Clients that end their connections in every way there is, and count.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
};

use crate::{
    accounts::Ends,
    kit::{End, Proxy, Seed, Stats, peer},
    servers::{self, Bytes},
};

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ClientFin,
    ServerFin,
    ClientReset,
    ServerReset,
    IdleTimeout,
    HalfCloseTimeout,
    Overload,
    Denied,
    Refused,
    Timeout,
    Unreachable,
    NoBackend,
}

impl Kind {
    /// Each with its listener, the word it ends with, and how many of 10,000 are of it.
    const ALL: [(Kind, &str, &str, u64); 12] = [
        (Kind::ClientFin, "edge", "client_fin", 6000),
        (Kind::ServerFin, "edge", "server_fin", 2770),
        (Kind::ClientReset, "edge", "client_reset", 500),
        (Kind::ServerReset, "edge", "server_reset", 500),
        (Kind::IdleTimeout, "idle", "idle_timeout", 20),
        (Kind::HalfCloseTimeout, "half", "half_close_timeout", 20),
        (Kind::Overload, "full", "overload", 40),
        (Kind::Denied, "denied", "denied", 40),
        (Kind::Refused, "refused", "connect_refused", 40),
        (Kind::Timeout, "timeout", "connect_timeout", 20),
        (Kind::Unreachable, "unreachable", "connect_unreachable", 20),
        (Kind::NoBackend, "nobody", "no_backend", 30),
    ];

    fn row(self) -> (Kind, &'static str, &'static str, u64) {
        Kind::ALL.into_iter().find(|row| row.0 == self).unwrap()
    }

    pub fn listener(self) -> &'static str {
        self.row().1
    }

    pub fn reason(self) -> &'static str {
        self.row().2
    }

    /// The kind that a number from 0 to 9,999 stands for.
    fn of(mut number: u64) -> Kind {
        let found = Kind::ALL.iter().find(|row| {
            let fits = number < row.3;
            number = number.saturating_sub(row.3);
            fits
        });
        found.unwrap().0
    }
}

/// Connections at once.
const AT_ONCE: u64 = 64;

/// Sessions held at once.
const HELD_AT_ONCE: u64 = 200;

pub struct Clients {
    shared: Arc<Shared>,
    runtime: Runtime,
}

/// What the tasks of the clients share.
struct Shared {
    /// Each listener's name with its addresses.
    listeners: Vec<(String, Vec<SocketAddr>)>,
    seed: Seed,
    made: AtomicU64,
    ends: Mutex<Ends>,
    /// Of connections that ended in order: by the client, by the server.
    orderly: Mutex<[Bytes; 2]>,
    /// Bytes of the others, at most.
    others: AtomicU64,
    held: Mutex<Histogram<u64>>,
}

impl Clients {
    pub fn new(proxy: &Proxy) -> Clients {
        let listener = |word: &str| {
            let (name, addresses) = word.split_once('=').unwrap();
            (name.to_owned(), addresses.split(',').map(|a| a.parse().unwrap()).collect())
        };
        let shared = Shared {
            listeners: proxy.ready_line.split_whitespace().skip(2).map(listener).collect(),
            seed: Seed::new(),
            made: AtomicU64::new(0),
            ends: Mutex::default(),
            orderly: Mutex::default(),
            others: AtomicU64::new(0),
            held: Mutex::new(Histogram::new(3).unwrap()),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Clients { shared: Arc::new(shared), runtime: runtime.unwrap() }
    }

    /// How many connections ended how, by listener.
    pub fn ends(&self) -> Ends {
        self.shared.ends.lock().unwrap().clone()
    }

    /// Bytes of the connections that ended in this order.
    pub fn bytes(&self, kind: Kind) -> Bytes {
        self.shared.orderly.lock().unwrap()[usize::from(kind == Kind::ServerFin)]
    }

    /// Bytes that the other connections may have moved, in both directions.
    pub fn bytes_of_others(&self) -> u64 {
        self.shared.others.load(Relaxed)
    }

    /// Makes `count` connections of all kinds while one holds the only place of `full`.
    pub fn run(&self, count: u64) {
        let holder = self.runtime.block_on(self.shared.greeted("full", 0)).unwrap();
        self.tasks(AT_ONCE, |shared, mut rng| async move {
            while shared.made.fetch_add(1, Relaxed) < count {
                shared.one(Kind::of(rng.u64(..10_000)), &mut rng).await;
            }
        });
        let end = self.shared.part_in_order(holder, "full", 0);
        self.runtime.block_on(end).unwrap();
    }

    /// Holds `count` sessions for 20 to 500 ms each, and keeps how long they were.
    pub fn hold(&self, count: u64) {
        self.shared.made.store(0, Relaxed);
        self.tasks(HELD_AT_ONCE, |shared, mut rng| async move {
            // All at once would wait for each other, before the proxy knows of them.
            tokio::time::sleep(Duration::from_millis(rng.u64(..500))).await;
            while shared.made.fetch_add(1, Relaxed) < count {
                let time = Duration::from_micros(rng.u64(20_000..500_000));
                shared.hold(time, &mut rng).await.unwrap();
            }
        });
    }

    /// The proxy's percentiles lie within 1 % and 1 ms of ours.
    pub fn compare_held(&self, proxy: &Proxy) {
        let session = |stats: &Stats| {
            let mut listeners = stats.0["listeners"].as_array().unwrap().iter();
            let held = listeners.find(|listener| listener["name"] == "held").unwrap();
            held["latency"]["session"]["total"].clone()
        };
        let ours = self.shared.held.lock().unwrap();
        // The last ones are there a moment later.
        let stats = proxy.wait_stats("all sessions", |s| session(s)["count"] == ours.len());
        let session = session(&stats);
        for (key, quantile) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
            let (proxy, client) =
                (session[key].as_u64().unwrap(), ours.value_at_quantile(quantile));
            eprintln!("held sessions, {key}: proxy {proxy}, client {client}");
            assert!(proxy.abs_diff(client) <= client / 100 + 1000, "{key}: {proxy} and {client}");
        }
    }

    /// Connections for which the proxy has no descriptor left to dial with.
    pub fn without_descriptors(&self, proxy: &Proxy, count: u64) {
        for _ in 0..count {
            proxy.settled_descriptors();
            proxy.limit_descriptors(proxy.first_free_descriptor() + 1);
            let seen = peer::turned_away(proxy.edge[0]);
            proxy.limit_descriptors(10_000);
            assert_eq!(seen, End::Reset);
            self.shared.ended("edge", "connect_local");
        }
    }

    /// Connections that have said something and stay.
    pub fn leave_open(&self, count: u64) -> Vec<TcpStream> {
        let open = (0..count as usize).map(|n| self.shared.greeted("edge", n));
        open.map(|connection| self.runtime.block_on(connection).unwrap()).collect()
    }

    /// Runs so many of the same, each with a source of chance of its own, to the last one's end.
    fn tasks<F: Future<Output = ()> + Send + 'static>(
        &self,
        count: u64,
        task: impl Fn(Arc<Shared>, fastrand::Rng) -> F,
    ) {
        self.runtime.block_on(async {
            let mut all = JoinSet::new();
            for number in 0..count {
                all.spawn(task(Arc::clone(&self.shared), self.shared.seed.rng(number)));
            }
            while let Some(done) = all.join_next().await {
                done.unwrap();
            }
        });
    }
}

impl Shared {
    fn ended(&self, listener: &str, reason: &str) {
        let mut ends = self.ends.lock().unwrap();
        *ends.entry((listener.to_owned(), reason.to_owned())).or_default() += 1;
    }

    async fn connect(&self, listener: &str, number: usize) -> io::Result<TcpStream> {
        let (_, addresses) = self.listeners.iter().find(|(name, _)| name == listener).unwrap();
        let stream = TcpStream::connect(addresses[number % addresses.len()]).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// One whose server is there and has answered a byte.
    async fn greeted(&self, listener: &str, number: usize) -> io::Result<TcpStream> {
        let mut stream = self.connect(listener, number).await?;
        stream.write_u8(servers::ECHO).await?;
        assert_eq!(stream.read_u8().await?, servers::ECHO);
        Ok(stream)
    }

    /// Sends `bytes` more, reads them back, and finishes first.
    async fn part_in_order(
        &self,
        mut stream: TcpStream,
        listener: &str,
        bytes: usize,
    ) -> io::Result<()> {
        let (mut from, mut to) = stream.split();
        let send = async {
            to.write_all(&vec![7; bytes]).await?;
            to.shutdown().await
        };
        let mut sink = tokio::io::sink();
        let (_, read) = tokio::try_join!(send, tokio::io::copy(&mut from, &mut sink))?;
        assert_eq!(read, bytes as u64);
        self.orderly.lock().unwrap()[0].add(1 + read, 1 + read);
        self.ended(listener, Kind::ClientFin.reason());
        Ok(())
    }

    async fn hold(&self, time: Duration, rng: &mut fastrand::Rng) -> io::Result<()> {
        let number = rng.usize(..1000);
        let began = Instant::now();
        let mut stream = self.connect("held", number).await?;
        stream.write_u8(servers::ECHO).await?;
        stream.read_u8().await?;
        tokio::time::sleep(time).await;
        self.part_in_order(stream, "held", 0).await?;
        self.held.lock().unwrap().record(began.elapsed().as_micros() as u64).unwrap();
        Ok(())
    }

    /// One connection that ends as it is to.
    async fn one(&self, kind: Kind, rng: &mut fastrand::Rng) {
        let (listener, number) = (kind.listener(), rng.usize(..1000));
        let outcome = match kind {
            Kind::ClientFin => {
                // Now and then so much that it goes through a pipe.
                let bytes = if rng.u32(..1000) == 0 { 1 << 20 } else { rng.usize(..2000) };
                let stream = self.greeted(listener, number).await.unwrap();
                return self.part_in_order(stream, listener, bytes).await.unwrap();
            }
            Kind::ServerFin => self.served(listener, number, rng).await,
            Kind::ClientReset => self.reset(listener, number).await,
            Kind::ServerReset => self.cut(listener, number, &[servers::RESET]).await,
            Kind::IdleTimeout => self.idle(listener, number).await,
            Kind::HalfCloseTimeout => self.half(listener, number).await,
            Kind::Overload
            | Kind::Denied
            | Kind::Refused
            | Kind::Timeout
            | Kind::Unreachable
            | Kind::NoBackend => self.cut(listener, number, &[]).await,
        };
        outcome.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        self.ended(listener, kind.reason());
    }

    async fn served(&self, name: &str, number: usize, rng: &mut fastrand::Rng) -> io::Result<()> {
        let bytes = rng.u32(..2000);
        let mut stream = self.connect(name, number).await?;
        let mut wish = vec![servers::SEND];
        wish.extend(bytes.to_be_bytes());
        stream.write_all(&wish).await?;
        let read = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        assert_eq!(read, u64::from(bytes));
        self.orderly.lock().unwrap()[1].add(5, read);
        Ok(())
    }

    async fn reset(&self, listener: &str, number: usize) -> io::Result<()> {
        let stream = self.greeted(listener, number).await?;
        self.others.fetch_add(2, Relaxed);
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    }

    async fn idle(&self, listener: &str, number: usize) -> io::Result<()> {
        let stream = self.greeted(listener, number).await?;
        self.others.fetch_add(2, Relaxed);
        is_cut(stream).await
    }

    async fn half(&self, listener: &str, number: usize) -> io::Result<()> {
        let mut stream = self.connect(listener, number).await?;
        stream.write_u8(servers::KEEP).await?;
        stream.shutdown().await?;
        self.others.fetch_add(1, Relaxed);
        is_cut(stream).await
    }

    /// One that is reset by the other side, perhaps before the call that connects has returned.
    async fn cut(&self, listener: &str, number: usize, wish: &[u8]) -> io::Result<()> {
        let mut stream = match self.connect(listener, number).await {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            stream => stream?,
        };
        stream.write_all(wish).await?;
        self.others.fetch_add(wish.len() as u64, Relaxed);
        is_cut(stream).await
    }
}

/// Reads the reset.
async fn is_cut(mut stream: TcpStream) -> io::Result<()> {
    match stream.read(&mut [0]).await {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error),
        Ok(n) => panic!("{n} bytes instead of a reset"),
    }
}

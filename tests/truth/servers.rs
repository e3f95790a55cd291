//! Servers that do what the first byte of a client asks for, and count.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use crate::clients::Kind;

/// Says everything back, until the client has finished.
pub const ECHO: u8 = b'e';
/// Sends as many bytes as the next four say, and finishes.
pub const SEND: u8 = b's';
/// Resets.
pub const RESET: u8 = b'r';
/// Holds the connection, whatever the client does.
pub const KEEP: u8 = b'k';

/// By direction, as the proxy counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    pub up: u64,
    pub down: u64,
}

impl Bytes {
    pub fn add(&mut self, up: u64, down: u64) {
        self.up += up;
        self.down += down;
    }
}

/// What the servers have seen.
#[derive(Default)]
struct Tally {
    accepted: [AtomicU64; 2],
    /// Of connections that ended in order: by the client, by the server.
    orderly: Mutex<[Bytes; 2]>,
}

pub struct Servers {
    addresses: [SocketAddr; 2],
    tally: Arc<Tally>,
    _runtime: Runtime,
}

impl Servers {
    pub fn start() -> Servers {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (runtime, tally) = (runtime.unwrap(), Arc::new(Tally::default()));
        let addresses = [0, 1].map(|place| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            socket2::SockRef::from(&listener).listen(4096).unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            runtime.spawn(accept(listener, place, Arc::clone(&tally)));
            address
        });
        Servers { addresses, tally, _runtime: runtime }
    }

    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.addresses
    }

    /// Connections so far, by server.
    pub fn accepted(&self) -> Vec<u64> {
        self.tally.accepted.iter().map(|count| count.load(Relaxed)).collect()
    }

    /// Bytes of the connections that ended in this order.
    pub fn bytes(&self, kind: Kind) -> Bytes {
        self.tally.orderly.lock().unwrap()[usize::from(kind == Kind::ServerFin)]
    }
}

async fn accept(listener: std::net::TcpListener, place: usize, tally: Arc<Tally>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tally.accepted[place].fetch_add(1, Relaxed);
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            // What ends in another way is told by the client.
            let _ = serve(stream, &tally).await;
        });
    }
}

async fn serve(mut stream: TcpStream, tally: &Tally) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match stream.read_u8().await? {
        ECHO => {
            stream.write_u8(ECHO).await?;
            let (mut from, mut to) = stream.split();
            let bytes = 1 + io::copy(&mut from, &mut to).await?;
            tally.orderly.lock().unwrap()[0].add(bytes, bytes);
        }
        SEND => {
            let bytes = stream.read_u32().await?;
            stream.write_all(&vec![7; bytes as usize]).await?;
            stream.shutdown().await?;
            assert_eq!(stream.read(&mut [0]).await?, 0, "more than was to come");
            tally.orderly.lock().unwrap()[1].add(5, u64::from(bytes));
        }
        RESET => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?,
        KEEP => tokio::time::sleep(Duration::from_secs(2)).await,
        other => panic!("no such wish: {other}"),
    }
    Ok(())
}

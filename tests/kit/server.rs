//! Backends: those that follow a script on threads, those whose connections the test takes in its
//! own hands, and those that answer no dial.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver},
    },
    thread::{self, JoinHandle},
};

use rustix::{
    net::Shutdown,
    process::{Pid, Signal},
};
use socket2::{Domain, SockRef, Socket, Type};

use super::{DEADLINE, peer, proxy::BINARY};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A backend; it is gone when dropped, which its open connections survive.
pub struct Server {
    pub address: SocketAddr,
    accepted: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    listener: Arc<TcpListener>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Each connection is served by `serve` on a thread of its own.
    pub fn new(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        Server::at(ANY, serve)
    }

    /// The same, on a given address.
    pub fn at(address: SocketAddr, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
        let serve = Arc::new(serve);
        Server::accepting(address, move |stream| {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        })
    }

    fn accepting(address: SocketAddr, mut take: impl FnMut(TcpStream) + Send + 'static) -> Server {
        let listener = Arc::new(TcpListener::bind(address).unwrap());
        // What std asks for is too short for a burst of hundreds.
        SockRef::from(&*listener).listen(4096).unwrap();
        let (accepted, stopped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (ours, count, stop) = (Arc::clone(&listener), accepted.clone(), stopped.clone());
        let accepting = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((stream, _)) = ours.accept() else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                take(peer::with_deadlines(stream));
            }
        });
        let address = listener.local_addr().unwrap();
        Server { address, accepted, stopped, listener, accepting: Some(accepting) }
    }

    /// Sends back what comes, and ends when the client does.
    pub fn echo() -> Server {
        Server::new(echo)
    }

    /// An echo on a given address.
    pub fn echo_at(address: SocketAddr) -> Server {
        Server::at(address, echo)
    }

    /// Says its name and waits for the client's end.
    pub fn named(name: u8) -> Server {
        Server::named_at(ANY, name)
    }

    /// The same on a given address.
    pub fn named_at(address: SocketAddr, name: u8) -> Server {
        Server::at(address, move |mut stream| {
            let _ = stream.write_all(&[name]);
            let _ = stream.read(&mut [0]);
        })
    }

    /// Servers that say these names, on one port of 127.0.0.1, 127.0.0.2 and so on.
    pub fn neighbours(names: &[u8]) -> (u16, Vec<Server>) {
        // A port that is free on every address; one of 127.0.0.1 may be taken on the next.
        let everywhere = bound(Type::STREAM, (Ipv4Addr::UNSPECIFIED, 0).into());
        let port = address_of(&everywhere).port();
        let at = |last| (Ipv4Addr::new(127, 0, 0, last), port).into();
        let servers = (1..).zip(names).map(|(last, name)| Server::named_at(at(last), *name));
        (port, servers.collect())
    }

    /// Connections so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..n]).is_err() {
            return;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// A backend whose connections the test holds in its hand.
pub struct Hand {
    pub server: Server,
    streams: Receiver<TcpStream>,
}

impl Hand {
    pub fn new() -> Hand {
        let (give, streams) = mpsc::channel();
        let server = Server::accepting(ANY, move |stream| {
            let _ = give.send(stream);
        });
        Hand { server, streams }
    }

    /// One whose kernel takes in little before the test reads.
    pub fn narrow(receive_buffer: usize) -> Hand {
        let hand = Hand::new();
        // Accepted sockets inherit it.
        peer::narrow(&SockRef::from(&*hand.server.listener), receive_buffer);
        hand
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The next connection.
    pub fn take(&self) -> TcpStream {
        self.streams.recv_timeout(DEADLINE).expect("no connection came")
    }

    /// The next connection, if it is there already.
    pub fn try_take(&self) -> Option<TcpStream> {
        self.streams.try_recv().ok()
    }
}

/// A process of `ringway backend`; killed when dropped, stopped or not.
pub struct Tool {
    pub address: SocketAddr,
    child: Child,
}

impl Tool {
    /// One that serves HTTP.
    pub fn http() -> Tool {
        Tool::new("http")
    }

    /// One that sends back what comes, of very many clients.
    pub fn echo() -> Tool {
        Tool::new("echo")
    }

    fn new(mode: &str) -> Tool {
        let mut child = Command::new(BINARY)
            .args(["backend", "--listen", "127.0.0.1:0", "--mode", mode])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("ready backend=").unwrap().parse().unwrap();
        Tool { address, child }
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket that has an address, and lets those who set `SO_REUSEADDR` have it too.
fn bound(kind: Type, address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, kind, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

fn address_of(socket: &Socket) -> SocketAddr {
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// An address that refuses every dial: bound, so that nobody else gets it, and not listening. While
/// this lives, a [`Server::at`] may come up there and go down again.
pub struct Refusing {
    pub address: SocketAddr,
    _socket: Socket,
}

impl Refusing {
    pub fn new() -> Refusing {
        let socket = bound(Type::STREAM, ANY);
        Refusing { address: address_of(&socket), _socket: socket }
    }
}

/// An address for somebody who cannot choose a free port: bound, so that the kernel gives it to
/// nobody else, and not listening, so that one who sets `SO_REUSEADDR` can.
pub struct FreePort {
    pub address: SocketAddr,
    sockets: Vec<Socket>,
}

impl FreePort {
    pub fn new() -> FreePort {
        let socket = bound(Type::STREAM, ANY);
        FreePort { address: address_of(&socket), sockets: vec![socket] }
    }

    /// The same for TCP and UDP. The UDP socket is connected to itself: what others send there goes
    /// past it, to the one it is for, or nowhere.
    pub fn with_udp() -> FreePort {
        let mut port = FreePort::new();
        let socket = bound(Type::DGRAM, port.address);
        socket.connect(&port.address.into()).unwrap();
        port.sockets.push(socket);
        port
    }
}

/// An address that answers no dial: its accept queue is full, so the kernel drops each SYN.
pub struct Blackhole {
    pub address: SocketAddr,
    listener: Socket,
    fillers: Vec<Socket>,
}

impl Blackhole {
    pub fn new() -> Blackhole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&ANY.into()).unwrap();
        listener.listen(0).unwrap();
        let address = address_of(&listener);
        let filler = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            let _ = socket.connect(&address.into());
            socket
        };
        let fillers = (0..4).map(|_| filler()).collect();
        Blackhole { address, listener, fillers }
    }

    /// From now on dials are answered: the queue is emptied, and what comes is held open.
    pub fn open(mut self) -> Receiver<TcpStream> {
        self.fillers.clear();
        let (give, streams) = mpsc::channel();
        thread::spawn(move || {
            while let Ok((socket, _)) = self.listener.accept() {
                if give.send(peer::with_deadlines(socket.into())).is_err() {
                    return;
                }
            }
        });
        streams
    }
}

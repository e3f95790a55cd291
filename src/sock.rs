//! Sockets, their options, and the system calls that move bytes. Every descriptor made here is
//! non-blocking and close-on-exec.
//!
//! This room refuses to wait: a call that would block says so and returns.

pub(crate) mod calls;
mod failed;
mod host;
mod options;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, SocketFlags},
    pipe::{PipeFlags, SpliceFlags},
};
use socket2::{Domain, Protocol, Socket, Type};

#[cfg(not(test))]
use self::calls as kernel;
pub use self::{
    failed::{dial_is_short, is_for_later, is_shortage, would_block},
    host::{has_way_to, is_of_this_host, raise_nofile},
    options::{
        Liveness, Options, PROBE_INTERVAL, PROBES, free_receive_buffer, hold_receive_buffer,
        set_unsent_max,
    },
};
// What is not simulated is passed on.
#[cfg(test)]
use crate::sim::calls as kernel;

/// Connections the kernel may queue for a listener before we accept them; the kernel takes the
/// smaller of this and `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
}

/// Binds once without `SO_REUSEPORT`, so that an address another process listens on is an error
/// here instead of half its traffic. Returns the address with the port the kernel chose.
///
/// # Errors
/// `AddrInUse`, `PermissionDenied`, `AddrNotAvailable` as the kernel says.
pub fn claim(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = tcp_socket(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    // Kernel: SO_REUSEADDR forgives connections in TIME_WAIT, never another socket that listens.
    socket.bind(&address.into())?;
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// One shard's listener on `address`.
///
/// # Errors
/// As [`claim`].
pub fn listen(address: SocketAddr, options: &Options) -> io::Result<OwnedFd> {
    let socket = tcp_socket(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    options.apply(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes one queued connection and the address of its peer, or `WouldBlock`.
///
/// # Errors
/// Whatever `accept4(2)` says; a connection that died in the queue is an error of its own.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (fd, peer) = kernel::acceptfrom_with(listener, flags)?;
    // A TCP socket has an IP peer; one that cannot be told apart is a connection nobody is at.
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
    Ok((fd, peer))
}

/// Begins to connect; the socket becomes writable when that is decided.
///
/// # Errors
/// What the kernel can say at once: no route, no descriptor, no local port.
pub fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    match kernel::connect(address)? {
        (_, Err(e)) if e.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(e),
        (socket, _) => Ok(socket),
    }
}

/// Whether a [`connect`] has come to something.
pub fn is_decided(socket: impl AsFd) -> bool {
    polls(socket, PollFlags::OUT | PollFlags::ERR | PollFlags::HUP)
}

/// What became of a [`connect`], once decided.
///
/// # Errors
/// The reason it failed.
pub fn connected(socket: impl AsFd) -> io::Result<()> {
    Ok(kernel::socket_error(socket)??)
}

fn interrupted<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Reads what is there, up to the buffer; 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing is there, else the peer's reset.
pub fn recv(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    interrupted(|| kernel::recv(socket.as_fd(), &mut *buffer, RecvFlags::empty())).map(|(n, _)| n)
}

/// Like [`recv`], but leaves the bytes in the socket.
///
/// # Errors
/// As [`recv`].
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    interrupted(|| kernel::recv(socket.as_fd(), &mut *buffer, RecvFlags::PEEK)).map(|(n, _)| n)
}

/// Drops `seen.len()` bytes that [`peek`] has shown. `seen` is only lent for its length: the
/// kernel does not write to it (tcp(7), `MSG_TRUNC`).
///
/// # Errors
/// As [`recv`].
pub fn discard(socket: impl AsFd, seen: &mut [u8]) -> io::Result<usize> {
    interrupted(|| kernel::recv(socket.as_fd(), &mut *seen, RecvFlags::TRUNC)).map(|(n, _)| n)
}

/// Sends what the socket takes now.
///
/// # Errors
/// `WouldBlock` when the send queue is full, else the peer's reset.
pub fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    interrupted(|| kernel::send(socket.as_fd(), bytes, SendFlags::NOSIGNAL))
}

/// Sends a few bytes at once, or fails: for the first bytes on a fresh socket, whose empty queue
/// has room for them.
///
/// # Errors
/// The peer's reset; a shortage of memory where the kernel takes less than all of them.
pub fn send_whole(socket: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    match send(socket, bytes)? {
        sent if sent == bytes.len() => Ok(()),
        _ => Err(Errno::NOBUFS.into()),
    }
}

/// The address that the peer is connected to.
///
/// # Errors
/// The socket has none (any more).
pub fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    let address = kernel::getsockname(socket)?;
    Ok(SocketAddr::try_from(address)?)
}

/// Moves up to `len` bytes between a pipe and a socket inside the kernel.
///
/// Kernel: both `O_NONBLOCK` on the socket and `SPLICE_F_NONBLOCK` here are needed; with either one
/// alone the call sleeps holding the pipe's lock. `SPLICE_F_MORE` is not set: it corks the tail of
/// a small message for up to 200 ms.
///
/// # Errors
/// `WouldBlock`: nothing to read, or no room; the caller knows which from its own count.
pub fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    interrupted(|| kernel::splice(from.as_fd(), None, to.as_fd(), None, len, flags))
}

/// A pipe of at least `size` bytes: (read end, write end).
///
/// # Errors
/// `PermissionDenied` where the user's pipe pages are used up: the kernel would have given one or
/// two pages, which is slower than copying.
pub fn pipe(size: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = kernel::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    resize_pipe(&write, size)?;
    Ok((read, write))
}

/// Lets a pipe hold at least `size` bytes.
///
/// # Errors
/// As for [`pipe`]; the pipe is as it was.
pub fn resize_pipe(end: impl AsFd, size: usize) -> io::Result<()> {
    kernel::fcntl_setpipe_size(end, size)?;
    Ok(())
}

/// Sends our FIN; the peer may still send.
pub fn finish(socket: impl AsFd) {
    // A socket that is already gone has nothing to finish.
    let _ = kernel::shutdown(socket, Shutdown::Write);
}

/// Reads no more: whoever waits for bytes of the peer finds an end. Says nothing to the peer.
pub fn stop_reading(socket: impl AsFd) {
    let _ = kernel::shutdown(socket, Shutdown::Read);
}

/// Takes no more connections and wakes whoever waits for one.
pub fn stop_listening(listener: impl AsFd) {
    let _ = kernel::shutdown(listener, Shutdown::Both);
}

/// Resets the connection at once (RST to the peer, queued data dropped) and wakes every waiter on
/// the socket, which stays open.
///
/// Kernel: `connect(AF_UNSPEC)` is `tcp_disconnect`: it sends the reset where one is due, gives up
/// a connection still being made, and reports the error to all pollers (net/ipv4/tcp.c).
pub fn abort(socket: impl AsFd) {
    let _ = kernel::connect_unspec(socket);
}

/// Bytes the peer has not acknowledged yet; 0 when that cannot be told any more.
pub fn unsent(socket: impl AsFd) -> u32 {
    kernel::outq(socket).unwrap_or(0).max(0) as u32
}

/// Whether the peer has reset the connection, seen without reading from it.
///
/// Kernel: `POLLHUP` alone is no reset: it also means that both FINs were exchanged in order, with
/// bytes perhaps still waiting to be read (net/ipv4/tcp.c, `tcp_poll`).
pub fn was_reset(socket: impl AsFd) -> bool {
    polls(socket, PollFlags::ERR)
}

/// Whether nothing more will ever be sent or acknowledged on this connection. Two FINs alone do not
/// end it: what was sent before ours may still be on its way.
pub fn is_over(socket: impl AsFd) -> bool {
    kernel::getpeername(&socket).is_err() || was_reset(socket)
}

fn polls(socket: impl AsFd, any: PollFlags) -> bool {
    kernel::poll_now(socket, any).is_ok_and(|now| now.intersects(any))
}

/// Whether a connected socket is its own peer.
///
/// Kernel: a dial of a local port nobody listens on may be given that very port as its own, and
/// then its SYN meets itself (RFC 9293, simultaneous open; net/ipv4/tcp_input.c,
/// `tcp_rcv_synsent_state_process`).
pub fn is_its_own_peer(socket: impl AsFd, peer: SocketAddr) -> bool {
    local_address(socket).is_ok_and(|local| is_same(local, peer))
}

/// Whether two addresses are one, whatever an IPv6 address says of its flow and its scope.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip(), one.port()) == (other.ip(), other.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused_before_reuseport_can_share_it() {
        let held = claim("127.0.0.1:0".parse().unwrap()).unwrap();
        let _listening = listen(held, &Options::default()).unwrap();
        assert_eq!(claim(held).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_socket_that_met_itself_is_its_own_peer() {
        let socket = tcp_socket("127.0.0.1:0".parse().unwrap()).unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        let itself = socket.local_addr().unwrap();
        socket.connect(&itself).unwrap();
        assert!(is_its_own_peer(&socket, itself.as_socket().unwrap()));

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = listener.local_addr().unwrap();
        assert!(!is_its_own_peer(std::net::TcpStream::connect(other).unwrap(), other));
    }

    #[test]
    fn peeked_bytes_stay_until_discarded() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        io::Write::write_all(&mut sender, b"hello").unwrap();
        let mut buffer = [0; 8];
        assert_eq!(peek(&receiver, &mut buffer).unwrap(), 5);
        assert_eq!(discard(&receiver, &mut buffer[..2]).unwrap(), 2);
        assert_eq!(recv(&receiver, &mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], b"llo");
    }
}

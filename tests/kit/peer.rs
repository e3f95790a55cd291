//! Either end of a connection: what it does, and what it sees.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use sha2::{Digest, Sha256};
use socket2::SockRef;

use super::{DEADLINE, pause, wait_until};

/// How a connection ended for the one who read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// What somebody read until the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub bytes: u64,
    pub digest: String,
    pub end: End,
}

/// Connects, with a deadline on every later call.
pub fn connect(to: SocketAddr) -> TcpStream {
    with_deadlines(TcpStream::connect(to).unwrap_or_else(|e| panic!("cannot connect {to}: {e}")))
}

/// Connects from an address of this host.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = bound_to(from);
    socket.connect(&to.into()).unwrap_or_else(|e| panic!("cannot connect {from} to {to}: {e}"));
    with_deadlines(socket.into())
}

/// Connects and is told nothing; how that ends, which the call that connects may see already.
pub fn turned_away(to: SocketAddr) -> End {
    match TcpStream::connect(to) {
        Ok(stream) => end_of(&mut with_deadlines(stream)),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("cannot connect {to}: {error}"),
    }
}

/// Connects from an address of this host and has to be reset, which the call that connects may see
/// already. Gives the client's address.
pub fn kept_out(from: IpAddr, to: SocketAddr) -> SocketAddr {
    let socket = bound_to(from);
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    match socket.connect(&to.into()) {
        Ok(()) => assert_eq!(end_of(&mut with_deadlines(socket.into())), End::Reset),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    address
}

/// A socket that will connect from there.
pub fn bound_to(address: IpAddr) -> socket2::Socket {
    let address = SocketAddr::new(address, 0);
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// Nobody waits for ever.
pub fn with_deadlines(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A connection whose kernel takes in little before its reader does.
pub fn connect_narrow(to: SocketAddr, receive_buffer: usize) -> TcpStream {
    let kind = socket2::Type::STREAM;
    let socket = socket2::Socket::new(socket2::Domain::for_address(to), kind, None).unwrap();
    narrow(&socket, receive_buffer);
    socket.connect(&to.into()).unwrap();
    with_deadlines(socket.into())
}

/// A small receive buffer, and segments as on Ethernet: with the 64 KiB of loopback the sender's
/// kernel would queue megabytes.
pub fn narrow(socket: &socket2::Socket, receive_buffer: usize) {
    socket.set_recv_buffer_size(receive_buffer).unwrap();
    socket.set_tcp_mss(1400).unwrap();
}

/// Closes with a reset; what is still in our send queue is lost.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Resets once the other end's kernel has everything we sent.
pub fn reset_after_delivery(stream: TcpStream) {
    wait_until("an empty send queue", || ringway::sock::unsent(&stream) == 0);
    reset(stream);
}

/// Ends our direction.
pub fn finish(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Sends a message and expects it back.
pub fn echo(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).unwrap();
    expect(stream, message);
}

/// One end sends, the other reads exactly that.
pub fn pass(from: &mut TcpStream, to: &mut TcpStream, message: &[u8]) {
    from.write_all(message).unwrap();
    expect(to, message);
}

/// Reads exactly this.
pub fn expect(stream: &mut TcpStream, message: &[u8]) {
    let mut got = vec![0; message.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, message);
}

/// Whether a byte comes; false when the connection ends instead.
pub fn answers(stream: &mut TcpStream) -> bool {
    stream.read_exact(&mut [0]).is_ok()
}

/// Reads to the end.
pub fn read_to_end(stream: &mut TcpStream) -> Seen {
    read_ragged(stream, &mut |_| 64 * 1024)
}

/// Reads to the end in pieces of at most what `piece` says, which is given the bytes so far and may
/// take its time.
pub fn read_ragged(stream: &mut TcpStream, piece: &mut dyn FnMut(u64) -> usize) -> Seen {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, Vec::new());
    let end = loop {
        buffer.resize(piece(bytes), 0);
        match stream.read(&mut buffer) {
            Ok(0) => break End::Fin,
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break End::Reset,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("after {bytes} bytes: {e}"),
        }
    };
    Seen { bytes, digest: hex(hash), end }
}

/// How a connection on which nothing more comes ends.
pub fn end_of(stream: &mut TcpStream) -> End {
    let seen = read_to_end(stream);
    assert_eq!(seen.bytes, 0, "bytes came that nobody expected");
    seen.end
}

/// Writes random bytes in pieces of random size, with a rest now and then; their digest.
pub fn write_ragged(stream: &mut TcpStream, rng: &mut fastrand::Rng, bytes: u64) -> String {
    let (mut hash, mut left, mut buffer) = (Sha256::new(), bytes, Vec::new());
    while left > 0 {
        let most = [1, 100, 5_000, 200_000][rng.usize(..4)];
        let piece = (rng.u64(1..=most)).min(left);
        buffer.resize(piece as usize, 0);
        rng.fill(&mut buffer);
        hash.update(&buffer);
        stream.write_all(&buffer).unwrap();
        left -= piece;
        if rng.u8(..) < 8 {
            pause(Duration::from_micros(rng.u64(0..2_000)));
        }
    }
    hex(hash)
}

/// Writes random bytes as fast as they are taken; their digest.
pub fn write_bulk(stream: &mut TcpStream, rng: &mut fastrand::Rng, bytes: u64) -> String {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 128 * 1024];
    rng.fill(&mut piece);
    let mut left = bytes;
    while left > 0 {
        let now = &piece[..piece.len().min(left as usize)];
        hash.update(now);
        stream.write_all(now).unwrap();
        left -= now.len() as u64;
    }
    hex(hash)
}

/// Writes until the kernels between us and the other end take no more; how much, and the digest.
pub fn write_until_full(stream: &mut TcpStream, rng: &mut fastrand::Rng) -> (u64, String) {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut piece = vec![0; 16 * 1024];
    rng.fill(&mut piece);
    loop {
        match stream.write(&piece) {
            Ok(n) => {
                hash.update(&piece[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("after {bytes} bytes: {e}"),
        }
    }
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    (bytes, hex(hash))
}

/// The digest of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hex(hash)
}

/// A digest as text.
pub fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

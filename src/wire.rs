//! One byte stream to a peer, over a socket; all that a connection's story knows of sockets.
//!
//! A wire is plain today: what is sent on it is what the peer reads. Whoever moves bytes asks for
//! [`Wire::recv`] and [`Wire::send`]; the socket itself is given out only by [`Wire::bare`], for
//! moves inside the kernel, which cannot transform anything.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use crate::{
    rt::{self, Chunk, Passed, Received, Sent, Socket},
    sock,
};

/// A byte stream to a peer; closed when its last clone goes.
///
/// One task may wait for what comes, and one for what goes.
#[derive(Clone, Debug)]
pub struct Wire(Socket);

impl Wire {
    /// Takes over a connection that was accepted.
    ///
    /// # Errors
    /// The engine could not register it.
    pub fn accepted(fd: OwnedFd) -> io::Result<Wire> {
        Ok(Wire(Socket::adopt(fd)?))
    }

    /// Begins to connect. The wire is there at once, so that others can [`Wire::abort`] it.
    ///
    /// # Errors
    /// What the kernel can say at once.
    pub fn connect(address: SocketAddr) -> io::Result<Wire> {
        Ok(Wire(Socket::connect(address)?))
    }

    /// Waits until a [`Wire::connect`] is decided.
    ///
    /// # Errors
    /// `TimedOut` after `limit`, else the kernel's reason.
    pub fn connected(&self, limit: Duration) -> impl Future<Output = io::Result<()>> {
        self.0.connected(limit)
    }

    /// The socket, where bytes pass untransformed.
    pub fn bare(&self) -> &Socket {
        &self.0
    }

    /// Waits until [`Wire::recv`] has something to say; may return early.
    pub fn arrival(&self) -> impl Future<Output = ()> {
        self.0.arrival()
    }

    /// Waits until reading the [`Wire::bare`] socket would not block; may return early.
    pub fn readable(&self) -> impl Future<Output = ()> {
        self.0.readable()
    }

    /// Waits until there is room to send; may return early.
    pub fn writable(&self) -> impl Future<Output = ()> {
        self.0.writable()
    }

    /// Waits until there is room to send, where [`Wire::writable`] returned early.
    pub fn writable_at_last(&self) -> impl Future<Output = ()> {
        self.0.writable_at_last()
    }

    /// Takes what the peer has sent. Never waits.
    pub fn recv(&self) -> Received {
        self.0.recv()
    }

    /// Takes what was received already, without asking for more.
    pub fn take_received(&self) -> Option<Chunk> {
        self.0.take_received()
    }

    /// Receives no more ahead of [`Wire::recv`]; true exactly when nothing received is left.
    pub fn stop_recv(&self) -> bool {
        self.0.stop_recv()
    }

    /// Moves `chunk`, and what was received behind it, out of buffers that others need.
    pub fn park(&self, chunk: Chunk) -> impl Future<Output = Chunk> {
        self.0.park(chunk)
    }

    /// Drops what has come, up to a buffer, without one; how much.
    pub fn drop_received(&self) -> usize {
        rt::drop_received(&self.0)
    }

    /// Moves bytes on without holding a buffer across a wait.
    pub fn pass_on(&self, sink: &Wire) -> Passed {
        rt::pass_on(&self.0, &sink.0)
    }

    /// Sends from the front of `chunk` what there is room for now. Never waits.
    pub fn send(&self, chunk: Chunk) -> Sent {
        self.0.send(chunk)
    }

    /// Waits for what became of a send that is [`Sent::Later`].
    pub fn sent(&self) -> impl Future<Output = Sent> {
        self.0.sent()
    }

    /// Sends a few bytes at once, or fails: the first ones of a fresh wire.
    ///
    /// # Errors
    /// The peer's reset; a shortage of memory.
    pub fn send_first(&self, bytes: &[u8]) -> io::Result<()> {
        sock::send_whole(&self.0, bytes)
    }

    /// Whether a send has not been looked at yet ([`Socket::is_sending`]).
    pub fn is_sending(&self) -> bool {
        self.0.is_sending()
    }

    /// Bytes that the peer has not acknowledged; 0 when that cannot be told any more.
    pub fn unsent(&self) -> u32 {
        sock::unsent(&self.0)
    }

    /// Whether the peer has reset it, seen without reading.
    pub fn was_reset(&self) -> bool {
        self.0.was_reset()
    }

    /// Whether a receive or a send has met a reset already, perhaps before its task could know.
    pub fn heard_reset(&self) -> bool {
        self.0.heard_reset()
    }

    /// Whether nothing more will ever be sent or acknowledged.
    pub fn is_over(&self) -> bool {
        sock::is_over(&self.0)
    }

    /// Tells the peer that this was all.
    pub fn finish(&self) {
        self.0.finish();
    }

    /// Resets it and wakes everybody who waits on it.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Reads no more than has come, and wakes whoever reads.
    pub fn stop_reading(&self) {
        sock::stop_reading(&self.0);
    }

    /// Our address of it.
    ///
    /// # Errors
    /// It has none (any more).
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        sock::local_address(&self.0)
    }

    /// Whether a dial of `address` has met itself.
    pub fn is_its_own_peer(&self, address: SocketAddr) -> bool {
        sock::is_its_own_peer(&self.0, address)
    }

    /// Lets so many bytes wait unsent; 0: as many as the kernel does.
    pub fn set_unsent_max(&self, bytes: u32) {
        sock::set_unsent_max(&self.0, bytes);
    }

    /// Keeps the kernel from making the receive buffer larger; whether it does.
    pub fn hold_receive_buffer(&self) -> bool {
        sock::hold_receive_buffer(&self.0)
    }

    /// Lets the kernel make a receive buffer larger again that was held.
    pub fn free_receive_buffer(&self) {
        sock::free_receive_buffer(&self.0);
    }

    /// From now on it comes out when the peer vanishes.
    pub fn watch(&self, liveness: &sock::Liveness) {
        // One that is gone needs no watch.
        let _ = liveness.apply(&self.0);
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! A socket that can be waited for.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Chunk, Local, Received, Sent,
    engine::Way,
    handle::Handle,
    lease,
    ring::{Ring, Taken},
    with_local,
};
use crate::sock;

/// How long to wait where even waiting ran short of something.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A descriptor registered with this shard's engine; closed when the last clone goes.
///
/// One task may wait for reading and one for writing.
#[derive(Clone, Debug)]
pub struct Socket(Rc<Handle>);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}

impl Socket {
    /// Takes over a non-blocking descriptor: accepted, connected, listening or an eventfd.
    ///
    /// # Errors
    /// The engine could not register it.
    pub fn adopt(fd: OwnedFd) -> io::Result<Socket> {
        Ok(Socket(Rc::new(with_local(|local| local.engine.register(fd))?)))
    }

    /// Polls by the engine that it is registered with.
    fn wait(
        &self,
        poll: impl Fn(&Way, &Handle, &Context<'_>) -> Poll<()>,
    ) -> impl Future<Output = ()> {
        poll_fn(move |cx| with_local(|local| poll(&local.engine.0, &self.0, cx)))
    }

    /// Asks the ring, where that is the engine.
    fn on_ring<T>(&self, ask: impl FnOnce(&Ring, &Handle) -> T) -> Option<T> {
        with_local(|local| match &local.engine.0 {
            Way::Ring(ring) => Some(ask(ring, &self.0)),
            Way::Ready(_) => None,
        })
    }

    /// Waits until [`Socket::recv`] has something to say; may return early.
    pub fn arrival(&self) -> impl Future<Output = ()> {
        self.wait(|engine, handle, cx| match engine {
            Way::Ring(ring) => ring.poll_arrival(handle, cx),
            Way::Ready(ready) => ready.poll_readable(handle, cx),
        })
    }

    /// Waits until reading the socket itself would not block; may return early. What a receive
    /// before that has left is for [`Socket::recv`] to take, and ends the wait.
    pub fn readable(&self) -> impl Future<Output = ()> {
        self.wait(|engine, handle, cx| match engine {
            Way::Ring(ring) => ring.poll_ready_to_read(handle, cx),
            Way::Ready(ready) => ready.poll_readable(handle, cx),
        })
    }

    /// Waits until writing would not block; may return early.
    pub fn writable(&self) -> impl Future<Output = ()> {
        self.wait(|engine, handle, cx| match engine {
            Way::Ring(ring) => ring.poll_ready_to_write(handle, cx),
            Way::Ready(ready) => ready.poll_writable(handle, cx),
        })
    }

    /// Waits until writing would not block, where [`Socket::writable`] returned and it did: on the
    /// ring that happens, again and again, once the peer has finished sending.
    pub async fn writable_at_last(&self) {
        if self.on_ring(|_, _| ()).is_none() {
            return self.writable().await;
        }
        if super::sink::writable(self).await.is_err() {
            // Short of a descriptor: look again in a moment.
            super::sleep(RETRY_AFTER).await;
        }
    }

    /// Accepts what is queued, with the address of its peer, or `WouldBlock`.
    ///
    /// # Errors
    /// As [`sock::accept`].
    pub fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        let accepted = sock::accept(self);
        if accepted.as_ref().is_err_and(sock::would_block) {
            self.is_empty();
        }
        accepted
    }

    /// Begins to connect. The socket is there at once, so that others can [`Socket::abort`] it.
    ///
    /// # Errors
    /// What the kernel can say at once.
    pub fn connect(address: SocketAddr) -> io::Result<Socket> {
        Socket::adopt(sock::connect(address)?)
    }

    /// Waits until a [`Socket::connect`] is decided.
    ///
    /// # Errors
    /// `TimedOut` after `limit`, else the kernel's reason.
    pub async fn connected(&self, limit: Duration) -> io::Result<()> {
        let mut deadline = super::sleep(limit);
        let mut wait = pin!(async {
            loop {
                self.writable().await;
                // On the ring a poll may end for want of memory too, and says nothing then.
                if self.is_clean() || sock::is_decided(self) {
                    break;
                }
            }
        });
        let (mut over, mut late) = (false, false);
        poll_fn(|cx| {
            if !over && deadline.as_mut().poll(cx).is_ready() {
                over = true;
                // A shard that could not run sees the deadline before an answer that is there: it
                // counts, since nobody can tell any more whether it came in time.
                late = !sock::is_decided(self);
                if late {
                    // Ends the wait below.
                    self.abort();
                }
            }
            wait.as_mut().poll(cx)
        })
        .await;
        match late {
            true => Err(io::ErrorKind::TimedOut.into()),
            false if self.is_clean() => Ok(()),
            false => sock::connected(self),
        }
    }

    /// Whether the last wait for writing found nothing wrong: a connect has succeeded then.
    fn is_clean(&self) -> bool {
        with_local(|local| match &local.engine.0 {
            Way::Ring(ring) => ring.is_clean(&self.0),
            Way::Ready(ready) => ready.is_clean(&self.0),
        })
    }

    /// Whether reading may bring something, as far as is known.
    pub(super) fn may_read(&self) -> bool {
        with_local(|local| match &local.engine.0 {
            Way::Ring(_) => true,
            Way::Ready(ready) => ready.may_read(&self.0),
        })
    }

    /// Whether there may be room to write, as far as is known.
    pub(super) fn may_write(&self) -> bool {
        with_local(|local| match &local.engine.0 {
            Way::Ring(_) => true,
            Way::Ready(ready) => ready.may_write(&self.0),
        })
    }

    /// A call has found nothing to read; the kernel tells when there is something again.
    pub(super) fn is_empty(&self) {
        with_local(|local| {
            if let Way::Ready(ready) = &local.engine.0 {
                ready.is_empty(&self.0);
            }
        });
    }

    /// A splice has found nothing, which may be because it stands before an urgent byte.
    pub(super) fn has_nothing_to_splice(&self) {
        with_local(|local| {
            if let Way::Ready(ready) = &local.engine.0 {
                ready.has_nothing_to_splice(&self.0);
            }
        });
    }

    /// A call has found no room to write; the kernel tells when there is some again.
    pub(super) fn is_full(&self) {
        with_local(|local| {
            if let Way::Ready(ready) = &local.engine.0 {
                ready.is_full(&self.0);
            }
        });
    }

    /// Takes what the peer has sent. Never waits.
    pub fn recv(&self) -> Received {
        with_local(|local| match &local.engine.0 {
            Way::Ring(ring) => self.recv_on_ring(ring),
            Way::Ready(ready) => ready.recv(&self.0),
        })
    }

    fn recv_on_ring(&self, ring: &Ring) -> Received {
        match ring.take_received(&self.0) {
            Taken::Chunk { chunk, drained } => Received::Bytes { chunk, drained },
            Taken::Nothing => Received::Nothing,
            Taken::End => Received::End,
            Taken::Reset => Received::Reset,
            Taken::Lost => Received::Lost,
            Taken::Ask => {
                let received = Received::of(lease::ask(self));
                let drained =
                    matches!(received, Received::Bytes { drained: true, .. } | Received::Nothing);
                ring.asked(&self.0, drained);
                received
            }
        }
    }

    /// Takes what a receive has brought already, without asking for more.
    pub fn take_received(&self) -> Option<Chunk> {
        match self.on_ring(Ring::take_received)? {
            Taken::Chunk { chunk, .. } => Some(chunk),
            _ => None,
        }
    }

    /// Receives no more ahead of [`Socket::recv`], so that the socket can be read by other means.
    /// True exactly when nothing received is left and none will come.
    pub fn stop_recv(&self) -> bool {
        self.on_ring(Ring::stop_receive).unwrap_or(true)
    }

    /// Moves `chunk`, and what a receive has brought behind it, out of buffers that others need,
    /// for a sink that takes nothing. Waits for the end of the receive, after
    /// [`Socket::stop_recv`].
    pub async fn park(&self, chunk: Chunk) -> Chunk {
        self.wait(|engine, handle, cx| match engine {
            Way::Ring(ring) => ring.poll_stopped(handle, cx),
            Way::Ready(_) => Poll::Ready(()),
        })
        .await;
        with_local(|local| match &local.engine.0 {
            Way::Ring(ring) => ring.park(local, &self.0, chunk),
            Way::Ready(_) => chunk,
        })
    }

    /// Sends from the front of `chunk` what the socket takes now. Never waits.
    ///
    /// One send at a time: after [`Sent::Later`] the next one comes after [`Socket::sent`].
    pub fn send(&self, chunk: Chunk) -> Sent {
        with_local(|local| match &local.engine.0 {
            Way::Ring(ring) if !is_alone(local, ring) => {
                ring.send(local, &self.0, chunk);
                Sent::Later
            }
            Way::Ready(ready) if !ready.may_write(&self.0) => Sent::Full(chunk),
            Way::Ring(_) | Way::Ready(_) => lease::send(local, self, chunk),
        })
    }

    /// Waits for what became of a send.
    pub fn sent(&self) -> impl Future<Output = Sent> {
        poll_fn(|cx| with_local(|local| local.engine.ring().poll_sent(&self.0, cx)))
    }

    /// Whether the peer has reset the connection, seen without reading from it.
    pub fn was_reset(&self) -> bool {
        self.heard_reset() || sock::was_reset(self)
    }

    /// Whether a receive or a send has met a reset already, perhaps before its task could know.
    pub fn heard_reset(&self) -> bool {
        self.on_ring(Ring::heard_reset).unwrap_or(false)
    }

    /// Whether a send is queued, or in the kernel, or over without our having looked: in a busy
    /// turn sends go in before its end. Until then nobody knows why the socket has ended: a send
    /// that meets a reset takes it off the socket, and reading it looks like a FIN from then on.
    pub fn is_sending(&self) -> bool {
        self.on_ring(Ring::is_sending).unwrap_or(false)
    }

    /// Passes our FIN on.
    pub fn finish(&self) {
        sock::finish(self);
    }

    /// Resets the connection and wakes everybody who waits on it.
    pub fn abort(&self) {
        sock::abort(self);
        with_local(|local| match &local.engine.0 {
            Way::Ring(ring) => ring.end_waits(&self.0),
            Way::Ready(ready) => ready.end_waits(&self.0),
        });
    }
}

/// Whether a send of its own is one call as well, and the sooner one: nobody else is ready in this
/// turn, and nothing waits to go in with its end.
fn is_alone(local: &Local, ring: &Ring) -> bool {
    local.tasks.is_dry() && ring.is_quiet()
}

//! A socket that can be waited for.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use super::{
    Chunk, Received, Sent, epoll, lease,
    ring::{self, Taken},
    with_local,
};
use crate::sock;

/// How long to wait where even waiting ran short of something.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A descriptor registered with this shard's engine; closed when the last clone goes.
///
/// One task may wait for reading and one for writing: a second waiter would replace the first.
#[derive(Clone, Debug)]
pub struct Socket(Rc<Registered>);

#[derive(Debug)]
enum Registered {
    Ring(ring::Handle),
    /// Boxed, because it is far larger.
    Epoll(Box<epoll::Stream>),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &*self.0 {
            Registered::Ring(handle) => handle.fd(),
            Registered::Epoll(stream) => stream.fd(),
        }
    }
}

impl Socket {
    /// Takes over a non-blocking descriptor: accepted, connected, listening or an eventfd.
    ///
    /// # Errors
    /// The engine could not register it.
    pub fn adopt(fd: OwnedFd) -> io::Result<Socket> {
        Ok(Socket(Rc::new(with_local(|local| match &local.ring {
            Some(ring) => Ok(Registered::Ring(ring.register(fd))),
            None => epoll::Stream::register(fd).map(|s| Registered::Epoll(Box::new(s))),
        })?)))
    }

    /// Waits until [`Socket::recv`] has something to say; may return early.
    pub fn arrival(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| match &*self.0 {
            Registered::Ring(handle) => with_local(|local| local.ring().poll_arrival(handle, cx)),
            Registered::Epoll(stream) => stream.poll_readable(cx),
        })
    }

    /// Waits until reading the socket itself would not block; may return early. What a receive
    /// before that has left is for [`Socket::recv`] to take, and ends the wait.
    pub fn readable(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| match &*self.0 {
            Registered::Ring(handle) => {
                with_local(|local| local.ring().poll_ready_to_read(handle, cx))
            }
            Registered::Epoll(stream) => stream.poll_readable(cx),
        })
    }

    /// Waits until writing would not block; may return early.
    pub fn writable(&self) -> impl Future<Output = ()> {
        poll_fn(|cx| match &*self.0 {
            Registered::Ring(handle) => {
                with_local(|local| local.ring().poll_ready_to_write(handle, cx))
            }
            Registered::Epoll(stream) => stream.poll_writable(cx),
        })
    }

    /// Waits until writing would not block, where [`Socket::writable`] returned and it did: on the
    /// ring that happens, again and again, once the peer has finished sending.
    pub async fn writable_at_last(&self) {
        let Registered::Ring(_) = &*self.0 else { return self.writable().await };
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
        sock::accept(self)
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
            match &*self.0 {
                Registered::Ring(handle) => loop {
                    self.writable().await;
                    // A poll may end for want of memory too, and says nothing then.
                    let clean = with_local(|local| local.ring().is_clean(handle));
                    if clean || sock::is_decided(self) {
                        break;
                    }
                },
                Registered::Epoll(stream) => stream.decided().await,
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
                    sock::abort(self);
                }
            }
            wait.as_mut().poll(cx)
        })
        .await;
        match &*self.0 {
            _ if late => Err(io::ErrorKind::TimedOut.into()),
            Registered::Ring(handle) if with_local(|local| local.ring().is_clean(handle)) => Ok(()),
            _ => sock::connected(self),
        }
    }

    /// Takes what the peer has sent. Never waits.
    pub fn recv(&self) -> Received {
        let Registered::Ring(handle) = &*self.0 else { return lease::receive(self) };
        match with_local(|local| local.ring().take_received(handle)) {
            Taken::Chunk { chunk, drained } => Received::Bytes { chunk, drained },
            Taken::Nothing => Received::Nothing,
            Taken::End => Received::End,
            Taken::Reset => Received::Reset,
            Taken::Lost => Received::Lost,
            Taken::Ask => {
                let received = lease::receive(self);
                let drained =
                    matches!(received, Received::Bytes { drained: true, .. } | Received::Nothing);
                with_local(|local| local.ring().asked(handle, drained));
                received
            }
        }
    }

    /// Takes what a receive has brought already, without asking for more.
    pub fn take_received(&self) -> Option<Chunk> {
        let Registered::Ring(handle) = &*self.0 else { return None };
        match with_local(|local| local.ring().take_received(handle)) {
            Taken::Chunk { chunk, .. } => Some(chunk),
            _ => None,
        }
    }

    /// Receives no more ahead of [`Socket::recv`], so that the socket can be read by other means.
    /// True exactly when nothing received is left and none will come.
    pub fn stop_recv(&self) -> bool {
        match &*self.0 {
            Registered::Ring(handle) => with_local(|local| local.ring().stop_receive(handle)),
            Registered::Epoll(_) => true,
        }
    }

    /// Moves `chunk`, and what a receive has brought behind it, out of buffers that others need,
    /// for a sink that takes nothing. Waits for the end of the receive, after
    /// [`Socket::stop_recv`].
    pub async fn park(&self, chunk: Chunk) -> Chunk {
        let Registered::Ring(handle) = &*self.0 else { return chunk };
        poll_fn(|cx| with_local(|local| local.ring().poll_stopped(handle, cx))).await;
        with_local(|local| local.ring().park(local, handle, chunk))
    }

    /// Sends from the front of `chunk` what the socket takes now. Never waits.
    ///
    /// One send at a time: after [`Sent::Later`] the next one comes after [`Socket::sent`].
    pub fn send(&self, chunk: Chunk) -> Sent {
        with_local(|local| match &*self.0 {
            Registered::Ring(handle) if !local.tasks.is_dry() || !local.ring().is_quiet() => {
                local.ring().send(local, handle, chunk);
                Sent::Later
            }
            // Alone in its turn, a send of its own is one call as well, and the sooner one.
            Registered::Ring(_) | Registered::Epoll(_) => lease::send(local, self, chunk),
        })
    }

    /// Waits for what became of a send.
    pub fn sent(&self) -> impl Future<Output = Sent> {
        poll_fn(|cx| match &*self.0 {
            Registered::Ring(handle) => with_local(|local| local.ring().poll_sent(handle, cx)),
            Registered::Epoll(_) => unreachable!("a send on epoll is over at once"),
        })
    }

    /// Whether the peer has reset the connection, seen without reading from it.
    pub fn was_reset(&self) -> bool {
        self.heard_reset() || sock::was_reset(self)
    }

    /// Whether a receive or a send has met a reset already, perhaps before its task could know.
    pub fn heard_reset(&self) -> bool {
        match &*self.0 {
            Registered::Ring(handle) => with_local(|local| local.ring().heard_reset(handle)),
            Registered::Epoll(_) => false,
        }
    }

    /// Whether a send is queued, or in the kernel, or over without our having looked: in a busy
    /// turn sends go in before its end. Until then nobody knows why the socket has ended: a send
    /// that meets a reset takes it off the socket, and reading it looks like a FIN from then on.
    pub fn is_sending(&self) -> bool {
        match &*self.0 {
            Registered::Ring(handle) => with_local(|local| local.ring().is_sending(handle)),
            Registered::Epoll(_) => false,
        }
    }

    /// Passes our FIN on.
    pub fn finish(&self) {
        sock::finish(self);
    }

    /// Resets the connection and wakes everybody who waits on it.
    pub fn abort(&self) {
        sock::abort(self);
        if let Registered::Ring(handle) = &*self.0 {
            with_local(|local| local.ring().end_waits(handle));
        }
    }
}

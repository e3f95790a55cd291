//! A socket that can be waited for.

use std::{
    future::{Future, poll_fn},
    io,
    net::{SocketAddr, TcpStream as StdStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use monoio::net::TcpStream;

use super::{Chunk, Driver, local};
use crate::sock;

/// How long to wait where even waiting ran short of something.
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// A descriptor registered with this shard's driver; closed when the last clone goes.
///
/// One task may wait for reading and one for writing: on epoll a second waiter would replace the
/// first.
#[derive(Clone, Debug)]
pub struct Socket(Rc<TcpStream>);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the stream owns the descriptor for as long as `self` lives, and the borrow is
        // bound to `self`.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}

impl Socket {
    /// Takes over a non-blocking descriptor: accepted, connected, listening or an eventfd.
    ///
    /// # Errors
    /// The driver could not register it.
    pub fn adopt(fd: OwnedFd) -> io::Result<Socket> {
        // The engine wants its own stream type; it only ever waits for readiness on it.
        Ok(Socket(Rc::new(TcpStream::from_std(StdStream::from(fd))?)))
    }

    /// Waits until reading would not block; may return early.
    pub fn readable(&self) -> impl Future<Output = ()> {
        Ready::new(self.0.readable(false))
    }

    /// Waits until writing would not block; may return early.
    pub fn writable(&self) -> impl Future<Output = ()> {
        Ready::new(self.0.writable(false))
    }

    /// Waits until writing would not block, where [`Socket::writable`] returned and it did: on the
    /// ring that happens, again and again, once the peer has finished sending.
    pub async fn writable_at_last(&self) {
        let local = local();
        if local.driver == Driver::Epoll {
            return self.writable().await;
        }
        if super::sink::writable(&local, self).await.is_err() {
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
        let mut wait = pin!(self.0.writable(false));
        let (mut over, mut late) = (false, false);
        poll_fn(|cx| {
            if !over && deadline.as_mut().poll(cx).is_ready() {
                over = true;
                // A shard that could not run sees the deadline before an answer that is there: it
                // counts, since nobody can tell any more whether it came in time.
                late = !sock::is_decided(self);
                if late {
                    // Ends the wait below; dropping it would keep the descriptor open on the ring.
                    sock::abort(self);
                }
            }
            wait.as_mut().poll(cx).map(drop)
        })
        .await;
        match sock::connected(self) {
            _ if late => Err(io::ErrorKind::TimedOut.into()),
            outcome => outcome,
        }
    }

    /// Receives into `chunk` what is there, replacing what it held: 0 is the end.
    ///
    /// # Errors
    /// As [`sock::recv`].
    pub fn recv(&self, chunk: &mut Chunk) -> io::Result<usize> {
        chunk.fill(|buffer| sock::recv(self, buffer))
    }

    /// Sends from the front of `chunk` what the socket takes now, and takes it off.
    ///
    /// # Errors
    /// As [`sock::send`].
    pub fn send(&self, chunk: &mut Chunk) -> io::Result<usize> {
        let sent = sock::send(self, chunk.bytes())?;
        chunk.advance(sent);
        Ok(sent)
    }

    /// Passes our FIN on.
    pub fn finish(&self) {
        sock::finish(self);
    }

    /// Resets the connection and wakes everybody who waits on it.
    pub fn abort(&self) {
        sock::abort(self);
    }
}

/// A wait for readiness.
///
/// On epoll the engine asks `poll(2)` before the wait and once more after it. The first one is
/// needed (it clears stale readiness); the second is not, since the caller tries anyway and comes
/// back if there was nothing. The ring's wait is an operation and is awaited to its end.
struct Ready<F> {
    wait: F,
    ring: bool,
    woken: bool,
}

impl<F> Ready<F> {
    fn new(wait: F) -> Self {
        Ready { wait, ring: local().driver == Driver::IoUring, woken: false }
    }
}

impl<F: Future> Future for Ready<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `wait` is pinned whenever `self` is: it is never moved out, and `Ready` has no
        // `Drop`. The flags are plain data.
        let (wait, woken) = unsafe {
            let ready = self.get_unchecked_mut();
            if ready.woken && !ready.ring {
                return Poll::Ready(());
            }
            (Pin::new_unchecked(&mut ready.wait), &mut ready.woken)
        };
        *woken = true;
        wait.poll(cx).map(drop)
    }
}

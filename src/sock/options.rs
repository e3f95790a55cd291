//! What sockets are set to: how much the kernel holds for them, and how a peer that has vanished is
//! found.

use std::{io, os::fd::AsFd, time::Duration};

use socket2::{SockRef, Socket, TcpKeepalive};

#[cfg(not(test))]
use super::calls as kernel;
#[cfg(test)]
use crate::sim::calls as kernel;

/// What all sockets of a listener have: those of its clients inherit it, those of their servers get
/// each of it when they need it, because a dial is short and a call for each option is not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `TCP_NOTSENT_LOWAT`: bytes that may wait in a socket's send queue without having been sent;
    /// 0: the kernel's.
    pub unsent_max: u32,
    /// How it comes out that a peer has vanished.
    pub liveness: Liveness,
}

/// How it comes out that a peer has vanished: a cable that was pulled says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// How long a silent peer is left in peace; then it is asked [`PROBES`] times. `None`: never.
    pub keepalive: Option<Duration>,
    /// How long bytes may stay without an acknowledgement. `None`: as long as the kernel tries,
    /// about 15 minutes.
    pub user_timeout: Option<Duration>,
}

/// Questions of the kernel that a vanished peer leaves without an answer.
pub const PROBES: u32 = 6;

/// From one question to the next.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(10);

impl Liveness {
    /// Of the connections of a listener.
    ///
    /// Kernel: with `TCP_USER_TIMEOUT` the number of probes is not looked at any more
    /// (net/ipv4/tcp_timer.c, `tcp_keepalive_timer`), so that a peer that vanished would stay for
    /// all of `idle_timeout`; and it ends those who are there and read nothing. Hence it is set
    /// where there are no probes, and never shorter than `idle_timeout`, which ends them anyway.
    pub fn new(keepalive: Option<Duration>, idle_timeout: Option<Duration>) -> Liveness {
        let user_timeout = if keepalive.is_some() { None } else { idle_timeout };
        Liveness { keepalive, user_timeout }
    }

    /// Sets it on a socket.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn apply(&self, socket: impl AsFd) -> io::Result<()> {
        let socket = SockRef::from(&socket);
        if let Some(idle) = self.keepalive {
            let keepalive = TcpKeepalive::new()
                .with_time(idle)
                .with_interval(PROBE_INTERVAL)
                .with_retries(PROBES);
            socket.set_tcp_keepalive(&keepalive)?;
        }
        match self.user_timeout {
            None => Ok(()),
            timeout => socket.set_tcp_user_timeout(timeout),
        }
    }
}

impl Options {
    /// Sets them on a listener. Kernel: accepted sockets inherit all of them, so accept costs one
    /// call.
    pub(super) fn apply(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if self.unsent_max > 0 {
            socket.set_tcp_notsent_lowat(self.unsent_max)?;
        }
        self.liveness.apply(socket)
    }
}

/// Lets so many bytes wait in the send queue without having been sent; 0: as many as the kernel
/// does.
pub fn set_unsent_max(socket: impl AsFd, bytes: u32) {
    // A socket that is gone has no queue.
    let _ = kernel::set_unsent_max(socket, bytes);
}

/// Keeps the kernel from making the receive buffer larger; whether it does.
pub fn hold_receive_buffer(socket: impl AsFd) -> bool {
    // An older kernel does not know it, and goes on.
    kernel::hold_receive_buffer(socket, true).is_ok()
}

/// Lets the kernel make a receive buffer larger again that was held.
///
/// Kernel: it measures meanwhile and does not grow, and later grows only where more is read in a
/// round trip than ever before (net/ipv4/tcp_input.c, `tcp_rcv_space_adjust`): the small window
/// would stay. So it begins anew with `FREE_WINDOW`.
pub fn free_receive_buffer(socket: impl AsFd) {
    // A socket that is gone has no buffer.
    let _ = kernel::set_window(&socket, FREE_WINDOW);
    let _ = kernel::hold_receive_buffer(socket, false);
}

/// Bytes of window that autotuning goes on from.
const FREE_WINDOW: u32 = 512 << 10;

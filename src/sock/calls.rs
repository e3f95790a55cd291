//! The system calls under `sock`, as they are. Tests put a simulated kernel in their place, so no
//! decision is made here.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec},
    ioctl,
};
use socket2::{Domain, Socket, Type};

pub(crate) use rustix::{
    net::{
        acceptfrom_with, connect_unspec, getpeername, getsockname, recv, send, shutdown,
        sockopt::socket_error,
    },
    pipe::{fcntl_setpipe_size, pipe_with, splice},
};

/// A fresh socket, and what `connect(2)` said to it.
pub(crate) fn connect(address: SocketAddr) -> io::Result<(OwnedFd, io::Result<()>)> {
    let socket = super::tcp_socket(address)?;
    socket.set_tcp_nodelay(true)?;
    let outcome = socket.connect(&address.into());
    Ok((socket.into(), outcome))
}

/// What `socket(2)` and `connect(2)` say to a datagram socket, which sends nothing.
pub(crate) fn connect_datagram(address: SocketAddr) -> io::Result<()> {
    datagram(address).map(drop)
}

/// The address that a datagram to `address` would come from.
pub(crate) fn datagram_source(address: SocketAddr) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(getsockname(datagram(address)?)?)?)
}

fn datagram(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    socket.connect(&address.into())?;
    Ok(socket)
}

/// `SIOCOUTQ` (tcp(7)): bytes that the peer has not acknowledged.
pub(crate) fn outq(socket: impl AsFd) -> rustix::io::Result<i32> {
    const SIOCOUTQ: ioctl::Opcode = 0x5411;
    // SAFETY: SIOCOUTQ writes one int to the pointer that `Getter` owns for the call.
    unsafe { ioctl::ioctl(socket, ioctl::Getter::<SIOCOUTQ, i32>::new()) }
}

/// `TCP_NOTSENT_LOWAT` (tcp(7)): bytes that may wait unsent; 0: the kernel's.
pub(crate) fn set_unsent_max(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    socket2::SockRef::from(&socket).set_tcp_notsent_lowat(bytes)
}

/// `SO_BUF_LOCK` (kernel 5.14): whether autotuning leaves the receive buffer alone, as it does
/// where `SO_RCVBUF` was set.
pub(crate) fn hold_receive_buffer(socket: impl AsFd, hold: bool) -> io::Result<()> {
    const SO_BUF_LOCK: libc::c_int = 72;
    const SOCK_RCVBUF_LOCK: libc::c_int = 2;
    let value = if hold { SOCK_RCVBUF_LOCK } else { 0 };
    set_number(socket, (libc::SOL_SOCKET, SO_BUF_LOCK), value)
}

/// `SO_RCVBUF` of twice so many bytes, and a window of that many.
pub(crate) fn set_window(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, bytes as usize)?;
    let window = (libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP);
    set_number(socket, window, libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX))
}

fn set_number(
    socket: impl AsFd,
    (level, name): (libc::c_int, libc::c_int),
    value: libc::c_int,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let len = size_of_val(&value) as libc::socklen_t;
    let place = std::ptr::from_ref(&value).cast();
    // SAFETY: the descriptor is borrowed for the call, which reads `len` bytes at `place`.
    match unsafe { libc::setsockopt(fd, level, name, place, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What `poll(2)` says without a wait.
pub(crate) fn poll_now(socket: impl AsFd, any: PollFlags) -> rustix::io::Result<PollFlags> {
    let mut poll = [PollFd::new(&socket, any)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now))?;
    Ok(poll[0].revents())
}

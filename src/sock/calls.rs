//! The system calls under `sock`, as they are. Tests put a simulated kernel in their place, so no
//! decision is made here.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
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
pub(crate) fn connect(
    address: SocketAddr,
    options: &super::Options,
) -> io::Result<(OwnedFd, io::Result<()>)> {
    let socket = super::tcp_socket(address)?;
    options.apply(&socket)?;
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

/// What `poll(2)` says without a wait.
pub(crate) fn poll_now(socket: impl AsFd, any: PollFlags) -> rustix::io::Result<PollFlags> {
    let mut poll = [PollFd::new(&socket, any)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now))?;
    Ok(poll[0].revents())
}

//! The system calls under `sock`, for a descriptor that is simulated; for every other one the real
//! call. Besides what a socket says by itself, each may be interrupted, run short of memory or
//! descriptors, do less than it could, or say that it would block although it would not.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
};

use rustix::{
    event::PollFlags,
    io::{Errno, Result},
    net::{RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags},
    pipe::{PipeFlags, SpliceFlags},
};

use super::{Sim, with};
use crate::sock::calls as real;

pub(crate) use crate::sock::calls::datagram_source;

/// Whether a descriptor is simulated.
fn is_ours(fd: &impl AsFd) -> bool {
    let fd = fd.as_fd().as_raw_fd();
    super::is_on() && with(|sim| sim.is_ours(fd))
}

/// What a call on these descriptors says that has no reason to fail.
fn trouble(sim: &mut Sim, fds: &[RawFd], errors: &[Errno]) -> Result<()> {
    if !sim.fails(5) {
        return Ok(());
    }
    let error = sim.one_of(errors);
    if error == Errno::AGAIN {
        fds.iter().for_each(|fd| sim.tells_again(*fd));
    }
    Err(error)
}

const READ: [Errno; 3] = [Errno::INTR, Errno::AGAIN, Errno::NOMEM];
const WRITE: [Errno; 4] = [Errno::INTR, Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS];
const OPEN: [Errno; 3] = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];

pub fn recv(fd: impl AsFd, buffer: &mut [u8], flags: RecvFlags) -> Result<(usize, usize)> {
    if !is_ours(&fd) {
        return real::recv(fd, buffer, flags);
    }
    let raw = fd.as_fd().as_raw_fd();
    let count = with(|sim| {
        if flags.contains(RecvFlags::TRUNC) {
            return sim.discard(raw, buffer.len());
        }
        trouble(sim, &[raw], &READ)?;
        sim.receive(raw, buffer, flags.contains(RecvFlags::PEEK))
    })?;
    Ok((count, count))
}

pub fn send(fd: impl AsFd, bytes: &[u8], flags: SendFlags) -> Result<usize> {
    if !is_ours(&fd) {
        return real::send(fd, bytes, flags);
    }
    with(|sim| {
        trouble(sim, &[fd.as_fd().as_raw_fd()], &WRITE)?;
        sim.send(fd.as_fd(), bytes)
    })
}

pub fn acceptfrom_with(
    fd: impl AsFd,
    flags: SocketFlags,
) -> Result<(OwnedFd, Option<SocketAddrAny>)> {
    if !is_ours(&fd) {
        return real::acceptfrom_with(fd, flags);
    }
    with(Sim::accept).map(|(fd, address)| (fd, Some(address.into())))
}

pub fn connect(address: SocketAddr) -> io::Result<(OwnedFd, io::Result<()>)> {
    if !super::is_on() {
        return real::connect(address);
    }
    with(|sim| {
        sim.dials += 1;
        trouble(sim, &[], &OPEN)?;
        let (socket, outcome) = sim.connect(address);
        Ok((socket, outcome.map_err(io::Error::from)))
    })
}

pub fn connect_datagram(address: SocketAddr) -> io::Result<()> {
    if super::is_on() { Ok(()) } else { real::connect_datagram(address) }
}

pub fn pipe_with(flags: PipeFlags) -> Result<(OwnedFd, OwnedFd)> {
    if !super::is_on() {
        return real::pipe_with(flags);
    }
    with(|sim| match sim.fails(30) {
        true => Err(sim.one_of(&OPEN)),
        false => Ok(sim.pipe()),
    })
}

pub fn fcntl_setpipe_size(fd: impl AsFd, size: usize) -> Result<usize> {
    if !is_ours(&fd) {
        return real::fcntl_setpipe_size(fd, size);
    }
    with(|sim| {
        if sim.fails(10) {
            return Err(Errno::PERM);
        }
        sim.resize_pipe(fd.as_fd(), size)
    })
}

pub fn splice(
    from: impl AsFd,
    _: Option<&mut u64>,
    to: impl AsFd,
    _: Option<&mut u64>,
    most: usize,
    flags: SpliceFlags,
) -> Result<usize> {
    if !is_ours(&from) {
        return real::splice(from, None, to, None, most, flags);
    }
    with(|sim| {
        let both = [from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd()];
        trouble(sim, &both, &WRITE)?;
        sim.splice(from.as_fd(), to.as_fd(), most)
    })
}

pub fn socket_error(fd: impl AsFd) -> Result<Result<()>> {
    if !is_ours(&fd) {
        return real::socket_error(fd);
    }
    let error = with(|sim| sim.link(fd.as_fd().as_raw_fd()).and_then(|link| link.error.take()));
    Ok(error.map_or(Ok(()), Err))
}

pub fn shutdown(fd: impl AsFd, how: Shutdown) -> Result<()> {
    if !is_ours(&fd) {
        return real::shutdown(fd, how);
    }
    with(|sim| match how {
        Shutdown::Read => sim.stop_reading(fd.as_fd().as_raw_fd()),
        _ => sim.finish(fd.as_fd().as_raw_fd()),
    })
}

pub fn set_unsent_max(fd: impl AsFd, bytes: u32) -> io::Result<()> {
    if is_ours(&fd) { Ok(()) } else { real::set_unsent_max(fd, bytes) }
}

pub fn hold_receive_buffer(fd: impl AsFd, hold: bool) -> io::Result<()> {
    if is_ours(&fd) { Ok(()) } else { real::hold_receive_buffer(fd, hold) }
}

pub fn set_window(fd: impl AsFd, bytes: u32) -> io::Result<()> {
    if is_ours(&fd) { Ok(()) } else { real::set_window(fd, bytes) }
}

pub fn connect_unspec(fd: impl AsFd) -> Result<()> {
    if !is_ours(&fd) {
        return real::connect_unspec(fd);
    }
    with(|sim| sim.disconnect(fd.as_fd().as_raw_fd()));
    Ok(())
}

pub fn getsockname(fd: impl AsFd) -> Result<SocketAddrAny> {
    if !is_ours(&fd) {
        return real::getsockname(fd);
    }
    match with(|sim| sim.link(fd.as_fd().as_raw_fd()).map(|link| link.is_disconnected())) {
        Some(false) => Ok(super::world::LISTENER.into()),
        _ => Err(Errno::NOTCONN),
    }
}

pub fn getpeername(fd: impl AsFd) -> Result<Option<SocketAddrAny>> {
    match is_ours(&fd) {
        true => getsockname(fd).map(Some),
        false => real::getpeername(fd),
    }
}

pub fn outq(fd: impl AsFd) -> Result<i32> {
    if !is_ours(&fd) {
        return real::outq(fd);
    }
    let unsent = with(|sim| sim.link(fd.as_fd().as_raw_fd()).map_or(0, |link| link.unsent()));
    Ok(unsent as i32)
}

pub fn poll_now(fd: impl AsFd, any: PollFlags) -> Result<PollFlags> {
    match super::is_on().then(|| with(|sim| sim.ready(fd.as_fd().as_raw_fd()))).flatten() {
        Some(ready) => Ok(ready & (any | PollFlags::ERR | PollFlags::HUP)),
        None => real::poll_now(fd, any),
    }
}

//! What a failed call means: to be tried again, want of something of our own, or the peer's.

use std::{io, net::SocketAddr};

use rustix::io::Errno;

use super::has_way_to;

/// Whether a call has failed because there was nothing, or no room: the kernel will tell when that
/// changes.
pub fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether a failed receive, send or splice is to be tried again once the socket is ready: nothing
/// to read, no room, or a shortage of this host that is no fault of either peer.
pub fn is_for_later(error: &io::Error) -> bool {
    would_block(error) || is_shortage(error)
}

/// Whether a failed call ran short of something of our own (descriptors, memory), which says
/// nothing about the peer. For a dial there is [`dial_is_short`].
pub fn is_shortage(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::NOSPC
                | Errno::AGAIN
        )
    )
}

/// Whether a dial of `address` failed with `error` for want of something of our own, local ports
/// included.
///
/// Kernel: `EADDRNOTAVAIL` says that all local ports to this address are taken, and also that this
/// host has no address of its family to come from (net/ipv6/addrconf.c, `ipv6_dev_get_saddr`). The
/// first is our shortage, the second is for ever and says that the backend cannot be reached.
pub fn dial_is_short(error: &io::Error, address: SocketAddr) -> bool {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) => has_way_to(address),
        _ => is_shortage(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_local_ports_is_ours_and_want_of_a_way_is_not() {
        let short =
            |error: Errno, address: &str| dial_is_short(&error.into(), address.parse().unwrap());
        assert!(short(Errno::ADDRNOTAVAIL, "127.0.0.1:9"));
        assert!(!short(Errno::ADDRNOTAVAIL, "255.255.255.255:9"));
        assert!(short(Errno::MFILE, "255.255.255.255:9"));
        for error in [Errno::AFNOSUPPORT, Errno::NETUNREACH, Errno::ACCESS, Errno::PERM] {
            assert!(!short(error, "127.0.0.1:9"), "{error}");
        }
    }
}

//! What this host's kernel knows of connections whose sockets are another process's.

use std::{net::SocketAddrV4, time::Duration};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
        socket_with,
    },
};

/// Kernel: include/uapi/linux/sock_diag.h, `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
const TCP: u8 = 6;
/// Kernel: include/uapi/linux/netlink.h, `NLMSG_ERROR`, `NLM_F_REQUEST` and the length of `struct
/// nlmsghdr`.
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const HEADER: usize = 16;

/// Whether the kernel has the TCP socket with these two ends. A reset takes it away.
pub fn has_connection(local: SocketAddrV4, remote: SocketAddrV4) -> bool {
    connection(local, remote).is_some()
}

/// When the kernel asks the peer of an idle connection whether it is there; `None`: never.
pub fn asks_in(local: SocketAddrV4, remote: SocketAddrV4) -> Option<Duration> {
    /// Kernel: net/ipv4/inet_diag.c; 1 is a retransmission, 2 keepalive.
    const KEEPALIVE: u8 = 2;
    let message = connection(local, remote).expect("no such connection");
    // Family, state, timer, retransmissions; 48 bytes of addresses; milliseconds.
    let expires = u32::from_ne_bytes(message[52..56].try_into().unwrap());
    (message[2] == KEEPALIVE).then(|| Duration::from_millis(expires.into()))
}

/// What the kernel tells of the TCP socket with these two ends: `struct inet_diag_msg`.
///
/// One question of `struct inet_diag_req_v2` (include/uapi/linux/inet_diag.h, sock_diag(7)): to
/// read `/proc/net/tcp` takes a second where others left 100,000 connections in TIME_WAIT.
fn connection(local: SocketAddrV4, remote: SocketAddrV4) -> Option<Vec<u8>> {
    let mut request = vec![AddressFamily::INET.as_raw() as u8, TCP, 0, 0];
    request.extend(u32::MAX.to_ne_bytes()); // any state
    request.extend([local.port(), remote.port()].map(u16::to_be_bytes).as_flattened());
    for address in [local.ip(), remote.ip()] {
        request.extend(address.octets());
        request.extend([0; 12]);
    }
    request.extend(0u32.to_ne_bytes()); // any interface
    request.extend(u64::MAX.to_ne_bytes()); // no cookie
    let mut message = ((HEADER + request.len()) as u32).to_ne_bytes().to_vec();
    message.extend([BY_FAMILY, REQUEST].map(u16::to_ne_bytes).as_flattened());
    message.extend([0; 8]); // sequence and port
    message.append(&mut request);

    let (family, protocol) = (AddressFamily::NETLINK, netlink::SOCK_DIAG);
    let flags = SocketFlags::CLOEXEC;
    let diag = socket_with(family, SocketType::DGRAM, flags, Some(protocol)).unwrap();
    send(&diag, &message, SendFlags::empty()).unwrap();
    let mut answer = [0; 4096];
    let (n, _) = recv(&diag, &mut answer, RecvFlags::empty()).unwrap();
    assert!(n >= HEADER + 4, "{n} bytes from sock_diag");
    let error = i32::from_ne_bytes(answer[HEADER..HEADER + 4].try_into().unwrap());
    match u16::from_ne_bytes([answer[4], answer[5]]) {
        BY_FAMILY => Some(answer[HEADER..n].to_vec()),
        ERROR if error == -Errno::NOENT.raw_os_error() => None,
        kind => panic!("sock_diag said {kind}, {error} (has this kernel tcp_diag?)"),
    }
}

//! Claims the addresses of the file: those of the listeners, for each shard, and the admin one.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use crate::{bridge::Plan, config::Config, coordinator, errno::cause, sock};

/// How long an address may be in use before that is an error. Kernel: after `kill -9` of a process
/// with a ring, its sockets are closed by a worker of the kernel; up to 440 ms later were seen.
const IN_USE_MAX: Duration = Duration::from_secs(1);

/// From one try to the next meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// Sockets that are bound.
pub struct Sockets {
    /// The admin endpoint's.
    pub admin: TcpListener,
    /// The addresses of each listener, ports chosen.
    pub bound: Vec<Vec<SocketAddr>>,
    /// Listening sockets of each shard, with the index of their listener.
    pub per_shard: Vec<Vec<(usize, OwnedFd)>>,
}

/// Claims every address alone first, then gives each shard its own socket on it.
///
/// # Errors
/// A sentence that names the address, the cause and the way out.
pub fn bind(config: &Config, plan: &Plan, shards: usize) -> Result<Sockets, String> {
    // For all of them together: one that is in use for longer is so for another reason.
    let until = Instant::now() + IN_USE_MAX;
    let admin = config.admin.listen;
    let mut sockets = Sockets {
        admin: patiently(until, || coordinator::bind_admin(admin))
            .map_err(|error| cannot_listen_on_admin(admin, &error))?,
        bound: vec![Vec::new(); config.listeners.len()],
        per_shard: (0..shards).map(|_| Vec::new()).collect(),
    };
    for (i, listener) in config.listeners.iter().enumerate() {
        let options = &plan.listeners[i].sockets;
        for address in &listener.listen {
            let refused = |error| cannot_listen(&listener.name, *address, &error);
            let claimed = patiently(until, || sock::claim(*address)).map_err(refused)?;
            for shard in &mut sockets.per_shard {
                let socket = sock::listen(claimed, options).map_err(refused)?;
                shard.push((i, socket));
            }
            sockets.bound[i].push(claimed);
        }
    }
    Ok(sockets)
}

fn patiently<T>(until: Instant, mut claim: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match claim() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                pause();
            }
            claimed => return claimed,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "nothing is served yet")]
fn pause() {
    thread::sleep(PAUSE);
}

fn cannot_listen_on_admin(address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process has it: stop that one, or write another admin.listen)"
        }
        _ => "",
    };
    format!("cannot listen on admin {address}: {}{hint}", cause(error))
}

fn cannot_listen(listener: &str, address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            " (another process listens there, perhaps another ringway, or a listener above in this \
             file does: stop it, or choose another address)"
        }
        io::ErrorKind::PermissionDenied => " (ports under 1024 need CAP_NET_BIND_SERVICE)",
        io::ErrorKind::AddrNotAvailable => " (this host has no such address)",
        _ => "",
    };
    format!("listener {listener}: cannot listen on {address}: {}{hint}", cause(error))
}

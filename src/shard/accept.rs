//! Takes what is queued on a listener.

use std::{io, rc::Rc, time::Duration};

use rustix::{fd::OwnedFd, io::Errno};

use super::{Shard, admit::refuse, handover};
use crate::{
    bridge::{Arrival, Fresh, Phase, Refusal},
    limits::ACCEPTS_PER_TURN,
    planted::{self, Place},
    rt::{self, Socket},
    sock,
};

/// Out of descriptors: how long not to accept. Long enough for connections to end, short enough
/// that a client's second SYN finds us again.
const PAUSE: Duration = Duration::from_millis(20);

/// Refused with the spare descriptor before each pause, so that clients learn it at once.
const REFUSED_PER_PAUSE: usize = 64;

/// Accepts on one listening socket until the shard drains.
pub async fn run(shard: Rc<Shard>, listener: usize, socket: Socket) {
    while shard.bridge.phase() < Phase::Draining {
        match take_queued(&shard, listener, &socket, ACCEPTS_PER_TURN) {
            Queue::Empty => socket.readable().await,
            Queue::More => rt::turn().await,
            // Waiting for readiness would be over at once, for ever.
            Queue::Broken => rt::sleep(PAUSE).await,
            Queue::NoDescriptor => {
                shard.board().accept_pauses.add(1);
                refuse_with_spare(&shard, listener, &socket);
                rt::sleep(PAUSE).await;
            }
        }
    }
}

/// How accepting stopped.
enum Queue {
    Empty,
    More,
    NoDescriptor,
    /// The listener says something that no client has to do with; it may have been destroyed.
    Broken,
}

/// Takes what is queued now, to the last connection. Called before the listener is closed: what
/// the kernel has accepted for us would be reset with it.
pub fn take_all(shard: &Rc<Shard>, listener: usize, socket: &Socket) {
    // Twice the queue: who still connects after that came after the signal.
    for _ in 0..2 * sock::BACKLOG as usize / ACCEPTS_PER_TURN {
        if !matches!(take_queued(shard, listener, socket, ACCEPTS_PER_TURN), Queue::More) {
            return;
        }
    }
}

fn take_queued(shard: &Rc<Shard>, listener: usize, socket: &Socket, most: usize) -> Queue {
    for _ in 0..most {
        match socket.accept() {
            Ok((fd, client)) => {
                let arrival = Arrival { client, listener, at: rt::now() };
                take(shard, Fresh { fd, arrival, hops: 0 });
            }
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return Queue::NoDescriptor;
                }
                // The client gave up while it was queued (accept(2) lists more such errors).
                Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => {}
                Some(Errno::AGAIN) => return Queue::Empty,
                _ => return Queue::Broken,
            },
        }
    }
    Queue::More
}

/// Settles an accepted connection, or resets it where its network is not wanted here: first of all,
/// so that it takes no place from one that is. The same where its descriptor is one of the last,
/// which are the admin endpoint's.
fn take(shard: &Rc<Shard>, fresh: Fresh) {
    let Arrival { client, listener, .. } = fresh.arrival;
    planted::panic_at(Place::Accepted, client);
    let refusal = match shard.bridge.plan.listeners[listener].access.admits(client.ip()) {
        false => Refusal::Denied,
        true if !shard.bridge.gates.is_for_traffic(&fresh.fd) => Refusal::Descriptors,
        true => return handover::settle(shard, fresh),
    };
    shard.board().listeners[listener].accepted.add(1);
    refuse(shard, fresh.fd, fresh.arrival, refusal);
}

/// Gives up the spare descriptor to take and reset what is queued, then gets it back. Without it
/// a queued client would wait for a descriptor that may never come.
fn refuse_with_spare(shard: &Rc<Shard>, listener: usize, socket: &Socket) {
    if shard.spare.with(Option::take).is_none() {
        return shard.spare.with(|kept| *kept = spare().ok());
    }
    for _ in 0..REFUSED_PER_PAUSE {
        let Ok((fd, client)) = socket.accept() else { break };
        shard.board().listeners[listener].accepted.add(1);
        let arrival = Arrival { client, listener, at: rt::now() };
        refuse(shard, fd, arrival, Refusal::Descriptors);
    }
    shard.spare.with(|kept| *kept = spare().ok());
}

/// A descriptor held only to be given up.
///
/// # Errors
/// None is left.
pub fn spare() -> io::Result<OwnedFd> {
    let flags = rustix::event::EventfdFlags::CLOEXEC;
    Ok(rustix::event::eventfd(0, flags)?)
}

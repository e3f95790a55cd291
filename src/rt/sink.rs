//! Waiting for room in a socket whose peer has sent its FIN, on the ring.
//!
//! Kernel: a poll on the ring includes `EPOLLRDHUP` (`IO_POLL_UNMASK`, io_uring/poll.c), so a
//! wait for `POLLOUT` on such a socket is over at once and for ever, and a client that half-closes
//! and then does not read would keep its shard spinning. An epoll instance asks for exactly what
//! is wanted; the ring waits for that one instead.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    task::{Poll, Waker},
};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use slab::Slab;

use super::{Socket, spawn, with_local};

/// Events taken at once.
const EVENTS: usize = 64;

/// A shard's epoll instance and who waits on it; made when first needed.
#[derive(Default)]
pub(super) struct Sinks {
    epoll: RefCell<Option<Rc<OwnedFd>>>,
    waiting: RefCell<Slab<Option<Waker>>>,
    /// True exactly while the task that answers the instance runs.
    answered: Cell<bool>,
}

impl Sinks {
    /// Whether anybody has waited here.
    #[cfg(test)]
    pub(super) fn is_used(&self) -> bool {
        self.answered.get()
    }

    fn epoll(&self) -> io::Result<Rc<OwnedFd>> {
        if let Some(epoll) = &*self.epoll.borrow() {
            return Ok(Rc::clone(epoll));
        }
        let epoll = Rc::new(epoll::create(CreateFlags::CLOEXEC)?);
        self.epoll.replace(Some(Rc::clone(&epoll)));
        Ok(epoll)
    }
}

/// Waits until `socket` takes bytes or is dead, whatever its peer has finished sending.
///
/// # Errors
/// No descriptor or memory is left for the wait.
pub(super) async fn writable(socket: &Socket) -> io::Result<()> {
    let local = with_local(Rc::clone);
    let sinks = &local.sinks;
    let epoll = sinks.epoll()?;
    if !sinks.answered.get() {
        let watched = Socket::adopt(epoll.as_fd().try_clone_to_owned()?)?;
        sinks.answered.set(true);
        spawn(answer(Rc::clone(&local), watched));
    }
    let place = sinks.waiting.borrow_mut().insert(None);
    let wanted = EventFlags::OUT | EventFlags::ONESHOT;
    let added = epoll::add(&*epoll, socket, EventData::new_u64(place as u64), wanted);
    if added.is_ok() {
        let mut asleep = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut asleep, true) {
                return Poll::Ready(());
            }
            sinks.waiting.borrow_mut()[place] = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let _ = epoll::delete(&*epoll, socket);
    }
    sinks.waiting.borrow_mut().remove(place);
    Ok(added?)
}

/// Wakes those whose sockets are ready, for ever.
async fn answer(local: Rc<super::Local>, watched: Socket) {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
    loop {
        watched.readable().await;
        events.clear();
        let buffer = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&watched, buffer, Some(&now)).is_err() {
            continue;
        }
        for event in &events {
            let place = event.data.u64() as usize;
            let mut waiting = local.sinks.waiting.borrow_mut();
            if let Some(waker) = waiting.get_mut(place).and_then(Option::take) {
                waker.wake();
            }
        }
    }
}

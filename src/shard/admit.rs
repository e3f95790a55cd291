//! Admits a connection to this shard, with its places in the limits and in the table, or refuses
//! it.

use std::{os::fd::OwnedFd, rc::Rc};

use super::{Shard, conn::Conn, record, serve};
use crate::{
    bridge::{Arrival, Fresh, Refusal, SourcePlace},
    rt, sock,
    wire::Wire,
};

/// Starts serving an accepted connection, or resets it where a limit is reached.
pub fn admit(shard: &Rc<Shard>, fresh: Fresh) {
    let Fresh { fd, arrival, .. } = fresh;
    shard.board().listeners[arrival.listener].accepted.add(1);
    let admission = match Admission::enter(shard, &arrival) {
        Ok(admission) => admission,
        Err(refusal) => return refuse(shard, fd, arrival, refusal),
    };
    let client = match Wire::accepted(fd) {
        Ok(client) => client,
        // Only when the kernel cannot register one more descriptor. It is closed with the error, so
        // the client sees a FIN; a reset only if it had sent something.
        Err(_) => return record::refused(shard, arrival, Refusal::Descriptors),
    };
    let conn = Rc::new(Conn::new(client, arrival, shard.clock_ms()));
    let place = shard.table.with(|table| table.insert(Rc::clone(&conn))) as u32;
    rt::spawn_apart(serve(Rc::clone(shard), conn, place, admission));
}

/// Resets a client that gets no place.
pub fn refuse(shard: &Shard, fd: OwnedFd, arrival: Arrival, refusal: Refusal) {
    sock::abort(&fd);
    drop(fd);
    record::refused(shard, arrival, refusal);
}

/// A place in the limits of a listener, of the runtime and of a client; dropping it gives the place
/// back.
pub struct Admission {
    shard: Rc<Shard>,
    /// Half a word: every connection has one of these.
    listener: u32,
    /// `None`: the listener has no limit for each client.
    source: Option<SourcePlace>,
}

impl Admission {
    fn enter(shard: &Rc<Shard>, arrival: &Arrival) -> Result<Admission, Refusal> {
        let (gates, listener) = (&shard.bridge.gates, arrival.listener);
        // The runtime's first: a listener without a limit of its own has as many places as that.
        if !gates.runtime.enter() {
            return Err(Refusal::RuntimeFull);
        }
        if !gates.listeners[listener].enter() {
            gates.runtime.leave();
            return Err(Refusal::ListenerFull);
        }
        let mut admission =
            Admission { shard: Rc::clone(shard), listener: listener as u32, source: None };
        let limit = shard.bridge.plan.listeners[listener].source;
        match gates.sources.enter(listener, arrival.client.ip(), limit) {
            Ok(source) => admission.source = source,
            // The two other places go back as it is dropped.
            Err(_) => return Err(Refusal::SourceFull),
        }
        Ok(admission)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let gates = &self.shard.bridge.gates;
        if let Some(source) = self.source {
            gates.sources.leave(source);
        }
        gates.listeners[self.listener as usize].leave();
        gates.runtime.leave();
    }
}

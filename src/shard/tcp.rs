//! The story of a TCP connection: dial, two flows, half-close and reset; and what is done at its
//! end, however it ends.
//!
//! The two directions are two tasks with the same code, so that each waits for exactly one thing.

use std::{future::Future, ops::ControlFlow, rc::Rc, time::Duration};

use super::{
    Shard,
    admit::Admission,
    conn::{Conn, Phase},
    cut, dial, drain,
    flow::{Ending, Ends, Flow, Work},
    record::{self, Outcome},
    upstream::Lease,
};
use crate::{
    bridge::{Direction, EndReason, Side},
    limits::FLUSH_MAX,
    planted::{self, Place},
    rt::{self, Task},
    wire::Wire,
};

/// One connection, from the moment it is admitted to the moment it is recorded.
/// It stands at `place` in the shard's table meanwhile.
pub fn serve(
    shard: Rc<Shard>,
    conn: Rc<Conn>,
    place: u32,
    admission: Admission,
) -> impl Future<Output = ()> {
    // Made here: what an `async` block is given and keeps elsewhere, it keeps twice.
    let mut open = Open(Some(Parts { shard, conn, place, admission, found: Found::Nobody }));
    async move {
        // Boxed, as what comes after it: each is far larger than a connection that is relayed.
        if Box::pin(open.find()).await {
            open.begin().await;
            Box::pin(open.end()).await;
        }
    }
}

/// A connection that is not recorded yet; dropping it does that. A panic drops it too.
struct Open(Option<Parts>);

struct Parts {
    shard: Rc<Shard>,
    conn: Rc<Conn>,
    place: u32,
    admission: Admission,
    found: Found,
}

/// Whether a server was found.
enum Found {
    Nobody,
    /// None, for this reason.
    None(EndReason),
    /// This one; with the task of the direction from it, once that runs.
    Server(Lease, Option<Task>),
}

impl Open {
    fn parts(&mut self) -> &mut Parts {
        self.0.as_mut().expect("there until it is dropped")
    }

    /// Finds a server, or the reason why there is none; whether there is one.
    async fn find(&mut self) -> bool {
        let Parts { shard, conn, found, .. } = self.parts();
        planted::panic_at(Place::Admitted, conn.arrival.client);
        *found = match dial::reach(shard, conn).await {
            Ok(lease) => Found::Server(lease, None),
            Err(end) => {
                conn.abort();
                Found::None(end)
            }
        };
        matches!(found, Found::Server(..))
    }

    /// Begins to relay to the server that was found: the direction to it, to be waited for. The
    /// other one is a task of its own, which runs already.
    fn begin(&mut self) -> impl Future<Output = ()> + use<> {
        let Parts { shard, conn, found, .. } = self.parts();
        let Found::Server(lease, down) = found else { unreachable!("a server was found") };
        let (up, other) = begin(shard, conn, lease);
        *down = Some(other);
        up
    }

    /// Waits until the other direction is over too, and `conn` knows why.
    async fn end(&mut self) {
        let Parts { shard, conn, found, .. } = self.parts();
        if let Found::Server(_, Some(down)) = found {
            down.await;
        }
        if matches!(conn.phase(), Phase::Cutting(_)) {
            return cut::finish(shard, conn).await;
        }
        // A reset that was noticed by writing, with nobody left to read: pass it on from here.
        if let Some(side) = reset_side(conn) {
            pass_reset_to(conn, side.other()).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(mut parts) = self.0.take() else { return };
        if !std::thread::panicking() {
            return parts.finish();
        }
        parts.conn.fail();
        match &mut parts.found {
            // What its sockets took is still counted by the other direction, which ends now.
            Found::Server(_, Some(down)) => {
                let down = *down;
                rt::spawn(async move {
                    down.await;
                    parts.finish();
                });
            }
            _ => parts.finish(),
        }
    }
}

impl Parts {
    /// Gives everything back and records the connection, once and whole: a panic meanwhile would
    /// leave it counted as open for ever, and ends the process. The order matters. Out of the table
    /// comes first: the sweep must not look at closed sockets. Closed, and with its lease back, it
    /// is recorded: the one who sees the record finds descriptors and places free. Its places in
    /// the limits come last: a shard on which none is taken is done.
    fn finish(self) {
        rt::whole(|| self.give_back());
    }

    fn give_back(self) {
        let Parts { shard, conn, place, admission, found } = self;
        let (outcome, lease) = match found {
            Found::Server(lease, _) => (Outcome::served(&conn, lease.slot()), Some(lease)),
            Found::None(end) => (Outcome::unserved(&conn, end), None),
            Found::Nobody => (Outcome::unserved(&conn, EndReason::InternalError), None),
        };
        shard.table.with(|table| table.remove(place as usize));
        shard.publish_load(0);
        drop(conn);
        drop(lease);
        record::finish(&shard, outcome);
        drop(admission);
        drain::note_if_done(&shard);
    }
}

/// The two directions; that of the server runs already.
fn begin(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    lease: &Lease,
) -> (impl Future<Output = ()> + use<>, Task) {
    let server = conn.wire(Side::Server).expect("a dial that succeeded leaves its wire");
    conn.enter(Phase::Relaying);
    conn.moved_ms.set(shard.clock_ms());
    let flow = |direction: Direction| {
        let (source, sink) = match direction {
            Direction::Up => (conn.client.clone(), server.clone()),
            Direction::Down => (server.clone(), conn.client.clone()),
        };
        Flow::new(shard, conn, lease, direction, Ends { source, sink })
    };
    let (up, down) = (flow(Direction::Up), flow(Direction::Down));
    let down = rt::spawn_apart(down.run(judge));
    (up.run(judge), down)
}

/// What the end of a direction means for its connection.
fn judge(flow: &Flow, ending: Ending) -> Option<Work> {
    match ending {
        // Nobody can tell yet how it ended.
        Ending::Fin if flow.ends.source.is_sending() => {
            flow.conn.saw_fin(flow.direction.source());
            return Some(Box::pin(look_again(flow.waited())));
        }
        Ending::Fin if !source_was_reset(flow) => pass_fin_on(flow),
        Ending::Fin | Ending::SourceReset => {
            return Some(Box::pin(pass_reset_on(Rc::clone(&flow.conn), flow.direction)));
        }
        Ending::SinkReset => flow.conn.reset_by(flow.direction.source().other()),
        Ending::Lost => {
            flow.conn.decide(EndReason::InternalError);
            flow.conn.abort();
        }
        Ending::Stopped => {}
    }
    None
}

/// Waits for a turn, or for a pause.
async fn look_again(pause: Option<impl Future<Output = ()>>) -> ControlFlow<()> {
    match pause {
        Some(pause) => pause.await,
        None => rt::turn().await,
    }
    ControlFlow::Continue(())
}

/// Who reset the connection, if that ended it.
fn reset_side(conn: &Conn) -> Option<Side> {
    conn.ended().and_then(|end| end.reset_side())
}

/// Kernel: a reset that the other direction met by writing clears the socket's error, and reading
/// it then looks like a FIN. On the ring that direction may not have run since, and while its send
/// is not over ([`Wire::is_sending`]) nobody can tell.
fn source_was_reset(flow: &Flow) -> bool {
    reset_side(&flow.conn) == Some(flow.direction.source()) || flow.ends.source.heard_reset()
}

fn pass_fin_on(flow: &Flow) {
    flow.conn.fin_by(flow.direction.source());
    flow.plant(Place::HalfClosed);
    // The other direction's silence counts from here.
    flow.note_moved();
    // Where the other direction has ended too, both sockets are closed at once, which says it.
    if matches!(flow.conn.phase(), Phase::HalfClosed(_)) {
        flow.ends.sink.finish();
    }
}

/// Everything the source sent before its reset is in the sink's send queue; once that is
/// acknowledged the reset follows, which also wakes the opposite direction.
async fn pass_reset_on(conn: Rc<Conn>, direction: Direction) -> ControlFlow<()> {
    let source = direction.source();
    conn.reset_by(source);
    conn.enter(Phase::Closing);
    planted::panic_at(Place::ResetPassedOn, conn.arrival.client);
    match reset_side(&conn) == Some(source) {
        true => pass_reset_to(&conn, source.other()).await,
        false => conn.abort(),
    }
    ControlFlow::Break(())
}

/// What the other side sent before its reset comes first.
async fn pass_reset_to(conn: &Conn, side: Side) {
    if let Some(wire) = conn.wire(side) {
        flush(conn, &wire).await;
    }
    conn.abort();
}

/// Waits until `wire`'s peer has acknowledged everything, is gone, or [`FLUSH_MAX`] is over.
async fn flush(conn: &Conn, wire: &Wire) {
    let deadline = rt::now() + FLUSH_MAX;
    let mut pause = Duration::from_millis(1);
    while wire.unsent() > 0 && !wire.is_over() && rt::now() < deadline {
        rt::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    debug_assert!(conn.ended().is_some(), "only a connection with a reset is flushed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_stays_small() {
        // What it keeps over its waits, the direction from the client included.
        fn size_of_result<A, B, C, D, R>(_: impl Fn(A, B, C, D) -> R) -> usize {
            size_of::<R>()
        }
        assert!(size_of_result(serve) <= 224, "{}", size_of_result(serve));
    }
}

//! The story of a TCP connection, in one function, and what is done at its end, however it ends.

use std::{future::Future, rc::Rc};

use super::{
    Shard,
    admit::Admission,
    conn::Conn,
    dial, drain,
    record::{self, Outcome},
    relay,
    upstream::Lease,
};
use crate::{
    bridge::EndReason,
    planted::{self, Place},
    rt::{self, Task},
};

/// One connection, from the moment it is admitted to the moment it is recorded.
/// It stands at `place` in the shard's table meanwhile.
#[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
pub fn serve(
    shard: Rc<Shard>,
    conn: Rc<Conn>,
    place: u32,
    admission: Admission,
) -> impl Future<Output = ()> {
    async move {
        let mut open = Open(Some(Parts { shard, conn, place, admission, found: Found::Nobody }));
        open.go().await;
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

    async fn go(&mut self) {
        let Parts { shard, conn, found, .. } = self.parts();
        planted::panic_at(Place::Admitted, conn.arrival.client);
        // Boxed: it is far larger than what comes after it, and soon over.
        match Box::pin(dial::reach(shard, conn)).await {
            Ok(lease) => *found = Found::Server(lease, None),
            Err(end) => {
                conn.abort();
                *found = Found::None(end);
            }
        }
        if let Found::Server(lease, down) = found {
            relay::relay(shard, conn, lease, down).await;
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
    /// Gives everything back and records the connection. The order matters. Out of the table comes
    /// first: the sweep must not look at closed sockets. Closed, and with its lease back, it is
    /// recorded: the one who sees the record finds descriptors and places free. Its places in the
    /// limits come last: a shard on which none is taken is done.
    fn finish(self) {
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

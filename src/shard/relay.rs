//! Both directions of one connection, half-close and reset.
//!
//! The directions are two tasks with the same code, so that each waits for exactly one thing. A
//! direction reads its source and writes its sink; it chooses between copying and splicing as it
//! goes, and while it waits for its source it holds neither buffer nor pipe.

mod copy;
mod gate;
mod held;
mod last;
mod share;
mod splice;

use std::{cell::Cell, future::Future, rc::Rc, time::Duration};

use self::{gate::Gate, held::Bound, share::Share};
use super::{
    Shard,
    conn::{Conn, Phase},
    cut, record,
    upstream::Lease,
};
use crate::{
    bridge::{Direction, EndReason, Path, Side},
    limits::FLUSH_MAX,
    planted::{self, Place},
    rt::{self, Chunk, Pipe, Task},
    wire::Wire,
};

/// Waits without a byte before a direction looks only each [`VAIN_PAUSE`].
const VAIN_WAITS_MAX: u8 = 4;

/// See [`VAIN_WAITS_MAX`].
const VAIN_PAUSE: Duration = Duration::from_millis(1);

/// Relays until both directions are over and `conn` knows why. The direction from the server is a
/// task of its own, which `down` tells.
pub async fn relay(shard: &Rc<Shard>, conn: &Rc<Conn>, lease: &Lease, down: &mut Option<Task>) {
    let Some((up, other)) = begin(shard, conn, lease) else { return };
    *down = Some(other);
    up.await;
    other.await;
    if matches!(conn.phase(), Phase::Cutting(_)) {
        return Box::pin(cut::finish(shard, conn)).await;
    }
    // A reset that was noticed by writing, with nobody left to read: pass it on from here.
    if let Some(side) = conn.ended().and_then(|end| end.reset_side()) {
        Box::pin(pass_reset_to(conn, side.other())).await;
    }
}

/// The two directions; that of the server runs already.
fn begin(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    lease: &Lease,
) -> Option<(impl Future<Output = ()> + use<>, Task)> {
    let server = conn.wire(Side::Server)?;
    conn.enter(Phase::Relaying);
    conn.moved_ms.set(shard.clock_ms());
    let flow = |direction: Direction| {
        let (source, sink) = match direction {
            Direction::Up => (conn.client.clone(), server.clone()),
            Direction::Down => (server.clone(), conn.client.clone()),
        };
        Flow::new(shard, conn, lease, direction, Ends { source, sink })
    };
    let down = rt::spawn_apart(flow(Direction::Down).run());
    Some((flow(Direction::Up).run(), down))
}

/// The two wires of one direction.
struct Ends {
    source: Wire,
    sink: Wire,
}

/// One direction of one connection.
struct Flow {
    shard: Rc<Shard>,
    conn: Rc<Conn>,
    /// Indices of half a word, as in a lease.
    pool: u32,
    slot: u32,
    direction: Direction,
    ends: Ends,
    gate: Gate,
    share: Share,
    /// What a full sink left over, exactly while the direction waits for it.
    held: Held,
    /// True exactly when the last receive left nothing in the source, as far as it could tell.
    drained: bool,
    /// Waits since a byte last moved.
    vain_waits: Cell<u8>,
    /// How much the kernel may hold of it.
    bound: Cell<Bound>,
}

/// What one turn of a direction came to.
#[derive(Clone, Copy)]
enum Step {
    /// Its share of this turn is used up, or the gate has changed its mind.
    Again,
    /// Nothing to read now.
    SourceEmpty,
    /// The sink takes nothing now; what was read is held until it does.
    SinkFull,
    /// The kernel has what was read, and will say what the sink took.
    Sending,
    /// The source's FIN was read and everything before it has been passed on.
    SourceEnded,
    SourceReset,
    SinkReset,
    /// Nobody knows what became of some bytes.
    Lost,
    /// We ended the connection meanwhile.
    Ended,
}

impl Step {
    /// Whether the direction goes on after a wait for readiness.
    fn waits(&self) -> bool {
        matches!(self, Step::SourceEmpty | Step::SinkFull | Step::Sending)
    }
}

/// Bytes between the two wires.
#[derive(Default)]
enum Held {
    /// They are still in the source, or the kernel has them.
    #[default]
    Nothing,
    Chunk(Chunk),
    Pipe(Pipe),
}

impl Flow {
    fn new(
        shard: &Rc<Shard>,
        conn: &Rc<Conn>,
        lease: &Lease,
        direction: Direction,
        ends: Ends,
    ) -> Flow {
        Flow {
            shard: Rc::clone(shard),
            conn: Rc::clone(conn),
            pool: lease.pool() as u32,
            slot: lease.slot() as u32,
            direction,
            ends,
            gate: Gate::new(shard.bridge.plan.listeners[conn.arrival.listener].splice),
            share: Share::default(),
            held: Held::Nothing,
            drained: false,
            vain_waits: Cell::new(0),
            bound: Cell::new(Bound::of(direction)),
        }
    }

    /// Runs to the end of the direction. Not an `async fn`, which would keep its argument twice.
    fn run(self) -> impl Future<Output = ()> {
        let mut flow = self;
        async move {
            let mut step = match flow.direction {
                // The client has usually sent by the time the dial is done; the server has not.
                Direction::Up => Step::Again,
                Direction::Down => Step::SourceEmpty,
            };
            loop {
                // On epoll a wait may be over at once; a share that is used up ends the turn first.
                if step.waits() && !flow.share.is_left() {
                    rt::turn().await;
                }
                match step {
                    Step::Again => rt::turn().await,
                    Step::SourceEmpty => {
                        match flow.path() {
                            Path::Copied => flow.ends.source.arrival().await,
                            Path::Spliced => flow.ends.source.readable().await,
                        }
                        if let Some(pause) = flow.waited() {
                            pause.await;
                        }
                    }
                    Step::Sending => {
                        let sent = flow.ends.sink.sent().await;
                        // Counted even if we have ended the connection meanwhile.
                        step = match copy::settle(&mut flow, sent) {
                            Ok(()) if flow.drained && !flow.decided() => Step::SourceEmpty,
                            Ok(()) => flow.next_step(),
                            Err(next) => next,
                        };
                        continue;
                    }
                    Step::SinkFull => {
                        flow.block();
                        flow.plant(Place::SinkFull);
                        if matches!(&flow.held, Held::Chunk(chunk) if chunk.is_of_ring()) {
                            Box::pin(flow.park()).await;
                        }
                        match flow.vain_waits.get() {
                            0 => flow.ends.sink.writable().await,
                            _ => Box::pin(flow.ends.sink.writable_at_last()).await,
                        }
                        if let Some(pause) = flow.waited() {
                            pause.await;
                        }
                        flow.conn.set_blocked(flow.direction, false);
                    }
                    Step::SourceEnded if flow.ends.source.is_sending() => {
                        Box::pin(flow.put_end_off()).await;
                    }
                    Step::SourceEnded if !flow.source_was_reset() => return flow.pass_fin_on(),
                    Step::SourceEnded | Step::SourceReset => {
                        return Box::pin(flow.pass_reset_on()).await;
                    }
                    Step::SinkReset => return flow.conn.reset_by(flow.direction.source().other()),
                    Step::Lost => {
                        flow.conn.decide(EndReason::InternalError);
                        return flow.conn.abort();
                    }
                    Step::Ended => return,
                }
                step = flow.next_step();
            }
        }
    }

    /// After a wait: counts it as vain until a byte moves. A kernel that says ready again and again
    /// and then gives nothing (short of memory, say) costs a look each millisecond, not a core.
    fn waited(&self) -> Option<impl Future<Output = ()> + use<>> {
        let waits = self.vain_waits.get().saturating_add(1);
        self.vain_waits.set(waits);
        (waits > VAIN_WAITS_MAX).then(|| rt::sleep(VAIN_PAUSE))
    }

    /// The source has ended, and nobody can tell how yet. Boxed by its caller: in the task it would
    /// be a tenth of what an idle connection costs.
    fn put_end_off(&self) -> impl Future<Output = ()> + use<> {
        self.conn.saw_fin(self.direction.source());
        let pause = self.waited();
        async move {
            match pause {
                Some(pause) => pause.await,
                None => rt::turn().await,
            }
        }
    }

    fn next_step(&mut self) -> Step {
        match self.conn.phase() {
            _ if !self.decided() => self.step(),
            Phase::Cutting(told) => self.finish_cut(told),
            _ => Step::Ended,
        }
    }

    /// Delivers what a full sink left over, or says why that has to wait.
    fn deliver_held(&mut self) -> Result<(), Step> {
        match std::mem::take(&mut self.held) {
            Held::Nothing => Ok(()),
            Held::Chunk(chunk) => copy::deliver(self, chunk),
            Held::Pipe(pipe) => splice::drain(self, pipe).map(drop),
        }
    }

    /// Delivers what is held, then moves what is there, at most a turn's share. Never waits.
    fn step(&mut self) -> Step {
        self.share.charge(0);
        if let Err(step) = self.deliver_held() {
            return step;
        }
        self.gate.woke(self.shard.clock_ms().saturating_sub(self.conn.moved_ms.get()));
        match self.path() {
            Path::Spliced => splice::step(self),
            Path::Copied => copy::step(self),
        }
    }

    /// Kernel: splice(2) stops before an urgent byte for ever, and only a receive passes it
    /// (net/ipv4/tcp.c, `tcp_read_sock`), so a wait in vain is followed by a copy.
    fn path(&self) -> Path {
        if self.vain_waits.get() < 2 { self.gate.path() } else { Path::Copied }
    }

    /// Whether we, not a peer, ended the connection.
    fn decided(&self) -> bool {
        self.conn.ended().is_some_and(|end| end.reset_side().is_none())
    }

    /// Who reset the connection, if that ended it.
    fn reset_side(&self) -> Option<Side> {
        self.conn.ended().and_then(|end| end.reset_side())
    }

    /// Kernel: a reset that the other direction met by writing clears the socket's error, and
    /// reading it then looks like a FIN. On the ring that direction may not have run since, and
    /// while its send is not over ([`Wire::is_sending`]) nobody can tell.
    fn source_was_reset(&self) -> bool {
        self.reset_side() == Some(self.direction.source()) || self.ends.source.heard_reset()
    }

    fn pass_fin_on(&self) {
        self.conn.fin_by(self.direction.source());
        self.plant(Place::HalfClosed);
        // The other direction's silence counts from here.
        self.conn.moved_ms.set(self.shard.clock_ms());
        // Where the other direction has ended too, both sockets are closed at once, which says it.
        if matches!(self.conn.phase(), Phase::HalfClosed(_)) {
            self.ends.sink.finish();
        }
    }

    /// Everything the source sent before its reset is in the sink's send queue; once that is
    /// acknowledged the reset follows, which also wakes the opposite direction.
    async fn pass_reset_on(&self) {
        let source = self.direction.source();
        self.conn.reset_by(source);
        self.conn.enter(Phase::Closing);
        self.plant(Place::ResetPassedOn);
        match self.reset_side() == Some(source) {
            true => pass_reset_to(&self.conn, source.other()).await,
            false => self.conn.abort(),
        }
    }

    /// A test may want a panic here.
    #[track_caller]
    fn plant(&self, place: Place) {
        planted::panic_at(place, self.conn.arrival.client);
    }

    /// Bytes came from the source.
    fn received(&self) {
        self.vain_waits.set(0);
        self.saw();
    }

    /// The source has sent bytes.
    fn saw(&self) {
        match self.direction {
            Direction::Up if !self.conn.answered.is_set() => {
                self.conn.asked.set(&self.conn.arrival, rt::now());
            }
            Direction::Down if !self.conn.answered.is_set() => {
                let (pool, slot) = (self.pool as usize, self.slot as usize);
                record::first_byte(&self.shard, &self.conn, pool, slot);
            }
            Direction::Up | Direction::Down => {}
        }
    }

    /// The sink took `n` bytes.
    fn delivered(&self, n: usize, path: Path) {
        let board = self.shard.board();
        board.listeners[self.conn.arrival.listener].bytes(self.direction, path).add(n as u64);
        board.backends[self.slot as usize].bytes(self.direction).add(n as u64);
        self.conn.took(self.direction, path, n as u64);
        self.conn.moved_ms.set(self.shard.clock_ms());
        self.vain_waits.set(0);
        self.took();
    }
}

impl Drop for Flow {
    /// A panic in one direction ends both.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.conn.fail();
        }
    }
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
    fn a_direction_stays_small() {
        // Two of these are most of what an idle connection costs.
        assert!(size_of::<Flow>() <= 88, "{}", size_of::<Flow>());
        // What it keeps over its waits: one that is not boxed may be larger than all others.
        fn size_of_result<A, R>(_: impl Fn(A) -> R) -> usize {
            size_of::<R>()
        }
        assert!(size_of_result(Flow::run) <= 128, "{}", size_of_result(Flow::run));
    }
}

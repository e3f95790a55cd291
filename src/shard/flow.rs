//! Bytes from one wire to another, until they end; how they ended is told, and judged elsewhere.
//!
//! A flow reads its source and writes its sink, and waits for exactly one thing at a time. It
//! chooses between copying and splicing as it goes, and while it waits for its source it holds
//! neither buffer nor pipe.

mod copy;
mod gate;
mod held;
mod last;
mod share;
mod splice;

use std::{cell::Cell, future::Future, ops::ControlFlow, pin::Pin, rc::Rc, time::Duration};

use self::{gate::Gate, held::Bound, share::Share};
use super::{
    Shard,
    conn::{Conn, Phase},
    record,
    upstream::Lease,
};
use crate::{
    bridge::{Direction, Path},
    planted::{self, Place},
    rt::{self, Chunk, Pipe, Sent},
    wire::Wire,
};

/// Waits without a byte before a direction looks only each [`VAIN_PAUSE`].
const VAIN_WAITS_MAX: u8 = 4;

/// See [`VAIN_WAITS_MAX`].
const VAIN_PAUSE: Duration = Duration::from_millis(1);

/// The two wires of one direction.
pub struct Ends {
    /// Where bytes come from.
    pub source: Wire,
    /// Where they go.
    pub sink: Wire,
}

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The source's end was read, and everything before it has been passed on.
    Fin,
    /// The source was reset.
    SourceReset,
    /// The sink was reset, or nobody reads it any more.
    SinkReset,
    /// Nobody knows what became of some bytes.
    Lost,
    /// We have ended the connection.
    Stopped,
}

/// What is left to be done at the end of a flow, after which it is over or goes on, because the end
/// was none. Boxed: in the task it would be a tenth of what an idle connection costs.
pub type Work = Pin<Box<dyn Future<Output = ControlFlow<()>>>>;

/// One direction of one connection.
pub struct Flow {
    shard: Rc<Shard>,
    /// Whose bytes they are.
    pub conn: Rc<Conn>,
    /// Indices of half a word, as in a lease.
    pool: u32,
    slot: u32,
    /// Which way they go.
    pub direction: Direction,
    /// Between whom.
    pub ends: Ends,
    gate: Gate,
    share: Share,
    /// What a full sink left over, exactly while the direction waits for it.
    held: Held,
    /// True exactly when the last receive left nothing in the source, as far as it could tell.
    drained: bool,
    /// True exactly once bytes of the source are dropped, since we have ended the connection.
    dropping: bool,
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
    Over(Ending),
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
    /// A flow of a connection, that has not begun.
    pub fn new(
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
            dropping: false,
            vain_waits: Cell::new(0),
            bound: Cell::new(Bound::of(direction)),
        }
    }

    /// Runs until the bytes end, asks `judge` what follows, and does that. Not an `async fn`, which
    /// would keep its argument twice.
    pub fn run(self, judge: impl Fn(&Flow, Ending) -> Option<Work>) -> impl Future<Output = ()> {
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
                        step = flow.sent(sent);
                        continue;
                    }
                    Step::SinkFull => {
                        flow.block();
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
                    Step::Over(ending) => {
                        let Some(work) = judge(&flow, ending) else { return };
                        if work.await.is_break() {
                            return;
                        }
                    }
                }
                step = flow.next_step();
            }
        }
    }

    /// A send is over. It counts even if we have ended the connection meanwhile.
    fn sent(&mut self, sent: Sent) -> Step {
        match copy::settle(self, sent) {
            Ok(()) if self.drained && !self.decided() => Step::SourceEmpty,
            Ok(()) => self.next_step(),
            Err(next) => next,
        }
    }

    /// After a wait: counts it as vain until a byte moves. A kernel that says ready again and again
    /// and then gives nothing (short of memory, say) costs a look each millisecond, not a core.
    pub fn waited(&self) -> Option<impl Future<Output = ()> + use<>> {
        let waits = self.vain_waits.get().saturating_add(1);
        self.vain_waits.set(waits);
        (waits > VAIN_WAITS_MAX).then(|| rt::sleep(VAIN_PAUSE))
    }

    fn next_step(&mut self) -> Step {
        match self.conn.phase() {
            _ if !self.decided() => self.step(),
            Phase::Cutting(told) => self.finish_cut(told),
            _ => Step::Over(Ending::Stopped),
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

    /// A test may want a panic here.
    #[track_caller]
    pub fn plant(&self, place: Place) {
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
        self.note_moved();
        self.vain_waits.set(0);
        self.took();
    }

    /// The connection has moved now.
    pub fn note_moved(&self) {
        self.conn.moved_ms.set(self.shard.clock_ms());
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
        let run = |flow: Flow| flow.run(|_, _| None);
        assert!(size_of_result(run) <= 128, "{}", size_of_result(run));
    }
}

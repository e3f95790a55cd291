//! One thread of the load generator: an epoll loop over its share of the connections.
//!
//! This room refuses to know arguments and output.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{event::epoll::EventFlags, io::Errno};

use super::{
    Mode, Plan,
    pace::Pace,
    poll::{NO_EVENTS, Poll, TIMER, nanos},
    slot::{Buffers, Phase, Slot, Step, is_over},
    tally::{Kind, Loss, Tally},
};

/// Connections a worker opens at once before the time starts.
const OPENING_AT_ONCE_MAX: usize = 128;
/// Until all connections are up, and for each one made later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without progress for this long an operation has failed.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Before a lost connection is made again, so that a dead target is not hammered.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Between two looks at timeouts, the stop flag and the shared tally.
const TICK: Duration = Duration::from_millis(20);

/// What a worker shares with the thread that started it.
#[derive(Default)]
pub struct Shared {
    /// Counts since they were last taken.
    pub tally: Mutex<Tally>,
}

/// One thread's connections, schedule and counts.
pub struct Worker<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    poll: Poll,
    slots: Vec<Slot>,
    buffers: Buffers,
    pace: Pace,
    /// Free connections, longest free first.
    idle: VecDeque<usize>,
    /// Lost connections and when to make them again, soonest first.
    parked: VecDeque<(u64, usize)>,
    tally: Tally,
    start: Instant,
    /// True exactly when no operation is begun any more.
    over: bool,
}

impl<'a> Worker<'a> {
    /// Worker `index` of `workers`, with its share of the connections, none of them open yet.
    pub fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        index: usize,
        workers: usize,
    ) -> Result<Self, Errno> {
        let ids = (index..plan.connections).step_by(workers);
        let slots: Vec<Slot> = ids.map(|id| Slot::new(id as u32)).collect();
        Ok(Self {
            plan,
            shared,
            poll: Poll::new()?,
            idle: VecDeque::with_capacity(slots.len()),
            parked: VecDeque::with_capacity(slots.len()),
            slots,
            buffers: Buffers::new(plan.payload_bytes()),
            pace: Pace::new(plan.rate, index, workers),
            tally: Tally::default(),
            start: Instant::now(),
            over: false,
        })
    }

    /// Opens all connections that the mode holds; the first that fails ends it.
    pub fn prepare(&mut self, stop: &AtomicBool) -> Result<(), Kind> {
        if self.plan.mode == Mode::Connect {
            self.idle.extend(0..self.slots.len());
            return Ok(());
        }
        let (mut opened, mut up) = (0, 0);
        while up < self.slots.len() && !stop.load(Ordering::Relaxed) {
            while opened < self.slots.len() && opened - up < OPENING_AT_ONCE_MAX {
                self.open(opened, None)?;
                opened += 1;
            }
            if self.now() > nanos(CONNECT_TIMEOUT) {
                return Err(Kind::Timeout);
            }
            up += self.prepare_turn()?;
        }
        Ok(())
    }

    /// Takes events while preparing; gives how many connections came up.
    fn prepare_turn(&mut self) -> Result<usize, Kind> {
        let mut events = NO_EVENTS;
        let mut up = 0;
        for event in self.poll.wait(&mut events, TICK) {
            let slot = &mut self.slots[event.data.u64() as usize];
            if !matches!(slot.phase, Phase::Connecting { .. }) {
                continue; // a source that talks already is heard when the time starts
            }
            match slot.step(&mut self.buffers, event.flags, 0) {
                Step::Connected => {
                    slot.phase = Phase::Idle;
                    up += 1;
                }
                Step::Lost(kind) => return Err(kind),
                Step::Wait | Step::Done => {}
            }
        }
        Ok(up)
    }

    /// Operates from `start` until the time is over or `stop` is set, and then until the operations
    /// in flight are done. Gives the operations that were due and never begun, and the seconds.
    pub fn work(&mut self, start: Instant, stop: &AtomicBool) -> (u64, f64) {
        self.start = start;
        self.begin_held();
        let end = self.plan.seconds.map_or(u64::MAX, nanos);
        let mut ended = end;
        let mut tick = 0;
        loop {
            let now = self.now();
            if !self.over && (now >= end || stop.load(Ordering::Relaxed)) {
                self.over = true;
                ended = now.min(end);
            }
            if self.over && (self.is_quiet() || now > ended + nanos(OPERATION_TIMEOUT)) {
                break;
            }
            if now >= tick {
                tick = now + nanos(TICK);
                self.tick(now);
            }
            self.dispatch();
            self.turn();
        }
        self.end_streams();
        self.flush();
        (self.pace.unbegun(ended), ended as f64 / 1e9)
    }

    fn begin_held(&mut self) {
        for index in 0..self.slots.len() {
            match (self.plan.mode, self.slots[index].phase) {
                (Mode::Bulk, Phase::Idle) => self.flow(index),
                // Edge-triggered: what came while preparing is not told again.
                (Mode::Tcp, Phase::Idle) => self.release(index, EventFlags::HUP),
                _ => {}
            }
        }
    }

    fn turn(&mut self) {
        let mut events = NO_EVENTS;
        for event in self.poll.wait(&mut events, TICK) {
            if event.data.u64() == TIMER {
                continue; // it woke us, which is all it is for
            }
            self.handle(event.data.u64() as usize, event.flags);
        }
    }

    fn handle(&mut self, index: usize, flags: EventFlags) {
        let now = self.now();
        let step = self.slots[index].step(&mut self.buffers, flags, now);
        self.tally.bytes += self.slots[index].take_counted();
        match step {
            Step::Wait => {}
            Step::Connected => self.connected(index, flags, now),
            Step::Done => self.done(index, flags),
            Step::Lost(kind) => self.lose(index, kind),
        }
    }

    fn connected(&mut self, index: usize, flags: EventFlags, now: u64) {
        let Phase::Connecting { due, .. } = self.slots[index].phase else {
            return;
        };
        self.slots[index].phase = Phase::Idle;
        match (self.plan.mode, due) {
            (Mode::Bulk, _) => self.flow(index),
            (_, Some(due)) => self.ask(index, due, now),
            (_, None) => self.idle.push_back(index),
        }
        // Edge-triggered: what came with the connection, bytes or its end, is not told again.
        let more = flags.contains(EventFlags::IN) || is_over(flags);
        if more && matches!(self.slots[index].phase, Phase::Idle | Phase::Busy { .. }) {
            self.handle(index, flags);
        }
    }

    fn done(&mut self, index: usize, flags: EventFlags) {
        match self.slots[index].phase {
            Phase::Busy { due, .. } => {
                self.tally.done(self.now().saturating_sub(due));
                self.tally.bytes += self.plan.payload_bytes() as u64;
                self.slots[index].proven = true;
                self.release(index, flags);
            }
            Phase::Flowing { .. } => self.stream_ended(index),
            _ => {}
        }
    }

    /// A held connection is free for the next operation, unless its end has come.
    fn release(&mut self, index: usize, flags: EventFlags) {
        let slot = &mut self.slots[index];
        if self.plan.mode == Mode::Connect {
            slot.close();
            self.idle.push_back(index);
            return;
        }
        slot.phase = Phase::Idle;
        // Edge-triggered: an end that came with the answer is not told again.
        match if is_over(flags) { slot.listen_in(&mut self.buffers, flags) } else { Step::Wait } {
            Step::Lost(kind) => self.lose(index, kind),
            _ => self.idle.push_back(index),
        }
    }

    /// Begins what is due on the connections that are free.
    fn dispatch(&mut self) {
        let mut turns = self.idle.len();
        while turns > 0 && !self.over {
            turns -= 1;
            let now = self.now();
            let due = self.pace.due_ns(now);
            if due > now {
                self.poll.arm(due - now);
                return;
            }
            let Some(index) = self.idle.pop_front() else {
                return;
            };
            match self.slots[index].phase {
                Phase::Idle => self.ask(index, due, now),
                Phase::Closed if self.plan.mode == Mode::Connect => self.dial(index, Some(due)),
                _ => continue, // lost while it was free; it comes back once it is open again
            }
            self.pace.begun();
        }
    }

    fn ask(&mut self, index: usize, due: u64, now: u64) {
        if let Step::Lost(kind) = self.slots[index].ask(&mut self.buffers, due, now) {
            self.lose(index, kind);
        }
    }

    fn dial(&mut self, index: usize, due: Option<u64>) {
        if let Err(kind) = self.open(index, due) {
            self.lose(index, kind);
        }
    }

    fn open(&mut self, index: usize, due: Option<u64>) -> Result<(), Kind> {
        let begun = self.now();
        self.slots[index].open(&self.poll.epoll, self.plan.target, index as u64)?;
        self.slots[index].phase = Phase::Connecting { begun, due };
        Ok(())
    }

    fn flow(&mut self, index: usize) {
        let now = self.now();
        if let Err(kind) = self.slots[index].flow(&self.poll.epoll, index as u64, now) {
            self.lose(index, kind);
        }
    }

    fn stream_ended(&mut self, index: usize) {
        let Phase::Flowing { begun, got, .. } = self.slots[index].phase else {
            return;
        };
        // Whatever is wrong now, this stream was not cut: it ended.
        self.slots[index].proven = false;
        match self.plan.size {
            Some(size) if got < size => return self.lose(index, Kind::Closed),
            Some(size) if got > size => return self.lose(index, Kind::Mismatch),
            _ => self.tally.done(self.now().saturating_sub(begun)),
        }
        if self.over {
            self.slots[index].close();
        } else {
            self.dial(index, None);
        }
    }

    /// Streams that still flow when the time is over have done what was asked.
    fn end_streams(&mut self) {
        for slot in &mut self.slots {
            if let Phase::Flowing { got: 1.., .. } = slot.phase {
                self.tally.operations += 1;
            }
            slot.close();
        }
    }

    fn lose(&mut self, index: usize, kind: Kind) {
        let now = self.now();
        let slot = &mut self.slots[index];
        let established = !matches!(slot.phase, Phase::Connecting { .. } | Phase::Closed);
        let cut = slot.proven && matches!(kind, Kind::Reset | Kind::Closed);
        self.tally.lost(Loss { at: Instant::now(), kind, established, cut });
        slot.close();
        self.parked.push_back((now + nanos(RETRY_PAUSE), index));
    }

    fn tick(&mut self, now: u64) {
        while let Some((due, index)) = self.parked.front().copied() {
            if due > now || self.over {
                break;
            }
            self.parked.pop_front();
            match self.plan.mode {
                Mode::Connect => self.idle.push_back(index),
                Mode::Tcp | Mode::Bulk => self.dial(index, None),
            }
        }
        for index in 0..self.slots.len() {
            if self.slots[index].is_late(now, nanos(CONNECT_TIMEOUT), nanos(OPERATION_TIMEOUT)) {
                self.lose(index, Kind::Timeout);
            }
        }
        self.flush();
    }

    fn flush(&mut self) {
        let mut shared = self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        shared.take_from(&mut self.tally);
    }

    /// True exactly when no operation is in flight.
    fn is_quiet(&self) -> bool {
        self.slots.iter().all(|slot| {
            !matches!(slot.phase, Phase::Busy { .. } | Phase::Connecting { due: Some(_), .. })
        })
    }

    fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }
}

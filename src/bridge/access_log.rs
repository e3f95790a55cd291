//! Records of connections on their way to the access log: one bounded queue per shard.

use std::{net::SocketAddr, time::Duration};

use crossbeam::queue::ArrayQueue;

use super::{Arrival, Direction, EndReason};
use crate::{counter::Counter, limits::ACCESS_RECORDS_MAX};

/// One connection that is over.
#[derive(Clone, Copy, Debug)]
pub struct ConnRecord {
    /// Who came, where and when.
    pub arrival: Arrival,
    /// Why it ended.
    pub end: EndReason,
    /// Dials, failed ones included.
    pub attempts: u32,
    /// The backend it was established to, else the last one that was dialed.
    pub backend: Option<Dialed>,
    /// By direction: what the destination socket took.
    pub bytes: [u64; Direction::ALL.len()],
    /// Of all bytes, those that went through a pipe.
    pub bytes_spliced: u64,
    /// From accept to established, failovers included; `None`: it was not.
    pub connect: Option<Duration>,
    /// From accept to the first byte received from the server; `None`: there was none.
    pub first_byte: Option<Duration>,
    /// From accept to both sockets closed.
    pub session: Duration,
}

const _: () = assert!(size_of::<ConnRecord>() <= 192);

impl ConnRecord {
    /// One of which nothing is known but where it came from and why it ended.
    pub fn new(arrival: Arrival, end: EndReason) -> ConnRecord {
        ConnRecord {
            arrival,
            end,
            attempts: 0,
            backend: None,
            bytes: [0; Direction::ALL.len()],
            bytes_spliced: 0,
            connect: None,
            first_byte: None,
            session: Duration::ZERO,
        }
    }
}

/// Which backend was dialed. Its name follows from the two, whoever has the slot by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialed {
    /// Its place in the plan.
    pub slot: u32,
    /// Where it was.
    pub address: SocketAddr,
}

/// Records of one shard that wait to be written.
#[derive(Debug)]
pub struct RecordQueue {
    waiting: ArrayQueue<ConnRecord>,
    /// Records for which there was no room.
    pub dropped: Counter,
}

impl RecordQueue {
    pub(super) fn new() -> RecordQueue {
        RecordQueue { waiting: ArrayQueue::new(ACCESS_RECORDS_MAX), dropped: Counter::default() }
    }

    /// Leaves a record, or drops and counts it where the queue is full. Called by the shard alone.
    pub fn leave(&self, record: ConnRecord) {
        if self.waiting.push(record).is_err() {
            self.dropped.add(1);
        }
    }

    /// The oldest ones.
    pub fn take_up_to(&self, most: usize) -> impl Iterator<Item = ConnRecord> {
        (0..most).map_while(|_| self.waiting.pop())
    }

    /// Records that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True exactly when none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// What became of the records that were taken; written by the one who writes the log.
#[derive(Debug, Default)]
pub struct AccessLogBoard {
    /// Lines written, to their ends.
    pub lines: Counter,
    /// Lines that could not be written.
    pub lost: Counter,
}

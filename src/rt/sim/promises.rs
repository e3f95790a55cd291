//! What the engine promises of its receives, seen from the kernel: whoever does not take what has
//! come must not take everybody's buffers, so a receive that has brought much is ended, and so is
//! that of a source whose sink is full.

use std::collections::BTreeSet;

use super::{
    super::ring::{
        INBOX_MAX,
        buffers::BUFFER_BYTES,
        kernel::{Completion, Op},
    },
    Armed,
};
use crate::sim;

/// What the engine has been told, and what it has asked for since.
pub(super) struct Promises {
    /// By buffer that the engine has: the receive that brought it.
    brought_by: Vec<Option<u64>>,
    /// Receives that have brought all they may.
    due_to_end: BTreeSet<u64>,
    /// Receives that the engine has asked to end, as far as it knows.
    ending: BTreeSet<u64>,
    /// Cancels that failed, with what they were to end.
    refused: Vec<(u64, u64)>,
}

impl Promises {
    pub(super) fn new(buffers: u16) -> Promises {
        Promises {
            brought_by: vec![None; buffers.into()],
            due_to_end: BTreeSet::new(),
            ending: BTreeSet::new(),
            refused: Vec::new(),
        }
    }

    /// A receive begins.
    pub(super) fn begins(&mut self, tag: u64) {
        self.due_to_end.remove(&tag);
        self.ending.remove(&tag);
    }

    /// The engine asks that an operation ends.
    pub(super) fn is_to_end(&mut self, tag: u64) {
        self.ending.insert(tag);
    }

    /// A cancel of `tag` fails; the engine will know when it is told.
    pub(super) fn is_refused(&mut self, cancel: u64, tag: u64) {
        self.refused.push((cancel, tag));
    }

    /// The engine has put a buffer into the ring again.
    pub(super) fn comes_back(&mut self, buffer: u16) {
        self.brought_by[usize::from(buffer)] = None;
    }

    /// The engine is told.
    pub(super) fn is_told(&mut self, done: &Completion) {
        // A refusal may have been lost, and the next cancel has the same tag.
        for (_, tag) in self.refused.extract_if(.., |(cancel, _)| *cancel == done.tag) {
            if done.result < 0 {
                self.ending.remove(&tag);
            }
        }
        let Some(buffer) = done.buffer else { return };
        self.brought_by[usize::from(buffer)] = Some(done.tag);
        let has = self.brought_by.iter().filter(|by| **by == Some(done.tag)).count();
        // One beside the inbox may be on its way to the sink.
        let is_much = has > usize::from(INBOX_MAX);
        if done.more && (is_much || done.result as usize == BUFFER_BYTES) {
            self.due_to_end.insert(done.tag);
        }
    }

    /// All that the engine wanted is submitted: receives that should not go on are cancelled.
    pub(super) fn check(&self, armed: &[Armed]) {
        let sinks = armed.iter().filter_map(|armed| match armed.op {
            Op::PollOut(fd) => sim::with(|sim| sim.source_of(fd)),
            _ => None,
        });
        let blocked: Vec<u32> = sinks.collect();
        for Armed { op, tag, .. } in armed {
            let Op::Receive(fd) = *op else { continue };
            if self.ending.contains(tag) {
                continue;
            }
            assert!(!self.due_to_end.contains(tag), "a receive goes on beyond its bound");
            let id = sim::with(|sim| sim.id(fd));
            let is_blocked = id.is_some_and(|id| blocked.contains(&id));
            assert!(!is_blocked, "a receive goes on although its sink is full: {id:?}");
        }
    }
}

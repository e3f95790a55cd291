//! Round robin: one after the other, whatever their weights.

use super::Open;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The first slot that may be next.
    next: usize,
}

impl Cursor {
    pub(super) fn new(first: usize) -> Cursor {
        Cursor { next: first }
    }

    pub(super) fn choose<F: Fn(usize) -> u32>(&mut self, open: &Open<'_, F>) -> Option<usize> {
        let members = &open.tier.members;
        let from = members.partition_point(|member| member.slot < self.next);
        let mut turns = (from..members.len()).chain(0..from);
        let index = turns.find(|index| open.allows(&members[*index]))?;
        self.next = members[index].slot + 1;
        Some(index)
    }
}

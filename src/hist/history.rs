//! What is kept of one phase: everything since the start, and the last slots one by one.
//!
//! Most buckets of a slot are empty, so a slot is the list of the others: a full histogram for each
//! slot would be the whole memory of a large pool. Whoever owns a clock says when a slot closes.
//! What is shown of it is worked out when it is asked for, and kept until it changes.

use std::{borrow::Cow, cell::OnceCell};

use super::{Kind, Latency, Percentiles, Summary};

/// Closed slots that are kept: with slots of ten seconds, a minute.
const SLOTS: usize = 6;

/// Bits of a value that tell its bucket at three significant digits, and at two all the more.
const DIGITS: u32 = 11;

/// One bucket that is not empty.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    /// The smallest value in it: its first `DIGITS` bits, and above them how many follow.
    packed: u16,
    count: u32,
}

/// The total and the windows of one phase. All of it is made for the first value: most slots of a
/// backend with a name stay empty.
#[derive(Debug)]
pub struct History {
    kind: Kind,
    kept: Option<Box<Kept>>,
}

#[derive(Debug)]
struct Kept {
    total: Latency<u64>,
    /// The slot that is being filled, in order of value.
    open: Vec<Bucket>,
    /// The last one first.
    closed: [Box<[Bucket]>; SLOTS],
    shown: Shown,
}

/// What was asked for and has not changed since.
#[derive(Debug, Default)]
struct Shown {
    total: OnceCell<Summary>,
    last_slot: OnceCell<Percentiles>,
    last_slots: OnceCell<Percentiles>,
}

impl History {
    /// Nothing was recorded yet.
    pub fn new(kind: Kind) -> Self {
        History { kind, kept: None }
    }

    /// Adds everything in `recorded`, which has the same kind, to the total and to the open slot.
    pub fn add(&mut self, recorded: &Latency) {
        if recorded.count() > 0 {
            self.kept.get_or_insert_with(|| Box::new(Kept::new(self.kind))).add(recorded);
        }
    }

    /// The open slot becomes the last closed one, and the oldest is forgotten.
    pub fn close_slot(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.close_slot();
        }
    }

    /// Closes as many slots as have passed.
    pub fn close_slots(&mut self, passed: u64) {
        (0..passed.min(SLOTS as u64 + 1)).for_each(|_| self.close_slot());
    }

    /// Everything since the start; an empty one of the same kind where nothing was recorded.
    pub fn total(&self) -> Cow<'_, Latency<u64>> {
        match &self.kept {
            Some(kept) => Cow::Borrowed(&kept.total),
            None => Cow::Owned(Latency::new(self.kind)),
        }
    }

    /// Everything since the start, as it is shown.
    pub fn whole(&self) -> Summary {
        match &self.kept {
            Some(kept) => *kept.shown.total.get_or_init(|| kept.total.summary()),
            None => Summary::default(),
        }
    }

    /// The last closed slot.
    pub fn last_slot(&self) -> Percentiles {
        self.kept.as_ref().map_or_else(Percentiles::default, |kept| {
            *kept.shown.last_slot.get_or_init(|| kept.window(1))
        })
    }

    /// All closed slots that are kept.
    pub fn last_slots(&self) -> Percentiles {
        self.kept.as_ref().map_or_else(Percentiles::default, |kept| {
            *kept.shown.last_slots.get_or_init(|| kept.window(SLOTS))
        })
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.kept = None;
    }
}

impl Kept {
    fn new(kind: Kind) -> Kept {
        let (closed, shown) = Default::default();
        Kept { total: Latency::new(kind), open: Vec::new(), closed, shown }
    }

    fn add(&mut self, recorded: &Latency) {
        self.shown.total.take();
        self.total.merge(recorded);
        for (us, count) in recorded.buckets() {
            let packed = pack(us);
            // Less than 2^32 by far: they come from ten seconds.
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            match self.open.binary_search_by_key(&packed, |bucket| bucket.packed) {
                Ok(at) => self.open[at].count = self.open[at].count.saturating_add(count),
                Err(at) => self.open.insert(at, Bucket { packed, count }),
            }
        }
    }

    fn close_slot(&mut self) {
        self.closed.rotate_right(1);
        self.closed[0] = self.open.as_slice().into();
        // Nothing is kept for a phase that falls silent.
        self.open = Vec::new();
        (self.shown.last_slot, self.shown.last_slots) = Default::default();
    }

    fn window(&self, slots: usize) -> Percentiles {
        let mut buckets: Vec<Bucket> = self.closed[..slots].iter().flatten().copied().collect();
        // The same bucket of two slots twice in a row is as good as one.
        buckets.sort_unstable_by_key(|bucket| bucket.packed);
        let count = |bucket: &Bucket| u64::from(bucket.count);
        let all = buckets.iter().map(count).sum();
        let unpacked = buckets.iter().map(|bucket| (unpack(bucket.packed), count(bucket)));
        // Whatever is in a slot is in the total: where that has no buckets, no slot has any.
        let like = self.total.values.as_ref();
        like.map_or_else(Percentiles::default, |like| Summary::of(like, all, unpacked).percentiles)
    }
}

fn pack(us: u64) -> u16 {
    let below = (u64::BITS - us.leading_zeros()).saturating_sub(DIGITS);
    // At most 2^37 us (24 h): 26 bits follow the first eleven, and 26 fits into five.
    (below << DIGITS) as u16 | (us >> below) as u16
}

fn unpack(packed: u16) -> u64 {
    u64::from(packed & ((1 << DIGITS) - 1)) << (packed >> DIGITS)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Listener), Just(Kind::Session), Just(Kind::Backend)]
    }

    /// Durations of every magnitude, above the range too.
    fn durations() -> impl Strategy<Value = Vec<Duration>> {
        let one = (0u32..38, any::<u64>()).prop_map(|(bits, n)| n % (1 << bits));
        proptest::collection::vec(one.prop_map(Duration::from_micros), 0..60)
    }

    fn recorded(kind: Kind, durations: &[Duration]) -> Latency {
        let mut latency = Latency::new(kind);
        durations.iter().for_each(|duration| latency.record(*duration));
        latency
    }

    fn whole(kind: Kind, slots: &[Vec<Duration>]) -> Percentiles {
        let mut whole = Latency::<u64>::new(kind);
        slots.iter().flatten().for_each(|duration| whole.record(*duration));
        whole.percentiles()
    }

    proptest! {
        /// Each slot comes from two shards, and some are silent.
        #[test]
        fn windows_equal_one_histogram_of_the_same_values(
            kind in kinds(), slots in proptest::collection::vec(durations(), 1..10)
        ) {
            let mut history = History::new(kind);
            for (i, slot) in slots.iter().enumerate() {
                let (left, right) = slot.split_at(slot.len() / 2);
                history.add(&recorded(kind, left));
                history.add(&recorded(kind, right));
                prop_assert_eq!(history.total().percentiles(), whole(kind, &slots[..=i]));
                history.close_slot();
                prop_assert_eq!(history.last_slot(), whole(kind, &slots[i..=i]));
                let first = (i + 1).saturating_sub(SLOTS);
                prop_assert_eq!(history.last_slots(), whole(kind, &slots[first..=i]));
            }
        }
    }

    #[test]
    fn slots_of_silence_are_zeros_and_the_total_stays() {
        let mut history = History::new(Kind::Backend);
        history.add(&recorded(Kind::Backend, &[Duration::from_millis(3)]));
        assert_eq!(history.last_slot(), Percentiles::default(), "the slot is still open");
        history.close_slots(2);
        assert_eq!(history.last_slot(), Percentiles::default());
        assert_eq!(history.last_slots().count, 1);
        history.close_slots(4);
        assert_eq!(history.last_slots().count, 1, "the sixth of the last six");
        history.close_slots(u64::MAX);
        assert_eq!(history.last_slots(), Percentiles::default());
        assert_eq!(history.total().count(), 1);
    }

    #[test]
    fn whoever_comes_next_starts_from_zero() {
        let mut history = History::new(Kind::Backend);
        history.add(&recorded(Kind::Backend, &[Duration::from_millis(3)]));
        history.close_slot();
        history.add(&recorded(Kind::Backend, &[Duration::from_secs(61)]));
        history.clear();
        history.close_slot();
        assert_eq!(history.last_slots(), Percentiles::default());
        assert_eq!((history.total().count(), history.total().over_range()), (0, 0));
    }
}

//! Numbers that one thread writes and any thread reads.
//!
//! A shard owns its counters: it alone writes them, so an increment is a plain load and store with
//! no locked instruction. Readers may see a value that is a moment old, never a torn one.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// A count that only grows; one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Must be called by the owning thread alone.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Release);
    }

    /// The count so far. What the owner counted before it is seen too, so that ends read first
    /// never exceed beginnings read after them.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Keeps the larger of what is stored and `value`. Owning thread alone.
    #[inline]
    pub fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.0.store(value, Relaxed);
        }
    }
}

/// A level that goes up and down; one writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// One more. Owning thread alone.
    #[inline]
    pub fn up(&self) {
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }

    /// One fewer. Owning thread alone; never below zero.
    #[inline]
    pub fn down(&self) {
        let now = self.0.load(Relaxed);
        debug_assert!(now > 0, "a gauge went below zero");
        self.0.store(now.saturating_sub(1), Relaxed);
    }

    /// So many more. Owning thread alone.
    pub fn raise(&self, by: u32) {
        self.0.store(self.0.load(Relaxed) + by, Relaxed);
    }

    /// So many fewer. Owning thread alone; never below zero.
    pub fn lower(&self, by: u32) {
        let now = self.0.load(Relaxed);
        debug_assert!(now >= by, "a gauge went below zero");
        self.0.store(now.saturating_sub(by), Relaxed);
    }

    /// The level now.
    #[inline]
    pub fn get(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// A bounded number of places that all shards share.
///
/// The one read-modify-write of the accept path: a limit counted per shard would refuse early or
/// late, and a connection costs far more than one contended cache line.
#[derive(Debug)]
pub struct Gate {
    taken: AtomicU32,
    places: u32,
}

impl Gate {
    /// A gate with `places` places.
    pub const fn new(places: u32) -> Self {
        Gate { taken: AtomicU32::new(0), places }
    }

    /// Takes a place, or says that none is left.
    pub fn enter(&self) -> bool {
        self.taken.fetch_update(Relaxed, Relaxed, |n| (n < self.places).then_some(n + 1)).is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        let before = self.taken.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "more left than entered");
    }

    /// Places taken now.
    pub fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    /// Places in all.
    pub fn places(&self) -> u32 {
        self.places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_never_admits_more_than_its_places() {
        let gate = Gate::new(3);
        let admitted: u32 = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..100).filter(|_| gate.enter()).count())).collect();
            tries.into_iter().map(|t| t.join().unwrap() as u32).sum()
        });
        assert_eq!(admitted, 3);
        gate.leave();
        assert!(gate.enter());
        assert!(!gate.enter());
    }
}

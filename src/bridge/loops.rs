//! Connections that come back to us: how many of our own dials are one above the other.
//!
//! A dial of one of our own listeners leaves here how deep it is, and the shard that accepts it
//! takes that away again. Only backends that are listeners of this process take part: for every
//! other dial, and for every other listener, it is one load. Names change, and interfaces too, so
//! what the file says of loops (`config::References`) is not the whole story.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
};

/// Dials that may wait at once to be accepted; 512 KiB, and none where nothing leads here.
const WAITING: usize = 1 << 16;

/// Low bits of a place that are the depth; the others tell connections apart.
const DEPTH_BITS: u64 = 0xFF;

/// Where shards tell each other.
#[derive(Debug)]
pub struct Loops {
    /// By slot: whether the backend there is a listener of this process.
    leads_here: Box<[AtomicBool]>,
    /// By listener: whether some backend is it, or was.
    led_to: Box<[AtomicBool]>,
    /// Dials of ourselves that have begun and have not told how deep they are.
    telling: AtomicU32,
    /// A later one may take the place of one that was not accepted: then its depth is forgotten.
    depths: OnceLock<Box<[AtomicU64]>>,
}

/// A dial of ourselves, until it has told how deep it is.
#[derive(Debug)]
pub struct Telling<'a>(&'a Loops);

impl Loops {
    /// For so many slots and listeners; nothing leads here.
    pub fn new(slots: usize, listeners: usize) -> Loops {
        let none = |count| (0..count).map(|_| AtomicBool::new(false)).collect();
        Loops {
            leads_here: none(slots),
            led_to: none(listeners),
            telling: AtomicU32::new(0),
            depths: OnceLock::new(),
        }
    }

    /// The backend in `slot` is at these listeners. Told by the coordinator, before it is picked.
    pub fn put(&self, slot: usize, listeners: &[usize]) {
        if !listeners.is_empty() {
            self.depths.get_or_init(|| (0..WAITING).map(|_| AtomicU64::new(0)).collect());
        }
        listeners.iter().for_each(|listener| self.led_to[*listener].store(true, SeqCst));
        self.leads_here[slot].store(!listeners.is_empty(), SeqCst);
    }

    /// Before the backend in `slot` is dialed: `None` unless it is a listener of this process.
    pub fn dial(&self, slot: usize) -> Option<Telling<'_>> {
        if !self.leads_here[slot].load(Relaxed) {
            return None;
        }
        self.telling.fetch_add(1, SeqCst);
        Some(Telling(self))
    }

    /// Whether connections to `listener` may be ours.
    pub fn may_be_ours(&self, listener: usize) -> bool {
        self.led_to[listener].load(Relaxed)
    }

    /// How many of our own dials are above a connection from `peer` to a port of ours, 0 for one of
    /// somebody else. `None`: it cannot be told yet; ask again in the next turn.
    pub fn depth(&self, peer: SocketAddr, port: u16) -> Option<u8> {
        // Before we look: a dial that has begun before that and has told by now is seen below.
        let somebody_tells = self.telling.load(SeqCst) > 0;
        let (key, place) = self.place(peer, port)?;
        let word = place.load(SeqCst);
        if word & !DEPTH_BITS == key && word != 0 {
            // Whoever came later keeps its own.
            let _ = place.compare_exchange(word, 0, SeqCst, SeqCst);
            return Some((word & DEPTH_BITS) as u8);
        }
        (!somebody_tells).then_some(0)
    }

    fn place(&self, dialer: SocketAddr, port: u16) -> Option<(u64, &AtomicU64)> {
        let mut hasher = DefaultHasher::new();
        (dialer.ip().to_canonical(), dialer.port(), port).hash(&mut hasher);
        let hash = hasher.finish();
        let depths = self.depths.get()?;
        Some((hash & !DEPTH_BITS, &depths[(hash >> 48) as usize % WAITING]))
    }
}

impl Telling<'_> {
    /// The dial comes from `local`, goes to `port`, and is the `depth`th of our own.
    pub fn tell(&self, local: SocketAddr, port: u16, depth: u8) {
        if let Some((key, place)) = self.0.place(local, port) {
            place.store(key | u64::from(depth), SeqCst);
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.telling.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_told_once_and_waited_for_while_somebody_tells() {
        let loops = Loops::new(2, 2);
        let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        assert!(loops.dial(0).is_none() && !loops.may_be_ours(1));
        loops.put(0, &[1]);
        assert!(loops.may_be_ours(1) && !loops.may_be_ours(0) && loops.dial(1).is_none());
        assert_eq!(loops.depth(peer, 80), Some(0), "nobody dials");
        let telling = loops.dial(0).unwrap();
        assert_eq!(loops.depth(peer, 80), None, "it may be that one");
        telling.tell(peer, 80, 3);
        assert_eq!(loops.depth(peer, 81), None, "it may be another one");
        assert_eq!(loops.depth(peer, 80), Some(3));
        drop(telling);
        assert_eq!(loops.depth(peer, 80), Some(0), "it was taken away");
        loops.put(0, &[]);
        assert!(loops.dial(0).is_none() && loops.may_be_ours(1));
    }
}

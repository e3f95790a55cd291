//! How many connections each client has, for listeners that allow only so many.
//!
//! One table for all shards, without a lock: a limit that each shard counted for itself would admit
//! as many times more as there are shards. It never admits one too many; two that ask for the last
//! place in the same moment may both be refused.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Relaxed, SeqCst},
    },
};

use super::plan::SourceLimit;
use crate::limits::SOURCE_SLOTS_MAX;

/// Slots in which one client may be: four lines of a cache.
const WINDOW: usize = 32;

/// Slots for each connection that there may be: three of four are free at the worst.
const SLOTS_PER_CONNECTION: usize = 4;

/// Low bits of a slot that count; above them is the client.
const COUNT_BITS: u32 = 24;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// The table. A slot is 0, or a client and its connections.
#[derive(Debug, Default)]
pub struct Sources {
    slots: Box<[AtomicU64]>,
    /// Keyed by chance, so that nobody can choose addresses that meet in one window.
    hasher: RandomState,
    taken: AtomicU32,
    overflows: AtomicU64,
}

/// One connection in the table: the number of its slot, from 1 on.
pub type SourcePlace = NonZeroU32;

/// Why there is no place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSourcePlace {
    /// The client has as many as it may.
    Limit,
    /// All slots in which it may be are other clients'.
    TableFull,
}

impl Sources {
    /// For so many connections; without a listener that needs it, nothing.
    pub fn new(connections: u32, is_needed: bool) -> Sources {
        let wanted = (connections as usize).saturating_mul(SLOTS_PER_CONNECTION);
        let slots = wanted.next_power_of_two().clamp(WINDOW, SOURCE_SLOTS_MAX);
        let slots = if is_needed { slots } else { 0 };
        Sources { slots: (0..slots).map(|_| AtomicU64::new(0)).collect(), ..Sources::default() }
    }

    /// One more connection of `client` to a listener; `None` where that one has no limit.
    pub fn enter(
        &self,
        listener: usize,
        client: IpAddr,
        limit: SourceLimit,
    ) -> Result<Option<SourcePlace>, NoSourcePlace> {
        let Some(most) = limit.max_connections else { return Ok(None) };
        let key = self.hasher.hash_one((listener, prefix(client, limit.prefix)));
        let place = self.enter_as(key, u64::from(most).min(COUNT_MAX))?;
        Ok(NonZeroU32::new(place as u32 + 1))
    }

    fn enter_as(&self, key: u64, most: u64) -> Result<usize, NoSourcePlace> {
        let client = key >> COUNT_BITS;
        loop {
            let mut free = None;
            let mut known = None;
            for place in self.window(key) {
                match self.slots[place].load(SeqCst) {
                    0 => free = free.or(Some(place)),
                    word if word >> COUNT_BITS == client => known = Some((place, word)),
                    _ => {}
                }
            }
            let (place, word) = match (known, free) {
                (Some((_, word)), _) if word & COUNT_MAX >= most => {
                    return Err(NoSourcePlace::Limit);
                }
                (Some(known), _) => known,
                (None, Some(free)) => (free, 0),
                (None, None) => {
                    self.overflows.fetch_add(1, Relaxed);
                    return Err(NoSourcePlace::TableFull);
                }
            };
            let next = if word == 0 { client << COUNT_BITS | 1 } else { word + 1 };
            if self.slots[place].compare_exchange(word, next, SeqCst, SeqCst).is_err() {
                // Somebody else was there meanwhile.
                continue;
            }
            if word == 0 {
                self.taken.fetch_add(1, Relaxed);
            }
            // Two shards that meet a new client at once may give it a slot each. Each writes its
            // own and reads the other one's then, so at least one sees what both have.
            if self.connections(key) > most {
                self.leave_slot(place);
                return Err(NoSourcePlace::Limit);
            }
            return Ok(place);
        }
    }

    /// Gives a place back.
    pub fn leave(&self, place: SourcePlace) {
        self.leave_slot(place.get() as usize - 1);
    }

    fn leave_slot(&self, place: usize) {
        let fewer = |word: u64| match word & COUNT_MAX {
            0 => None,
            1 => Some(0),
            _ => Some(word - 1),
        };
        let left = self.slots[place].fetch_update(SeqCst, SeqCst, fewer);
        debug_assert!(left.is_ok(), "more left than entered");
        if left.is_ok_and(|word| word & COUNT_MAX == 1) {
            self.taken.fetch_sub(1, Relaxed);
        }
    }

    fn connections(&self, key: u64) -> u64 {
        let words = self.window(key).map(|place| self.slots[place].load(SeqCst));
        let of_client = words.filter(|word| word >> COUNT_BITS == key >> COUNT_BITS && *word > 0);
        of_client.map(|word| word & COUNT_MAX).sum()
    }

    fn window(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        // Its own bits and those that tell clients apart are not the same ones.
        let start = key as usize & mask & !(WINDOW - 1);
        (0..WINDOW).map(move |step| (start + step) & mask)
    }

    /// Slots that are taken, and all.
    pub fn fill(&self) -> (u32, usize) {
        (self.taken.load(Relaxed), self.slots.len())
    }

    /// Connections that were refused because the table had no slot for their client.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Relaxed)
    }
}

/// What of an address tells clients apart.
fn prefix(client: IpAddr, [v4, v6]: [u8; 2]) -> (bool, u128) {
    let cut = |bits: u128, all: u32, length: u8| {
        let rest = all.saturating_sub(u32::from(length));
        bits.checked_shr(rest).unwrap_or(0)
    };
    match client.to_canonical() {
        IpAddr::V4(ip) => (false, cut(u128::from(ip.to_bits()), 32, v4)),
        IpAddr::V6(ip) => (true, cut(ip.to_bits(), 128, v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(most: u32) -> SourceLimit {
        SourceLimit { max_connections: Some(most), ..SourceLimit::default() }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_network_of_one_listener() {
        let sources = Sources::new(100, true);
        let enter = |listener, client| sources.enter(listener, ip(client), limit(1)).is_ok();
        assert!(enter(0, "10.0.0.1") && enter(0, "10.0.0.2") && enter(1, "10.0.0.1"));
        assert!(!enter(0, "10.0.0.1") && !enter(0, "::ffff:10.0.0.1"));
        assert!(enter(0, "2001:db8::1") && enter(0, "2001:db8:0:1::1"));
        assert!(!enter(0, "2001:db8::ffff:1"));
        let wide = SourceLimit { prefix: [24, 48], ..limit(1) };
        assert!(sources.enter(2, ip("10.0.0.1"), wide).is_ok());
        assert!(sources.enter(2, ip("10.0.0.255"), wide).is_err());
        assert!(sources.enter(2, ip("10.0.1.0"), wide).is_ok());
    }

    #[test]
    fn a_place_that_is_given_back_is_there_again_and_slots_do_not_stay() {
        let sources = Sources::new(100, true);
        let client = ip("192.0.2.1");
        let enter = || sources.enter(0, client, limit(2));
        let first = enter().unwrap().unwrap();
        let second = enter().unwrap().unwrap();
        assert_eq!(enter(), Err(NoSourcePlace::Limit));
        sources.leave(first);
        let third = enter().unwrap().unwrap();
        sources.leave(second);
        sources.leave(third);
        assert_eq!(sources.fill().0, 0);
        assert!(sources.slots.iter().all(|slot| slot.load(SeqCst) == 0));
    }

    #[test]
    fn a_full_table_refuses_new_clients_and_counts_them() {
        let sources = Sources::new(1, true);
        let client = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
        let held: Vec<_> =
            (0..WINDOW as u32).map(|n| sources.enter(0, client(n), limit(9)).unwrap()).collect();
        assert_eq!(sources.fill(), (32, 32));
        assert_eq!(sources.enter(0, client(99), limit(9)), Err(NoSourcePlace::TableFull));
        assert!(sources.enter(0, client(5), limit(9)).is_ok(), "it has a slot already");
        assert_eq!((sources.overflows(), held.len()), (1, 32));
    }

    #[test]
    fn shards_that_ask_at_once_never_get_one_too_many() {
        let sources = Sources::new(16, true);
        let now = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        // A neighbour comes and goes: slots are free now and then.
                        let other = sources.enter(0, ip("192.0.2.9"), limit(100)).unwrap();
                        if let Ok(Some(place)) = sources.enter(0, ip("192.0.2.1"), limit(3)) {
                            assert!(now.fetch_add(1, SeqCst) < 3, "one too many");
                            now.fetch_sub(1, SeqCst);
                            sources.leave(place);
                        }
                        sources.leave(other.unwrap());
                    }
                });
            }
        });
        assert_eq!(sources.fill().0, 0);
    }
}

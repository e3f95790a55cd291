//! Maglev: a table that sends the same key to the same member, evenly, and moves few keys when a
//! member comes or goes. Pure.
//!
//! Source: Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
//! 2016, section 3.4. Each member prefers the places of the table in an order of its own, made from
//! two hashes of its name; members take turns, each taking the place it likes best among those that
//! are free. With weights a member's turns are in proportion.
//!
//! Everything is made from names and weights alone, so that two hosts with the same file send the
//! same client to the same server. Hashes are SipHash-1-3 with fixed keys for that reason.

use std::{hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher13;

/// Places of a table: the sizes of the paper, both prime. With at least a hundred places for each
/// member the busiest one has at most 1 % more than its share.
const PLACES_SMALL: usize = 65_537;
const PLACES_LARGE: usize = 655_373;

/// Members of a small table.
const MEMBERS_SMALL: usize = PLACES_SMALL / 100;

/// Turns in which all places are given away, at most; a heavy member takes several places in one.
/// More would only make a table of very unequal weights slow to build.
const TURNS_MAX: u64 = 1024;

/// A free place.
const FREE: u32 = u32::MAX;

/// Which member has which place.
#[derive(Clone, Debug)]
pub struct Table(Vec<u32>);

impl Table {
    /// A table over members with a name and a weight above zero each; there is at least one.
    pub fn new(members: &[(&str, u32)]) -> Table {
        let places = if members.len() <= MEMBERS_SMALL { PLACES_SMALL } else { PLACES_LARGE };
        let total: u64 = members.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let share = |weight: u32| (u64::from(weight) * places as u64 / total.max(1)).max(1);
        let shares: Vec<u64> = members.iter().map(|(_, weight)| share(*weight)).collect();
        let turns = shares.iter().copied().max().unwrap_or(1).min(TURNS_MAX);
        let mut wishes: Vec<Wishes> =
            members.iter().map(|(name, _)| Wishes::new(name, places as u64)).collect();
        let mut table = vec![FREE; places];
        let mut free = places;
        // Who comes first in a turn is by name as well: members found by a lookup stand in another
        // order on each host.
        let mut order: Vec<usize> = (0..members.len()).collect();
        order.sort_unstable_by_key(|member| members[*member].0);
        // What rounding left over goes by turns as well, one place each.
        for turn in 0.. {
            for &member in &order {
                let upto = |turn: u64| (turn * shares[member]).div_ceil(turns);
                let places = if turn < turns { upto(turn + 1) - upto(turn) } else { 1 };
                for _ in 0..places {
                    if free == 0 {
                        return Table(table);
                    }
                    let place = wishes[member].best_free(&table);
                    table[place] = member as u32;
                    free -= 1;
                }
            }
        }
        Table(table)
    }

    /// The member for a key. `step` 0 is its own; 1, 2 and so on are others to turn to, always the
    /// same ones, perhaps the same one again.
    pub fn get(&self, key: u64, step: u64) -> usize {
        // An odd multiplier spreads the steps over the table (Knuth's constant).
        let at = key.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        self.0[(at % self.0.len() as u64) as usize] as usize
    }
}

/// One member's order of preference: offset, offset + skip, offset + 2 skip and so on, modulo a
/// prime, which visits every place once.
struct Wishes {
    next: u64,
    skip: u64,
    places: u64,
}

impl Wishes {
    fn new(name: &str, places: u64) -> Wishes {
        let offset = hash(b"offset", name.as_bytes()) % places;
        let skip = hash(b"skip", name.as_bytes()) % (places - 1) + 1;
        Wishes { next: offset, skip, places }
    }

    fn best_free(&mut self, table: &[u32]) -> usize {
        loop {
            let place = self.next as usize;
            self.next = (self.next + self.skip) % self.places;
            if table[place] == FREE {
                return place;
            }
        }
    }
}

fn hash(what: &[u8], bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(what);
    hasher.write(bytes);
    hasher.finish()
}

/// The key of a client: its address without the port. An IPv4 address that came mapped into IPv6 is
/// the same client.
pub fn source_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(ip) => hash(b"source", &ip.octets()),
        IpAddr::V6(ip) => hash(b"source", &ip.octets()),
    }
}

/// The key of the network of one client: its IPv4 address, or the /64 that an IPv6 client has to
/// itself. Who wants to count as several needs several of these.
pub fn network_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(ip) => hash(b"network", &ip.octets()),
        IpAddr::V6(ip) => hash(b"network", &ip.octets()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|i| format!("10.0.{}.{}:80", i / 250, i % 250)).collect()
    }

    fn table(names: &[String]) -> Table {
        let members: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        Table::new(&members)
    }

    fn places(table: &Table, members: usize) -> Vec<u32> {
        let mut places = vec![0; members];
        table.0.iter().for_each(|member| places[*member as usize] += 1);
        places
    }

    #[test]
    fn places_are_shared_evenly() {
        for count in [1, 2, 3, 10, 100, 655, 1000] {
            let table = table(&names(count));
            let places = places(&table, count);
            let (least, most) = (places.iter().min().unwrap(), places.iter().max().unwrap());
            assert!(most - least <= 1, "{count} members: {least} to {most} places");
        }
    }

    #[test]
    fn places_follow_weights() {
        let table = Table::new(&[("a", 1), ("b", 2), ("c", 5), ("d", 65_535)]);
        let places = places(&table, 4);
        for (places, weight) in places.iter().zip([1.0, 2.0, 5.0, 65_535.0]) {
            let share = weight / 65_543.0 * PLACES_SMALL as f64;
            assert!((f64::from(*places) - share).abs() <= 2.0, "{places} of {share}");
        }
    }

    #[test]
    fn when_1_of_100_members_goes_at_most_2_percent_of_the_other_keys_move() {
        let names = names(100);
        let whole = table(&names);
        for gone in [0, 1, 37, 50, 99] {
            let mut rest = names.clone();
            rest.remove(gone);
            let without = table(&rest);
            let (mut others, mut moved) = (0, 0);
            for key in 0..100_000_u32 {
                let key = source_key(IpAddr::from(key.to_be_bytes()));
                let (before, after) = (whole.get(key, 0), without.get(key, 0));
                if before != gone {
                    others += 1;
                    moved += u32::from(names[before] != rest[after]);
                }
            }
            let share = f64::from(moved) / f64::from(others);
            assert!(share <= 0.02, "{:.2} % of the other keys moved", share * 100.0);
        }
    }

    #[test]
    fn the_order_of_members_says_nothing() {
        let names = names(100);
        let turned: Vec<String> = names.iter().rev().cloned().collect();
        let (one, other) = (table(&names), table(&turned));
        assert!(one.0.iter().zip(&other.0).all(|(a, b)| names[*a as usize] == turned[*b as usize]));
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(source_key(mapped), source_key("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn another_build_sends_the_same_client_to_the_same_server() {
        // Written down once: a change here would move every client of every user at an upgrade.
        let table = table(&names(7));
        let got: Vec<usize> =
            (0..8).map(|i| table.get(source_key(IpAddr::from([192, 0, 2, i])), 0)).collect();
        assert_eq!(got, [6, 2, 0, 5, 5, 6, 2, 1]);
    }
}

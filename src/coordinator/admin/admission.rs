//! Who sits at the admin endpoint, and who has to go when somebody comes and all places are taken.
//! Pure.
//!
//! No address is refused: of the connections on which nothing is asked, the oldest one of the
//! address that holds most makes room. Of IPv6 a network of 64 bits counts as one address.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Instant,
};

/// One connection.
#[derive(Clone, Copy, Debug)]
pub struct Sitting {
    /// Unique.
    pub id: u64,
    /// From where.
    pub peer: IpAddr,
    /// True exactly when all places but those for probes were taken when it came.
    pub probes_only: bool,
    /// Since when nothing is asked on it, and no answer waits to be taken.
    pub silent_since: Option<Instant>,
}

/// The one that makes room, of places of one kind; none where nobody is silent there.
pub fn victim(sitting: &[Sitting], probes_only: bool) -> Option<u64> {
    let holds = |peer: IpAddr| sitting.iter().filter(|s| owner(s.peer) == owner(peer)).count();
    let of_kind = sitting.iter().filter(|s| s.probes_only == probes_only);
    let silent = of_kind.filter_map(|s| Some((holds(s.peer), s.silent_since?, s.id)));
    let first = |a: &(usize, Instant, u64), b: &(usize, Instant, u64)| {
        a.0.cmp(&b.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2))
    };
    silent.max_by(first).map(|(_, _, id)| id)
}

/// What counts as one address.
fn owner(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Of each: where from, whether for probes only, and how many seconds ago it fell silent.
    fn goes(sitting: &[(&str, bool, Option<u64>)], probes_only: bool) -> Option<u64> {
        let now = Instant::now() + Duration::from_secs(1000);
        let sit =
            |(id, (peer, probes_only, silent)): (usize, &(&str, bool, Option<u64>))| Sitting {
                id: id as u64,
                peer: peer.parse().unwrap(),
                probes_only: *probes_only,
                silent_since: silent.map(|ago| now - Duration::from_secs(ago)),
            };
        let sitting: Vec<Sitting> = sitting.iter().enumerate().map(sit).collect();
        victim(&sitting, probes_only)
    }

    #[test]
    fn the_oldest_silent_one_of_the_address_that_holds_most_goes() {
        let (a, b) = ("10.0.0.1", "10.0.0.2");
        let many = [
            (b, false, Some(90)),
            (a, false, None),
            (a, false, Some(5)),
            (a, false, Some(7)),
            (a, true, Some(99)),
        ];
        assert_eq!((goes(&many, false), goes(&many, true)), (Some(3), Some(4)));
        assert_eq!(
            goes(&[(a, false, None), (a, false, None), (b, false, Some(1))], false),
            Some(2)
        );
        assert_eq!(goes(&[(a, false, None), (b, true, Some(1))], false), None);
        assert_eq!(goes(&[(a, false, Some(1)), (b, false, Some(2))], false), Some(1));
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let near = [("2001:db8::1", false, Some(1)), ("2001:db8::ffff:2", false, Some(2))];
        let far = [("2001:db8:0:1::1", false, Some(9)), ("::ffff:10.0.0.1", false, Some(9))];
        assert_eq!(goes(&[near, far].concat(), false), Some(1));
    }
}

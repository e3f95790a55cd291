//! Smooth weighted round robin, for tiers that are looked through whole.
//!
//! Source: nginx, commit 52327e0627f4. Everybody gains its weight, the richest is chosen and pays
//! the sum. Weights 5, 1, 1 give `a a b a c a a`.

use super::Open;

/// What each member of the pool has gained, by place.
#[derive(Debug)]
pub(super) struct Smooth(Vec<i64>);

impl Smooth {
    pub(super) fn new(places: usize) -> Smooth {
        Smooth(vec![0; places])
    }

    pub(super) fn choose<F: Fn(usize) -> u32>(&mut self, open: &Open<'_, F>) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<(usize, usize)> = None;
        for (index, member) in open.tier.members.iter().enumerate() {
            if !open.allows(member) {
                continue;
            }
            let place = member.slot - open.first;
            self.0[place] += i64::from(member.weight);
            total += i64::from(member.weight);
            if richest.is_none_or(|(_, best)| self.0[place] > self.0[best]) {
                richest = Some((index, place));
            }
        }
        let (index, place) = richest?;
        self.0[place] -= total;
        Some(index)
    }
}

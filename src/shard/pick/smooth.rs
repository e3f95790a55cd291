//! Smooth weighted round robin, for tiers that are looked through whole.
//!
//! Source: nginx, commit 52327e0627f4. Everybody gains its weight, the richest is chosen and pays
//! the sum. Weights 5, 1, 1 give `a a b a c a a`.

use super::Open;

/// What the members of a pool have gained.
#[derive(Debug)]
pub(super) struct Smooth {
    /// By place.
    gains: Vec<i64>,
    /// The roster by which each place last gained.
    generations: Vec<u64>,
}

impl Smooth {
    pub(super) fn new(places: usize) -> Smooth {
        Smooth { gains: vec![0; places], generations: vec![0; places] }
    }

    pub(super) fn forget(&mut self, place: usize) {
        self.gains[place] = 0;
    }

    pub(super) fn choose<F: Fn(usize) -> u32>(&mut self, open: &Open<'_, F>) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<(usize, usize)> = None;
        for (index, member) in open.tier.members.iter().enumerate() {
            if !open.allows(member) {
                continue;
            }
            let place = member.slot - open.first;
            if self.generations[place] != open.generation {
                self.come_down(place, open);
            }
            self.gains[place] += i64::from(member.weight);
            total += i64::from(member.weight);
            if richest.is_none_or(|(_, best)| self.gains[place] > self.gains[best]) {
                richest = Some((index, place));
            }
        }
        let (index, place) = richest?;
        self.gains[place] -= total;
        Some(index)
    }

    /// What was gained beside a heavier member, or with a larger weight, would keep others from
    /// their turn for long: in a new roster nobody is owed, or owes, more than one round of it.
    fn come_down<F>(&mut self, place: usize, open: &Open<'_, F>) {
        let round: i64 = open.tier.members.iter().map(|member| i64::from(member.weight)).sum();
        self.gains[place] = self.gains[place].clamp(-round, round);
        self.generations[place] = open.generation;
    }
}

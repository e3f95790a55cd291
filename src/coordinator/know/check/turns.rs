//! Whose check runs next. Pure.
//!
//! A place goes to the pool that has fewest, so that a pool whose servers are silent, and keep
//! their places for the whole timeout, keeps no other one waiting. Servers that were silent when
//! they were last asked have a part of the places only: what a check takes is known of them.

use std::collections::VecDeque;

use crate::limits::{CHECKS_AT_ONCE_MAX, SILENT_CHECKS_MAX};

/// Who has a place, or waits for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose {
    pub pool: usize,
    /// True exactly when the last check was not answered in time.
    pub silent: bool,
}

/// The places, and who waits for them.
pub struct Turns<T> {
    pools: Vec<PoolTurns<T>>,
    held: usize,
    held_by_silent: usize,
    came: u64,
}

struct PoolTurns<T> {
    held: usize,
    /// Those that answer, and those that were silent; each with its number in the order of coming.
    waiting: [VecDeque<(u64, T)>; 2],
}

impl<T> Turns<T> {
    pub fn new(pools: usize) -> Turns<T> {
        let pool = |_| PoolTurns { held: 0, waiting: Default::default() };
        Turns { pools: (0..pools).map(pool).collect(), held: 0, held_by_silent: 0, came: 0 }
    }

    /// How many are held, and how many wait.
    pub fn counts(&self) -> (usize, usize) {
        let waiting = self.pools.iter().flat_map(|pool| &pool.waiting);
        (self.held, waiting.map(VecDeque::len).sum())
    }

    pub fn wait(&mut self, whose: Whose, waiter: T) {
        self.came += 1;
        let waiting = &mut self.pools[whose.pool].waiting[usize::from(whose.silent)];
        waiting.push_back((self.came, waiter));
    }

    /// Gives a free place to who is next, if there is both.
    pub fn next(&mut self) -> Option<(T, Whose)> {
        if self.held == CHECKS_AT_ONCE_MAX {
            return None;
        }
        let silent_too = self.held_by_silent < SILENT_CHECKS_MAX;
        let first = |(pool, turns): (usize, &PoolTurns<T>)| {
            let first = |silent: bool| {
                let (came, _) = turns.waiting[usize::from(silent)].front()?;
                Some((turns.held, silent, *came, Whose { pool, silent }))
            };
            first(false).or_else(|| first(true).filter(|_| silent_too))
        };
        let firsts = self.pools.iter().enumerate().filter_map(first);
        let whose = firsts.min_by_key(|(held, silent, came, _)| (*held, *silent, *came))?.3;
        let turns = &mut self.pools[whose.pool];
        let (_, waiter) = turns.waiting[usize::from(whose.silent)].pop_front()?;
        turns.held += 1;
        self.held += 1;
        self.held_by_silent += usize::from(whose.silent);
        Some((waiter, whose))
    }

    /// Gives a place back.
    pub fn leave(&mut self, whose: Whose) {
        self.pools[whose.pool].held -= 1;
        self.held -= 1;
        self.held_by_silent -= usize::from(whose.silent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: bool = true;

    fn whose(pool: usize, silent: bool) -> Whose {
        Whose { pool, silent }
    }

    fn all(turns: &mut Turns<u32>) -> Vec<u32> {
        std::iter::from_fn(|| turns.next()).map(|(waiter, _)| waiter).collect()
    }

    #[test]
    fn a_place_goes_to_the_pool_that_has_fewest() {
        let mut turns = Turns::new(3);
        (0..200).for_each(|i| turns.wait(whose(0, !SILENT), i));
        assert_eq!(all(&mut turns).len(), CHECKS_AT_ONCE_MAX, "alone it has all of them");
        turns.wait(whose(1, !SILENT), 1000);
        turns.wait(whose(2, !SILENT), 2000);
        turns.leave(whose(0, !SILENT));
        turns.leave(whose(0, !SILENT));
        assert_eq!(all(&mut turns), [1000, 2000]);
        turns.leave(whose(2, !SILENT));
        assert_eq!(all(&mut turns), [64]);
    }

    #[test]
    fn silent_ones_have_a_part_of_the_places() {
        let mut turns = Turns::new(2);
        (0..100).for_each(|i| turns.wait(whose(0, SILENT), i));
        assert_eq!(all(&mut turns).len(), SILENT_CHECKS_MAX);
        // Also another pool's, while those that answer have the rest.
        turns.wait(whose(1, SILENT), 1000);
        turns.wait(whose(1, !SILENT), 2000);
        turns.wait(whose(0, !SILENT), 3000);
        assert_eq!(all(&mut turns), [2000, 3000]);
        turns.leave(whose(0, SILENT));
        assert_eq!(all(&mut turns), [1000]);
        assert_eq!(turns.counts(), (SILENT_CHECKS_MAX + 2, 100 - SILENT_CHECKS_MAX));
    }
}

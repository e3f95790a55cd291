//! Random: any, in proportion to its weight.

use super::{DRAWS_MAX, Open};

pub(super) fn choose<F>(open: &Open<'_, F>, rng: &mut fastrand::Rng) -> Option<usize>
where
    F: Fn(usize) -> u32,
{
    draw(open, rng, |_| true).or_else(|| look_through(open, rng))
}

/// A member that may be chosen and pleases, if one was drawn soon.
pub(super) fn draw<F: Fn(usize) -> u32>(
    open: &Open<'_, F>,
    rng: &mut fastrand::Rng,
    pleases: impl Fn(usize) -> bool,
) -> Option<usize> {
    let fits = |index: &usize| pleases(*index) && open.allows(&open.tier.members[*index]);
    (0..DRAWS_MAX).map(|_| open.tier.draw(rng)).find(fits)
}

/// The same chances among the few who may be chosen: one pass, in which each takes the place of
/// those before it with the chance of its weight in the sum so far.
pub(super) fn look_through<F: Fn(usize) -> u32>(
    open: &Open<'_, F>,
    rng: &mut fastrand::Rng,
) -> Option<usize> {
    let mut chosen = None;
    let mut sum = 0;
    for (index, member) in open.tier.members.iter().enumerate() {
        if open.allows(member) {
            sum += u64::from(member.weight);
            if rng.u64(..sum) < u64::from(member.weight) {
                chosen = Some(index);
            }
        }
    }
    chosen
}

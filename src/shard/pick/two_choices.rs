//! Two random choices, the better one of them.
//!
//! Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001. Both are
//! drawn by weight, or a heavy member among many light ones would not be seen often enough to get
//! its share.

use super::{Member, Open, random};

/// The better of two members that are drawn; `is_better(open, a, b)` tells whether `a` is.
pub(super) fn choose<F: Fn(usize) -> u32>(
    open: &Open<'_, F>,
    rng: &mut fastrand::Rng,
    is_better: impl Fn(&Open<'_, F>, &Member, &Member) -> bool,
) -> Option<usize> {
    let one = random::choose(open, rng)?;
    // Nobody else is drawn where nobody else may be, or where one weighs almost everything.
    let Some(other) = random::draw(open, rng, |index| index != one) else { return Some(one) };
    let members = &open.tier.members;
    Some(if is_better(open, &members[other], &members[one]) { other } else { one })
}

/// Fewer in flight for its weight.
pub(super) fn fewer<F: Fn(usize) -> u32>(open: &Open<'_, F>, a: &Member, b: &Member) -> bool {
    open.load(a).is_below(open.load(b))
}

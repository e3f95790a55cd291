//! What a strategy is asked: one tier, and who of it may be chosen this time.

use super::{Ask, Member, Roster, Tier, early::EarlyEnds, suspects::Suspects};

/// Who is asked at a time; a class comes when nobody of those before it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Of a last attempt in a panic: those against whom nothing speaks.
    Healthy,
    /// Everybody whose dial did not fail lately.
    Trusted,
    /// Those whose dial failed lately.
    Suspect,
    /// Those that a check could not connect to.
    Unreachable,
    /// Both.
    Hopeless,
}

impl Class {
    /// In the order in which they are asked.
    pub(super) const ALL: [Class; 5] =
        [Class::Healthy, Class::Trusted, Class::Suspect, Class::Unreachable, Class::Hopeless];

    /// Whether those are asked whose dial failed lately, and nobody else.
    pub(super) fn is_suspect(self) -> bool {
        matches!(self, Class::Suspect | Class::Hopeless)
    }

    /// Where it looks.
    pub(super) fn tiers(self, roster: &Roster) -> &[Tier] {
        match self {
            Class::Healthy | Class::Trusted | Class::Suspect => &roster.tiers,
            Class::Unreachable | Class::Hopeless => &roster.unreachable,
        }
    }
}

/// A tier, and who of it may be chosen this time.
pub(super) struct Open<'a, F> {
    pub(super) ask: &'a Ask<'a>,
    pub(super) generation: u64,
    pub(super) tier: &'a Tier,
    pub(super) first: usize,
    pub(super) class: Class,
    pub(super) suspects: &'a Suspects,
    pub(super) early: &'a EarlyEnds,
    /// True exactly when nobody was tried and nobody is suspect: the usual case, in which only a
    /// full member may not be chosen.
    pub(super) plain: bool,
    /// Connections over all shards by slot, dials included.
    pub(super) in_flight: F,
}

impl<F: Fn(usize) -> u32> Open<'_, F> {
    pub(super) fn allows(&self, member: &Member) -> bool {
        if self.plain {
            return !is_full(member, &self.in_flight);
        }
        self.suspects.has(member.slot - self.first, self.ask.now) == self.class.is_suspect()
            && (member.healthy || self.class != Class::Healthy)
            && !self.ask.tried.slots.contains(&member.slot)
            && !is_full(member, &self.in_flight)
    }

    /// How busy a member is, with what its early ends count for.
    pub(super) fn load(&self, member: &Member) -> Load {
        let early = self.early.connections(member.slot - self.first, self.ask.now);
        Load { connections: (self.in_flight)(member.slot) + early, weight: member.weight }
    }

    /// Whether it may be chosen by nobody just now.
    pub(super) fn bars(&self, member: &Member) -> bool {
        self.suspects.has(member.slot - self.first, self.ask.now) != self.class.is_suspect()
            || is_full(member, &self.in_flight)
    }

    /// The members that may be chosen.
    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.tier.members.iter().filter(|member| self.allows(member))
    }
}

pub(super) fn is_full(member: &Member, in_flight: impl Fn(usize) -> u32) -> bool {
    member.max_connections > 0 && in_flight(member.slot) >= member.max_connections
}

/// How busy a member is: (connections + 1) / weight, compared without dividing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) connections: u32,
    pub(super) weight: u32,
}

impl Load {
    pub(super) fn is_below(self, other: Load) -> bool {
        let scaled = |a: Load, b: Load| (u64::from(a.connections) + 1) * u64::from(b.weight);
        scaled(self, other) < scaled(other, self)
    }
}

//! One shard's side of a pool: the newest roster, the picker over it, the retry budget, and the
//! leases that are out.

use std::{net::SocketAddr, rc::Rc};

use super::{
    Shard,
    budget::Budget,
    conn::Conn,
    pick::{Ask, Pick, Picker, Tried},
};
use crate::{
    bridge::{self, Balance, Bridge, RosterView},
    maglev,
    planted::{self, Place},
    rt,
};

/// Every how many picks the error of least connections is looked at.
const SAMPLE_EVERY: u32 = 64;

/// Times that another shard may take the last place of a backend before we do.
const RACES_MAX: usize = 16;

/// What a shard keeps for a pool.
pub struct Upstream {
    roster: RosterView,
    picker: Picker,
    budget: Budget,
    /// Picks since the last one whose error was looked at; `None` where it never is.
    unsampled: Option<u32>,
    /// True exactly when it looks at the client's key.
    hashes: bool,
}

impl Upstream {
    /// The pool number `index` of the plan, as shard `shard` sees it.
    pub fn new(bridge: &'static Bridge, index: usize, shard: usize) -> Upstream {
        let plan: &bridge::Pool = &bridge.plan.pools[index];
        let shards = bridge.boards.shards.len();
        let sampled = plan.balance == Balance::LeastConnections;
        Upstream {
            roster: RosterView::new(&bridge.rosters[index]),
            picker: Picker::new(plan.balance, plan.max_attempts, plan.slots.clone(), shard),
            budget: Budget::new(plan.retry_budget, shards, rt::now()),
            unsampled: sampled.then_some(0),
            hashes: plan.balance == Balance::Maglev,
        }
    }
}

/// One connection in flight to a backend, its dial included; dropping it gives the place back.
pub struct Lease {
    shard: Rc<Shard>,
    /// Numbers of half a word: every connection has one of these.
    pool: u32,
    slot: u32,
}

impl Lease {
    /// Index into the plan's pools.
    pub fn pool(&self) -> usize {
        self.pool as usize
    }

    /// The backend's place in the boards.
    pub fn slot(&self) -> usize {
        self.slot as usize
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shard.bridge.boards.in_flight.down(self.shard.id, self.slot());
        tell(&self.shard, self.pool(), |picker| picker.left(self.slot()));
    }
}

/// Who was picked.
pub struct Picked {
    /// Its place.
    pub lease: Lease,
    /// Where it is dialed.
    pub address: SocketAddr,
    /// Its priority.
    pub priority: u32,
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoLease {
    /// Everybody who is left is full.
    Full,
    /// Nobody is left, or no attempt.
    Nobody,
}

/// Picks a backend that `conn` has not tried.
pub fn lease(
    shard: &Rc<Shard>,
    index: usize,
    conn: &Conn,
    tried: &Tried,
) -> Result<Picked, NoLease> {
    let in_flight = &shard.bridge.boards.in_flight;
    let count = |slot: usize| in_flight.sum(slot);
    shard.upstreams.with(|upstreams| {
        let Upstream { roster, picker, unsampled, hashes, .. } = &mut upstreams[index];
        let roster = roster.newest();
        let key = if *hashes { maglev::source_key(conn.arrival.client.ip()) } else { 0 };
        let ask = Ask { tried, now: rt::now(), key };
        for _ in 0..RACES_MAX {
            let picked = shard.rng.with(|rng| picker.pick(roster, &ask, count, rng));
            let (member, priority) = match picked {
                Pick::Chosen(member, priority) => (member, priority),
                Pick::Full => return Err(NoLease::Full),
                Pick::Nobody => return Err(NoLease::Nobody),
            };
            let slot = member.slot;
            if !in_flight.up_within(shard.id, slot, member.max_connections) {
                continue;
            }
            picker.came(slot);
            planted::panic_at(Place::Changing, conn.arrival.client);
            if is_sampled(unsampled) {
                let before = |other: usize| count(other) - u32::from(other == slot);
                let error = picker.error(roster, &ask, (&member, priority), before);
                shard.board().pick_error.note(error);
            }
            let lease = Lease { shard: Rc::clone(shard), pool: index as u32, slot: slot as u32 };
            return Ok(Picked { lease, address: member.address, priority });
        }
        Err(NoLease::Full)
    })
}

fn is_sampled(unsampled: &mut Option<u32>) -> bool {
    let Some(picks) = unsampled else { return false };
    *picks = (*picks + 1) % SAMPLE_EVERY;
    *picks == 0
}

/// A connection to the pool makes its first attempt.
pub fn first_attempt(shard: &Shard, pool: usize) {
    shard.upstreams.with(|upstreams| upstreams[pool].budget.first_attempt(rt::now()));
}

/// Whether the pool's retry budget allows another attempt after one that was not answered.
pub fn allows_another(shard: &Shard, pool: usize) -> bool {
    let allowed =
        shard.upstreams.with(|upstreams| upstreams[pool].budget.allows_another(rt::now()));
    let board = &shard.board().pools[pool];
    if allowed { &board.retries } else { &board.retries_denied }.add(1);
    allowed
}

/// Tells the picker of a pool what has happened to one of its servers.
pub fn tell(shard: &Shard, pool: usize, what: impl FnOnce(&mut Picker)) {
    shard.upstreams.with(|upstreams| what(&mut upstreams[pool].picker));
}

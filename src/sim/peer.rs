//! Who is at the other end: how much a peer says and at what pace, how it reads, and how it ends.
//! Pure: what it does becomes of a seed.

use std::time::Duration;

use super::link::Link;

/// Between two looks of a peer that has nothing to do, at most.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How a peer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A FIN when everything is said; reads on.
    Finish,
    /// A FIN once the other side's has come, or its patience is over.
    FinishLast(Duration),
    /// Says back as much as it hears, and a FIN for a FIN.
    Echo,
    /// A reset after so many bytes in both directions, or at that time.
    Reset(u64, Duration),
    /// Says everything and is gone: what still comes is answered with a reset.
    Close,
    /// Falls silent.
    Never,
}

/// How much everybody in a world says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Talk {
    /// Both sides all the time, a few bytes in each turn of the shard.
    Chat,
    Little,
    Bulk,
}

/// A peer.
#[derive(Debug)]
pub struct Peer {
    pub ending: Ending,
    /// Bytes it will say.
    says: u64,
    /// At most, at a time.
    piece: u64,
    reads: u64,
    pace: Duration,
    /// The longer it had nothing to do, the later it looks again.
    pause: Duration,
    /// After so many bytes it does not read for a while.
    deaf_after: u64,
    deaf_for: Duration,
    deaf_until: Duration,
    /// Since when it is there.
    began: Option<Duration>,
}

/// What a peer has done.
#[derive(Default)]
pub struct Did {
    pub said: bool,
    pub read: bool,
    pub reset: bool,
    /// It will do more after that time; `None`: it is over.
    pub again: Option<Duration>,
}

impl Peer {
    pub fn new(rng: &mut fastrand::Rng, ending: Ending, talk: Talk) -> Peer {
        let mut size = |most: u32| -> u64 {
            let bits = rng.u32(0..=most);
            rng.u64(..1 << bits)
        };
        let (most, pieces, pace, paces) = match talk {
            Talk::Chat => (12, 6, 5, 4),
            Talk::Little => (12, 17, 50, 14),
            Talk::Bulk => (19, 17, 50, 14),
        };
        let least = if talk == Talk::Chat { 4096 } else { 0 };
        let (says, piece, reads) = (size(most), 1 + size(pieces), 1 + size(17));
        let (deaf_after, pace) = (size(most), Duration::from_micros(pace + size(paces)));
        let deaf_for = if rng.u8(..4) == 0 { rng.u64(..9000) } else { 0 };
        Peer {
            ending,
            says: if ending == Ending::Echo { 0 } else { least + says },
            // Whoever dribbles does not say much.
            piece: piece.max((1 << most) / 128),
            reads: reads.max(4096),
            pace,
            pause: pace,
            deaf_after,
            deaf_for: Duration::from_millis(deaf_for),
            deaf_until: Duration::ZERO,
            began: None,
        }
    }

    /// What it does next.
    pub fn act(&mut self, link: &mut Link, now: Duration, rng: &mut fastrand::Rng) -> Did {
        let mut did = Did::default();
        if link.reset_by_us || link.reset_by_peer {
            return did;
        }
        let finished = link.inward.finished;
        let began = *self.began.get_or_insert(now);
        did.read = self.read(link, now, rng);
        did.said = self.say(link, rng);
        let all_said = link.inward.said >= self.says;
        let heard = link.outward.read;
        match self.ending {
            Ending::Finish | Ending::Close => link.inward.finished |= all_said,
            Ending::FinishLast(patience) => {
                let ended = link.outward.ended || now - began > patience;
                link.inward.finished |= all_said && ended;
            }
            Ending::Echo => {
                link.inward.finished |= all_said && link.outward.ended && did_hear_all(link);
            }
            Ending::Reset(after, at) => {
                did.reset = link.inward.said + heard >= after || now - began > at;
            }
            Ending::Never => {}
        }
        // Gone, and something comes.
        did.reset |= self.is_gone(link) && link.outward.arrived > link.outward.read;
        link.reset_by_peer |= did.reset;
        did.said |= link.inward.finished && !finished;
        let over = link.inward.finished && link.outward.ended && did_hear_all(link);
        if !(did.reset || over) {
            let busy = did.said || did.read;
            self.pause = if busy { self.pace } else { (self.pause * 2).min(PAUSE_MAX) };
            did.again = Some(self.pause.mul_f64(rng.f64()));
        }
        did
    }

    fn is_gone(&self, link: &Link) -> bool {
        self.ending == Ending::Close && link.inward.finished
    }

    fn read(&mut self, link: &mut Link, now: Duration, rng: &mut fastrand::Rng) -> bool {
        if now < self.deaf_until || self.is_gone(link) {
            return false;
        }
        let there = link.outward.arrived - link.outward.read;
        link.outward.read += there.min(rng.u64(1..=self.reads));
        if link.outward.read > self.deaf_after && !self.deaf_for.is_zero() {
            self.deaf_until = now + std::mem::take(&mut self.deaf_for);
        }
        if self.ending == Ending::Echo {
            self.says = link.outward.read - link.outward.preface.min(link.outward.read);
        }
        there > 0
    }

    fn say(&mut self, link: &mut Link, rng: &mut fastrand::Rng) -> bool {
        let left = self.says.saturating_sub(link.inward.said);
        if link.inward.finished || left == 0 {
            return false;
        }
        link.inward.said += left.min(rng.u64(1..=self.piece));
        true
    }
}

fn did_hear_all(link: &Link) -> bool {
    link.outward.read == link.outward.arrived
}

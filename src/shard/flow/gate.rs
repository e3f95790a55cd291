//! Copy or splice: chosen per direction while it runs. Pure.

use crate::bridge::{Path, Splice};

/// A read of at least this much is a sign of bulk: a quarter of a TCP segment of loopback, a dozen
/// of Ethernet; small messages stay far below.
const BULK_READ: usize = 16 * 1024;

/// That many of them in a row make a direction bulk.
const BULK_READS: u8 = 3;

/// Moving less than this at a time is not worth a pipe.
const THIN_READ: usize = 4 * 1024;

/// That many thin moves in a row, or this long without a byte, and the direction copies again.
const THIN_READS: u8 = 8;
const IDLE_MS: u64 = 1000;

/// What a direction does, and the evidence for changing it.
#[derive(Debug)]
pub struct Gate {
    setting: Splice,
    /// True exactly when the direction is bulk.
    bulk: bool,
    /// Moves in a row that speak for the other path.
    evidence: u8,
}

impl Gate {
    /// A gate for a listener's `splice` setting.
    pub fn new(setting: Splice) -> Self {
        Gate { setting, bulk: setting == Splice::On, evidence: 0 }
    }

    /// The path to take now.
    pub fn path(&self) -> Path {
        if self.bulk { Path::Spliced } else { Path::Copied }
    }

    /// Bytes were read in one call; true when the path has changed.
    pub fn moved(&mut self, bytes: usize) -> bool {
        if self.setting != Splice::Auto {
            return false;
        }
        let (speaks_against, needed) = match self.bulk {
            false => (bytes >= BULK_READ, BULK_READS),
            true => (bytes < THIN_READ, THIN_READS),
        };
        self.evidence = if speaks_against { self.evidence + 1 } else { 0 };
        let change = self.evidence >= needed;
        if change {
            self.bulk = !self.bulk;
            self.evidence = 0;
        }
        change
    }

    /// The direction goes on after `idle_ms` without a byte.
    pub fn woke(&mut self, idle_ms: u64) {
        if idle_ms >= IDLE_MS && self.setting == Splice::Auto {
            self.bulk = false;
            self.evidence = 0;
        }
    }

    /// The kernel cannot splice these sockets: copy from now on.
    pub fn forbid_splice(&mut self) {
        self.setting = Splice::Off;
        self.bulk = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_after(setting: Splice, reads: &[usize]) -> Path {
        let mut gate = Gate::new(setting);
        reads.iter().for_each(|n| {
            gate.moved(*n);
        });
        gate.path()
    }

    #[test]
    fn three_big_reads_in_a_row_make_bulk() {
        let big = BULK_READ;
        assert_eq!(path_after(Splice::Auto, &[big, big]), Path::Copied);
        assert_eq!(path_after(Splice::Auto, &[big, big, 128, big, big]), Path::Copied);
        assert_eq!(path_after(Splice::Auto, &[big, big, big]), Path::Spliced);
    }

    #[test]
    fn a_thin_or_idle_stream_copies_again() {
        let mut thinned = vec![BULK_READ; 3];
        thinned.extend([100; THIN_READS as usize]);
        assert_eq!(path_after(Splice::Auto, &thinned), Path::Copied);
        let mut gate = Gate::new(Splice::Auto);
        (0..3).for_each(|_| {
            gate.moved(BULK_READ);
        });
        gate.woke(IDLE_MS - 1);
        assert_eq!(gate.path(), Path::Spliced);
        gate.woke(IDLE_MS);
        assert_eq!(gate.path(), Path::Copied);
    }

    #[test]
    fn on_and_off_are_not_argued_with() {
        assert_eq!(path_after(Splice::On, &[1; 100]), Path::Spliced);
        assert_eq!(path_after(Splice::Off, &[1 << 20; 100]), Path::Copied);
    }
}

//! How much of a turn one direction may use.

use crate::rt;

/// Bytes one direction moves before others get their turn: one pipe full, about 60 us of work.
const TURN_BYTES: usize = 256 * 1024;

/// What one read counts for at least: the calls cost as much as moving this many bytes does.
const READ_BYTES_MIN: usize = 8 * 1024;

/// What a direction has used of its share of a turn. Counted over waits too: on epoll a wait for
/// what is ready already returns at once and is no turn for the others.
#[derive(Default)]
pub struct Share {
    turn: u64,
    used: usize,
}

impl Share {
    /// Whether something is left in this turn.
    pub fn is_left(&mut self) -> bool {
        self.begin_if_new();
        self.used < TURN_BYTES
    }

    /// Counts one attempt that moved `bytes`; one that moved nothing costs its calls too.
    pub fn charge(&mut self, bytes: usize) {
        self.begin_if_new();
        self.used += bytes.max(READ_BYTES_MIN);
    }

    fn begin_if_new(&mut self) {
        let turn = rt::turn_number();
        if self.turn != turn {
            *self = Share { turn, used: 0 };
        }
    }
}

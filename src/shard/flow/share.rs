//! How much of a turn one direction may use.

use crate::rt;

/// Bytes after which a direction leaves the turn to others: one pipe full, about 60 us of work. A
/// pipe that has grown is filled and drained all the same, which is four times as much.
const TURN_BYTES: usize = 256 * 1024;

/// What one read counts for at least: the calls cost as much as moving this many bytes does.
const READ_BYTES_MIN: usize = 8 * 1024;

/// What a direction has used of its share of a turn. Counted over waits too: on epoll a wait for
/// what is ready already returns at once and is no turn for the others.
#[derive(Default)]
pub struct Share {
    turn: u32,
    used: u32,
}

impl Share {
    /// Whether something is left in this turn.
    pub fn is_left(&mut self) -> bool {
        self.begin_if_new();
        self.used < TURN_BYTES as u32
    }

    /// Counts one attempt that moved `bytes`; one that moved nothing costs its calls too.
    pub fn charge(&mut self, bytes: usize) {
        self.begin_if_new();
        self.used = self.used.saturating_add(bytes.max(READ_BYTES_MIN) as u32);
    }

    fn begin_if_new(&mut self) {
        // A part of the number tells two turns apart as well.
        let turn = rt::turn_number() as u32;
        if self.turn != turn {
            *self = Share { turn, used: 0 };
        }
    }
}

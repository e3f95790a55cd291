//! What a direction still does once we have ended its connection (`shard/cut.rs`).

use super::{Ending, Flow, Step, copy};
use crate::{bridge::Side, rt::Received};

impl Flow {
    /// We have ended the connection: what was received before is still passed on.
    pub(super) fn finish_cut(&mut self, told: Option<Side>) -> Step {
        self.share.charge(0);
        if let Err(step) = self.deliver_held() {
            return step;
        }
        // Behind the first byte that was dropped there is nothing to be delivered.
        while !self.dropping {
            let Some(chunk) = self.ends.source.take_received() else { break };
            if let Err(step) = copy::deliver(self, chunk) {
                return step;
            }
        }
        match told == Some(self.direction.source()) {
            true => self.drop_what_comes(),
            false => Step::Over(Ending::Stopped),
        }
    }

    /// The source has our FIN and is closed in order once it has everything. Bytes of it that
    /// nobody has read would make that a reset (net/ipv4/tcp.c, `tcp_close`).
    fn drop_what_comes(&mut self) -> Step {
        self.dropping = true;
        while self.share.is_left() {
            let dropped = match self.ends.source.recv() {
                Received::Bytes { chunk, .. } => chunk.len(),
                Received::Nothing => return Step::SourceEmpty,
                Received::NoBuffer => match self.ends.source.drop_received() {
                    0 => return Step::SourceEmpty,
                    dropped => dropped,
                },
                Received::End | Received::Reset | Received::Lost => {
                    return Step::Over(Ending::Stopped);
                }
            };
            self.vain_waits.set(0);
            self.share.charge(dropped);
        }
        Step::Again
    }
}

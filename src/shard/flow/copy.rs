//! One turn of a direction that copies, through a leased buffer.

use super::{Ending, Flow, Held, Step};
use crate::{
    bridge::{Direction, Path},
    planted::{self, Bug, Place},
    rt::{Chunk, Passed, Received, Sent},
};

/// Moves what is there, at most a turn's share.
pub(super) fn step(flow: &mut Flow) -> Step {
    while flow.share.is_left() {
        let (chunk, drained) = match flow.ends.source.recv() {
            Received::Bytes { chunk, drained } => (chunk, drained),
            Received::Nothing => return Step::SourceEmpty,
            Received::NoBuffer => return pass_on(flow),
            Received::End => return Step::Over(Ending::Fin),
            Received::Reset => return Step::Over(Ending::SourceReset),
            Received::Lost => return Step::Over(Ending::Lost),
        };
        let n = chunk.len();
        flow.drained = drained;
        flow.received();
        flow.share.charge(n);
        let changed = flow.gate.moved(n);
        flow.plant(match flow.direction {
            Direction::Up => Place::CopyUp,
            Direction::Down => Place::CopyDown,
        });
        if let Err(step) = deliver(flow, chunk) {
            return step;
        }
        if changed {
            return Step::Again;
        }
        // Asking again would cost a call to learn that nothing is there.
        if drained {
            return Step::SourceEmpty;
        }
    }
    Step::Again
}

/// Sends the whole chunk, or says why that has to wait.
pub(super) fn deliver(flow: &mut Flow, chunk: Chunk) -> Result<(), Step> {
    settle(flow, flow.ends.sink.send(chunk))
}

/// Counts what a send came to and sends the rest, or says why that has to wait.
pub(super) fn settle(flow: &mut Flow, mut sent: Sent) -> Result<(), Step> {
    loop {
        match sent {
            Sent::Some(n, rest) => {
                flow.delivered(n, Path::Copied);
                if rest.is_empty() {
                    return Ok(());
                }
                if planted::has(Bug::CountedTwice) {
                    flow.delivered(n, Path::Copied);
                }
                sent = flow.ends.sink.send(rest);
            }
            Sent::Full(chunk) => {
                flow.held = Held::Chunk(chunk);
                return Err(Step::SinkFull);
            }
            Sent::Reset => return Err(Step::Over(Ending::SinkReset)),
            Sent::Later => return Err(Step::Sending),
            Sent::Lost => return Err(Step::Over(Ending::Lost)),
        }
    }
}

/// No buffer is left on this shard: one step without holding any.
fn pass_on(flow: &mut Flow) -> Step {
    flow.share.charge(0);
    match flow.ends.source.pass_on(&flow.ends.sink) {
        Passed::Bytes { sent, drained } => {
            flow.received();
            flow.delivered(sent, Path::Copied);
            flow.gate.moved(sent);
            if drained { Step::SourceEmpty } else { Step::Again }
        }
        Passed::SinkFull => {
            // They were only looked at, so the wait before this was in vain.
            flow.saw();
            Step::SinkFull
        }
        Passed::End => Step::Over(Ending::Fin),
        Passed::SourceEmpty => Step::SourceEmpty,
        Passed::SourceReset => Step::Over(Ending::SourceReset),
        Passed::SinkReset => Step::Over(Ending::SinkReset),
    }
}

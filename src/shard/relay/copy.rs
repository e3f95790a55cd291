//! One turn of a direction that copies, through a leased buffer.

use super::{Flow, Held, Step};
use crate::{
    bridge::Path,
    rt::{self, CHUNK_BYTES, Chunk, Passed},
    sock,
};

/// Moves what is there, at most a turn's share.
pub(super) fn step(flow: &mut Flow) -> Step {
    while flow.share.is_left() {
        let Some(mut chunk) = rt::take_chunk() else { return pass_on(flow) };
        let n = match flow.ends.source.recv(&mut chunk) {
            Ok(0) => return Step::SourceEnded,
            Ok(n) => n,
            Err(e) if sock::is_for_later(&e) => return Step::SourceEmpty,
            Err(_) => return Step::SourceReset,
        };
        flow.received();
        flow.share.charge(n);
        let changed = flow.gate.moved(n);
        if let Err(step) = deliver(flow, chunk) {
            return step;
        }
        if changed {
            return Step::Again;
        }
        // A short read emptied the socket; asking again would cost a call to learn that.
        if n < CHUNK_BYTES {
            return Step::SourceEmpty;
        }
    }
    Step::Again
}

/// Sends the whole chunk, or says why that has to wait.
pub(super) fn deliver(flow: &Flow, mut chunk: Chunk) -> Result<(), Step> {
    while !chunk.is_empty() {
        match flow.ends.sink.send(&mut chunk) {
            Ok(n) => flow.delivered(n, Path::Copied),
            Err(e) if sock::is_for_later(&e) => return Err(Step::SinkFull(Held::Chunk(chunk))),
            Err(_) => return Err(Step::SinkReset),
        }
    }
    Ok(())
}

/// No buffer is left on this shard: one step without holding any.
fn pass_on(flow: &mut Flow) -> Step {
    flow.share.charge(0);
    match rt::pass_on(&flow.ends.source, &flow.ends.sink) {
        Passed::Bytes { sent, drained } => {
            flow.received();
            flow.delivered(sent, Path::Copied);
            flow.gate.moved(sent);
            if drained { Step::SourceEmpty } else { Step::Again }
        }
        Passed::SinkFull => {
            flow.received();
            Step::SinkFull(Held::Nothing)
        }
        Passed::End => Step::SourceEnded,
        Passed::SourceEmpty => Step::SourceEmpty,
        Passed::SourceReset => Step::SourceReset,
        Passed::SinkReset => Step::SinkReset,
    }
}

//! One turn of a direction that copies, through a leased buffer.

use std::io::ErrorKind::WouldBlock;

use super::{Flow, Step, TURN_BYTES};
use crate::{
    bridge::Path,
    rt::{self, CHUNK_BYTES, Chunk, Passed},
};

/// Moves what is there, at most a turn's share.
pub(super) async fn step(flow: &mut Flow) -> Step {
    let mut moved = 0;
    while moved < TURN_BYTES {
        let Some(mut chunk) = rt::take_chunk() else { return pass_on(flow).await };
        let n = match flow.ends.source.recv(&mut chunk) {
            Ok(0) => return Step::SourceEnded,
            Ok(n) => n,
            Err(e) if e.kind() == WouldBlock => return Step::SourceEmpty,
            Err(_) => return Step::SourceReset,
        };
        flow.received();
        if let Err(step) = deliver(flow, chunk).await {
            return step;
        }
        moved += n;
        if flow.gate.moved(n) {
            return Step::Again;
        }
        // A short read emptied the socket; asking again would cost a call to learn that.
        if n < CHUNK_BYTES {
            return Step::SourceEmpty;
        }
    }
    Step::Again
}

/// Sends the whole chunk, waiting as long as the sink needs.
async fn deliver(flow: &Flow, mut chunk: Chunk) -> Result<(), Step> {
    loop {
        match flow.ends.sink.send(&mut chunk) {
            Ok(n) => flow.delivered(n, Path::Copied),
            Err(e) if e.kind() == WouldBlock => flow.sink_writable().await,
            Err(_) => return Err(Step::SinkReset),
        }
        if chunk.is_empty() {
            return Ok(());
        }
        if flow.decided() {
            return Err(Step::Ended);
        }
    }
}

/// No buffer is left on this shard: one step without holding any.
async fn pass_on(flow: &mut Flow) -> Step {
    match rt::pass_on(&flow.ends.source, &flow.ends.sink) {
        Passed::Bytes { sent, drained } => {
            flow.received();
            flow.delivered(sent, Path::Copied);
            flow.gate.moved(sent);
            if drained { Step::SourceEmpty } else { Step::Again }
        }
        Passed::SinkFull => {
            flow.sink_writable().await;
            Step::Again
        }
        Passed::End => Step::SourceEnded,
        Passed::SourceEmpty => Step::SourceEmpty,
        Passed::SourceReset => Step::SourceReset,
        Passed::SinkReset => Step::SinkReset,
    }
}

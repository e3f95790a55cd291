//! One turn of a direction that splices: socket to pipe to socket, inside the kernel.
//!
//! The pipe is drained before it is refilled and before an end of stream counts, so a FIN can never
//! overtake bytes (haproxy#2505 lost one response in 50,000 that way).

use std::io::ErrorKind::{InvalidInput, WouldBlock};

use super::{Flow, Step, TURN_BYTES, copy};
use crate::{
    bridge::Path,
    rt::{self, Pipe},
};

/// Moves what is there, at most a turn's share. Without a free pipe it copies this once.
pub(super) async fn step(flow: &mut Flow) -> Step {
    let Some(mut pipe) = rt::take_pipe() else { return copy::step(flow).await };
    let mut moved = 0;
    while moved < TURN_BYTES {
        let n = match pipe.splice_in(&flow.ends.source) {
            Ok(0) => return Step::SourceEnded,
            Ok(n) => n,
            Err(e) if e.kind() == WouldBlock => return Step::SourceEmpty,
            Err(e) if e.kind() == InvalidInput => {
                flow.gate.forbid_splice();
                return Step::Again;
            }
            Err(_) => return Step::SourceReset,
        };
        flow.received();
        if let Err(step) = drain(flow, &mut pipe).await {
            return step;
        }
        moved += n;
        if flow.gate.moved(n) {
            return Step::Again;
        }
    }
    Step::Again
}

async fn drain(flow: &Flow, pipe: &mut Pipe) -> Result<(), Step> {
    while pipe.held() > 0 {
        match pipe.splice_out(&flow.ends.sink) {
            Ok(n) => flow.delivered(n, Path::Spliced),
            Err(e) if e.kind() == WouldBlock => flow.sink_writable().await,
            Err(_) => return Err(Step::SinkReset),
        }
        if flow.decided() {
            return Err(Step::Ended);
        }
    }
    Ok(())
}

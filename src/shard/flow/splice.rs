//! One turn of a direction that splices: socket to pipe to socket, inside the kernel.
//!
//! The pipe is drained before it is refilled and before an end of stream counts, so a FIN can never
//! overtake bytes (haproxy#2505 lost one response in 50,000 that way).

use std::io::ErrorKind::InvalidInput;

use super::{Ending, Flow, Held, Step, copy};
use crate::{
    bridge::Path,
    planted::Place,
    rt::{self, Pipe},
};

/// Moves what is there, at most a turn's share. Without a free pipe it copies this once.
pub(super) fn step(flow: &mut Flow) -> Step {
    if !flow.ends.source.stop_recv() {
        // What was received ahead goes first.
        return copy::step(flow);
    }
    let Some(mut pipe) = rt::take_pipe() else { return copy::step(flow) };
    while flow.share.is_left() {
        let n = match pipe.splice_in(flow.ends.source.bare()) {
            Ok(n) if n > 0 => n,
            Err(e) if rt::is_for_later(&e) => return Step::SourceEmpty,
            Err(e) if e.kind() == InvalidInput => {
                flow.gate.forbid_splice();
                return Step::Again;
            }
            // Kernel: with the FIN or a reset received, an urgent byte at the front looks like the
            // end to splice(2) although bytes stand behind it (net/ipv4/tcp.c, `tcp_splice_read`).
            // A receive knows; the error is gone from the socket now, so it is noted here.
            end => {
                if end.is_err() {
                    flow.conn.reset_by(flow.direction.source());
                }
                drop(pipe);
                return copy::step(flow);
            }
        };
        flow.received();
        flow.share.charge(n);
        let changed = flow.gate.moved(n);
        flow.plant(Place::Splice);
        pipe = match drain(flow, pipe) {
            Ok(pipe) => pipe,
            Err(step) => return step,
        };
        if changed {
            return Step::Again;
        }
    }
    Step::Again
}

/// Empties the pipe and gives it back, or says why that has to wait.
pub(super) fn drain(flow: &mut Flow, mut pipe: Pipe) -> Result<Pipe, Step> {
    while pipe.held() > 0 {
        match pipe.splice_out(flow.ends.sink.bare()) {
            Ok(n) => flow.delivered(n, Path::Spliced),
            Err(e) if rt::is_for_later(&e) => {
                flow.held = Held::Pipe(pipe);
                return Err(Step::SinkFull);
            }
            Err(_) => return Err(Step::Over(Ending::SinkReset)),
        }
    }
    Ok(pipe)
}

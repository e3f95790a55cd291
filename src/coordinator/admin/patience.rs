//! How long an answer may take to be taken: whoever does not read holds a page in memory, and one
//! of few places.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::desk::Desk;

/// How long a client may take nothing of its answer.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How long it may take for all of it: some bytes now and then are no way to stay.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A stream whose writes fail when the client has used up our patience; it is reset then, so that
/// the kernel does not keep what nobody reads either.
pub struct Patient {
    stream: TcpStream,
    desk: Arc<Desk>,
    /// While something waits to be taken.
    waiting: Option<Waiting>,
    timer: Pin<Box<Sleep>>,
}

/// Since when, and when the client last took something.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    took: Instant,
}

impl Waiting {
    /// What is known after a write, of which `taken` is `None` where the client took nothing.
    fn after(
        before: Option<Waiting>,
        now: Instant,
        taken: Option<usize>,
        offered: usize,
    ) -> Option<Self> {
        let fresh = Waiting { since: now, took: now };
        match (before, taken) {
            (_, Some(taken)) if taken == offered => None,
            (None, _) => Some(fresh),
            (Some(before), Some(_)) => Some(Waiting { took: now, ..before }),
            (Some(before), None) => Some(before),
        }
    }

    fn until(self) -> Instant {
        (self.took + STALL_MAX).min(self.since + ANSWER_MAX)
    }
}

impl Patient {
    /// Over a connection that was just accepted.
    pub fn new(stream: TcpStream, desk: Arc<Desk>) -> Patient {
        Patient { stream, desk, waiting: None, timer: Box::pin(tokio::time::sleep(STALL_MAX)) }
    }

    /// Gives on what a write gave, unless the client took too long.
    fn judge(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        let taken = match &wrote {
            Poll::Ready(Ok(taken)) => Some(*taken),
            Poll::Ready(Err(_)) => return wrote,
            Poll::Pending => None,
        };
        let before = self.waiting;
        self.waiting = Waiting::after(before, Instant::now(), taken, offered);
        if before.is_some() != self.waiting.is_some() {
            self.desk.place.is_busy(self.waiting.is_some());
        }
        let (Some(waiting), None) = (self.waiting, taken) else { return wrote };
        self.timer.as_mut().reset(waiting.until().into());
        ready!(self.timer.as_mut().poll(context));
        self.stream.set_zero_linger()?;
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.desk.reads(&buffer.filled()[before..]);
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(context, wrote, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(context, wrote, slices.iter().map(|slice| slice.len()).sum())
    }

    // Pages go out as they are: copied into one buffer they would be in memory uncounted.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some bytes move the first bound, never the second; all of them end both.
    #[test]
    fn who_takes_nothing_has_ten_seconds_and_who_takes_little_has_thirty() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut waiting = None;
        for (seconds, taken, until) in [
            (0, Some(10), None),
            (1, Some(4), Some(11)),
            (2, None, Some(11)),
            (9, Some(1), Some(19)),
            (18, Some(1), Some(28)),
            (27, Some(1), Some(31)),
            (30, None, Some(31)),
            (30, Some(10), None),
            (40, None, Some(50)),
        ] {
            waiting = Waiting::after(waiting, at(seconds), taken, 10);
            assert_eq!(waiting.map(Waiting::until), until.map(at), "after {seconds} s");
        }
    }
}

//! The way out of the ring relay: sends, ends of streams, and the end of a connection.

use std::{io, os::fd::AsRawFd as _, time::Duration};

use io_uring::{
    opcode, squeue,
    squeue::Flags,
    types::{Fd, Fixed},
};
use rustix::{
    io::Errno,
    net::{SendFlags, Shutdown, sockopt},
};

use super::{Kind, Relay, Send, Way, tag};

impl Relay<'_> {
    /// Sends what waits, or passes the end on; then reads on where that was stopped.
    pub(super) fn pump(&mut self, way: Way) -> io::Result<()> {
        let Some(conn) = &mut self.conns[way.0] else { return Ok(()) };
        let flow = &mut conn.flows[way.1];
        if conn.dying {
            self.ending.push(way.0);
            return Ok(());
        }
        if flow.sending {
            // A skipped send is over, unheard, once it is submitted.
            self.eager |= self.knobs.send == Send::Skipped;
            return Ok(());
        }
        while let (Send::Direct, Some(chunk)) = (self.knobs.send, flow.queue.front_mut()) {
            let bytes = self.buffers.bytes(chunk.buffer, chunk.start, chunk.end);
            let to = &conn.sockets[1 - way.1];
            match rustix::net::send(to, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) if count == bytes.len() => {
                    self.buffers.free(chunk.buffer);
                    flow.queue.pop_front();
                }
                Ok(count) => chunk.start += count as u32,
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.reset(way.0);
                    return Ok(());
                }
            }
        }
        if !flow.queue.is_empty() {
            return self.send(way, self.knobs.send == Send::Skipped);
        }
        if flow.ended && !flow.done {
            flow.done = true;
            self.ending.push(way.0);
            match rustix::net::shutdown(&conn.sockets[1 - way.1], Shutdown::Write) {
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(_) => self.reset(way.0),
            }
        }
        self.receive(way)
    }

    /// Puts the send of the first chunk into the submission queue.
    fn send(&mut self, way: Way, skipped: bool) -> io::Result<()> {
        let Some(conn) = &mut self.conns[way.0] else { return Ok(()) };
        let flow = &mut conn.flows[way.1];
        let Some(chunk) = flow.queue.front() else { return Ok(()) };
        let bytes = self.buffers.bytes(chunk.buffer, chunk.start, chunk.end);
        flow.sending = true;
        // Without WAITALL a short send would count as success, and be skipped.
        let mut flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        if skipped {
            flags |= libc::MSG_DONTWAIT;
        } else {
            conn.in_kernel += 1;
        }
        let (from, count) = (bytes.as_ptr(), bytes.len() as u32);
        let entry = match self.knobs.fixed_files {
            true => opcode::Send::new(Fixed(way.0 as u32 * 2 + 1 - way.1 as u32), from, count)
                .flags(flags)
                .build(),
            false => opcode::Send::new(Fd(conn.sockets[1 - way.1].as_raw_fd()), from, count)
                .flags(flags)
                .build(),
        };
        if !skipped {
            return self.push(entry.user_data(tag(Kind::Send, way)));
        }
        // What is to be done once it is over: the next one, the end, or to read on.
        self.eager |= flow.queue.len() > 1 || flow.ended || !flow.armed;
        self.sending.push(way);
        self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(tag(Kind::SkippedSend, way)))
    }

    /// Takes the result of a send: the bytes that are gone, or an error.
    pub(super) fn moved(&mut self, way: Way, result: i32) {
        let Some(conn) = &mut self.conns[way.0] else { return };
        let flow = &mut conn.flows[way.1];
        let Some(chunk) = flow.queue.front_mut() else { return };
        match result {
            0.. => chunk.start += result as u32,
            _ if result == -libc::EAGAIN => {}
            _ => return self.reset(way.0),
        }
        if chunk.start == chunk.end {
            self.buffers.free(chunk.buffer);
            flow.queue.pop_front();
        }
    }

    /// Skipped sends of the last submission are over. Those that failed have said so by now: the
    /// kernel completes them while it submits, before it waits.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let mut sent = std::mem::take(&mut self.sent);
        for way in sent.drain(..) {
            let Some(conn) = &mut self.conns[way.0] else { continue };
            let flow = &mut conn.flows[way.1];
            flow.sending = false;
            if conn.dying {
                self.ending.push(way.0);
            } else if std::mem::take(&mut flow.unsent) {
                self.send(way, false)?;
            } else {
                if let Some(chunk) = flow.queue.pop_front() {
                    self.buffers.free(chunk.buffer);
                }
                self.pump(way)?;
            }
        }
        self.sent = sent;
        Ok(())
    }

    /// A reset on one side becomes one on the other; the shutdown wakes what waits in the kernel.
    pub(super) fn reset(&mut self, place: usize) {
        let Some(conn) = &mut self.conns[place] else { return };
        conn.dying = true;
        self.eager = true;
        for socket in &conn.sockets {
            let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
        }
        self.ending.push(place);
    }

    /// Closes a connection that is over.
    pub(super) fn end(&mut self, place: usize) -> io::Result<()> {
        let Some(conn) = self.conns[place].take_if(|conn| conn.is_over()) else { return Ok(()) };
        for chunk in conn.flows.iter().flat_map(|flow| &flow.queue) {
            self.buffers.free(chunk.buffer);
        }
        if self.knobs.fixed_files {
            self.submitter.register_files_update(place as u32 * 2, &[-1, -1])?;
        }
        self.free.push(place);
        Ok(())
    }

    pub(super) fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        // SAFETY: what an entry names lives until it completes: sockets while `in_kernel` is not 0
        // or a skipped send is not settled, buffers for ever, the target as long as the relay.
        while unsafe { self.submissions.push(&entry) }.is_err() {
            self.submissions.sync();
            self.submitter.submit()?;
            self.submissions.sync();
        }
        Ok(())
    }
}

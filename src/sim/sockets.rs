//! What simulated sockets and pipes do, by descriptor; [`super::calls`] and the queues of the ring
//! ask for it.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use rustix::{event::PollFlags, io::Errno};

use super::{Event, Link, Mark, Name, Piece, Sim, State};

/// What a pipe holds at most as it is opened.
const PIPE_BYTES: usize = 64 * 1024;

/// A pipe, oldest bytes first.
pub(super) struct SimPipe {
    pub(super) pieces: VecDeque<Piece>,
    size: usize,
}

impl Sim {
    pub(super) fn link(&mut self, fd: RawFd) -> Option<&mut Link> {
        match self.stand_ins.name(fd)? {
            Name::Link(id) => Some(&mut self.links[id as usize]),
            _ => None,
        }
    }

    /// Which connection a descriptor stands for.
    pub(crate) fn id(&mut self, fd: RawFd) -> Option<u32> {
        self.link(fd).map(|link| link.id)
    }

    /// Whose words have been sent on a descriptor.
    pub(crate) fn source_of(&mut self, fd: RawFd) -> Option<u32> {
        self.link(fd).and_then(|link| link.outward.heard.from)
    }

    /// Whether a descriptor is simulated.
    pub(super) fn is_ours(&self, fd: RawFd) -> bool {
        self.stand_ins.name(fd).is_some()
    }

    /// Whether a descriptor may have been ready a moment ago, for anything: a dial that waits, or
    /// was refused, never was.
    pub(crate) fn was_ready(&mut self, fd: RawFd) -> bool {
        self.link(fd).is_none_or(|link| link.state == State::Open)
    }

    /// Whether we have broken off what a descriptor stands for.
    pub(crate) fn was_aborted(&mut self, fd: RawFd) -> bool {
        self.link(fd).is_some_and(|link| link.aborted.is_some())
    }

    /// What poll(2) says; `None` of a descriptor that is real.
    pub(crate) fn ready(&mut self, fd: RawFd) -> Option<PollFlags> {
        match self.stand_ins.name(fd)? {
            Name::Link(id) => Some(self.links[id as usize].ready()),
            Name::Listener => Some(match &self.backlog {
                Some(backlog) if backlog.is_empty() => PollFlags::empty(),
                Some(_) => PollFlags::IN,
                None => PollFlags::IN | PollFlags::HUP,
            }),
            Name::PipeIn(_) | Name::PipeOut(_) => Some(PollFlags::empty()),
        }
    }

    /// What has happened to what a descriptor stands for; `None` of one that is real, or closed.
    pub(crate) fn mark(&mut self, fd: RawFd) -> Option<Mark> {
        match self.stand_ins.name(fd)? {
            Name::Link(id) => Some(self.links[id as usize].mark()),
            Name::Listener => {
                let (to_come, is_open) = (self.world.to_come(), self.backlog.is_some());
                Some(Mark { arrived: to_come.into(), is_over: [is_open; 5], told_again: 0 })
            }
            Name::PipeIn(_) | Name::PipeOut(_) => None,
        }
    }

    /// A call on a descriptor said wrongly that it would block: whoever watches it is told again.
    pub(super) fn tells_again(&mut self, fd: RawFd) {
        if let Some(link) = self.link(fd) {
            link.says_again();
        }
    }

    /// Reads, up to the buffer and perhaps less; `keep` leaves the bytes where they are.
    pub(crate) fn receive(
        &mut self,
        fd: RawFd,
        buffer: &mut [u8],
        keep: bool,
    ) -> Result<usize, Errno> {
        let is_urgent = self.link(fd).ok_or(Errno::NOTSOCK)?.urgent;
        let cut = if self.exact && !is_urgent { buffer.len() } else { self.cut(buffer.len()) };
        let link = self.link(fd).ok_or(Errno::NOTSOCK)?;
        let Some(piece) = link.next(cut)? else { return Ok(0) };
        piece.fill(&mut buffer[..piece.len()]);
        if !keep {
            self.was_read(&piece);
        }
        Ok(piece.len())
    }

    /// Drops exactly what was looked at.
    pub(super) fn discard(&mut self, fd: RawFd, count: usize) -> Result<usize, Errno> {
        let link = self.link(fd).ok_or(Errno::NOTSOCK)?;
        let Some(piece) = link.next(count)? else { return Ok(0) };
        self.was_read(&piece);
        Ok(piece.len())
    }

    fn was_read(&mut self, piece: &Piece) {
        self.links[piece.from as usize].inward.read = piece.at.end;
        self.at(Duration::ZERO, Event::Bring(piece.from));
    }

    /// Sends, as much as there is room for and perhaps less.
    pub(crate) fn send(&mut self, fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        let cut = self.cut(bytes.len());
        let id = self.link_to_send(fd)?;
        let link = &mut self.links[id as usize];
        let count = link.room()?.min(cut);
        let preface =
            (link.outward.preface - link.outward.taken.min(link.outward.preface)) as usize;
        link.outward.heard.bytes(&bytes[preface.min(count)..count]);
        self.was_sent(fd, id, count);
        Ok(count)
    }

    fn link_to_send(&mut self, fd: BorrowedFd<'_>) -> Result<u32, Errno> {
        let id = self.link(fd.as_raw_fd()).ok_or(Errno::NOTSOCK)?.id;
        if self.links[id as usize].room() == Err(Errno::AGAIN) {
            self.stand_ins.fill(fd);
        }
        Ok(id)
    }

    fn was_sent(&mut self, fd: BorrowedFd<'_>, id: u32, count: usize) {
        let link = &mut self.links[id as usize];
        link.outward.taken += count as u64;
        link.moves.push(self.clock);
        if !link.has_room() {
            self.stand_ins.fill(fd);
        }
        let after = self.soon(Duration::from_millis(5));
        self.at(after, Event::Deliver(id));
    }

    /// A length, sometimes a shorter one.
    fn cut(&mut self, len: usize) -> usize {
        if len > 1 && self.fails(20) { self.rng.usize(1..len) } else { len }
    }

    pub(super) fn accept(&mut self) -> Result<(OwnedFd, SocketAddr), Errno> {
        if self.fails(2) {
            return Err(self.one_of(&[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::INTR]));
        }
        self.notice_closed();
        let backlog = self.backlog.as_mut().ok_or(Errno::INVAL)?;
        let id = backlog.pop_front().ok_or(Errno::AGAIN)?;
        self.world.accepted.push(id);
        Ok((self.stand_ins.stand_for(Name::Link(id)), self.addresses[id as usize]))
    }

    pub(crate) fn one_of(&mut self, errors: &[Errno]) -> Errno {
        errors[self.rng.usize(..errors.len())]
    }

    /// A dial: what becomes of it is the backend's affair.
    pub(super) fn connect(&mut self, address: SocketAddr) -> (OwnedFd, Result<(), Errno>) {
        self.notice_closed();
        let (answer, peer) = self.world.dialed(address, &mut self.rng);
        let id = self.new_link(address, State::Dialing, peer);
        self.links[id as usize].outward.preface = self.world.preface;
        let fd = self.stand_ins.stand_for(Name::Link(id));
        match answer {
            Some((after, answer)) if !after.is_zero() => {
                self.at(after, Event::Answer(id, answer));
                (fd, Err(Errno::INPROGRESS))
            }
            Some((_, answer)) => {
                self.answered(id, answer);
                (fd, answer)
            }
            None => (fd, Err(Errno::INPROGRESS)),
        }
    }

    /// A new pipe: the end to read from, and the one to write to.
    pub(super) fn pipe(&mut self) -> (OwnedFd, OwnedFd) {
        self.notice_closed();
        let pipe = self.pipes.len() as u32;
        self.pipes.push(SimPipe { pieces: VecDeque::new(), size: PIPE_BYTES });
        let read = self.stand_ins.stand_for(Name::PipeOut(pipe));
        (read, self.stand_ins.stand_for(Name::PipeIn(pipe)))
    }

    pub(super) fn splice(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        most: usize,
    ) -> Result<usize, Errno> {
        let (from_name, to_name) =
            (self.stand_ins.name(from.as_raw_fd()), self.stand_ins.name(to.as_raw_fd()));
        match (from_name, to_name) {
            (Some(Name::Link(id)), Some(Name::PipeIn(pipe))) => self.splice_in(id, pipe, most),
            (Some(Name::PipeOut(pipe)), Some(Name::Link(_))) => self.splice_out(pipe, to, most),
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn resize_pipe(&mut self, fd: BorrowedFd<'_>, size: usize) -> Result<usize, Errno> {
        let Some(Name::PipeIn(pipe) | Name::PipeOut(pipe)) = self.stand_ins.name(fd.as_raw_fd())
        else {
            return Err(Errno::BADF);
        };
        self.pipes_grown += u64::from(size > PIPE_BYTES);
        self.pipes[pipe as usize].size = size;
        Ok(size)
    }

    fn splice_in(&mut self, id: u32, pipe: u32, most: usize) -> Result<usize, Errno> {
        let into = &self.pipes[pipe as usize];
        let held: usize = into.pieces.iter().map(Piece::len).sum();
        let most = self.cut(most.min(into.size - held));
        let link = &mut self.links[id as usize];
        if link.unspliceable {
            return Err(Errno::INVAL);
        }
        let most = link.spliceable(most);
        if most == 0 {
            return Err(Errno::AGAIN);
        }
        let Some(piece) = link.next(most)? else { return Ok(0) };
        self.was_read(&piece);
        let count = piece.len();
        self.pipes[pipe as usize].pieces.push_back(piece);
        Ok(count)
    }

    fn splice_out(&mut self, pipe: u32, to: BorrowedFd<'_>, most: usize) -> Result<usize, Errno> {
        let most = self.cut(most);
        let piece = self.pipes[pipe as usize].pieces.front().cloned().ok_or(Errno::AGAIN)?;
        let id = self.link_to_send(to)?;
        let link = &mut self.links[id as usize];
        let count = link.room()?.min(most).min(piece.len());
        let end = piece.at.start + count as u64;
        link.outward.heard.piece(&Piece { from: piece.from, at: piece.at.start..end });
        self.was_sent(to, id, count);
        let pipe = &mut self.pipes[pipe as usize].pieces;
        match count == piece.len() {
            true => drop(pipe.pop_front()),
            false => pipe[0].at.start = end,
        }
        Ok(count)
    }

    /// A FIN of ours, or the end of listening.
    pub(super) fn finish(&mut self, fd: RawFd) -> Result<(), Errno> {
        match self.stand_ins.name(fd) {
            Some(Name::Link(id)) => {
                let link = &mut self.links[id as usize];
                if link.state != State::Open {
                    return Err(Errno::NOTCONN);
                }
                link.outward.finished = true;
                link.moves.push(self.clock);
                self.check_fin(id);
                self.at(Duration::ZERO, Event::Deliver(id));
                Ok(())
            }
            Some(Name::Listener) => {
                self.stop_listening();
                Ok(())
            }
            _ => Err(Errno::NOTSOCK),
        }
    }

    /// Kernel: `RCV_SHUTDOWN`: what has come can be read, then it is the end.
    pub(super) fn stop_reading(&mut self, fd: RawFd) -> Result<(), Errno> {
        let link = self.link(fd).ok_or(Errno::NOTSOCK)?;
        match link.state {
            State::Open => {
                link.hung_up = true;
                Ok(())
            }
            _ => Err(Errno::NOTCONN),
        }
    }

    /// Whoever was queued is reset.
    pub(super) fn stop_listening(&mut self) {
        for id in self.backlog.take().into_iter().flatten() {
            self.reset_peer(id);
        }
    }

    pub(super) fn disconnect(&mut self, fd: RawFd) {
        let now = self.clock;
        if let Some(link) = self.link(fd) {
            link.aborted.get_or_insert(now);
            link.disconnect();
        }
        self.free();
    }
}

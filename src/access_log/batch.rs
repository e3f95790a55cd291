//! Whole lines on their way into a file that may take a part of them, or none.

use std::io::{self, ErrorKind, Write};

/// Lines that are to be written, and the rest of one whose beginning was.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// True exactly when the last byte that was written did not end a line.
    cut: bool,
    /// True exactly while the first end of a line in `bytes` is that of a line that is not ours.
    foreign: bool,
}

/// What became of the lines of a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Written to their ends.
    pub written: u64,
    /// Given up.
    pub lost: u64,
}

impl Batch {
    /// For a file whose last line has no end: that one gets its end before anything else.
    pub fn after_a_cut() -> Batch {
        Batch { bytes: b"\n".to_vec(), cut: true, foreign: true }
    }

    /// Where whole lines are added.
    pub fn text(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes what `out` takes. Where it fails, the lines that have not begun are given up: the
    /// next ones are news, these would be late. The rest of a line that has begun stays, so that
    /// the next one does not become its end. Where `out` only takes nothing now, everything stays.
    pub fn flush(&mut self, out: &mut impl Write) -> (Flushed, io::Result<()>) {
        let mut sent = 0;
        let result = loop {
            if sent == self.bytes.len() {
                break Ok(());
            }
            match out.write(&self.bytes[sent..]) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let written = self.forget(sent);
        let is_later = |error: &io::Error| error.kind() == ErrorKind::WouldBlock;
        let lost = match &result {
            Err(error) if !is_later(error) => self.give_up(),
            _ => 0,
        };
        (Flushed { written, lost }, result)
    }

    /// Gives up everything, a line that has begun too: it goes on in no other file.
    pub fn abandon(&mut self) -> u64 {
        let lost = lines(&self.bytes) - u64::from(self.foreign);
        *self = Batch::default();
        lost
    }

    /// Takes what was written out of the batch; gives the lines that ended in it.
    fn forget(&mut self, sent: usize) -> u64 {
        let mut written = lines(&self.bytes[..sent]);
        if let Some(last) = self.bytes[..sent].last() {
            self.cut = *last != b'\n';
        }
        self.bytes.drain(..sent);
        if written > 0 && std::mem::take(&mut self.foreign) {
            written -= 1;
        }
        written
    }

    /// Keeps no more than the rest of a line that has begun.
    fn give_up(&mut self) -> u64 {
        let end = self.bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let keep = if self.cut { end } else { 0 };
        let lost = lines(&self.bytes[keep..]);
        self.bytes.truncate(keep);
        lost
    }
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file that does as it is told: takes so many bytes, fails, or takes nothing now.
    #[derive(Clone, Copy, Debug)]
    enum Answer {
        Take(usize),
        Full,
        Later,
        Interrupted,
    }

    struct Disk<'a> {
        text: &'a mut Vec<u8>,
        answers: &'a mut Vec<Answer>,
    }

    impl Write for Disk<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = match self.answers.pop().unwrap_or(Answer::Take(usize::MAX)) {
                Answer::Take(n) => n.min(bytes.len()),
                Answer::Full => return Err(ErrorKind::StorageFull.into()),
                Answer::Later => return Err(ErrorKind::WouldBlock.into()),
                Answer::Interrupted => return Err(ErrorKind::Interrupted.into()),
            };
            self.text.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            (1usize..40).prop_map(Answer::Take),
            Just(Answer::Full),
            Just(Answer::Later),
            Just(Answer::Interrupted),
        ]
    }

    proptest! {
        /// 1. Lines come in bunches; each bunch is flushed into a disk that does what it likes.
        /// 2. At last the disk takes everything.
        #[test]
        fn lines_are_written_whole_or_counted_as_lost(
            bunches in proptest::collection::vec(0usize..5, 1..30),
            mut answers in proptest::collection::vec(answer(), 0..60),
        ) {
            let (mut batch, mut text, mut offered) = (Batch::default(), Vec::new(), 0);
            let mut total = Flushed::default();
            for bunch in bunches.iter().chain([&0]) {
                for _ in 0..*bunch {
                    batch.text().extend(format!("line {offered}.\n").as_bytes());
                    offered += 1;
                }
                if *bunch == 0 {
                    answers.clear();
                }
                let mut disk = Disk { text: &mut text, answers: &mut answers };
                let (flushed, _) = batch.flush(&mut disk);
                total.written += flushed.written;
                total.lost += flushed.lost;
            }
            prop_assert_eq!(total.written + total.lost, offered);
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(text.lines().count() as u64, total.written);
            let whole = |line: &str| line.starts_with("line ") && line.ends_with('.');
            prop_assert!(text.lines().all(whole), "{}", text);
            prop_assert!(text.is_empty() || text.ends_with('\n'));
        }
    }

    #[test]
    fn the_rest_of_a_line_that_has_begun_comes_before_the_next_ones() {
        let (mut batch, mut text) = (Batch::default(), Vec::new());
        batch.text().extend(b"one\ntwo\nthree\n");
        let mut answers = vec![Answer::Full, Answer::Take(5)];
        let (flushed, result) = batch.flush(&mut Disk { text: &mut text, answers: &mut answers });
        assert_eq!(flushed, Flushed { written: 1, lost: 1 });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::StorageFull);
        batch.text().extend(b"four\n");
        let (flushed, _) = batch.flush(&mut Disk { text: &mut text, answers: &mut answers });
        assert_eq!(flushed, Flushed { written: 2, lost: 0 });
        assert_eq!(text, b"one\ntwo\nfour\n");
    }

    #[test]
    fn a_line_that_is_not_ours_gets_its_end_and_is_not_counted() {
        let (mut batch, mut text) = (Batch::after_a_cut(), b"cut".to_vec());
        batch.text().extend(b"one\n");
        let mut answers = vec![Answer::Full];
        let (flushed, _) = batch.flush(&mut Disk { text: &mut text, answers: &mut answers });
        assert_eq!(flushed, Flushed { written: 0, lost: 1 });
        batch.text().extend(b"two\n");
        let (flushed, _) = batch.flush(&mut Disk { text: &mut text, answers: &mut answers });
        assert_eq!(flushed, Flushed { written: 1, lost: 0 });
        assert_eq!(text, b"cut\ntwo\n");
        assert_eq!(Batch::after_a_cut().abandon(), 0);
    }

    #[test]
    fn what_is_abandoned_is_counted() {
        let mut batch = Batch::default();
        batch.text().extend(b"one\ntwo\n");
        assert_eq!((batch.abandon(), batch.abandon(), batch.len()), (2, 0, 0));
    }
}

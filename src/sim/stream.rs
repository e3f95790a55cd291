//! What the peers say: bytes that follow from who says them and where they stand, so that whoever
//! takes them can tell a wrong, lost or doubled one at once.
//!
//! A stream begins with the name of its sender. Pure.

use std::{ops::Range, sync::LazyLock};

/// A prime, so that a shift by any buffer's size shows.
const CYCLE: usize = 65_521;

/// Twice the cycle: any piece up to its length is one slice.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut rng = fastrand::Rng::with_seed(1);
    let once: Vec<u8> = (0..CYCLE).map(|_| rng.u8(..)).collect();
    [once.as_slice(), once.as_slice()].concat()
});

/// Bytes of the name.
const NAME: u64 = 4;

/// Bytes of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Who says them.
    pub from: u32,
    /// Where they stand.
    pub at: Range<u64>,
}

impl Piece {
    /// How many.
    pub fn len(&self) -> usize {
        (self.at.end - self.at.start) as usize
    }

    /// Writes them out.
    pub fn fill(&self, buffer: &mut [u8]) {
        let mut at = self.at.start;
        for part in buffer.chunks_mut(CYCLE) {
            let start = ((u64::from(self.from) * 7919 + at) % CYCLE as u64) as usize;
            part.copy_from_slice(&NOISE[start..start + part.len()]);
            at += part.len() as u64;
        }
        let name = self.from.to_le_bytes();
        for place in self.at.start..self.at.end.min(NAME) {
            buffer[(place - self.at.start) as usize] = name[place as usize];
        }
    }
}

/// What came to one end so far.
#[derive(Debug, Default)]
pub struct Heard {
    /// Of whom, once the name is whole.
    pub from: Option<u32>,
    /// How many bytes.
    pub count: u64,
    name: [u8; NAME as usize],
}

impl Heard {
    /// More came.
    ///
    /// # Panics
    /// They are not what comes next.
    pub fn bytes(&mut self, mut bytes: &[u8]) {
        while self.count < NAME && !bytes.is_empty() {
            self.name[self.count as usize] = bytes[0];
            self.count += 1;
            bytes = &bytes[1..];
            if self.count == NAME {
                self.is_of(u32::from_le_bytes(self.name));
            }
        }
        let Some(from) = self.from.filter(|_| !bytes.is_empty()) else { return };
        let piece = Piece { from, at: self.count..self.count + bytes.len() as u64 };
        let mut due = vec![0; bytes.len()];
        piece.fill(&mut due);
        assert!(due == bytes, "wrong bytes of {from} at {}", self.count);
        self.count = piece.at.end;
    }

    /// More came, which nobody looked at.
    ///
    /// # Panics
    /// They are not what comes next.
    pub fn piece(&mut self, piece: &Piece) {
        assert_eq!(self.count, piece.at.start, "bytes of {} in the wrong place", piece.from);
        let mut bytes = vec![0; piece.len().min(NAME as usize)];
        Piece { from: piece.from, at: piece.at.start..piece.at.start + bytes.len() as u64 }
            .fill(&mut bytes);
        if self.count < NAME {
            self.bytes(&bytes);
        }
        self.count = piece.at.end;
        assert!(self.from.is_none_or(|from| from == piece.from), "bytes of somebody else");
    }

    fn is_of(&mut self, from: u32) {
        assert!(self.from.is_none_or(|known| known == from), "bytes of two senders");
        self.from = Some(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_known_by_its_bytes_however_they_are_cut() {
        let mut whole = vec![0; 200_000];
        Piece { from: 7, at: 0..200_000 }.fill(&mut whole);
        let (mut heard, mut rng) = (Heard::default(), fastrand::Rng::with_seed(3));
        while heard.count < 200_000 {
            let start = heard.count;
            let end = (start + rng.u64(1..70_000)).min(200_000);
            match rng.bool() {
                true => heard.bytes(&whole[start as usize..end as usize]),
                false => heard.piece(&Piece { from: 7, at: start..end }),
            }
        }
        assert_eq!((heard.from, heard.count), (Some(7), 200_000));
    }

    #[test]
    #[should_panic(expected = "wrong bytes of 7 at 100")]
    fn a_byte_that_was_left_out_is_noticed() {
        let mut whole = vec![0; 300];
        Piece { from: 7, at: 0..300 }.fill(&mut whole);
        let mut heard = Heard::default();
        heard.bytes(&whole[..100]);
        heard.bytes(&whole[101..]);
    }
}

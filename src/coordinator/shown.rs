//! Words of a peer, before they are logged or said back. Pure.

use std::borrow::Cow;

use crate::limits::PEER_WORD_MAX;

/// The word, cut where it is longer than [`PEER_WORD_MAX`] bytes.
pub fn shown(word: &str) -> Cow<'_, str> {
    if word.len() <= PEER_WORD_MAX {
        return Cow::Borrowed(word);
    }
    let end = word.floor_char_boundary(PEER_WORD_MAX);
    Cow::Owned(format!("{}...", &word[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_cut_between_two_characters() {
        assert_eq!(shown("/stats"), "/stats");
        let whole = "x".repeat(PEER_WORD_MAX);
        assert_eq!(shown(&whole), whole);
        let long = format!("{}äää", "x".repeat(PEER_WORD_MAX - 1));
        assert_eq!(shown(&long), format!("{}...", "x".repeat(PEER_WORD_MAX - 1)));
    }
}

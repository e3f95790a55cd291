//! The token of the admin endpoint: what its file may hold, and whether somebody knows it.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::file::Entry;
use crate::errno::cause;

/// Shorter ones can be guessed.
const CHARS_MIN: usize = 16;

/// Longer ones fit no header.
const BYTES_MAX: u64 = 4096;

/// What requests have to show. The token itself is not kept, so it can get into no log and no page.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Absolute path of the file it came from.
    pub file: PathBuf,
    /// True exactly when others than the file's owner may read it.
    pub exposed: bool,
    digest: [u8; 32],
}

impl Token {
    /// The token with that text.
    pub fn new(file: PathBuf, text: &str, exposed: bool) -> Token {
        Token { file, exposed, digest: Sha256::digest(text).into() }
    }

    /// Whether somebody offers this token. Digests are compared: how long that takes tells at most
    /// how much of a digest was right, and nobody can choose a token by its digest.
    pub fn is(&self, offered: &str) -> bool {
        Sha256::digest(offered)[..] == self.digest
    }
}

/// Reads the file that `entry` names, relative to `folder`.
pub(super) fn token(entry: &Entry<'_>, folder: &Path) -> Option<Token> {
    let name = entry.text("the name of a file (for example \"admin.token\")")?;
    let path = folder.join(name);
    let (bytes, mode) = match read(&path) {
        Ok(read) => read,
        Err(error) => {
            let way_out = "write the name of a file with the token in it";
            return entry.refuse(format_args!("cannot read it: {} ({way_out})", cause(&error)));
        }
    };
    let rule = format_args!("(write one word of at least {CHARS_MIN} letters and digits into it)");
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if bytes.len() as u64 > BYTES_MAX {
        return entry.refuse(format_args!("longer than {BYTES_MAX} bytes {rule}"));
    } else if text.is_empty() {
        return entry.refuse(format_args!("empty {rule}"));
    } else if text.contains(char::is_whitespace) {
        return entry.refuse(format_args!("has blanks inside {rule}"));
    } else if !text.chars().all(|c| c.is_ascii_graphic()) {
        return entry.refuse(format_args!("has characters that no header can carry {rule}"));
    } else if text.len() < CHARS_MIN {
        return entry.refuse(format_args!("shorter than {CHARS_MIN} characters {rule}"));
    }
    let file = std::path::absolute(&path).unwrap_or(path);
    Some(Token::new(file, text, mode & 0o077 != 0))
}

/// The bytes, one more than allowed at the most, and the mode.
fn read(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // Opening a pipe would wait for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = Token::new("t".into(), "0123456789abcdef", false);
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF"] {
            assert!(!token.is(other), "{other}");
        }
        assert!(!format!("{token:?}").contains("abcdef"), "it shows itself");
    }
}

//! What is wrong with a configuration file, and where in its text.

use std::{cell::RefCell, fmt, path::PathBuf};

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 where the file as a whole is at fault.
    pub line: usize,
    /// In characters, from 1; 0 where the file as a whole is at fault.
    pub column: usize,
    /// Subject, value, rule and way out; one line.
    pub text: String,
}

/// Every mistake in one configuration file, by position. Prints one line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file, as the user wrote it.
    pub path: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
}

impl Problems {
    /// The one problem of a file that is at fault as a whole.
    pub(super) fn whole_file(path: PathBuf, text: String) -> Problems {
        Problems { path, list: vec![Problem { line: 0, column: 0, text }] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (index, Problem { line, column, text }) in self.list.iter().enumerate() {
            let between = if index == 0 { "" } else { "\n" };
            match line {
                0 => write!(f, "{between}{path}: {text}")?,
                _ => write!(f, "{between}{path}:{line}:{column}: {text}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The problems found so far, by byte offset. Shared, so that a table and its children can both
/// report; one thread reads one file, so a cell is enough.
#[derive(Default)]
pub(super) struct Found(RefCell<Vec<(usize, String)>>);

impl Found {
    /// Adds a problem at a byte offset.
    pub(super) fn add(&self, at: usize, text: String) {
        self.0.borrow_mut().push((at, text));
    }

    /// True exactly when nothing was reported.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The problems by position, offsets turned into lines and columns in one walk over `source`.
    pub(super) fn place(self, source: &str) -> Vec<Problem> {
        let mut found = self.0.into_inner();
        found.sort_by_key(|(at, _)| *at);
        // A byte order mark is no character of the first line.
        let mut seen = if source.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let (mut line, mut column) = (1, 1);
        let mut list = Vec::with_capacity(found.len());
        for (at, text) in found {
            let at = source.floor_char_boundary(at).max(seen);
            for character in source[seen..at].chars() {
                (line, column) = if character == '\n' { (line + 1, 1) } else { (line, column + 1) };
            }
            seen = at;
            list.push(Problem { line, column, text });
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(source: &str, at: usize) -> (usize, usize) {
        let found = Found::default();
        found.add(at, String::new());
        let list = found.place(source);
        (list[0].line, list[0].column)
    }

    #[test]
    fn columns_count_characters_from_one() {
        assert_eq!(placed("", 0), (1, 1));
        assert_eq!(placed("ä = 1", 3), (1, 3));
        assert_eq!(placed("a\r\nb", 3), (2, 1));
        assert_eq!(placed("\u{feff}a = 1", 3), (1, 1));
        assert_eq!(placed("\u{feff}a", 0), (1, 1), "before the mark");
        assert_eq!(placed("ä", 1), (1, 1), "inside a character");
        assert_eq!(placed("a", 99), (1, 2), "past the end");
    }

    #[test]
    fn problems_are_sorted_by_position_and_print_one_line_each() {
        let found = Found::default();
        found.add(2, "second".into());
        found.add(0, "first".into());
        let problems = Problems { path: "c.toml".into(), list: found.place("a\nb") };
        assert_eq!(problems.to_string(), "c.toml:1:1: first\nc.toml:2:1: second");
    }
}

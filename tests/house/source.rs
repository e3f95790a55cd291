//! The sources as text, without comments, strings and tests.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A source file.
pub struct Source {
    /// From the root of the repository.
    pub path: String,
    /// As it is.
    pub text: String,
    /// The same lines with comments and the insides of strings blanked.
    pub code: String,
}

impl Source {
    pub fn read(path: &Path) -> Source {
        let text = fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        Source { code: without_comments(&text), text, path }
    }

    /// The code above the tests; nothing of a file that is tests.
    pub fn product(&self) -> &str {
        if self.path.ends_with("/tests.rs") {
            return "";
        }
        self.code.split("#[cfg(test)]\nmod tests").next().unwrap()
    }

    pub fn is_in(&self, room: &str) -> bool {
        self.path == format!("src/{room}.rs") || self.path.starts_with(&format!("src/{room}/"))
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All sources under a folder; there are some.
pub fn sources(folder: &str) -> Vec<Source> {
    let mut folders = vec![root().join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.extension().is_some_and(|ext| ext == "rs") => files.push(entry),
                false => {}
            }
        }
    }
    files.sort();
    assert!(files.len() > 5, "few sources in {folder}");
    files.iter().map(|file| Source::read(file)).collect()
}

/// The sources of some rooms; each of them exists.
pub fn rooms(names: &[&str]) -> Vec<Source> {
    let all = sources("src");
    for name in names {
        assert!(all.iter().any(|source| source.is_in(name)), "no room {name}");
    }
    all.into_iter().filter(|source| names.iter().any(|name| source.is_in(name))).collect()
}

/// Blanks comments and the insides of strings; lines stay where they are.
pub fn without_comments(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = skip_length(rest, code.chars().last());
        let taken = if skipped == 0 { c.len_utf8() } else { skipped };
        let (now, later) = rest.split_at(taken);
        match skipped {
            0 => code.push_str(now),
            _ => code.extend(now.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        rest = later;
    }
    code
}

/// How many bytes of comment, string or character stand at the front of `rest`.
fn skip_length(rest: &str, before: Option<char>) -> usize {
    let until = |start: usize, end: &str| {
        rest[start..].find(end).map_or(rest.len(), |at| start + at + end.len())
    };
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until(2, "*/");
    }
    if !in_word && (rest.starts_with("r\"") || rest.starts_with("r#")) {
        let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
        let open = 1 + hashes;
        // A raw name such as r#type is no string.
        return match rest[open..].starts_with('"') {
            true => until(open + 1, &format!("\"{}", "#".repeat(hashes))),
            false => 0,
        };
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    let mut chars = rest.chars().skip(1);
    match (rest.starts_with('\''), chars.next(), chars.next()) {
        (true, Some('\\'), _) | (true, Some(_), Some('\'')) => quoted_length(rest, '\''),
        _ => 0,
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

//! The text of the file: a walk over its tables that knows where every key and value stands.
//!
//! This part refuses to know what any key means. A key exists because somebody asks for it; what
//! nobody asked for is unknown, and said when the table is closed.

use std::fmt::Display;

use toml::de::{DeTable, DeValue, Error};

use super::{near::nearest, problem::Found};

/// More of a value or key is not shown.
const SHOWN_CHARS_MAX: usize = 60;

/// Reads the text into its tables. A syntax error stands alone: what follows it is guesswork.
pub(super) fn tables<'t>(text: &'t str, found: &Found) -> DeTable<'t> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let start = |error: &Error| error.span().map_or(0, |span| span.start);
    if let Some(error) = errors.iter().min_by_key(|error| start(error)) {
        found.add(start(error), syntax(error, text));
    }
    root.into_inner()
}

fn syntax(error: &Error, text: &str) -> String {
    let part = error.span().and_then(|span| text.get(span)).unwrap_or("").trim();
    let place = if part.is_empty() { String::new() } else { format!(" at {:?}", clipped(part)) };
    // "Expected nothing" is the parser's way to say that the value ends here.
    let message = error.message().trim_end_matches(", expected nothing").replace('\n', " ");
    format!("syntax error{place}: {message}")
}

/// One table; dropping it reports the keys that nobody asked for.
pub(super) struct Table<'t> {
    /// Full name, empty for the whole file.
    name: String,
    /// Byte offset of its header.
    at: usize,
    /// `None`: the table is not in the file.
    entries: Option<&'t DeTable<'t>>,
    /// The keys asked for, in that order.
    known: Vec<&'static str>,
    found: &'t Found,
}

impl<'t> Table<'t> {
    /// The whole file.
    pub(super) fn root(entries: &'t DeTable<'t>, found: &'t Found) -> Table<'t> {
        Table { name: String::new(), at: 0, entries: Some(entries), known: Vec::new(), found }
    }

    /// What is written for `key`, if anything; from now on the key is known.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Entry<'t>> {
        self.known.push(key);
        let value = self.entries?.get(key)?;
        let (at, value) = (value.span().start, value.get_ref());
        Some(Entry { name: self.name_of(key), at, value, found: self.found })
    }

    /// The value of `key`, or `default` where it is not written or refused.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Entry<'t>) -> Option<T>,
    ) -> T {
        self.get(key).and_then(|entry| read(&entry)).unwrap_or(default)
    }

    /// The value of a key that must be there; `example` is the way out.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Entry<'t>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(entry) => read(&entry),
            None => self.refuse(key, format_args!("missing (write {example})")),
        }
    }

    /// The table `[key]`; empty where it is not written.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'t> {
        self.get(key).and_then(|entry| entry.table()).unwrap_or_else(|| Table {
            name: self.name_of(key),
            at: self.at,
            entries: None,
            known: Vec::new(),
            found: self.found,
        })
    }

    /// The tables `[[key]]`; none where it is not written.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'t>> {
        let header = self.header_of(key);
        let read = |entry: Entry<'t>| entry.array(format_args!("tables, each under {header}"));
        let elements = self.get(key).and_then(read).unwrap_or_default();
        elements.iter().filter_map(Entry::table).collect()
    }

    /// The tables `[[key]]`; none of them is a problem.
    pub(super) fn need_tables(&mut self, key: &'static str) -> Vec<Table<'t>> {
        let way_out = format!("write at least one {}", self.header_of(key));
        match self.entries.and_then(|entries| entries.get(key)) {
            None => self.refuse(key, format_args!("missing ({way_out})")).unwrap_or(()),
            Some(value) if value.get_ref().as_array().is_some_and(|array| array.is_empty()) => {
                let text = format!("{} = []: empty ({way_out})", self.name_of(key));
                self.found.add(value.span().start, text);
            }
            Some(_) => {}
        }
        self.tables(key)
    }

    /// The text of `key` where it is one; makes it no known key.
    pub(super) fn peek(&self, key: &str) -> Option<&'t str> {
        self.entries?.get(key)?.get_ref().as_str()
    }

    /// Reports a problem of `key` at the table's header; gives nothing.
    pub(super) fn refuse<T>(&self, key: &str, rule: impl Display) -> Option<T> {
        self.found.add(self.at, format!("{}: {rule}", self.name_of(key)));
        None
    }

    /// How the tables `key` are opened: `[[pool.backend]]`, without the numbers of a full name.
    fn header_of(&self, key: &str) -> String {
        match self.name.split_once('[') {
            Some((parent, _)) => format!("[[{parent}.{key}]]"),
            None => format!("[[{key}]]"),
        }
    }

    fn name_of(&self, key: &str) -> String {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let key = match !key.is_empty() && key.chars().all(bare) {
            true => clipped(key),
            false => format!("{:?}", clipped(key)),
        };
        if self.name.is_empty() { key } else { format!("{}.{key}", self.name) }
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for (key, value) in self.entries.into_iter().flatten() {
            let written = key.get_ref().as_ref();
            if self.known.contains(&written) {
                continue;
            }
            let hint = match nearest(written, self.known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            // A table starts at its header, before its name; a value after its name.
            let at = key.span().start.min(value.span().start);
            self.found.add(at, format!("{}: unknown key ({hint})", self.name_of(written)));
        }
    }
}

/// One value as written, with its full name.
pub(super) struct Entry<'t> {
    pub(super) name: String,
    pub(super) value: &'t DeValue<'t>,
    at: usize,
    found: &'t Found,
}

impl<'t> Entry<'t> {
    /// Reports that the value breaks `rule`; gives nothing.
    pub(super) fn refuse<T>(&self, rule: impl Display) -> Option<T> {
        let shown = match self.value {
            DeValue::String(text) => format!(" = {:?}", clipped(text)),
            DeValue::Integer(number) => format!(" = {}", clipped(&number.to_string())),
            DeValue::Float(number) => format!(" = {}", clipped(number.as_str())),
            DeValue::Boolean(value) => format!(" = {value}"),
            DeValue::Datetime(time) => format!(" = {time}"),
            DeValue::Array(array) if array.is_empty() => " = []".into(),
            DeValue::Array(_) | DeValue::Table(_) => String::new(),
        };
        self.found.add(self.at, format!("{}{shown}: {rule}", self.name));
        None
    }

    /// Reports that the value is of the wrong type; gives nothing.
    pub(super) fn wrong_type<T>(&self, expected: impl Display) -> Option<T> {
        let kind = self.value.type_str();
        let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
        self.refuse(format_args!("found {article} {kind}, expected {expected}"))
    }

    /// The text of a string.
    pub(super) fn text(&self, expected: impl Display) -> Option<&'t str> {
        self.value.as_str().or_else(|| self.wrong_type(expected))
    }

    /// The elements of an array.
    pub(super) fn array(&self, expected: impl Display) -> Option<Vec<Entry<'t>>> {
        let Some(array) = self.value.as_array() else { return self.wrong_type(expected) };
        let entry = |(index, value): (usize, &'t toml::Spanned<DeValue<'t>>)| Entry {
            name: format!("{}[{index}]", self.name),
            at: value.span().start,
            value: value.get_ref(),
            found: self.found,
        };
        Some(array.iter().enumerate().map(entry).collect())
    }

    fn table(&self) -> Option<Table<'t>> {
        let Some(entries) = self.value.as_table() else { return self.wrong_type("a table") };
        let (name, at, found) = (self.name.clone(), self.at, self.found);
        Some(Table { name, at, entries: Some(entries), known: Vec::new(), found })
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

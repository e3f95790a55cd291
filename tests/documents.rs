//! The documents keep up with the code: every key has its row, and every link leads somewhere.
//!
//! Reads the pages as text. Which keys there are, the configuration itself is asked.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Component, Path, PathBuf},
};

use ringway::{bridge::EndReason, config};

const README_LINES_MAX: usize = 250;

/// Near to no key, so that the refusal lists all those that are known there.
const UNKNOWN: &str = "qqqqqqqq";

/// A key, with the header of its table as the file has it: `[[pool.backend]]`.
type Key = (String, String);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the configuration knows in the table that these headers open; `None`: it is no table.
fn known(headers: &str) -> Option<Vec<String>> {
    let text = format!("{headers}{UNKNOWN} = 1\n");
    let refusal = config::parse(&text, Path::new("")).unwrap_err().to_string();
    let (_, hint) = refusal.split_once(&format!("{UNKNOWN}: unknown key ("))?;
    let (list, _) = hint.split_once(')').unwrap();
    let list = list.strip_prefix("known here: ").unwrap_or_else(|| panic!("{UNKNOWN}: {hint}"));
    Some(list.split(", ").map(str::to_owned).collect())
}

/// Every key of the table `name` and of those below it; `headers` lead to it and end with its own.
fn schema(headers: &str, name: &str, keys: &mut BTreeSet<Key>) {
    let own = headers.lines().last().unwrap_or("");
    for key in known(headers).unwrap() {
        let full = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let forms = [format!("{headers}[{full}]\n"), format!("{headers}[[{full}]]\n")];
        match forms.iter().find(|headers| known(headers).is_some()) {
            Some(headers) => schema(headers, &full, keys),
            None => assert!(keys.insert((own.to_owned(), key))),
        }
    }
}

fn every_key() -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    schema("", "", &mut keys);
    assert!(keys.len() > 50, "the scan is blind: {keys:?}");
    keys
}

/// The keys that a table of a file has written, and those of the tables below it.
fn written(table: &toml::Table, header: &str, name: &str, keys: &mut BTreeSet<Key>) {
    for (key, value) in table {
        let full = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        match value {
            toml::Value::Table(inner) => written(inner, &format!("[{full}]"), &full, keys),
            toml::Value::Array(list) if list.iter().any(toml::Value::is_table) => {
                for inner in list.iter().filter_map(toml::Value::as_table) {
                    written(inner, &format!("[[{full}]]"), &full, keys);
                }
            }
            _ => _ = keys.insert((header.to_owned(), key.clone())),
        }
    }
}

/// The lines of a page without those of its fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    })
}

/// What stands between the backticks of a table's first cell.
fn first_cell(line: &str) -> Option<&str> {
    let cell = line.strip_prefix("| ")?.split(" | ").next()?.trim_matches('*');
    cell.strip_prefix('`')?.strip_suffix('`')
}

fn assert_same(page: &str, found: &BTreeSet<Key>, expected: &BTreeSet<Key>) {
    let missing: Vec<_> = expected.difference(found).collect();
    let unknown: Vec<_> = found.difference(expected).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{page}\nlacks {missing:?}\nhas, and the configuration does not know, {unknown:?}"
    );
}

#[test]
fn every_key_has_its_row_and_every_row_its_key() {
    let page = read("docs/configuration.md");
    let mut rows = BTreeSet::new();
    let mut header = "";
    for cell in prose(&page).filter_map(first_cell) {
        match cell.starts_with('[') {
            true => header = cell,
            false => assert!(rows.insert((header.into(), cell.into())), "{header} {cell}: twice"),
        }
    }
    assert_same("docs/configuration.md", &rows, &every_key());
}

#[test]
fn every_key_is_in_the_file_of_every_key() {
    let path = "tests/config/valid/every_key.toml";
    let mut keys = BTreeSet::new();
    written(&read(path).parse().unwrap(), "", "", &mut keys);
    assert_same(path, &keys, &every_key());
}

/// Set, or as a comment that shows the default.
#[test]
fn every_key_is_in_the_shipped_file() {
    let shipped = read("config.toml");
    let mut keys = BTreeSet::new();
    let mut header = "";
    for line in shipped.lines() {
        if line.starts_with('[') {
            header = line;
        } else if let Some((key, _)) = line.trim_start_matches(['#', ' ']).split_once(" = ") {
            keys.insert((header.to_owned(), key.to_owned()));
        }
    }
    let missing: Vec<_> = every_key().difference(&keys).cloned().collect();
    assert!(missing.is_empty(), "config.toml lacks {missing:?}");
}

#[test]
fn every_end_of_a_connection_is_explained() {
    let page = read("docs/operation.md");
    let (_, section) = page.split_once("\n## Why connections end\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    for reason in EndReason::ALL.map(EndReason::name) {
        assert!(section.contains(&format!("`{reason}`")), "docs/operation.md lacks {reason}");
    }
}

/// The pages whose links are followed, from the root of the repository.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    let mut folders = vec![PathBuf::from("docs"), PathBuf::from("perf/reports")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap().map(Result::unwrap) {
            let path = folder.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|ext| ext == "md") => pages.push(path),
                false => {}
            }
        }
    }
    pages.sort();
    assert!(pages.len() > 20, "the scan is blind: {pages:?}");
    pages
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Where the links and pictures of a page lead.
fn links(text: &str) -> Vec<String> {
    // A link may go on in the next line, code between backticks too.
    let text = without_code(&prose(text).collect::<Vec<_>>().join("\n"));
    let inline = text.match_indices("](").filter_map(|(at, _)| text[at + 2..].split_once(')'));
    let named = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    let targets = inline.map(|(target, _)| target).chain(named.map(|(_, target)| target));
    // What follows a blank is the title.
    targets.filter_map(|target| target.split_whitespace().next()).map(str::to_owned).collect()
}

/// The anchor that GitHub makes of a heading: letters, digits, `-` and `_` stay, blanks become `-`.
fn anchor(heading: &str) -> String {
    let mut shown = String::new();
    let mut rest = heading.trim();
    // Of a link its text is shown.
    while let Some((before, after)) = rest.split_once("](") {
        shown += before;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    shown += rest;
    let kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
    shown.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The anchors of a page; the second heading of one name gets `-1`, the third `-2`.
fn anchors(text: &str) -> Vec<String> {
    let mut used: HashMap<String, usize> = HashMap::new();
    let mut anchors = Vec::new();
    for line in prose(text) {
        let level = line.chars().take_while(|c| *c == '#').count();
        let Some(heading) = line[level..].strip_prefix(' ').filter(|_| (1..=6).contains(&level))
        else {
            continue;
        };
        let plain = anchor(heading);
        let mut unique = plain.clone();
        while used.contains_key(&unique) {
            let count = used.entry(plain.clone()).or_default();
            *count += 1;
            unique = format!("{plain}-{count}");
        }
        used.insert(unique.clone(), 0);
        anchors.push(unique);
    }
    anchors
}

/// What is wrong with a link of a page.
fn fault(page: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').map_or((link, None), |(path, a)| (path, Some(a)));
    let mut target = page.parent().unwrap().to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir if target.pop() => {}
            Component::Normal(name) => target.push(name),
            Component::CurDir => {}
            _ => return Some("leads out of the repository".into()),
        }
    }
    if path.is_empty() {
        target = page.to_owned();
    }
    if !root().join(&target).exists() {
        return Some(format!("no file {}", target.display()));
    }
    let anchor = anchor?;
    let found = anchors(&read(&target));
    let hint = || format!("no such heading in {}, which has {found:?}", target.display());
    (!found.iter().any(|heading| heading == anchor)).then(hint)
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let (mut followed, mut with_anchor) = (0, 0);
    let mut broken = Vec::new();
    for page in pages() {
        for link in links(&read(&page)) {
            // Of other sites nothing is asked.
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            with_anchor += usize::from(link.contains('#'));
            if let Some(fault) = fault(&page, &link) {
                broken.push(format!("{}: {link}: {fault}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(followed > 100 && with_anchor > 20, "the scan is blind: {followed}, {with_anchor}");
}

#[test]
fn the_readme_is_a_door() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines: what is looked up belongs into docs/");
}

#[test]
fn the_scan_sees_what_it_should() {
    assert_eq!(
        anchor("Least connections over 1,000 backends"),
        "least-connections-over-1000-backends"
    );
    assert_eq!(anchor("`slow_start`, and [Maglev](#maglev)"), "slow_start-and-maglev");
    assert_eq!(anchor("Ünits & what"), "ünits--what");
    let page =
        "# A\n```\n# B\n[c](c)\n```\n## A\n`[d](d)` [e](e.md#f \"title\")\n[g\nh](i)\n![j](k.png)";
    assert_eq!(anchors(page), ["a", "a-1"]);
    assert_eq!(links(page), ["e.md#f", "i", "k.png"]);
    assert_eq!(fault(Path::new("docs/health.md"), "../README.md#ringway"), None);
    let wrong = ["../../x", "/README.md", "no.md", "#nothing", "health.md#nothing"];
    for link in wrong {
        assert!(fault(Path::new("docs/health.md"), link).is_some(), "{link}");
    }
    assert_eq!(first_cell("| **`[[pool]]`** | | at least one |"), Some("[[pool]]"));
    assert_eq!(first_cell("| `name` | needed | |"), Some("name"));
    assert_eq!(known("[dns]\n"), Some(vec!["servers".to_owned()]));
    assert_eq!(known("[runtime]\n[runtime.shards]\n"), None);
}

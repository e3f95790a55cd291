//! That imports in `src` run in no circle: a reader who begins anywhere comes to an end.
//!
//! A file and its folder count as one idea, so a file may import from its parents and they from it;
//! everything else has one direction. The simulated kernel is there for tests alone and left out.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, sources};

/// Modules, each with those that it imports.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// `src/shard/flow/copy.rs` is `shard::flow::copy`.
fn module(source: &Source) -> String {
    let path = source.path.trim_start_matches("src/").trim_end_matches(".rs");
    if path == "lib" || path == "main" { String::new() } else { path.replace('/', "::") }
}

fn is_of_tests(module: &str) -> bool {
    module.split("::").any(|part| part == "sim" || part == "tests")
}

/// The paths of a tree such as `super::{a::{b, c}, d}`.
fn leaves(tree: &str, before: &str, into: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((stem, rest)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        return into.push(format!("{before}{name}"));
    };
    let before = format!("{before}{stem}");
    let inside = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inside[from..at].trim().is_empty() {
                    leaves(&inside[from..at], &before, into);
                }
                from = at + 1;
            }
            _ => {}
        }
    }
}

/// A path as it is from the crate's root; `None` of other crates.
fn absolute(path: &str, module: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let (mut base, mut rest) = (module.to_owned(), path.strip_prefix("self::").unwrap_or(path));
    let is_own = rest.len() < path.len() || rest.starts_with("super::");
    while let Some(shorter) = rest.strip_prefix("super::") {
        base.truncate(base.rfind("::").unwrap_or(0));
        rest = shorter;
    }
    let join = if base.is_empty() { "" } else { "::" };
    is_own.then(|| format!("{base}{join}{rest}"))
}

/// What a source imports, and what it names from the crate's root.
fn imported(source: &Source, module: &str) -> Vec<String> {
    let code = source.product();
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let is_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if let (false, Some(end)) = (is_word, code[at..].find(';')) {
            leaves(&code[at + 4..at + end], "", &mut paths);
        }
    }
    for (at, _) in code.match_indices("crate::") {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let end = code[at..].find(|c| !is_path(c)).unwrap_or(code.len() - at);
        paths.push(code[at..at + end].to_owned());
    }
    paths.iter().filter_map(|path| absolute(path, module)).collect()
}

fn arrows() -> Arrows {
    let all = sources("src");
    let modules: BTreeSet<String> = all.iter().map(module).collect();
    let is_above = |a: &str, b: &str| a.is_empty() || b.starts_with(&format!("{a}::"));
    let mut arrows = Arrows::new();
    for source in &all {
        let from = module(source);
        for mut to in imported(source, &from) {
            while !modules.contains(&to) {
                to.truncate(to.rfind("::").unwrap_or(0));
            }
            let is_family = to == from || is_above(&from, &to) || is_above(&to, &from);
            if !is_family && !is_of_tests(&from) && !is_of_tests(&to) {
                arrows.entry(from.clone()).or_default().insert(to);
            }
        }
    }
    arrows
}

/// What is left when all that import nothing, or only what goes, have gone: the circles, and those
/// that lead to them.
fn circles(mut arrows: Arrows) -> Arrows {
    loop {
        let left: BTreeSet<String> = arrows.keys().cloned().collect();
        arrows.values_mut().for_each(|to| to.retain(|to| left.contains(to)));
        let before = arrows.len();
        arrows.retain(|_, to| !to.is_empty());
        if arrows.len() == before {
            return arrows;
        }
    }
}

#[test]
fn no_imports_run_in_a_circle() {
    let files = arrows();
    assert!(files.len() > 100, "the scan is blind: {} files import others", files.len());
    let mut rooms = Arrows::new();
    for (from, to) in &files {
        let room = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
        let others = to.iter().map(|to| room(to)).filter(|to| *to != room(from));
        rooms.entry(room(from)).or_default().extend(others);
    }
    assert_eq!(circles(files), Arrows::new(), "files import each other in a circle");
    assert_eq!(circles(rooms), Arrows::new(), "rooms import each other in a circle");
}

#[test]
fn the_scan_of_imports_sees_what_it_should() {
    let mut paths = Vec::new();
    leaves("super::{a::{b, c as d}, e}", "", &mut paths);
    assert_eq!(paths, ["super::a::b", "super::a::c", "super::e"]);
    assert_eq!(absolute("super::e", "x::y").as_deref(), Some("x::e"));
    assert_eq!(absolute("self::e", "x::y").as_deref(), Some("x::y::e"));
    assert_eq!(absolute("std::io", "x::y"), None);
    let arrow = |a: &str, b: &str| (a.to_owned(), BTreeSet::from([b.to_owned()]));
    let chain = Arrows::from([arrow("a", "b"), arrow("b", "c")]);
    assert!(circles(chain.clone()).is_empty());
    let circle = chain.into_iter().chain([arrow("c", "a")]).collect();
    assert_eq!(circles(circle).len(), 3);
}

//! The house rules that a compiler does not know: layers, lengths, and a sentence for each crate.
//!
//! Reads the sources as text, without comments, strings and tests.

#[path = "house/circles.rs"]
mod circles;
#[path = "house/source.rs"]
mod source;

use std::fs;

use source::{Source, rooms, root, sources, without_comments};

const FUNCTION_LINES_MAX: usize = 60;
const FILE_LINES_MAX: usize = 380;
const LINE_WIDTH_MAX: usize = 100;

/// Rooms that know no runtime, socket, file, clock or source of chance.
const PURE: [&str; 36] = [
    "src/access_log/line.rs",
    "src/config/access.rs",
    "src/coordinator/admin/access.rs",
    "src/coordinator/admin/admission.rs",
    "src/coordinator/admin/framing.rs",
    "src/coordinator/admin/gzip.rs",
    "src/coordinator/know/check/turns.rs",
    "src/coordinator/know/names/answer.rs",
    "src/coordinator/know/names/place.rs",
    "src/coordinator/know/names/watched.rs",
    "src/coordinator/know/names/why.rs",
    "src/coordinator/shown.rs",
    "src/coordinator/tell/metrics/accept.rs",
    "src/coordinator/tell/metrics/native.rs",
    "src/coordinator/tell/seconds/ring.rs",
    "src/health.rs",
    "src/health/outlier.rs",
    "src/health/standing.rs",
    "src/hist.rs",
    "src/hist/history.rs",
    "src/maglev.rs",
    "src/proxy_header.rs",
    "src/shard/budget.rs",
    "src/shard/pick.rs",
    "src/shard/pick/deadline.rs",
    "src/shard/pick/least.rs",
    "src/shard/pick/peak_ewma.rs",
    "src/shard/pick/random.rs",
    "src/shard/pick/round_robin.rs",
    "src/shard/pick/smooth.rs",
    "src/shard/pick/suspects.rs",
    "src/shard/pick/two_choices.rs",
    "src/shard/place.rs",
    "src/shard/flow/gate.rs",
    "src/top/draw.rs",
    "src/top/view.rs",
];

/// Names and keywords, with the number of their line.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        line.split(|c: char| !c.is_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .map(move |word| (number + 1, word))
    })
}

/// The places where a word stands that is banned there.
fn found(source: &Source, banned: impl Fn(&str) -> bool) -> Vec<String> {
    let places = words(source.product()).filter(|(_, word)| banned(word));
    places.map(|(line, word)| format!("{}:{line}: {word}", source.path)).collect()
}

fn assert_none(rule: &str, places: Vec<String>) {
    assert!(places.is_empty(), "{rule}:\n{}", places.join("\n"));
}

/// What is behind `use` and whole paths that begin at the crate's root.
fn imports(source: &Source) -> String {
    let mut imports = String::new();
    let code = source.product();
    for (at, _) in code.match_indices("use ").chain(code.match_indices("crate::")) {
        let end = code[at..].find([';', '(', ')', '=']).unwrap_or(code.len() - at);
        imports += &code[at..at + end];
        imports += "\n";
    }
    imports
}

#[test]
fn shard_and_coordinator_never_import_each_other() {
    for (room, other) in [("shard", "coordinator"), ("coordinator", "shard")] {
        for source in rooms(&[room]) {
            let imports = imports(&source);
            let meets = words(&imports).any(|(_, word)| word == other);
            assert!(!meets, "{} imports {other}; they meet in `bridge`", source.path);
        }
    }
}

#[test]
fn imports_between_the_rooms_of_the_coordinator_run_one_way() {
    for (room, above) in [("know", &["tell", "admin"][..]), ("tell", &["admin"])] {
        for source in rooms(&[&format!("coordinator/{room}")]) {
            let imports = imports(&source);
            let asks = words(&imports).find(|(_, word)| above.contains(word));
            assert!(asks.is_none(), "{} imports {}", source.path, asks.unwrap().1);
        }
    }
}

#[test]
fn pure_rooms_know_no_runtime_socket_file_clock_or_chance() {
    let all = sources("src");
    for path in PURE {
        let source = all.iter().find(|source| source.path == path).expect(path);
        let banned =
            ["monoio", "tokio", "rt", "sock", "socket2", "rustix", "fs", "File", "SystemTime"];
        let places = found(source, |word| {
            banned.contains(&word) || word.starts_with("Tcp") || word.starts_with("Udp")
        });
        assert_none("a pure room knows the world", places);
        for call in ["Instant::now", "Rng::new", "fastrand::u", "fastrand::s", "elapsed()"] {
            assert!(!source.product().contains(call), "{path}: {call} (time and chance are given)");
        }
    }
}

#[test]
fn the_text_of_the_configuration_is_private_to_it() {
    let config = rooms(&["config"]);
    let root = config.iter().find(|source| source.path == "src/config.rs").unwrap();
    assert!(root.code.lines().any(|line| line == "mod file;"), "config::file is not private");
    for source in sources("src").iter().filter(|source| !source.is_in("config")) {
        assert!(!source.code.contains("config::file"), "{} knows config::file", source.path);
    }
}

#[test]
fn no_runtime_of_others_is_in_the_data_plane() {
    for source in rooms(&["rt", "shard", "sock"]) {
        let places = found(&source, |word| ["monoio", "tokio", "tokio_uring"].contains(&word));
        assert_none("the data plane runs on `rt` alone", places);
    }
}

/// Where a shard's descriptors are sockets and not yet, or no longer, wires.
const NAME_SOCKETS: [&str; 4] =
    ["src/shard.rs", "src/shard/accept.rs", "src/shard/admit.rs", "src/shard/drain.rs"];

#[test]
fn the_story_of_a_connection_speaks_of_wires() {
    for source in rooms(&["shard"]).iter().filter(|s| !NAME_SOCKETS.contains(&&*s.path)) {
        let places = found(source, |word| ["Socket", "sock"].contains(&word));
        assert_none("only accepting and draining name sockets", places);
    }
}

#[test]
fn unsafe_lives_in_sock_and_rt_only() {
    let mut seen = 0;
    for source in sources("src") {
        let places = found(&source, |word| word == "unsafe");
        match source.is_in("rt") || source.is_in("sock") {
            true => seen += places.len(),
            false => assert_none("unsafe outside sock and rt", places),
        }
    }
    assert!(seen > 0, "the scan is blind: rt has unsafe code");
}

#[test]
fn a_shard_has_no_lock_no_arc_and_no_atomic_of_its_own() {
    for source in rooms(&["shard"]) {
        let banned = |word: &str| {
            ["Mutex", "RwLock", "Arc", "Condvar"].contains(&word) || word.starts_with("Atomic")
        };
        assert_none("shared state in a shard", found(&source, banned));
    }
}

/// The functions of a source that are longer than allowed.
fn long_functions(source: &Source) -> Vec<String> {
    let mut long = Vec::new();
    for (at, _) in source.code.match_indices("fn ") {
        let after_word = source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let name: String = source.code[at + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let Some(length) = body_end(&source.code[at..]) else { continue };
        let lines = source.code[at..at + length].lines().count();
        if !after_word && !name.is_empty() && lines > FUNCTION_LINES_MAX {
            long.push(format!("{}: fn {name} has {lines} lines", source.path));
        }
    }
    long
}

/// Where the body of the function ends that begins here; `None` for one without a body.
fn body_end(code: &str) -> Option<usize> {
    let mut depth = 0;
    let mut nested: i32 = 0;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested -= 1,
            ';' if depth == 0 && nested == 0 => return None,
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at + 1),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[test]
fn functions_files_and_lines_stay_short() {
    let mut broken = Vec::new();
    let mut functions = 0;
    for source in sources("src").iter().chain(&sources("tests")) {
        functions += source.code.matches("fn ").count();
        broken.extend(long_functions(source));
        let product = source.text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = product.lines().count();
        if lines > FILE_LINES_MAX {
            broken.push(format!("{}: {lines} lines without tests", source.path));
        }
        for (number, line) in source.text.lines().enumerate() {
            if line.chars().count() > LINE_WIDTH_MAX {
                broken.push(format!("{}:{}: a line is too wide", source.path, number + 1));
            }
        }
    }
    assert!(functions > 300, "the scan is blind: {functions} functions");
    assert_none("too long", broken);
}

/// Functions are not counted there, files and lines are.
#[test]
fn the_files_of_the_page_stay_short() {
    let mut broken = Vec::new();
    let files: Vec<_> = fs::read_dir(root().join("src/coordinator/tell/page")).unwrap().collect();
    assert!(files.len() > 5, "the scan is blind: {} files", files.len());
    for path in files.into_iter().map(|file| file.unwrap().path()) {
        let text = fs::read_to_string(&path).unwrap();
        if text.lines().count() > FILE_LINES_MAX {
            broken.push(format!("{}: too many lines", path.display()));
        }
        let wide = |line: &str| line.chars().count() > LINE_WIDTH_MAX;
        let places = text.lines().enumerate().filter(|(_, line)| wide(line));
        broken.extend(places.map(|(at, _)| format!("{}:{}: too wide", path.display(), at + 1)));
    }
    assert_none("too long", broken);
}

#[test]
fn the_scan_sees_what_it_should() {
    let code = "fn a() { // }\n let x = \"}\"; let y = '}'; let z: &'static str = r#\"}\"#; }\n";
    let stripped = without_comments(code);
    assert_eq!(stripped.matches('}').count(), 1, "{stripped}");
    assert_eq!(stripped.lines().count(), code.lines().count());
    assert!(stripped.contains("'static str"));
    assert_eq!(body_end(&stripped), Some(stripped.trim_end().len()));
    assert_eq!(body_end("fn a(x: [u8; 3]);"), None);
}

/// Every dependency has a sentence right above it.
#[test]
fn every_crate_has_its_sentence() {
    let read = |path| fs::read_to_string(root().join(path)).unwrap();
    let manifests = ["Cargo.toml", "perf/bakeoff/Cargo.toml"].map(read).concat();
    let mut crates = 0;
    let (mut in_dependencies, mut before) = (false, "");
    for line in manifests.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains(" = ") {
            crates += 1;
            let sentence = before.starts_with("# ") && before.ends_with('.');
            assert!(sentence, "no sentence above `{line}`");
        }
        before = line;
    }
    assert!(crates > 10, "the scan is blind: {crates} crates");
}

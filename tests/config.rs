//! Configuration files: what is taken, what is refused, and the exact words of the refusal.
//!
//! `BLESS=1 cargo test --test config` writes the `.expected` files anew; read the difference.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::prelude::*;
use ringway::config::{self, AccessLog, Config};
use serde_json::json;

const SHIPPED: &str = include_str!("../config.toml");

/// The files of a folder under `tests/config`, with their text. There are some.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    assert!(paths.len() > 3, "few files in {}", folder.display());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

fn parsed(text: &str) -> Config {
    config::parse(text, Path::new("config.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn every_valid_file_is_taken_and_survives_its_json() {
    for (path, text) in files("valid") {
        let config = config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        let again = parsed(&toml::to_string(&config.to_json()).unwrap());
        assert_eq!(again.to_json(), config.to_json(), "{}", path.display());
        let (path, digest) = (config.path.clone(), config.digest.clone());
        assert_eq!(Config { path, digest, ..again }, config, "{text}");
    }
}

#[test]
fn every_invalid_file_is_refused_in_the_expected_words() {
    let mut wrong = Vec::new();
    for (path, text) in files("invalid") {
        let name = path.file_name().unwrap();
        let printed = match config::parse(&text, Path::new(name)) {
            Ok(config) => panic!("{} was taken: {config:?}", path.display()),
            Err(problems) => format!("{problems}\n"),
        };
        let expected_path = path.with_extension("expected");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected_path, &printed).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        if printed != expected {
            wrong.push(format!("{}\nprinted:\n{printed}expected:\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn eight_mistakes_are_eight_lines() {
    let (path, _) =
        files("invalid").into_iter().find(|(p, _)| p.ends_with("eight_mistakes.toml")).unwrap();
    assert_eq!(config::load(&path).unwrap_err().list.len(), 8);
}

#[test]
fn the_shipped_file_is_taken_with_its_commented_defaults_too() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
    let config = config::load(&shipped).unwrap_or_else(|problems| panic!("{problems}"));
    let uncommented: Vec<&str> = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_setting(rest) => rest,
            _ => line,
        })
        .collect();
    let spelled_out = parsed(&uncommented.join("\n"));
    assert_ne!(spelled_out.digest, config.digest);
    assert_eq!(spelled_out.to_json(), config.to_json());
    for key in keys(&config.to_json()) {
        assert!(uncommented.iter().any(|line| line.contains(&key)), "`{key}` is not shown");
    }
}

fn is_setting(line: &str) -> bool {
    line.split_once(" = ").is_some_and(|(key, _)| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    })
}

/// Every key in a JSON value, at any depth.
fn keys(value: &serde_json::Value) -> Vec<String> {
    match value {
        serde_json::Value::Object(map) => {
            map.iter().flat_map(|(key, value)| [vec![key.clone()], keys(value)].concat()).collect()
        }
        serde_json::Value::Array(list) => list.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn what_is_not_written_has_its_documented_default() {
    let (_, text) = files("valid").into_iter().find(|(p, _)| p.ends_with("minimal.toml")).unwrap();
    let expected = json!({
        "runtime": {
            "shards": "auto", "driver": "auto", "pin_cpus": "auto", "drain_delay": "0s",
            "drain_timeout": "30s", "max_connections": "auto", "pipes_per_shard": "auto",
            "pipe_size": "256KiB", "unsent_max": "128KiB",
        },
        "admin": { "listen": "127.0.0.1:9900", "ready": "any" },
        "dns": { "servers": [] },
        "log": { "level": "info", "format": "text", "report": "10s", "access": "off" },
        "listener": [{
            "name": "edge", "mode": "tcp", "listen": ["127.0.0.1:0"], "pool": "web",
            "max_connections": 0, "idle_timeout": "10m", "half_close_timeout": "1m",
            "splice": "auto", "allow": [], "deny": [], "max_connections_per_source": 0,
            "source_prefix": [32, 64], "keepalive": "1m",
        }],
        "pool": [{
            "name": "web", "balance": "least_connections", "hash_on": "source_ip",
            "connect_timeout": "2s",
            "max_attempts": 3, "retry_budget": 0.2, "slow_start": "0s", "panic_threshold": 0.5,
            "on_unhealthy": "leave", "send_proxy": "off",
            "health_check": {
                "kind": "tcp", "interval": "5s", "timeout": "1s", "healthy_after": 2,
                "unhealthy_after": 3, "send": "", "expect": "",
            },
            "outlier": {
                "count": ["dial"], "min_clients": 3, "consecutive_failures": 5, "ejection": "30s",
                "max_ejected": 0.5,
            },
            "backend": [{
                "name": "127.0.0.1:9001", "address": "127.0.0.1:9001", "weight": 1, "priority": 0,
                "max_connections": 0,
            }],
        }],
    });
    assert_eq!(parsed(&text).to_json(), expected);
}

#[test]
fn zero_switches_off() {
    let (path, _) =
        files("valid").into_iter().find(|(p, _)| p.ends_with("every_key.toml")).unwrap();
    let config = config::load(&path).unwrap();
    assert_eq!(config.listeners[0].idle_timeout, None);
    assert_eq!(config.listeners[0].pool, 1);
    assert_eq!(config.listeners[0].keepalive, None);
    assert_eq!(config.log.report, None);
    assert_eq!(config.log.access, AccessLog::File(path.with_file_name("logs/access.log")));
    assert_eq!(config.pools[0].health_check, None);
    assert_eq!(config.pools[0].outlier, None);
    assert_eq!(config.pools[0].retry_budget, None);
    assert_eq!(config.pools[1].retry_budget, Some(10.0));
    let check = config.pools[1].health_check.as_ref().unwrap();
    assert_eq!(check.timeout, Duration::from_secs(5), "as long as the interval");
}

#[test]
fn the_path_is_absolute_and_the_digest_is_of_the_file() {
    let config = parsed(SHIPPED);
    assert!(config.path.is_absolute());
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!((config.digest.len(), config.digest == empty), (64, false));
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem_with_a_way_out() {
    let problems = config::load(Path::new("no/such.toml")).unwrap_err();
    let expected =
        "no/such.toml: cannot read it: no such file or directory (name a file with --config FILE)";
    assert_eq!(problems.to_string(), expected);
    let problems = config::load(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
    assert!(problems.to_string().contains("is a directory"), "{problems}");
    let latin1 = Path::new(env!("CARGO_TARGET_TMPDIR")).join("latin1.toml");
    fs::write(&latin1, b"[log]\n# caf\xe9").unwrap();
    let problems = config::load(&latin1).unwrap_err();
    let expected = format!("{}:2:6: not UTF-8 text (save the file as UTF-8)", latin1.display());
    assert_eq!(problems.to_string(), expected);
    let problems = config::load(Path::new("/dev/zero")).unwrap_err();
    assert!(problems.to_string().ends_with("(at most 4MiB)"), "{problems}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = config::parse(&text, Path::new("any.toml"));
    }

    #[test]
    fn no_piece_of_toml_panics(pieces in prop::collection::vec(piece(), 0..40)) {
        let _ = config::parse(&pieces.concat(), Path::new("any.toml"));
    }

    /// Cut a piece out of the shipped file, put another one in its place.
    #[test]
    fn no_mutation_of_the_shipped_file_panics(
        start in 0..SHIPPED.len(),
        length in 0..40_usize,
        new in prop_oneof![any::<String>(), piece().prop_map(String::from)],
    ) {
        let (start, end) = (start, (start + length).min(SHIPPED.len()));
        let text = format!("{}{new}{}", &SHIPPED[..start], &SHIPPED[end..]);
        if let Err(problems) = config::parse(&text, Path::new("any.toml")) {
            prop_assert!(!problems.list.is_empty());
            let places: Vec<_> = problems.list.iter().map(|p| (p.line, p.column)).collect();
            prop_assert!(places.is_sorted() && places[0] >= (1, 1), "{}", problems);
            let lines = text.split('\n').count();
            prop_assert!(problems.list.iter().all(|p| p.line <= lines), "{}", problems);
        }
    }
}

/// Tokens that meet in a configuration file, and some that should not.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\n",
        "\r\n",
        "\r",
        "\"",
        "'",
        "\"\"\"",
        "#",
        " ",
        "\t",
        "\0",
        "\u{feff}",
        "ä",
        "\\u0000",
        "-",
        "0x",
        "1e999",
        "nan",
        "18446744073709551616",
        "true",
        "1979-05-27",
        "[[listener]]\n",
        "[[pool]]\n",
        "[pool]\n",
        "[[pool.backend]]\n",
        "[pool.health_check]\n",
        "[runtime]\n",
        "runtime.",
        "listener",
        "pool",
        "backend",
        "name",
        "name = \"a\"\n",
        "listen = [\"[::]:0\"]\n",
        "pool = \"a\"\n",
        "address = \"127.0.0.1:1\"\n",
        "weight = 0\n",
        "shards = \"auto\"\n",
        "= {}\n",
        "= []\n",
        "= [{}]\n",
        "idle_timeout = \"1s\"\n",
    ])
}

//! No text panics the configuration parser, and a refusal always says why.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ringway::config;

fuzz_target!(|text: &str| {
    match config::parse(text, Path::new("fuzz.toml")) {
        Ok(config) => assert!(config.to_json().is_object()),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});

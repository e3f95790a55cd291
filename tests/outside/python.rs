//! The Python package `hdrhistogram` reads `/histograms`.

use std::{env, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    kit::{Config, Folder, Server, each_driver, peer},
    programs::run,
};

const CONNECTIONS: u64 = 1000;

/// The points of each tag of a log, by the package; its Python is named by `.ci/run`.
fn points(log: &str) -> Value {
    let python = env::var_os("RINGWAY_HDR_PYTHON").unwrap_or_else(|| {
        panic!(
            "RINGWAY_HDR_PYTHON is not set: this test needs a Python that has the package \
             hdrhistogram (.ci/run makes one)"
        )
    });
    let folder = Folder::new();
    let file = folder.path().join("log");
    fs::write(&file, log).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/outside/percentiles.py");
    let told = run(Command::new(python).arg(script).arg(file));
    serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}"))
}

/// 1. A thousand connections on two shards: of these each percentile of `/stats` is a whole number,
///    which the package rounds and we round up. A second backend is idle. 2. Of every phase of the
///    listener and the backends, the package decodes count, smallest, mean, percentiles and largest
///    to what `/stats` shows.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn the_python_package_decodes_to_equal_percentiles() {
    each_driver(|driver| {
        let (server, idle) = (Server::echo(), Server::echo());
        let proxy = Config::new(driver)
            .shards(2)
            .backend(server.address)
            .backend_with(idle.address, "weight = 0")
            .start();
        for _ in 0..CONNECTIONS {
            peer::echo(&mut proxy.connect(), b"hello");
        }
        let stats =
            proxy.wait_stats("all recorded", |s| s.phase("session")["count"] == CONNECTIONS);
        let mut decoded = points(&proxy.get("/histograms").body);
        let mut same = |tag: String, shown: &Value| {
            let points = decoded[&tag].take();
            let points = points.as_object().unwrap_or_else(|| panic!("no {tag}"));
            assert_eq!(points.len(), shown.as_object().unwrap().len(), "{tag}");
            for (name, value) in points {
                let numbers = [value, &shown[name]].map(|value| value.as_f64().unwrap());
                assert_eq!(numbers[0], numbers[1], "{name} of {tag}");
            }
        };
        for phase in ["connect", "first_byte", "session"] {
            same(format!("listener/edge/{phase}"), stats.phase(phase));
        }
        for (place, name) in ["a", "b"].into_iter().enumerate() {
            for phase in ["connect", "first_byte"] {
                same(format!("backend/web/{name}/{phase}"), stats.backend_phase(place, phase));
            }
        }
        let left = decoded.as_object().unwrap().values().filter(|points| !points.is_null()).count();
        assert_eq!(left, 0, "more tags than phases");
    });
}

//! `scripts/latency` against a running instance.

use std::{path::Path, process::Command};

use crate::{
    kit::{Config, Server, Steady, each_driver_alone},
    programs::run,
};

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/latency"))
}

/// 1. Clients come all the time. 2. The table of a second has every phase of the listener and of
///    its backend, and fewer values than there were since the start. 3. Nobody comes: it says so.
///    4. Nobody is there: a sentence.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn the_table_has_what_came_in_an_interval() {
    each_driver_alone(|driver| {
        let server = Server::named(b'a');
        let proxy = Config::new(driver).backend(server.address).start();
        let clients = Steady::start(proxy.edge[0]);
        clients.more(300);
        let admin = proxy.admin.to_string();
        let table = run(script().args(["--admin", &admin, "--interval", "1"]));
        let phase = |tag: &str| -> u64 {
            let line = table.lines().find(|line| line.starts_with(tag));
            let line = line.unwrap_or_else(|| panic!("no {tag} in\n{table}"));
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let total = proxy.stats().phase("session")["count"].as_u64().unwrap();
        for tag in ["listener/edge/session ", "listener/edge/connect ", "backend/web/a/first_byte "]
        {
            assert!((1..=total - 250).contains(&phase(tag)), "{tag} of {total}:\n{table}");
        }
        let served = clients.served();
        assert_eq!(clients.stop(), [""; 0]);
        proxy.wait_stats("all recorded", |s| s.phase("session")["count"].as_u64() >= Some(served));
        let silent = run(script().args(["--admin", &admin, "--interval", "0.1"]));
        assert!(silent.contains("nothing was recorded within 0.1"), "{silent}");
        drop(proxy);
        let gone = script().args(["--admin", &admin]).output().unwrap();
        let said = String::from_utf8_lossy(&gone.stderr);
        assert_eq!(gone.status.code(), Some(1));
        assert!(said.contains(&format!("cannot read http://{admin}/histograms")), "{said}");
    });
}

/// 1. A value is missing: a sentence, how to call it, and exit code 2. 2. The file with the token
///    is not there: a sentence and exit code 1, and nobody is asked without a token.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn what_is_missing_is_named() {
    for argument in ["--admin", "--interval", "--token-file"] {
        let told = script().arg(argument).output().unwrap();
        let said = String::from_utf8_lossy(&told.stderr);
        assert_eq!(told.status.code(), Some(2), "{said}");
        let sentence = format!("scripts/latency: {argument} needs a value\nusage: ");
        assert!(said.starts_with(&sentence), "{said}");
    }
    let told = script().args(["--token-file", "no/such"]).output().unwrap();
    let said = String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(1), "{said}");
    let sentence = "--token-file no/such: cannot read it (write the name of a file)\n";
    assert!(said.ends_with(sentence), "{said}");
}

//! `ringway top` in a terminal that `script` makes.

use std::{
    fs,
    io::Write,
    process::{Child, Stdio},
};

use crate::{
    kit::{Config, Folder, Server, each_driver, peer, proxy::BINARY, wait_for, wait_until},
    programs::client,
};

/// 1. It runs in a terminal of 80 by 24 and shows state and backends on a screen of its own. 2. The
///    keys for the next phase and for Ctrl-C are pressed. 3. It shows that phase, leaves its
///    screen, and the exit code is good.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn in_a_terminal_it_has_a_screen_and_gives_it_back() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        peer::echo(&mut proxy.connect(), b"hello");
        let folder = Folder::new();
        let screen = folder.path().join("screen");
        let mut script = client("script");
        // -f: what is on the screen is in the file at once.
        script.args(["--quiet", "--flush", "--return", "--command"]);
        script.arg(format!("stty rows 24 cols 80; exec {BINARY} top --admin {}", proxy.admin));
        script.arg(&screen).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut script: Child = script.spawn().unwrap();
        let mut keys = script.stdin.take().unwrap();
        let shows = |part: &str| {
            wait_until(part, || {
                fs::read(&screen).is_ok_and(|seen| String::from_utf8_lossy(&seen).contains(part))
            });
        };
        // The alternate screen is on; and off again at the end.
        shows("\x1b[?1049h");
        for part in [driver, "web/a", "healthy", "connect"] {
            shows(part);
        }
        keys.write_all(b"\t").unwrap();
        shows("first_byte");
        keys.write_all(b"\x03").unwrap();
        let ended = wait_for("the end of top", || script.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
        shows("\x1b[?1049l");
    });
}

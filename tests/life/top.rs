//! `ringway top` without a terminal; with one, see `tests/outside/top.rs`.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    access,
    kit::{Config, Server, each_driver, peer, proxy::BINARY, wait_for, wait_until},
};

/// A running `top`, and what it printed so far; killed when dropped.
struct Top {
    child: Child,
    told: Arc<Mutex<String>>,
}

impl Top {
    fn start(admin: &str, more: &[&str]) -> Top {
        let mut command = Command::new(BINARY);
        command
            .args(["top", "--admin", admin])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, told) = (child.stdout.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let collected = Arc::clone(&told);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                *collected.lock().unwrap() += &format!("{line}\n");
            }
        });
        Top { child, told }
    }

    fn wait_told(&self, part: &str) {
        wait_until(part, || self.told.lock().unwrap().contains(part));
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// 1. It is told to watch an instance; nobody sits at a terminal. 2. It prints lines with state,
///    driver, backends, shards and ends. 3. The instance is gone: it says so and goes on trying. 4.
///    A signal ends it, and that is good.
#[test]
fn without_a_terminal_it_prints_lines_and_outlives_the_instance() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        peer::echo(&mut proxy.connect(), b"hello");
        proxy.wait_ended_only("client_fin", 1);
        let mut top = Top::start(&proxy.admin.to_string(), &[]);
        top.wait_told(&format!("running {driver}  up "));
        top.wait_told("  web/a healthy active 0 dial p99 ");
        top.wait_told("  shards  0: 0 active ");
        top.wait_told("  ended  client_fin 1\n  bytes  10 B copied  0 B spliced\n");
        assert!(!top.told.lock().unwrap().contains('\x1b'));
        drop(proxy);
        top.wait_told("connection refused (is it running?); trying again\n");
        kill_process(Pid::from_child(&top.child), Signal::TERM).unwrap();
        let ended = wait_for("the end of top", || top.child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
    });
}

/// 1. An instance is asked from elsewhere and wants a token: that, and how to show it, is all that
///    is printed. 2. With its token file it is shown; with another word in the file it is not.
#[test]
fn an_instance_elsewhere_is_shown_with_its_token() {
    let Some(address) = access::other_address() else {
        return eprintln!("NOT TESTED: this host has loopback only");
    };
    each_driver(|driver| {
        let (proxy, _server, folder) = access::with_token(driver, "0.0.0.0:0", 0o600);
        let admin = SocketAddr::from((address, proxy.admin.port())).to_string();
        let nobody = Top::start(&admin, &[]);
        nobody.wait_told("--token-file");
        let file = folder.path().join("admin.token");
        let known = Top::start(&admin, &["--token-file", file.to_str().unwrap()]);
        known.wait_told(&format!("running {driver}  up "));
        let other = folder.path().join("other.token");
        fs::write(&other, format!("not-{}\n", access::TOKEN)).unwrap();
        let wrong = Top::start(&admin, &["--token-file", other.to_str().unwrap()]);
        wrong.wait_told("; trying again\n");
        for refused in [nobody, wrong] {
            let told = refused.told.lock().unwrap();
            assert!(!told.contains("running"), "{told}");
        }
    });
}

/// 1. The file with the token is not there. 2. It says which, why and what to do, and exits with 1.
#[test]
fn a_token_file_that_is_not_there_is_named() {
    let told = Command::new(BINARY).args(["top", "--token-file", "no/such"]).output().unwrap();
    assert_eq!(told.status.code(), Some(1));
    let sentence = "ringway: --token-file no/such: cannot read it: no such file or directory \
                    (write the name of a file)\n";
    assert_eq!(String::from_utf8_lossy(&told.stderr), sentence);
}

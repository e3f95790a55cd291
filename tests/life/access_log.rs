//! The access log: one line for each connection, whatever becomes of it, and whatever becomes of
//! the line.

#[path = "access_log/rotation.rs"]
mod rotation;
#[path = "access_log/trouble.rs"]
mod trouble;

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags},
    pipe::PipeFlags,
    process::{Pid, Resource, Rlimit, Signal, kill_process},
};
use serde_json::{Value, json};

use crate::kit::{
    Config, End, Folder, FreePort, Proxy, Refusing, Server, Stats, each_driver, http, peer,
    proxy::{BINARY, run_to_end, run_to_end_while},
    wait_for, wait_until,
};

/// An address of this host that the listeners here keep out.
const KEPT_OUT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// A configuration with an access log in a folder that stays as long as this.
struct Logged {
    folder: Folder,
    file: PathBuf,
    config: Config,
}

impl Logged {
    fn new(driver: &'static str, format: &str) -> Logged {
        let folder = Folder::new();
        let file = folder.path().join("access.log");
        let config = Config::new(driver).log(&lines(format, file.to_str().unwrap()));
        Logged { folder, file, config }
    }

    /// One whose log is a pipe that nobody reads, and that keeps `KEPT_OUT` out.
    fn unread(driver: &'static str) -> Logged {
        let logged = Logged::new(driver, "text");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &logged.file, FileType::Fifo, mode, 0).unwrap();
        Logged { config: logged.config.listener("deny = [\"127.0.0.9\"]"), ..logged }
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    /// The lines, once there are so many.
    fn wait_lines(&self, count: usize) -> Vec<String> {
        wait_for("lines in the access log", || {
            let text = self.text();
            let whole = text.ends_with('\n') && text.lines().count() >= count;
            whole.then(|| text.lines().map(str::to_owned).collect())
        })
    }
}

fn lines(format: &str, access: &str) -> String {
    format!("report = \"0s\"\nformat = \"{format}\"\naccess = \"{access}\"")
}

/// The value of a field of a text line.
fn field<'l>(line: &'l str, key: &str) -> &'l str {
    let found = line.split(' ').find_map(|field| field.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {key} in {line}"))
}

fn dropped(stats: &Stats) -> u64 {
    stats.0["access_log"]["dropped_total"].as_u64().unwrap()
}

fn written(stats: &Stats) -> u64 {
    stats.0["access_log"]["lines_total"].as_u64().unwrap()
}

/// Waits until each accepted connection has a line or is counted as dropped.
fn wait_accounted(proxy: &Proxy) -> Stats {
    proxy.wait_stats("a line for each connection", |s| {
        s.listener("accepted_total") == s.ended_in_all()
            && s.ended_in_all() == written(s) + dropped(s)
    })
}

/// So many connections that are reset as soon as they come.
fn keep_out(count: usize, edge: SocketAddr) {
    for _ in 0..count {
        peer::kept_out(KEPT_OUT, edge);
    }
}

/// One connection that says three bytes, hears five and ends in order.
fn talk(proxy: &Proxy) -> String {
    let mut client = proxy.connect();
    let address = client.local_addr().unwrap().to_string();
    client.write_all(b"abc").unwrap();
    peer::expect(&mut client, b"hello");
    peer::finish(&client);
    assert_eq!(peer::end_of(&mut client), End::Fin);
    address
}

/// Answers three bytes with five, and ends after the client.
fn polite() -> Server {
    Server::new(|mut stream| {
        if stream.read_exact(&mut [0; 3]).is_ok() {
            let _ = stream.write_all(b"hello");
        }
        let _ = stream.read(&mut [0]);
    })
}

/// 1. A client is served by the second backend, because the first one refuses. 2. Its line says who
///    it was, where it went, what moved, how long it took and why it ended. 3. In JSON the same, as
///    one object.
#[test]
fn a_line_says_what_the_peers_saw() {
    each_driver(|driver| {
        for format in ["text", "json"] {
            let (refusing, server) = (Refusing::new(), polite());
            let logged = Logged::new(driver, format);
            let config = logged.config.clone().backend_with(refusing.address, "priority = 0");
            let proxy = config.backend_with(server.address, "priority = 1").start();
            let client = talk(&proxy);
            let line = &logged.wait_lines(1)[0];
            let value = |key: &str| match format {
                "text" => field(line, key).to_owned(),
                _ => match &serde_json::from_str::<Value>(line).unwrap()[key] {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                },
            };
            let server = server.address.to_string();
            for (key, expected) in [
                ("listener", "edge"),
                ("client", client.as_str()),
                ("pool", "web"),
                ("backend", "b"),
                ("server", server.as_str()),
                ("attempts", "2"),
                ("bytes_up", "3"),
                ("bytes_down", "5"),
                ("bytes_spliced", "0"),
                ("end", "client_fin"),
                ("path", "copied"),
            ] {
                assert_eq!(value(key), expected, "{key} in {line}");
            }
            let us = |key: &str| value(key).parse::<u64>().unwrap();
            assert!(us("connect_us") <= us("first_byte_us"), "{line}");
            assert!(us("first_byte_us") <= us("session_us"), "{line}");
            assert!(value("time").starts_with("20") && value("time").ends_with('Z'), "{line}");
        }
    });
}

/// 1. A client is kept out, one finds no backend that answers, one is cut by a reset. 2. Each has
///    its line, and what did not happen is `-`.
#[test]
fn connections_that_were_not_served_have_lines_too() {
    each_driver(|driver| {
        let refusing = Refusing::new();
        let logged = Logged::new(driver, "text");
        let config = logged.config.clone().backend(refusing.address);
        let proxy = config.listener("deny = [\"127.0.0.9\"]").start();
        let denied = peer::kept_out(KEPT_OUT, proxy.edge[0]);
        assert_eq!(proxy.turns_away(), End::Reset);
        let lines = logged.wait_lines(2);
        let of = |end: &str| lines.iter().find(|line| field(line, "end") == end).unwrap();
        let told = |line: &str| {
            let keys = ["backend", "attempts", "connect_us", "first_byte_us", "path"];
            keys.map(|key| field(line, key).to_owned())
        };
        assert_eq!(told(of("denied")), ["-", "0", "-", "-", "-"]);
        assert_eq!(told(of("connect_refused")), ["a", "1", "-", "-", "-"]);
        assert_eq!(field(of("denied"), "client"), denied.to_string());
    });
}

/// 1. Clients are served, and the process is stopped at once. 2. Nothing is missing from the log.
#[test]
fn the_last_lines_are_written_before_the_end() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "json");
        let mut proxy = logged.config.clone().shards(2).backend(server.address).start();
        let clients: Vec<String> = (0..50).map(|_| talk(&proxy)).collect();
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        let text = logged.text();
        let told = |client: &&String| text.contains(&format!("\"client\":\"{client}\""));
        assert_eq!(clients.iter().filter(told).count(), clients.len());
    });
}

/// 1. The log goes to stdout. 2. The first line there is still the one that says ready.
#[test]
fn on_stdout_lines_follow_the_ready_line() {
    each_driver(|driver| {
        let server = polite();
        let proxy = Config::new(driver).log(&lines("json", "stdout")).backend(server.address);
        let proxy = proxy.start();
        let client = talk(&proxy);
        wait_until("the line", || proxy.stdout().lines().count() == 2);
        let stdout = proxy.stdout();
        let lines: Vec<&str> = stdout.lines().collect();
        assert!(lines[0].starts_with("ready admin="), "{stdout}");
        let line: Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!((&line["client"], &line["end"]), (&json!(client), &json!("client_fin")));
    });
}

/// 1. The folder does not exist: the process does not start, and says what to do. 2. `/config` and
///    `/stats` know a log that is there.
#[test]
fn a_log_that_cannot_be_opened_is_said_before_anything_is_served() {
    each_driver(|driver| {
        let folder = Folder::new();
        let file = folder.path().join("no/access.log");
        let nowhere = "127.0.0.1:9".parse().unwrap();
        let wish = lines("text", file.to_str().unwrap());
        let config = Config::new(driver).log(&wish).backend(nowhere);
        let (code, stdout, stderr) = run_to_end(&config.text());
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        let sentence = format!(
            "ringway: cannot open the access log {}: no such file or directory (make it and its \
             folder writable, or name another file in log.access)\n",
            file.display()
        );
        assert_eq!(stderr, sentence);
        fs::create_dir(folder.path().join("no")).unwrap();
        let proxy = config.start();
        assert_eq!(proxy.get("/config").json()["log"]["access"], json!(file));
        let log = json!({"lines_total": 0, "dropped_total": 0, "queued": 0, "queue_max": 16_384});
        assert_eq!(proxy.stats().0["access_log"], log);
    });
}

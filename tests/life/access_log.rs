//! The access log: one line for each connection, whatever becomes of it, and whatever becomes of
//! the line.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use rustix::{
    fs::{CWD, FileType, Mode},
    process::{Resource, Rlimit, Signal},
};
use serde_json::{Value, json};

use crate::kit::{
    Config, End, Folder, Proxy, Refusing, Server, Stats, each_driver, peer, proxy::run_to_end,
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
        assert_eq!(peer::end_of(&mut proxy.connect()), End::Reset);
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

/// 1. Clients come all the time. 2. Again and again the file is renamed, and the process is told.
///    3. Each connection has one whole line in exactly one of the files.
#[test]
fn a_renamed_file_is_left_and_a_new_one_begun() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        let proxy = logged.config.clone().shards(2).backend(server.address).start();
        let renamed = |round: usize| logged.folder.path().join(format!("access.log.{round}"));
        let mut clients: Vec<String> = Vec::new();
        for round in 0..5 {
            clients.extend((0..20).map(|_| talk(&proxy)));
            fs::rename(&logged.file, renamed(round)).unwrap();
            proxy.signal(Signal::USR1);
            wait_until("a new file", || logged.file.exists());
        }
        clients.extend((0..20).map(|_| talk(&proxy)));
        wait_accounted(&proxy);
        let mut text: String = (0..5).map(|r| fs::read_to_string(renamed(r)).unwrap()).collect();
        text += &logged.text();
        let mut logged: Vec<&str> = text.lines().map(|line| field(line, "client")).collect();
        clients.sort_unstable();
        logged.sort_unstable();
        assert_eq!(logged, clients);
    });
}

/// 1. The folder is gone when the process is told to reopen. 2. It says so and goes on in the old
///    file.
#[test]
fn a_file_that_cannot_be_reopened_is_gone_on_with() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        let proxy = logged.config.clone().backend(server.address).start();
        let mut open = fs::File::open(&logged.file).unwrap();
        fs::remove_dir_all(logged.folder.path()).unwrap();
        proxy.signal(Signal::USR1);
        wait_until("a word of it", || proxy.stderr().contains("cannot reopen"));
        let client = talk(&proxy);
        wait_until("its line in the old file", || {
            let mut text = String::new();
            open.read_to_string(&mut text).unwrap();
            text.contains(&format!("client={client} "))
        });
    });
}

/// 1. The log is a pipe that somebody has open and nobody reads. 2. More clients come than fit the
///    pipe and the queue: all are treated as ever, and lines are dropped, counted, told as an
///    event. 3. The reader reads: what was kept comes whole, and each connection is accounted for.
#[test]
fn a_log_that_nobody_reads_costs_lines_and_no_client() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        rustix::fs::mknodat(CWD, &logged.file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let config = logged.config.clone().backend(server.address);
        let proxy = config.listener("deny = [\"127.0.0.9\"]").start();
        let mut reader = OpenOptions::new().read(true).write(true).open(&logged.file).unwrap();
        wait_for("dropped lines", || {
            for _ in 0..500 {
                peer::kept_out(KEPT_OUT, proxy.edge[0]);
            }
            (dropped(&proxy.stats()) > 0).then_some(())
        });
        talk(&proxy);
        wait_until("the event", || {
            let events = proxy.get("/stats/events").json();
            let mut events = events["events"].as_array().unwrap().iter();
            events.any(|e| {
                (&e["kind"], &e["limit"]) == (&"limit_reached".into(), &"access_log".into())
            })
        });
        let reading = std::thread::spawn(move || {
            let (mut text, mut part) = (Vec::new(), vec![0; 1 << 16]);
            while !text.ends_with(b" path=THE-END\n") {
                let n = reader.read(&mut part).unwrap();
                text.extend_from_slice(&part[..n]);
            }
            String::from_utf8(text).unwrap()
        });
        let stats = wait_accounted(&proxy);
        assert!(written(&stats) > 16_384, "{}", stats.without_latency());
        let mut end = OpenOptions::new().append(true).open(&logged.file).unwrap();
        end.write_all(b"last path=THE-END\n").unwrap();
        let text = reading.join().unwrap();
        let whole = |line: &&str| line.starts_with("time=") && line.contains(" path=");
        assert_eq!(text.lines().filter(whole).count() as u64, written(&stats));
        assert_eq!(text.lines().count() as u64, written(&stats) + 1);
    });
}

/// 1. The disk is full in the middle of a line (a limit of the file's size does the same to us). 2.
///    Clients are served; their lines are lost and counted, and the log says so once. 3. There is
///    room again: lines come, and none of them is glued to the one that was cut.
#[test]
fn a_full_disk_costs_lines_and_no_client() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        let proxy = logged.config.clone().backend(server.address).start();
        let size_limit = |most: Option<u64>| {
            let limit = Rlimit { current: most, maximum: None };
            rustix::process::prlimit(Some(proxy.pid()), Resource::Fsize, limit).unwrap();
        };
        talk(&proxy);
        let first = logged.wait_lines(1)[0].len() as u64;
        size_limit(Some(first + 100));
        (0..10).for_each(|_| drop(talk(&proxy)));
        proxy.wait_stats("nine lines lost", |s| dropped(s) == 9);
        assert_eq!(fs::metadata(&logged.file).unwrap().len(), first + 100);
        size_limit(None);
        (0..10).for_each(|_| drop(talk(&proxy)));
        let stats = wait_accounted(&proxy);
        assert_eq!((written(&stats), dropped(&stats)), (12, 9));
        let lines = logged.wait_lines(12);
        let whole = |line: &String| line.starts_with("time=") && field(line, "path") == "copied";
        assert!(lines.len() == 12 && lines.iter().all(whole), "{lines:?}");
        wait_until("the log tells the end of it", || {
            proxy.stderr().contains("the access log takes lines again")
        });
        assert_eq!(proxy.stderr().matches("the access log takes no lines").count(), 1);
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

/// 1. Nobody reads the log, and the process is stopped. 2. It ends, and says what is lost.
#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        rustix::fs::mknodat(CWD, &logged.file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let config = logged.config.clone().backend(server.address);
        let mut proxy = config.listener("deny = [\"127.0.0.9\"]").start();
        // Until the pipe is full: a line waits in the thread that writes.
        wait_for("records that wait", || {
            for _ in 0..100 {
                peer::kept_out(KEPT_OUT, proxy.edge[0]);
            }
            let stats = proxy.stats();
            (stats.ended_in_all() > written(&stats) + 1000).then_some(())
        });
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        assert!(proxy.last_words().contains("nobody takes the rest of the access log"));
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

/// 1. The file ends in the middle of a line, as a crash leaves it. 2. The first new line is a line.
#[test]
fn a_file_that_was_cut_gets_an_end_first() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        fs::write(&logged.file, "time=2026 listener=ed").unwrap();
        let proxy = logged.config.clone().backend(server.address).start();
        talk(&proxy);
        let lines = logged.wait_lines(2);
        assert_eq!(lines[0], "time=2026 listener=ed");
        assert_eq!(field(&lines[1], "listener"), "edge");
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
            "ringway: cannot open the access log {}: no such file or directory (make its folder \
             writable, or name another file in log.access)\n",
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

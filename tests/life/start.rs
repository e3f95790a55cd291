//! How it starts, or does not.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::{
    kit::{
        Config, Folder, FreePort, Proxy, Server, drivers, each_driver, peer,
        proxy::{BINARY, run_to_end, run_to_end_as_nobody_by},
        wait_until,
    },
    refuses,
};

fn ringway(arguments: &[&str]) -> std::process::Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

/// 1. A process serves an address. 2. A second one with the same address does not start, exit code
///    1, and its sentence names the address. 3. The first one still gets everything.
#[test]
fn a_second_instance_on_the_same_address_does_not_start() {
    each_driver(|driver| {
        let server = Server::echo();
        let first = Config::new(driver).backend(server.address).start();
        let edge = first.edge[0].to_string();
        let second = Config::new(driver).listen(&[&edge]).backend(server.address);
        let (code, stdout, stderr) = run_to_end(&second.text());
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(&format!("cannot listen on {edge}")), "{stderr}");
        (0..20).for_each(|_| peer::echo(&mut first.connect(), b"mine"));
        first.wait_stats("twenty", |s| s.listener("accepted_total") == 20);
    });
}

/// 1. The admin address is taken. 2. The process does not start, exit code 1, and its sentence
///    names the address. 3. Clients that try all the while are refused, each of them: nobody was
///    let in only to be cut.
#[test]
fn an_admin_address_in_use_is_named_and_no_client_is_taken() {
    each_driver(|driver| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let edge = FreePort::new();
        let text = Config::new(driver)
            .listen(&[&edge.address.to_string()])
            .backend("192.0.2.1:9".parse().unwrap())
            .text()
            .replace(
                "[admin]\nlisten = \"127.0.0.1:0\"",
                &format!("[admin]\nlisten = \"{address}\""),
            );
        let over = AtomicBool::new(false);
        let ((code, stdout, stderr), refused) = thread::scope(|scope| {
            let trying = scope.spawn(|| {
                let mut refused = 0;
                while !over.load(Ordering::Relaxed) {
                    assert!(refuses(edge.address), "a client was taken");
                    refused += 1;
                }
                refused
            });
            let ended = run_to_end(&text);
            over.store(true, Ordering::Relaxed);
            (ended, trying.join().unwrap())
        });
        assert_eq!((code, stdout.as_str()), (Some(1), ""));
        assert!(stderr.contains(&format!("admin {address}")), "{stderr}");
        assert!(refused > 10, "only {refused} clients tried");
    });
}

/// 1. The file has two mistakes. 2. `run` prints both to stderr, `check` to stdout, exit code 1.
#[test]
fn a_bad_file_is_refused_with_every_problem() {
    let text = "[runtime]\nshrads = 1\ndriver = \"kqueue\"\n\
                [[listener]]\nname = \"edge\"\nlisten = [\"127.0.0.1:0\"]\npool = \"web\"\n\
                [[pool]]\nname = \"web\"\n[[pool.backend]]\naddress = \"127.0.0.1:9\"\n";
    let (code, stdout, stderr) = run_to_end(text);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("runtime.shrads") && stderr.contains("kqueue"), "{stderr}");
}

/// 1. A file with mistakes is checked, and nobody takes the answer: stdout is full, closed, or a
///    pipe without a reader. 2. Exit code 1 all the same, and no panic.
#[test]
fn check_fails_in_order_when_nobody_takes_its_answer() {
    let folder = Folder::new();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[runtime]\nshrads = 1\n").unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    let checked = |stdout: Stdio, script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, BINARY]).arg(&file);
        let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let plain = "exec \"$0\" check --config \"$1\"";
    let closed = format!("{plain} >&-");
    let cases = [(full.into(), plain), (pipe.into(), plain), (Stdio::null(), closed.as_str())];
    for (place, (stdout, script)) in cases.into_iter().enumerate() {
        let (code, stderr) = checked(stdout, script);
        assert_eq!(code, Some(1), "case {place}: {stderr}");
        assert!(stderr.contains("problem(s)") && !stderr.contains("panicked"), "{stderr}");
    }
}

/// 1. The process cannot start, for its file or for an address, and stderr is full. 2. Exit code 1
///    all the same.
#[test]
fn run_fails_in_order_when_nobody_takes_its_words() {
    let folder = Folder::new();
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listening.local_addr().unwrap();
    let in_use = Config::new("epoll").listen(&[&taken.to_string()]).backend(taken).text();
    for text in ["[runtime]\nshrads = 1\n", &in_use] {
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(BINARY);
        let code = command.args(["run", "--config"]).arg(&file).stderr(full).status().unwrap();
        assert_eq!(code.code(), Some(1), "{text}");
    }
}

/// Exit codes: 0 good, 1 cannot start, 2 wrong usage; `--driver` does not exist.
#[test]
fn exit_codes_tell_usage_from_failure() {
    let codes = [
        (&["--version"][..], 0),
        (&["run", "--config", "/nonexistent/config.toml"], 1),
        (&["check", "--config", "/nonexistent/config.toml"], 1),
        (&["run", "--driver", "epoll"], 2),
        (&["--driver", "epoll"], 2),
        (&["frobnicate"], 2),
    ];
    for (arguments, code) in codes {
        let output = ringway(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

/// 1. The same file, valid. 2. `check` says so with exit code 0 and nothing on stdout.
#[test]
fn check_takes_the_shipped_file() {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    let output = ringway(&["check", "--config", shipped]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert!(!output.stderr.is_empty());
}

/// 1. One listener has an IPv4 and an IPv6 address, both port 0. 2. The ready line and `/stats`
///    show both with their ports. 3. Both are served.
#[test]
fn one_listener_serves_two_addresses_of_two_families() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver)
            .shards(2)
            .listen(&["127.0.0.1:0", "[::1]:0"])
            .backend(server.address)
            .start();
        let [v4, v6] = proxy.edge[..] else { panic!("{}", proxy.ready_line) };
        assert!(v4.is_ipv4() && v6.is_ipv6() && v4.port() != 0 && v6.port() != 0);
        assert_eq!(proxy.ready_line, format!("ready admin={} edge={v4},{v6}\n", proxy.admin));
        for address in [v4, v6] {
            (0..10).for_each(|_| peer::echo(&mut peer::connect(address), b"hello"));
        }
        let addresses = &proxy.stats().0["listeners"][0]["addresses"];
        let expected = serde_json::json!([v4.to_string(), v6.to_string()]);
        assert_eq!(*addresses, expected);
    });
}

/// 1. A listener on `[::]` and its backend on `[::1]`. 2. IPv6 clients are served, IPv4 ones are
///    not let in by the back door.
#[test]
fn an_ipv6_listener_is_for_ipv6_only() {
    each_driver(|driver| {
        let server = Server::echo_at("[::1]:0".parse().unwrap());
        let proxy = Config::new(driver).listen(&["[::]:0"]).backend(server.address).start();
        let port = proxy.edge[0].port();
        peer::echo(&mut peer::connect(format!("[::1]:{port}").parse().unwrap()), b"six");
        assert!(refuses(SocketAddr::from(([127, 0, 0, 1], port))));
    });
}

/// 1. Several shards share one port. 2. Over many connections each shard gets some.
#[test]
fn all_shards_share_the_port() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).shards(3).backend(server.address).start();
        (0..200).for_each(|_| peer::echo(&mut proxy.connect(), b"hello"));
        let stats = proxy.stats();
        let shards = stats.0["shards"].as_array().unwrap();
        assert_eq!(shards.len(), 3);
        assert!(shards.iter().all(|shard| shard["accepted_total"].as_u64().unwrap() > 10));
        assert_eq!(stats.shards("accepted_total"), 200);
    });
}

/// 1. Two processes report every second, one in text and one in JSON. 2. The report line shows
///    rates and percentiles. 3. Every line of the other one parses.
#[test]
fn the_report_line_comes_and_json_logs_are_json() {
    each_driver(|driver| {
        let server = Server::echo();
        let config = Config::new(driver).backend(server.address);
        let text = config.clone().log("report = \"1s\"").start();
        let json = config.log("report = \"1s\"\nformat = \"json\"").start();
        for proxy in [&text, &json] {
            peer::echo(&mut proxy.connect(), b"something to report");
            wait_until("a report", || proxy.stderr().contains("report"));
        }
        let report = text.stderr().lines().find(|l| l.contains("report")).unwrap().to_owned();
        for part in ["listener=\"edge\"", "active=", "accepted_per_s=", "first_byte_p99_us="] {
            assert!(report.contains(part), "no {part} in {report}");
        }
        let lines = json.stderr();
        let parsed: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
            .collect();
        assert!(parsed.len() >= 2, "{lines}");
        assert!(parsed.iter().all(|line| line["timestamp"].is_string()), "{lines}");
    });
}

/// A user's memory for the rings of a few shards.
const FEW_RINGS: [&str; 4] = ["sh", "-c", "ulimit -l 400 && exec \"$@\"", "sh"];

/// Whether the kernel counts a ring as locked memory of its user: since Linux 6.14 its queues are
/// regions (`io_create_region`, io_uring/memmap.c), which are counted.
fn counts_rings() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let counts = version >= (6, 14);
    if !counts {
        eprintln!("NOT TESTED: Linux {release} lets users have as many rings as they like");
    }
    counts
}

/// 1. A user may lock memory for a few rings, and there are eight shards. 2. None of them has one:
///    all are on epoll, the reason says which limit it was, and clients are served.
#[test]
fn where_not_every_shard_gets_a_ring_none_has_one() {
    if !counts_rings() {
        return;
    }
    let server = Server::echo();
    let text = Config::new("auto").shards(8).backend(server.address).text();
    let proxy = Proxy::start_as_nobody_by(&FEW_RINGS, &text);
    (0..20).for_each(|_| peer::echo(&mut proxy.connect(), b"served"));
    let stats = proxy.stats();
    assert_eq!(stats.0["driver"], "epoll");
    let reason = stats.0["driver_reason"].as_str().unwrap();
    // A host without io_uring says so instead.
    assert!(drivers().len() == 1 || reason.contains("RLIMIT_MEMLOCK"), "{reason}");
    assert_eq!(proxy.links_to("anon_inode:[io_uring]").len(), 0);
}

/// 1. The same, and the ring was demanded. 2. The process does not start, and its sentence names
///    the limit and the way out. 3. Clients that try all the while are refused, each of them.
#[test]
fn a_ring_that_is_demanded_and_refused_is_told_before_any_client_is_taken() {
    if drivers().len() == 1 || !counts_rings() {
        return;
    }
    let server = Server::echo();
    let edge = FreePort::new();
    let config = Config::new("io_uring").shards(8).listen(&[&edge.address.to_string()]);
    let text = config.backend(server.address).text();
    let over = AtomicBool::new(false);
    let (code, _, stderr) = thread::scope(|scope| {
        let trying = scope.spawn(|| {
            let mut tried = 0;
            while tried == 0 || !over.load(Ordering::Relaxed) {
                assert!(refuses(edge.address), "a client was taken");
                tried += 1;
            }
        });
        let ended = run_to_end_as_nobody_by(&FEW_RINGS, &text);
        over.store(true, Ordering::Relaxed);
        trying.join().unwrap();
        ended
    });
    assert_eq!(code, Some(1));
    for part in ["this host refuses io_uring", "RLIMIT_MEMLOCK", "fewer shards"] {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
}

//! Clients of the admin endpoint that mean no good, before anybody knows who they are.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use rustix::process::Signal;

use crate::kit::{Config, DEADLINE, Folder, Proxy, Server, each_driver, http, wait_until};

fn connect(admin: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Everything until the end of the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn evicted(proxy: &Proxy) -> u64 {
    proxy.stats().0["admin"]["evicted_total"].as_u64().unwrap()
}

/// A proxy whose changes need a token.
fn guarded(driver: &'static str, folder: &Folder, server: &Server) -> Proxy {
    let token = folder.path().join("admin.token");
    fs::write(&token, "0123456789abcdef").unwrap();
    let lines = format!("listen = \"127.0.0.1:0\"\ntoken_file = {token:?}");
    Config::new(driver).admin(&lines).backend(server.address).start()
}

/// 1. A crowd connects and says nothing, or half a head. 2. Whoever asks is answered: the crowd
///    makes room, oldest first, and is counted; nobody had to wait until its patience was over.
#[test]
fn a_silent_crowd_makes_room_for_who_asks() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let mut crowd = Vec::new();
        for i in 0..300 {
            let mut stream = connect(proxy.admin);
            if i % 2 == 0 {
                stream.write_all(b"GET /stats HTTP/1.1\r\nHost: ").unwrap();
            }
            crowd.push(stream);
            if i % 50 == 49 {
                assert_eq!(proxy.get("/health").status, 200);
                assert_eq!(proxy.get("/ready").status, 200);
            }
        }
        let stats = proxy.get("/stats");
        assert_eq!(stats.status, 200, "{}", stats.body);
        assert!(evicted(&proxy) >= 300 - 80, "{} had to go", evicted(&proxy));
        let page = proxy.get("/metrics").body;
        assert!(page.contains("ringway_admin_evicted_total "), "no metric");
        assert_eq!(rest(crowd.swap_remove(0)), "", "the first one is over without a word");
    });
}

/// 1. A thousand clients at once: silent ones, half heads, some that ask for pages and read
///    nothing, some that are refused their changes as fast as they can connect. 2. Meanwhile every
///    probe is answered. 3. When they are gone, so are their descriptors.
#[test]
fn a_thousand_hostile_clients_silence_no_probe() {
    const EACH: usize = 250;
    each_driver(|driver| {
        let (server, folder) = (Server::echo(), Folder::new());
        let proxy = guarded(driver, &folder, &server);
        let before = proxy.settled_descriptors();
        let admin = proxy.admin;
        let mut crowd = Vec::new();
        for kind in
            [&b""[..], b"GET /metrics HTTP/1.1\r\nHost: x", b"GET /metrics HTTP/1.1\r\n\r\n"]
        {
            for _ in 0..EACH {
                let mut stream = connect(admin);
                // It may have had to go already.
                let _ = stream.write_all(kind);
                crowd.push(stream);
            }
        }
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..EACH / 4 {
                        let mut stream = connect(admin);
                        let request = "PATCH /pools/web/backends/a HTTP/1.1\r\nHost: x\r\n\r\n";
                        let _ = stream.write_all(request.as_bytes());
                        let _ = stream.read(&mut [0; 64]);
                    }
                });
            }
            for _ in 0..50 {
                assert_eq!(proxy.get("/health").status, 200);
                assert_eq!(proxy.get("/ready").status, 200);
            }
        });
        drop(crowd);
        wait_until("all descriptors are given back", || proxy.descriptors() <= before);
    });
}

/// 1. Somebody without a token asks for changes with long paths. 2. Each answer is a 401, ends the
///    connection and says back a piece of the path. 3. Some are logged, each as a short line, the
///    rest as one sum, and all are counted.
#[test]
fn refused_changes_are_short_lines_few_of_them_and_a_sum() {
    each_driver(|driver| {
        let (server, folder) = (Server::echo(), Folder::new());
        let mut proxy = guarded(driver, &folder, &server);
        let path = format!("/{}", "x".repeat(12_000));
        for _ in 0..30 {
            let mut stream = connect(proxy.admin);
            let head = format!("PATCH {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            let answer = rest(stream);
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
            assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
            assert!(answer.len() < 1000, "{} bytes", answer.len());
        }
        let sum = "changes refused that were not logged one by one";
        wait_until("the sum", || proxy.stderr().contains(sum));
        assert_eq!(proxy.stats().0["admin"]["changes_refused_total"], 30);
        let page = proxy.get("/metrics").body;
        let line =
            page.lines().find(|line| line.starts_with("ringway_admin_changes_refused_total"));
        assert_eq!(line, Some("ringway_admin_changes_refused_total{} 30.0"));
        proxy.signal(Signal::TERM);
        let log = proxy.last_words();
        let lines: Vec<&str> = log.lines().filter(|l| l.contains("change asked for")).collect();
        assert!((1..30).contains(&lines.len()), "{} lines", lines.len());
        assert!(lines.iter().all(|line| line.len() < 500), "{lines:?}");
    });
}

/// 1. Somebody asks what a page knows. 2. 204 with its methods, and no word that other sites may
///    ask. 3. A page that does not exist is 404.
#[test]
fn options_are_told_and_grant_nothing() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let headers = format!("Host: {}\r\nAccess-Control-Request-Method: PATCH\r\n", proxy.admin);
        for (path, allow) in [
            ("/stats", "GET,HEAD,OPTIONS"),
            ("/health", "GET,HEAD,OPTIONS"),
            ("/pools/web/backends/a", "PATCH,OPTIONS"),
            ("*", "GET,HEAD,PATCH,OPTIONS"),
        ] {
            let answer = http::ask(proxy.admin, "OPTIONS", path, &headers);
            assert_eq!((answer.status, answer.header("allow")), (204, Some(allow)), "{path}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
            assert_eq!(answer.header("access-control-allow-methods"), None);
        }
        assert_eq!(http::ask(proxy.admin, "OPTIONS", "/nothing", &headers).status, 404);
    });
}

/// 1. A change says the length of its body twice, in either order. 2. It is refused with a
///    sentence, changes nothing, and nothing after it is taken for a request. 3. Said in chunks
///    alone it counts.
#[test]
fn two_lengths_of_one_body_are_refused() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let body = "d\r\n{\"weight\": 7}\r\n0\r\n\r\n";
        let ask = |lengths: &str| {
            let mut stream = connect(proxy.admin);
            let line = "PATCH /pools/web/backends/a HTTP/1.1\r\nHost: localhost\r\n";
            let all = format!("{line}{lengths}\r\n{body}GET /health HTTP/1.1\r\n\r\n");
            stream.write_all(all.as_bytes()).unwrap();
            rest(stream)
        };
        let (length, chunked) = ("Content-Length: 13\r\n", "Transfer-Encoding: chunked\r\n");
        for lengths in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
            let answer = ask(&lengths);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
            assert!(answer.contains("Content-Length and Transfer-Encoding"), "{answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        }
        assert_eq!(proxy.stats().0["pools"][0]["backends"][0]["weight"], 1);
        let answer = ask(chunked);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(proxy.stats().0["pools"][0]["backends"][0]["weight"], 7);
    });
}

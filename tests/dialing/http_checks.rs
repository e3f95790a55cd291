//! Checks that ask for a page.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
};

use rustix::process::Signal;

use crate::kit::{Config, Server, Tool, each_driver, wait_until};

const FAST: &str = "kind = \"http\"\ninterval = \"50ms\"\ntimeout = \"5s\"\n\
                    healthy_after = 2\nunhealthy_after = 2";

/// What a server was asked, check by check.
type Heads = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that keeps the head of each request and then does as it is told.
fn asked(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> (Server, Heads) {
    asked_at("127.0.0.1:0", answer)
}

/// The same, on that address.
fn asked_at(
    address: &str,
    answer: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (Server, Heads) {
    let heads = Heads::default();
    let kept = Arc::clone(&heads);
    let server = Server::at(address.parse().unwrap(), move |mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
            // The version 2 header of the PROXY protocol begins like the end of a head.
            if head == b"\r\n\r\n" {
                let mut rest = [0; 12];
                let _ = stream.read_exact(&mut rest);
                head.extend(rest);
            }
        }
        kept.lock().unwrap().push(head);
        answer(&mut stream);
    });
    (server, heads)
}

/// A server that answers with a fixed text.
fn saying(text: &'static [u8]) -> (Server, Heads) {
    asked(move |stream| drop(stream.write_all(text)))
}

/// 1. The server answers 200: healthy. 2. It answers 503: unhealthy, and the log says why, once,
///    however often it goes on. 3. It answers 302: healthy again.
#[test]
fn a_backend_that_answers_with_an_error_is_out_until_it_does_not() {
    each_driver(|driver| {
        let status = Arc::new(AtomicU16::new(200));
        let now = Arc::clone(&status);
        let (server, heads) = asked(move |stream| {
            let status = now.load(Relaxed);
            let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nhi");
        });
        let proxy = Config::new(driver).health(FAST).backend(server.address).start();
        let checks = || heads.lock().unwrap().len();
        wait_until("three checks", || checks() >= 3);
        assert_eq!(proxy.stats().state(0), "healthy");
        status.store(503, Relaxed);
        proxy.wait_stats("unhealthy", |s| s.state(0) == "unhealthy");
        assert_eq!(proxy.get("/ready").status, 503);
        let reason = "status 503, expected 200-399";
        wait_until("the reason in the log", || proxy.stderr().contains(reason));
        let so_far = checks();
        wait_until("three more checks", || checks() >= so_far + 3);
        assert_eq!(proxy.stderr().matches(reason).count(), 1, "{}", proxy.stderr());
        status.store(302, Relaxed);
        proxy.wait_stats("healthy", |s| s.state(0) == "healthy");
        assert_eq!(proxy.get("/ready").status, 200);
    });
}

/// 1. Two proxies check the same server, one over HTTP, one over TCP. 2. Its process is stopped:
///    its kernel goes on accepting. 3. The check over HTTP finds out and says how; the one over TCP
///    sees nothing. 4. The process goes on: back.
#[test]
fn a_stopped_process_is_seen_over_http_and_not_over_tcp() {
    each_driver(|driver| {
        let tool = Tool::http();
        let http = FAST.replace("5s", "250ms");
        let start = |health: &str| Config::new(driver).health(health).backend(tool.address).start();
        let (over_http, over_tcp) = (start(&http), start(&http.replace("\"http\"", "\"tcp\"")));
        tool.signal(Signal::STOP);
        over_http.wait_stats("unhealthy", |s| s.state(0) == "unhealthy");
        wait_until("the log", || over_http.stderr().contains("no answer in 250ms"));
        assert_eq!(over_tcp.stats().state(0), "healthy");
        tool.signal(Signal::CONT);
        over_http.wait_stats("healthy", |s| s.state(0) == "healthy");
        assert_eq!(over_tcp.stats().state(0), "healthy");
    });
}

/// 1. Path and host are written, or not. 2. The server is asked for just that.
#[test]
fn a_check_asks_for_what_is_written() {
    each_driver(|driver| {
        let written = "path = \"/deep/health?x=1\"\nhost = \"checks.example:81\"";
        for lines in ["", written] {
            let (server, heads) = saying(b"HTTP/1.1 200 OK\r\n\r\n");
            let health = format!("{FAST}\n{lines}");
            let _proxy = Config::new(driver).health(&health).backend(server.address).start();
            wait_until("a check", || !heads.lock().unwrap().is_empty());
            let head = String::from_utf8(heads.lock().unwrap()[0].clone()).unwrap();
            let (path, host) = match lines {
                "" => ("/healthz", server.address.to_string()),
                _ => ("/deep/health?x=1", "checks.example:81".to_owned()),
            };
            assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")), "{head}");
            let head = head.to_lowercase();
            assert!(head.contains(&format!("\r\nhost: {host}\r\n")), "{head}");
            assert!(head.contains("\r\nuser-agent: ringway/"), "{head}");
        }
    });
}

/// 1. The server is on IPv6, and announces its answer before it gives it. 2. The check waits for
///    the answer, and has named the server as a URL does.
#[test]
fn an_interim_answer_is_none_and_an_ipv6_server_has_brackets() {
    each_driver(|driver| {
        let (server, heads) = asked_at("[::1]:0", |stream| {
            let answers = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 Broken\r\n\r\n";
            let _ = stream.write_all(answers);
        });
        let health = format!("{FAST}\nexpect_status = \"100-499\"");
        let proxy = Config::new(driver).health(&health).backend(server.address).start();
        proxy.wait_stats("unhealthy", |s| s.state(0) == "unhealthy");
        wait_until("the log", || proxy.stderr().contains("status 500, expected 100-499"));
        let head = String::from_utf8(heads.lock().unwrap()[0].clone()).unwrap().to_lowercase();
        let host = format!("host: [::1]:{}\r\n", server.address.port());
        assert!(head.contains(&host), "{head}");
    });
}

/// 1. Only 204 and 418 are good. 2. A server that answers 418 is healthy, one that answers 200 is
///    not.
#[test]
fn expected_statuses_are_the_ones_that_are_written() {
    each_driver(|driver| {
        let (good, heads) = saying(b"HTTP/1.1 418 I'm a teapot\r\n\r\n");
        let (bad, _) = saying(b"HTTP/1.1 200 OK\r\n\r\n");
        let health = format!("{FAST}\nexpect_status = \"204,418\"");
        let config = Config::new(driver).health(&health);
        let proxy = config.backend(good.address).backend(bad.address).start();
        proxy.wait_stats("b is unhealthy", |s| s.state(1) == "unhealthy");
        wait_until("three checks", || heads.lock().unwrap().len() >= 3);
        assert_eq!(proxy.stats().state(0), "healthy");
        wait_until("the log", || proxy.stderr().contains("status 200, expected 204,418"));
    });
}

/// 1. Servers that answer with something else than HTTP, with nothing, or with a head without end.
/// 2. All are unhealthy, long before the timeout of a check.
#[test]
fn what_is_no_answer_is_a_failed_check() {
    each_driver(|driver| {
        let (other, _) = saying(b"SSH-2.0-OpenSSH_9.9\r\n\r\n");
        let (nothing, _) = saying(b"");
        let (endless, _) = asked(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
            while stream.write_all(&[b'x'; 1024]).is_ok() {}
        });
        let health = FAST.replace("5s", "1h");
        let config = Config::new(driver).health(&health).backend(other.address);
        let proxy = config.backend(nothing.address).backend(endless.address).start();
        proxy.wait_stats("unhealthy", |s| (0..3).all(|at| s.state(at) == "unhealthy"));
        wait_until("the log", || proxy.stderr().matches("no answer of HTTP: ").count() == 3);
    });
}

/// 1. The server expects the header of the PROXY protocol on each connection. 2. A check begins
///    with one that names nobody.
#[test]
fn with_send_proxy_a_check_begins_with_the_header() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    each_driver(|driver| {
        for (version, header) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", &v2[..])] {
            let (server, heads) = saying(b"HTTP/1.1 200 OK\r\n\r\n");
            let _proxy = Config::new(driver)
                .health(FAST)
                .pool(&format!("send_proxy = \"{version}\""))
                .backend(server.address)
                .start();
            wait_until("a check", || !heads.lock().unwrap().is_empty());
            let head = heads.lock().unwrap()[0].clone();
            let request = head.strip_prefix(header).expect("the header first");
            assert!(request.starts_with(b"GET /healthz HTTP/1.1\r\n"), "{head:?}");
        }
    });
}

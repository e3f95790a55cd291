//! `ringway backend --mode http`.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{backend, connect};

/// Asks for a path on a connection that stays open: status and body.
fn ask(stream: &mut TcpStream, path: &str) -> (u16, Vec<u8>) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (status, body)
}

/// 1. Ask three times on one connection. 2. Every path answers 200 with the same text.
#[test]
fn any_path_answers_on_a_connection_that_stays() {
    let backend = backend(&["http"]);
    let mut stream = connect(backend.address);
    let answers = ["/", "/healthz", "/a/b?c=d"].map(|path| ask(&mut stream, path));
    assert!(answers.iter().all(|answer| *answer == (200, b"a ringway backend\n".to_vec())));
}

#[test]
fn a_body_has_the_size_it_is_told() {
    for size in ["0", "7", "100000"] {
        let backend = backend(&["http", "--size", size]);
        let mut stream = connect(backend.address);
        for _ in 0..2 {
            let (status, body) = ask(&mut stream, "/");
            assert_eq!((status, body.len().to_string().as_str()), (200, size));
        }
    }
}

/// 1. Ask for statuses, one with and one without a body. 2. Each is the answer's. 3. What is no
///    status is refused with the way out. 4. The connection stays.
#[test]
fn a_status_can_be_asked_for() {
    let backend = backend(&["http"]);
    let mut stream = connect(backend.address);
    for status in [503, 204, 404, 200] {
        assert_eq!(ask(&mut stream, &format!("/status/{status}")).0, status);
    }
    for wrong in ["199", "600", "", "ok"] {
        let (status, body) = ask(&mut stream, &format!("/status/{wrong}"));
        assert_eq!(status, 400);
        assert!(String::from_utf8(body).unwrap().contains("/status/200"), "{wrong}");
    }
    assert_eq!(ask(&mut stream, "/").0, 200);
}

#[test]
fn a_delay_comes_before_each_answer() {
    let backend = backend(&["http", "--delay", "100ms"]);
    let mut stream = connect(backend.address);
    for _ in 0..2 {
        let asked = Instant::now();
        assert_eq!(ask(&mut stream, "/").0, 200);
        assert!(asked.elapsed() >= Duration::from_millis(100), "{:?}", asked.elapsed());
    }
}

/// 1. Ask, and end our direction at once. 2. The answer comes, then the end.
#[test]
fn who_has_asked_and_ended_gets_the_answer() {
    let backend = backend(&["http", "--delay", "50ms"]);
    let mut stream = connect(backend.address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\na ringway backend\n"), "{text}");
}

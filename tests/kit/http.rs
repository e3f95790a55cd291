//! The smallest HTTP client that can read the admin endpoint.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::DEADLINE;

/// An answer of the admin endpoint.
pub struct Answer {
    pub status: u16,
    head: String,
    /// As text; what is none of it is replaced.
    pub body: String,
    pub bytes: Vec<u8>,
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.body))
    }
}

/// Asks for `path`.
pub fn get(admin: SocketAddr, path: &str) -> Answer {
    get_as(admin, path, "*/*")
}

/// Asks for `path` in the form `accept`.
pub fn get_as(admin: SocketAddr, path: &str, accept: &str) -> Answer {
    get_with(admin, path, &format!("Host: {admin}\r\nAccept: {accept}\r\n"))
}

/// Asks for a change of `path`.
pub fn patch(admin: SocketAddr, path: &str, body: &str) -> Answer {
    send(admin, "PATCH", path, body)
}

/// Asks with any method and a body.
pub fn send(to: SocketAddr, method: &str, path: &str, body: &str) -> Answer {
    let headers = format!("Host: {to}\r\nContent-Length: {}\r\n", body.len());
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    read(stream)
}

/// Asks for `path` with these header lines.
pub fn get_with(admin: SocketAddr, path: &str, headers: &str) -> Answer {
    ask(admin, "GET", path, headers)
}

/// Asks with any method, these header lines, and no body.
pub fn ask(admin: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    read(stream)
}

fn read(stream: TcpStream) -> Answer {
    let (mut stream, mut head) = (BufReader::new(stream), String::new());
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "no head: {head:?}");
    }
    assert!(!head.to_lowercase().contains("transfer-encoding"), "the client reads no chunks");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut answer =
        Answer { status: status.unwrap(), head, body: String::new(), bytes: Vec::new() };
    // Not everybody closes when asked to.
    let length = answer.header("content-length").map_or(u64::MAX, |n| n.parse().unwrap());
    stream.take(length).read_to_end(&mut answer.bytes).unwrap();
    answer.body = String::from_utf8_lossy(&answer.bytes).into_owned();
    answer
}

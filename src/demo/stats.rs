//! Reading `/stats` and `/stats/history` of a running proxy, for whoever shows them: one small GET
//! by hand, and the part that is shown.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{bench::Percentiles, errno};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What is shown of `/stats`, by its names there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Stats {
    pub version: String,
    pub uptime_s: u64,
    pub state: String,
    pub driver: String,
    pub connections_active: u64,
    pub max_connections: u64,
    pub shards: Vec<Shard>,
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Shard {
    pub id: usize,
    pub connections_active: u64,
    pub busy_ratio: f64,
    pub turn_max_us: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Listener {
    pub name: String,
    pub connections_active: u64,
    pub accepted_total: u64,
    pub bytes_up_total: u64,
    pub bytes_down_total: u64,
    pub bytes_copied_total: u64,
    pub bytes_spliced_total: u64,
    pub ended_total: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Pool {
    pub name: String,
    pub backends: Vec<Backend>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Backend {
    pub name: String,
    pub state: String,
    pub reason: String,
    pub connections_active: u64,
    pub connections_total: u64,
    pub latency: BTreeMap<String, Windows>,
}

/// The windows of a histogram that are shown.
#[derive(Debug, Default, Deserialize)]
pub struct Windows {
    /// The last closed ten seconds.
    #[serde(rename = "10s", default)]
    pub ten_seconds: Percentiles,
    /// Since the start.
    #[serde(default)]
    pub total: Percentiles,
}

/// The last minutes second by second, in columns, newest last.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the page and say it all")]
pub struct History {
    pub span_ms: Vec<u64>,
    pub accepted: Vec<u64>,
    pub errors: Vec<u64>,
    pub latency: BTreeMap<String, Percentile>,
}

/// The percentiles of one phase, second by second.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names are those of the page and say it all")]
pub struct Percentile {
    pub p50_us: Vec<u64>,
    pub p99_us: Vec<u64>,
    pub p999_us: Vec<u64>,
}

/// Reads `/stats` of the admin endpoint at `admin`.
pub fn read(admin: SocketAddr) -> Result<Stats, String> {
    read_page(admin, None, "/stats")
}

/// Reads a page, with a token where the endpoint wants one.
pub fn read_page<T: DeserializeOwned>(
    admin: SocketAddr,
    token: Option<&str>,
    page: &str,
) -> Result<T, String> {
    let body = get_with(admin, token, page).map_err(|error| {
        let way_out = match error.kind() {
            ErrorKind::PermissionDenied => "show its token with --token-file FILE",
            _ => "is it running?",
        };
        format!("cannot read http://{admin}{page}: {} ({way_out})", errno::cause(&error))
    })?;
    serde_json::from_str(&body)
        .map_err(|error| format!("cannot read http://{admin}{page}: {error} (another version?)"))
}

/// The body of a page.
///
/// # Errors
/// It could not be read, or the answer was not 200.
pub fn get(admin: SocketAddr, page: &str) -> io::Result<String> {
    get_with(admin, None, page)
}

fn get_with(admin: SocketAddr, token: Option<&str>, page: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let headers = format!("Host: {admin}\r\n{}Connection: close\r\n", token.unwrap_or_default());
    write!(stream, "GET {page} HTTP/1.0\r\n{headers}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    body(&answer).map(str::to_owned)
}

fn body(answer: &str) -> io::Result<&str> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let kind = match head.split(' ').nth(1) {
        Some("200") => return Ok(body),
        Some("401") => ErrorKind::PermissionDenied,
        _ => ErrorKind::Other,
    };
    let status = head.lines().next().unwrap_or_default();
    Err(io::Error::new(kind, format!("answered {status:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_contract_is_understood() {
        let text = r#"{ "driver": "io_uring", "shards": [ { "id": 0, "turn_max_us": 180 } ],
            "listeners": [ { "name": "edge", "connections_active": 3, "accepted_total": 9,
              "bytes_up_total": 1, "bytes_down_total": 1, "ended_total": { "client_fin": 6 } } ],
            "pools": [ { "name": "web", "backends": [ { "name": "a", "state": "healthy",
              "connections_active": 1, "connections_total": 3, "latency": { "connect":
              { "10s": { "count": 1, "min_us": 1, "mean_us": 1, "p50_us": 1, "p90_us": 1,
              "p99_us": 1, "p999_us": 1, "p9999_us": 1, "max_us": 1 } } } } ] } ] }"#;
        let stats: Stats = serde_json::from_str(text).unwrap();
        assert_eq!(stats.listeners[0].ended_total["client_fin"], 6);
        assert_eq!(stats.pools[0].backends[0].latency["connect"].ten_seconds.count, 1);
    }

    #[test]
    fn only_a_good_answer_has_a_body() {
        assert_eq!(body("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").unwrap(), "{}");
        for (answer, kind, said) in [
            ("HTTP/1.0 404 Not Found\r\n\r\n{}", ErrorKind::Other, "HTTP/1.0 404 Not Found"),
            ("HTTP/1.0 401 No\r\n\r\n", ErrorKind::PermissionDenied, "HTTP/1.0 401 No"),
            ("nonsense", ErrorKind::Other, "nonsense"),
            ("", ErrorKind::Other, ""),
        ] {
            let error = body(answer).unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (kind, format!("answered {said:?}")));
        }
    }
}

//! Reading `/stats` of a running proxy: one small GET by hand, and the part of it that is shown.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::Deserialize;

use crate::{args, bench::Percentiles};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What is shown of `/stats`, by its names there.
#[derive(Debug, Default, Deserialize)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Stats {
    pub driver: String,
    pub shards: Vec<Shard>,
    pub listeners: Vec<Listener>,
    pub pools: Vec<Pool>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Shard {
    pub turn_max_us: u64,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Listener {
    pub name: String,
    pub connections_active: u64,
    pub accepted_total: u64,
    pub bytes_up_total: u64,
    pub bytes_down_total: u64,
    pub ended_total: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Pool {
    pub backends: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "the names are the contract and say it all")]
pub struct Backend {
    pub name: String,
    pub state: String,
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

/// Reads `/stats` of the admin endpoint at `admin`.
pub fn read(admin: SocketAddr) -> Result<Stats, String> {
    let body = get(admin, "/stats").map_err(|error| {
        format!("cannot read http://{admin}/stats: {} (is it running?)", args::cause(&error))
    })?;
    serde_json::from_str(&body)
        .map_err(|error| format!("cannot read http://{admin}/stats: {error} (another version?)"))
}

/// The body of a page of the admin endpoint at `admin`.
///
/// # Errors
/// It cannot be reached, or answers with another status than 200.
pub fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    body(&answer).map(str::to_owned).ok_or_else(|| {
        let status = answer.lines().next().unwrap_or_default().to_owned();
        io::Error::other(format!("answered {status:?}"))
    })
}

fn body(answer: &str) -> Option<&str> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    (status == "200").then_some(body)
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
        assert_eq!(body("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Some("{}"));
        assert_eq!(body("HTTP/1.0 404 Not Found\r\n\r\n{}"), None);
        assert_eq!(body("nonsense"), None);
    }
}

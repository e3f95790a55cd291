//! One line of the access log, as text or JSON. Pure.
//!
//! Both forms have the same fields. No byte of a field can end a line or begin another field: text
//! that is not plain is quoted and escaped.

use std::{
    borrow::Cow,
    fmt::{self, Display},
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    bridge::{ConnRecord, Dialed, Direction, Path, Plan},
    config::{Config, LogFormat},
};

/// The fields of a line, in their order. Absent ones are `-` in text and `null` in JSON.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it was accepted: UTC, with microseconds.
    time: String,
    listener: &'a str,
    client: SocketAddr,
    pool: &'a str,
    /// Who served it, else the last one that was dialed.
    backend: Option<Cow<'a, str>>,
    /// Where that one is.
    server: Option<SocketAddr>,
    /// Dials, failed ones included.
    attempts: u32,
    bytes_up: u64,
    bytes_down: u64,
    /// Of both, those that went through a pipe.
    bytes_spliced: u64,
    /// This one and the next two are from accept: to established, to the server's first byte, to
    /// both sockets closed.
    connect_us: Option<u64>,
    first_byte_us: Option<u64>,
    session_us: u64,
    end: &'static str,
    /// How bytes went; absent where none did.
    path: Option<&'static str>,
}

impl<'a> Line<'a> {
    /// What `record` says, with the names that the configuration has for its numbers. `clocks` are
    /// one moment by both.
    pub fn new(
        record: &ConnRecord,
        config: &'a Config,
        plan: &Plan,
        clocks: (Instant, OffsetDateTime),
    ) -> Line<'a> {
        let listener = &config.listeners[record.arrival.listener];
        let pool = &config.pools[listener.pool];
        let name = |dialed: Dialed| {
            let entries = &plan.pools[listener.pool].entries;
            let entry = entries.partition_point(|slots| slots.end <= dialed.slot as usize);
            pool.backends[entry].name_at(dialed.address)
        };
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let [bytes_up, bytes_down] = Direction::ALL.map(|d| record.bytes[d as usize]);
        Line {
            time: stamp(record.arrival.at, clocks),
            listener: &listener.name,
            client: record.arrival.client,
            pool: &pool.name,
            backend: record.backend.map(name),
            server: record.backend.map(|dialed| dialed.address),
            attempts: record.attempts,
            bytes_up,
            bytes_down,
            bytes_spliced: record.bytes_spliced,
            connect_us: record.connect.map(us),
            first_byte_us: record.first_byte.map(us),
            session_us: us(record.session),
            end: record.end.name(),
            path: path(bytes_up + bytes_down, record.bytes_spliced),
        }
    }

    /// Adds the line, with its end, to `text`.
    pub fn write(&self, format: LogFormat, text: &mut Vec<u8>) {
        // Writing to a vector cannot fail, nor can these fields.
        let _ = match format {
            LogFormat::Text => std::io::Write::write_fmt(text, format_args!("{self}")),
            LogFormat::Json => serde_json::to_writer(&mut *text, self).map_err(Into::into),
        };
        text.push(b'\n');
    }
}

/// The form for people: `key=value`, blanks between.
impl Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time={} listener={}", self.time, Plain(self.listener))?;
        write!(f, " client={} pool={}", self.client, Plain(self.pool))?;
        write!(f, " backend={}", Maybe(self.backend.as_deref().map(Plain)))?;
        write!(f, " server={} attempts={}", Maybe(self.server), self.attempts)?;
        write!(f, " bytes_up={} bytes_down={}", self.bytes_up, self.bytes_down)?;
        write!(f, " bytes_spliced={}", self.bytes_spliced)?;
        write!(f, " connect_us={}", Maybe(self.connect_us))?;
        write!(f, " first_byte_us={}", Maybe(self.first_byte_us))?;
        write!(f, " session_us={}", self.session_us)?;
        write!(f, " end={} path={}", self.end, Maybe(self.path))
    }
}

/// A value, or `-`.
struct Maybe<T>(Option<T>);

impl<T: Display> Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// Text as it is where that is unmistakable, else quoted and escaped.
struct Plain<'a>(&'a str);

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_graphic() && !"=\"\\".contains(c);
        match self.0 {
            "" | "-" => write!(f, "{:?}", self.0),
            text if text.chars().all(plain) => f.write_str(text),
            text => write!(f, "{text:?}"),
        }
    }
}

fn path(bytes: u64, spliced: u64) -> Option<&'static str> {
    match spliced {
        0 => (bytes > 0).then(|| Path::Copied.name()),
        spliced if spliced == bytes => Some(Path::Spliced.name()),
        _ => Some("both"),
    }
}

/// `at` in UTC. The clock of the wall is asked once for many lines: should it be set meanwhile,
/// all of them move together.
fn stamp(at: Instant, (now, wall): (Instant, OffsetDateTime)) -> String {
    let at = wall - now.saturating_duration_since(at);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, micro) = at.to_hms_micro();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::bridge::{Arrival, EndReason};

    fn config() -> Config {
        let text = "[[listener]]\nname = \"edge\"\nlisten = [\"127.0.0.1:0\"]\npool = \"web\"\n\
                    [[pool]]\nname = \"web\"\n\
                    [[pool.backend]]\nname = \"a\"\naddress = \"127.0.0.1:9001\"\n\
                    [[pool.backend]]\naddress = \"db.internal:5432\"\n\
                    [[pool.backend]]\nname = \"c\"\naddress = \"127.0.0.1:9003\"\n";
        crate::config::parse(text, std::path::Path::new("t.toml")).unwrap()
    }

    fn record(at: Instant) -> ConnRecord {
        let arrival = Arrival { client: "[2001:db8::7]:50123".parse().unwrap(), listener: 0, at };
        let us = Duration::from_micros;
        ConnRecord {
            attempts: 2,
            backend: Some(Dialed { slot: 3, address: "10.0.0.1:5432".parse().unwrap() }),
            bytes: [5, 7],
            bytes_spliced: 7,
            connect: Some(us(250)),
            first_byte: Some(us(900)),
            session: us(20_000),
            ..ConnRecord::new(arrival, EndReason::ClientFin)
        }
    }

    /// 250 ms before 2026-11-23T16:20:00Z.
    fn clocks() -> (Instant, OffsetDateTime, Instant) {
        let now = Instant::now();
        let wall = OffsetDateTime::from_unix_timestamp(1_795_450_800).unwrap();
        (now, wall, now - Duration::from_millis(250))
    }

    fn written(record: &ConnRecord, format: LogFormat) -> String {
        let (config, (now, wall, _)) = (config(), clocks());
        let mut text = Vec::new();
        let at = record.arrival.at;
        let clocks = (at + Duration::from_millis(250), wall);
        assert!(now >= at);
        Line::new(record, &config, &Plan::new(&config), clocks).write(format, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn both_forms_say_the_same() {
        let record = record(clocks().2);
        assert_eq!(
            written(&record, LogFormat::Text),
            "time=2026-11-23T16:19:59.750000Z listener=edge client=[2001:db8::7]:50123 pool=web \
             backend=db.internal-10.0.0.1:5432 server=10.0.0.1:5432 attempts=2 bytes_up=5 \
             bytes_down=7 bytes_spliced=7 connect_us=250 first_byte_us=900 session_us=20000 \
             end=client_fin path=both\n"
        );
        assert_eq!(
            written(&record, LogFormat::Json),
            "{\"time\":\"2026-11-23T16:19:59.750000Z\",\"listener\":\"edge\",\
             \"client\":\"[2001:db8::7]:50123\",\"pool\":\"web\",\
             \"backend\":\"db.internal-10.0.0.1:5432\",\"server\":\"10.0.0.1:5432\",\
             \"attempts\":2,\"bytes_up\":5,\"bytes_down\":7,\"bytes_spliced\":7,\
             \"connect_us\":250,\"first_byte_us\":900,\"session_us\":20000,\
             \"end\":\"client_fin\",\"path\":\"both\"}\n"
        );
    }

    #[test]
    fn what_did_not_happen_is_absent() {
        let refused = ConnRecord::new(record(clocks().2).arrival, EndReason::Denied);
        let text = written(&ConnRecord { session: Duration::ZERO, ..refused }, LogFormat::Text);
        let end = "pool=web backend=- server=- attempts=0 bytes_up=0 bytes_down=0 \
                   bytes_spliced=0 connect_us=- first_byte_us=- session_us=0 end=denied path=-\n";
        assert!(text.ends_with(end), "{text}");
        let json = written(&refused, LogFormat::Json);
        let json: Value = serde_json::from_str(&json).unwrap();
        for key in ["backend", "server", "connect_us", "first_byte_us", "path"] {
            assert_eq!(json[key], Value::Null, "{key}");
        }
    }

    #[test]
    fn slots_have_the_names_of_their_backends() {
        let mut record = record(clocks().2);
        for (slot, name) in [
            (0, "a"),
            (1, "db.internal-10.0.0.1:5432"),
            (crate::limits::SLOTS_PER_NAME as u32, "db.internal-10.0.0.1:5432"),
            (crate::limits::SLOTS_PER_NAME as u32 + 1, "c"),
        ] {
            record.backend = Some(Dialed { slot, address: "10.0.0.1:5432".parse().unwrap() });
            let text = written(&record, LogFormat::Text);
            assert!(text.contains(&format!(" backend={name} ")), "{slot}: {text}");
        }
    }

    #[test]
    fn the_path_is_told_by_the_bytes() {
        let told = [(0, 0), (9, 0), (9, 9), (9, 4)].map(|(bytes, spliced)| path(bytes, spliced));
        assert_eq!(told, [None, Some("copied"), Some("spliced"), Some("both")]);
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_line_or_a_field(name in ".*", backend in ".*") {
            let mut config = config();
            config.listeners[0].name = name.clone();
            config.pools[0].backends[0].name = backend.clone();
            let (now, wall, at) = clocks();
            let mut record = record(at);
            record.backend = Some(Dialed { slot: 0, address: "10.0.0.1:1".parse().unwrap() });
            let plan = Plan::new(&config);
            let line = Line::new(&record, &config, &plan, (now, wall));
            for format in [LogFormat::Text, LogFormat::Json] {
                let mut text = Vec::new();
                line.write(format, &mut text);
                let text = String::from_utf8(text).unwrap();
                let (body, rest) = text.split_once('\n').unwrap();
                prop_assert_eq!(rest, "");
                prop_assert!(body.chars().all(|c| c >= ' '), "{}", body);
                if format == LogFormat::Json {
                    let read: Value = serde_json::from_str(body).unwrap();
                    prop_assert_eq!(&read["listener"], &Value::from(name.as_str()));
                    prop_assert_eq!(&read["backend"], &Value::from(backend.as_str()));
                } else {
                    prop_assert_eq!(fields(body), 15, "{}", body);
                }
            }
        }
    }

    /// Blanks outside of quotes, and one.
    fn fields(line: &str) -> usize {
        let (mut fields, mut quoted, mut chars) = (1, false, line.chars());
        while let Some(c) = chars.next() {
            match c {
                '\\' => drop(chars.next()),
                '"' => quoted = !quoted,
                ' ' if !quoted => fields += 1,
                _ => {}
            }
        }
        fields
    }
}

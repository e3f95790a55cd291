//! The keys of `[pool.health_check]`.

use crate::config::{
    HealthCheck, HttpProbe, Probe, Statuses, TcpProbe, Word,
    file::{Entry, Table},
    health_check::Bytes,
    value::{duration, is_name, number, word},
};

/// Bytes that are said, or waited for: more than that is a conversation.
const WORDS_BYTES_MAX: usize = 1024;

/// Characters of a path; longer ones ask for more than "are you well".
const PATH_CHARS_MAX: usize = 1024;

/// How a backend is checked.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    Http,
    None,
}

impl Word for Kind {
    const WORDS: &'static [(&'static str, Self)] =
        &[("tcp", Kind::Tcp), ("http", Kind::Http), ("none", Kind::None)];
}

pub(super) fn health_check(mut table: Table<'_>) -> Option<HealthCheck> {
    let default = HealthCheck::default();
    let kind = match table.get("kind") {
        None => Some(Kind::Tcp),
        Some(entry) => word(&entry),
    };
    let interval = table.or("interval", default.interval, duration);
    let timeout = table.or("timeout", default.timeout, duration);
    let count = |entry: &Entry<'_>| number(entry, 1..=u32::MAX);
    let healthy_after = table.or("healthy_after", default.healthy_after, count);
    let unhealthy_after = table.or("unhealthy_after", default.unhealthy_after, count);
    let port = table.or("port", None, |entry| port(entry, kind).map(Some));
    let tcp = tcp(&mut table, kind);
    let http = http(&mut table, kind);
    let timeout = if timeout.is_zero() { interval } else { timeout };
    let probe = match kind? {
        Kind::None => return None,
        Kind::Tcp => Probe::Tcp(tcp),
        Kind::Http => Probe::Http(http),
    };
    let check = HealthCheck { probe, port, interval, timeout, healthy_after, unhealthy_after };
    (!interval.is_zero()).then_some(check)
}

fn port(entry: &Entry<'_>, kind: Option<Kind>) -> Option<u16> {
    if kind == Some(Kind::None) {
        return entry.refuse("nobody is asked (write another kind, or leave it out)");
    }
    number(entry, 1..=u32::from(u16::MAX)).and_then(|port| u16::try_from(port).ok())
}

/// The keys that belong to TCP alone.
fn tcp(table: &mut Table<'_>, kind: Option<Kind>) -> TcpProbe {
    let mut words = |key, example| {
        table.or(key, Bytes::default(), |entry| match kind {
            Some(Kind::Http | Kind::None) => {
                entry.refuse("only a check over TCP has it (write kind = \"tcp\", or leave it out)")
            }
            Some(Kind::Tcp) | None => bytes(entry, example),
        })
    };
    TcpProbe { send: words("send", r"PING\r\n"), expect: words("expect", "+PONG") }
}

fn bytes(entry: &Entry<'_>, example: &str) -> Option<Bytes> {
    let text = entry.text(format_args!("text, or hex: and digits (for example \"{example}\")"))?;
    let Some(bytes) = Bytes::parse(text) else {
        return entry.refuse("not two hexadecimal digits for each byte (for example \"hex:0d0a\")");
    };
    if bytes.0.len() > WORDS_BYTES_MAX {
        return entry.refuse(format_args!("too long (write at most {WORDS_BYTES_MAX} bytes)"));
    }
    Some(bytes)
}

/// The keys that belong to HTTP alone. Where the kind itself was refused they are not refused too.
fn http(table: &mut Table<'_>, kind: Option<Kind>) -> HttpProbe {
    let default = HttpProbe::default();
    let of_http = |entry: &Entry<'_>| match kind {
        Some(Kind::Tcp | Kind::None) => {
            entry.refuse("only a check over HTTP has it (write kind = \"http\", or leave it out)")
        }
        Some(Kind::Http) | None => Some(()),
    };
    HttpProbe {
        path: table.or("path", default.path, |entry| of_http(entry).and_then(|()| path(entry))),
        host: table.or("host", default.host, |entry| of_http(entry).and_then(|()| host(entry))),
        expect: table.or("expect_status", default.expect, |entry| {
            of_http(entry).and_then(|()| statuses(entry))
        }),
    }
}

fn path(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("a path (for example \"/healthz\")")?;
    // RFC 3986: what may stand in a path and its query as it is.
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()*+,;=:@/?".contains(c);
    if !text.starts_with('/') {
        return entry.refuse("not a path (begin it with \"/\", as \"/healthz\")");
    }
    if let Some(stranger) = text.chars().find(|c| !fits(*c)) {
        return entry.refuse(format_args!("{stranger:?} cannot stand in a path (write it as %XX)"));
    }
    if text.len() > PATH_CHARS_MAX {
        return entry.refuse(format_args!("too long (write at most {PATH_CHARS_MAX} characters)"));
    }
    Some(text.to_owned())
}

fn host(entry: &Entry<'_>) -> Option<Option<String>> {
    let text = entry.text("a host (for example \"example.com\")")?;
    match text {
        "" => Some(None),
        text if is_name(text) => Some(Some(text.to_owned())),
        _ => entry.refuse("not a host (write \"example.com\" or \"example.com:8080\")"),
    }
}

fn statuses(entry: &Entry<'_>) -> Option<Statuses> {
    let text = entry.text("statuses (for example \"200-399\")")?;
    Statuses::parse(text).or_else(|| {
        entry.refuse("not statuses from 100 to 599 (write \"200-399\" or \"200,204,300-399\")")
    })
}

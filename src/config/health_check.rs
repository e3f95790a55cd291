//! How a pool learns that a backend is gone before a client does.

use std::{fmt, ops::RangeInclusive, time::Duration};

/// When a backend is asked, what it is asked, and how often it has to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// What it is asked.
    pub probe: Probe,
    /// `None`: the traffic's.
    pub port: Option<u16>,
    /// Positive.
    pub interval: Duration,
    /// Positive ("0s" in the file: as long as the interval).
    pub timeout: Duration,
    /// Good checks in a row that make a backend healthy. At least 1.
    pub healthy_after: u32,
    /// Bad checks in a row that make it unhealthy. At least 1.
    pub unhealthy_after: u32,
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        HealthCheck {
            probe: Probe::Tcp(TcpProbe::default()),
            port: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }
}

/// What a backend is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// To accept a connection, and to say something.
    Tcp(TcpProbe),
    /// For a page.
    Http(HttpProbe),
}

/// What is said once connected, and what has to come back. Both may be empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpProbe {
    /// Empty: nothing is said.
    pub send: Bytes,
    /// What the answer begins with, or the greeting where nothing is said; empty: anything.
    pub expect: Bytes,
}

/// Some bytes of a protocol, written as text, or as `hex:` and digits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bytes(pub Vec<u8>);

/// In front of bytes that are no text.
const HEX: &str = "hex:";

impl Bytes {
    /// `None`: the digits after `hex:` are not two for each byte.
    pub(super) fn parse(text: &str) -> Option<Bytes> {
        let Some(digits) = text.strip_prefix(HEX) else { return Some(Bytes(text.into())) };
        let pairs = digits.as_bytes().chunks(2).map(|pair| {
            let all = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
            let number = str::from_utf8(pair).ok().filter(|_| all)?;
            u8::from_str_radix(number, 16).ok()
        });
        pairs.collect::<Option<Vec<u8>>>().map(Bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with(HEX) => f.write_str(text),
            _ => {
                f.write_str(HEX)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// A request and the answers that are good.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// Path and query; begins with `/`.
    pub path: String,
    /// `None`: the backend's address.
    pub host: Option<String>,
    /// Statuses of good answers.
    pub expect: Statuses,
}

impl Default for HttpProbe {
    fn default() -> HttpProbe {
        HttpProbe { path: "/healthz".into(), host: None, expect: Statuses(vec![200..=399]) }
    }
}

/// Some statuses of HTTP, as ranges. At least one; prints as the file says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// Every status of an answer there is.
    const ALL: RangeInclusive<u16> = 100..=599;

    /// `"200-399"`, or a list such as `"200,204,300-399"`.
    pub(super) fn parse(text: &str) -> Option<Statuses> {
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Statuses)
    }

    /// Whether an answer with this status is good.
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}

fn status(text: &str) -> Option<u16> {
    // Three digits and nothing else: a number may also be written with a sign.
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| digits && Statuses::ALL.contains(status))
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let (first, last) = (range.start(), range.end());
            let between = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{between}{first}")?,
                false => write!(f, "{between}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_ranges_and_single_ones() {
        let statuses = Statuses::parse("200,204,300-399").unwrap();
        for (status, good) in
            [(199, false), (200, true), (201, false), (204, true), (300, true), (400, false)]
        {
            assert_eq!(statuses.contain(status), good, "{status}");
        }
        assert_eq!(statuses.to_string(), "200,204,300-399");
        assert_eq!(HttpProbe::default().expect.to_string(), "200-399");
    }

    #[test]
    fn bytes_are_text_or_digits() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("PING\r\n", b"PING\r\n"),
            ("hex:", b""),
            ("hex:00fF", b"\x00\xff"),
            ("hex:50494e47", b"PING"),
            ("hex:6865783a", b"hex:"),
            ("hexagon", b"hexagon"),
        ] {
            let parsed = Bytes::parse(text).unwrap();
            assert_eq!(parsed.0, bytes, "{text:?}");
            assert_eq!(Bytes::parse(&parsed.to_string()), Some(parsed), "{text:?}");
        }
        for wrong in ["hex:0", "hex:0g", "hex:+1", "hex:00 11", "hex:\u{e4}"] {
            assert_eq!(Bytes::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_statuses_is_refused() {
        for text in [
            "",
            ",",
            "200,",
            "-",
            "200-",
            "-399",
            "399-200",
            "2xx",
            "99",
            "600",
            "100-600",
            "0200",
            "+20",
            "200 ",
            "200, 204",
            "200-300-400",
            "٢٠٠",
        ] {
            assert_eq!(Statuses::parse(text), None, "{text:?}");
        }
    }
}

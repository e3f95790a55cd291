//! Where a backend is: an address, a name that has some, or a service that has names.

use std::{fmt, net::SocketAddr};

use super::{file::Entry, value::address};

/// Of a whole name, and of one part between dots (RFC 1035).
const NAME_CHARS_MAX: usize = 253;
const LABEL_CHARS_MAX: usize = 63;

/// Where a backend is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Here.
    Address(SocketAddr),
    /// At every address that the host has, A and AAAA.
    Name {
        /// With a dot at the end: no search domain is tried.
        host: String,
        /// Positive.
        port: u16,
    },
    /// Wherever its SRV records say.
    Service {
        /// Without the `srv:` in front of it.
        name: String,
    },
}

impl Target {
    /// The name of a backend that has none of its own.
    pub(super) fn default_name(&self) -> String {
        match self {
            Target::Service { name } => name.clone(),
            Target::Address(_) | Target::Name { .. } => self.to_string(),
        }
    }
}

/// As in the file.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Name { host, port } => write!(f, "{host}:{port}"),
            Target::Service { name } => write!(f, "srv:{name}"),
        }
    }
}

/// An address, a name with a port, or a service.
pub(super) fn target(entry: &Entry<'_>) -> Option<Target> {
    let text = entry.text("an address and port (for example \"127.0.0.1:8080\")")?;
    if let Some(name) = text.strip_prefix("srv:") {
        return match is_host(name) {
            true => Some(Target::Service { name: name.to_owned() }),
            false => entry.refuse("not a service (write \"srv:_NAME._tcp.DOMAIN\")"),
        };
    }
    if is_host(text) {
        return entry.refuse(format_args!("a name without a port (write \"{text}:PORT\")"));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) => match port.parse() {
            Ok(port) if port > 0 => Some(Target::Name { host: host.to_owned(), port }),
            _ => entry.refuse("not a port (write \"NAME:PORT\", a port from 1 to 65535)"),
        },
        _ => address(entry).map(Target::Address),
    }
}

/// True exactly when `text` is a host name whose parts are letters, digits, `-` inside and `_`,
/// which RFC 1123 does not know and container networks use. A dot at the end makes it fully
/// qualified. A last part of digits alone is a mistyped address: no domain is a number.
fn is_host(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let of_label = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let is_label = |label: &str| {
        (1..=LABEL_CHARS_MAX).contains(&label.len())
            && label.chars().all(of_label)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = || {
        let last = text.rsplit('.').next().unwrap_or_default();
        last.chars().all(|c| c.is_ascii_digit())
    };
    text.len() <= NAME_CHARS_MAX && text.split('.').all(is_label) && !last_is_number()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_those_of_rfc_1123_and_of_container_networks() {
        let longest = format!("{}.example", ["abcdefghi"; 24].join("."));
        assert_eq!(longest.len(), 247);
        for good in [
            "db.internal",
            "db.internal.",
            "localhost",
            "localhost.",
            "3com.com",
            "a-b.c",
            "a_b.c",
            "my_db",
            "_http._tcp.example",
            "x.1a",
            &longest,
        ] {
            assert!(is_host(good), "{good}");
        }
        let wide = "a".repeat(64);
        let long = format!("{longest}.example");
        for bad in [
            "",
            ".",
            "a..b",
            "..",
            "a..",
            ".a",
            "-a.b",
            "a-.b",
            "10.0.0.300",
            "10.0.0.300.",
            "1.2.3",
            "12",
            "a b",
            "bücher.example",
            &wide,
            &long,
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}

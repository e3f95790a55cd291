//! The forms a value can have: what is read from it, and the rule that is said when it is not.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::IpNet;
use toml::de::DeValue;

use super::{
    Auto, Word,
    file::Entry,
    near::nearest,
    units::{self, NoDuration},
};

/// `"auto"`, true or false; here as everywhere, refusals are reported and give `None`.
pub(super) fn auto_or_boolean(entry: &Entry<'_>) -> Option<Auto<bool>> {
    const RULE: &str = "\"auto\", true or false";
    match entry.value {
        DeValue::String(text) if text == "auto" => Some(Auto::Auto),
        DeValue::String(_) => entry.refuse(format_args!("not {RULE} (true has no quotes)")),
        DeValue::Boolean(value) => Some(Auto::Fixed(*value)),
        _ => entry.wrong_type(format_args!("{RULE} (for example \"auto\")")),
    }
}

/// A whole number within `range`.
pub(super) fn number(entry: &Entry<'_>, range: RangeInclusive<u32>) -> Option<u32> {
    let (least, most) = (range.start(), range.end());
    let example = least.max(&1);
    let Some(written) = entry.value.as_integer() else {
        let rule = format_args!("a number from {least} to {most} (for example {example})");
        return entry.wrong_type(rule);
    };
    // Digits of any length are an integer to the parser; what fits no `u32` is out of range.
    u32::from_str_radix(written.as_str(), written.radix())
        .ok()
        .filter(|number| range.contains(number))
        .or_else(|| entry.refuse(format_args!("out of range (write {least} to {most})")))
}

/// `"auto"`, or a whole number within `range`.
pub(super) fn auto(entry: &Entry<'_>, range: RangeInclusive<u32>) -> Option<Auto<u32>> {
    let rule = format!("\"auto\" or a number from {} to {}", range.start(), range.end());
    match entry.value {
        DeValue::String(text) if text == "auto" => Some(Auto::Auto),
        DeValue::String(_) => entry.refuse(format_args!("not {rule} (numbers have no quotes)")),
        DeValue::Integer(_) => number(entry, range).map(Auto::Fixed),
        _ => entry.wrong_type(format_args!("{rule} (for example \"auto\")")),
    }
}

/// A number with a fraction, from 0 to `most`.
pub(super) fn ratio(entry: &Entry<'_>, most: f64) -> Option<f64> {
    let written = match entry.value {
        DeValue::Float(number) => number.as_str(),
        DeValue::Integer(number) => number.as_str(),
        _ => return entry.wrong_type(format_args!("a number from 0 to {most} (for example 0.5)")),
    };
    // TOML allows 1_000.5.
    let number = written.replace('_', "").parse().ok();
    number
        .filter(|number| (0.0..=most).contains(number))
        .or_else(|| entry.refuse(format_args!("out of range (write 0 to {most})")))
}

/// One word of a closed set.
pub(super) fn word<T: Word>(entry: &Entry<'_>) -> Option<T> {
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    let all = quoted(&words);
    let one = if words.len() == 1 { all } else { format!("one of {all}") };
    let example = words.first().copied().unwrap_or_default();
    let text = entry.text(format_args!("{one} (for example {example:?})"))?;
    if let Some((_, value)) = T::WORDS.iter().find(|(word, _)| *word == text) {
        return Some(*value);
    }
    match nearest(text, words) {
        Some(meant) => entry.refuse(format_args!("not {one} (did you mean {meant:?}?)")),
        None => entry.refuse(format_args!("not {one}")),
    }
}

/// A duration, zero included.
pub(super) fn duration(entry: &Entry<'_>) -> Option<Duration> {
    let text = entry.text("a duration (for example \"5s\")")?;
    units::duration(text).map_or_else(
        |why| match why {
            NoDuration::Malformed => {
                entry.refuse("not a duration (write \"250ms\", \"5s\", \"10m\" or \"1h\")")
            }
            NoDuration::TooLong => {
                let most = units::duration_text(units::DURATION_MAX);
                entry.refuse(format_args!("too long (write at most {most:?})"))
            }
        },
        Some,
    )
}

/// A duration that `"0s"` switches off.
pub(super) fn maybe(entry: &Entry<'_>) -> Option<Option<Duration>> {
    duration(entry).map(|duration| (!duration.is_zero()).then_some(duration))
}

/// A duration above zero.
pub(super) fn positive(entry: &Entry<'_>) -> Option<Duration> {
    match duration(entry)? {
        Duration::ZERO => entry.refuse("must be above zero (for example \"2s\")"),
        duration => Some(duration),
    }
}

/// A size in bytes.
pub(super) fn size(entry: &Entry<'_>) -> Option<u64> {
    let text = entry.text("a size (for example \"64KiB\")")?;
    units::size(text)
        .or_else(|| entry.refuse("not a size (write \"512B\", \"64KiB\", \"1MiB\" or \"1GiB\")"))
}

/// An IP address and a port.
pub(super) fn address(entry: &Entry<'_>) -> Option<SocketAddr> {
    let text = entry.text("an address and port (for example \"127.0.0.1:8080\")")?;
    match text.parse() {
        Ok(SocketAddr::V6(v6)) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            let (ip, port) = (v6.ip(), v6.port());
            entry.refuse(format_args!(
                "a link-local address without its interface (write \"[{ip}%NUMBER]:{port}\"; the \
                 first column of `ip link` is the number)"
            ))
        }
        Ok(address) => Some(address),
        Err(_) => entry.refuse(no_address(text)),
    }
}

/// What is wrong with a text that is no address and port, and the way out.
fn no_address(text: &str) -> String {
    let zone = text.split_once('%').and_then(|(_, rest)| rest.split_once(']'));
    if let Some((zone, _)) = zone.filter(|(zone, _)| zone.parse::<u32>().is_err()) {
        let shown: String = zone.chars().take(16).collect();
        return format!(
            "{shown:?} is the name of an interface (write its number, the first column of \
             `ip link`: \"[IPV6%2]:PORT\")"
        );
    }
    let of_v6 = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let bare_v6 = text.matches(':').count() > 1 && text.chars().all(of_v6);
    let way_out = if bare_v6 { "[IPV6]:PORT" } else { "IP:PORT" };
    format!("not an address and port (write {way_out:?})")
}

/// A network, or one address.
pub(super) fn network(entry: &Entry<'_>) -> Option<IpNet> {
    let text = entry.text("a network (for example \"10.0.0.0/8\")")?;
    let single = || text.parse().map(|address: IpAddr| address.into());
    let Ok(network) = text.parse::<IpNet>().or_else(|_| single()) else {
        return entry.refuse("not a network (write \"10.0.0.0/8\", \"2001:db8::/32\" or \"::1\")");
    };
    let whole = network.trunc();
    if whole != network {
        return entry.refuse(format_args!("more than a network (did you mean \"{whole}\"?)"));
    }
    // Clients are compared as IPv4 where they are mapped, so such a network would contain nobody.
    let mapped = network.addr().is_ipv6().then(|| network.addr().to_canonical());
    match (mapped, network.prefix_len().checked_sub(96)) {
        (Some(IpAddr::V4(address)), Some(length)) => {
            let rule = "an IPv4 network in IPv6 form";
            entry.refuse(format_args!("{rule} (did you mean \"{address}/{length}\"?)"))
        }
        _ => Some(network),
    }
}

/// A name, as metrics and the admin endpoint can carry it.
pub(super) fn name(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("a name (for example \"web\")")?;
    if is_name(text) {
        return Some(text.to_owned());
    }
    entry.refuse("not a name (use letters, digits and any of . _ : [ ] -)")
}

/// True exactly when `text` may be a name.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._:[]-".contains(c);
    !text.is_empty() && text.chars().all(fits)
}

/// `"a", "b"`, the first few.
pub(crate) fn quoted(words: &[&str]) -> String {
    const SHOWN_MAX: usize = 10;
    let shown: Vec<String> = words.iter().take(SHOWN_MAX).map(|word| format!("{word:?}")).collect();
    let more = if words.len() > SHOWN_MAX { ", ..." } else { "" };
    format!("{}{more}", shown.join(", "))
}

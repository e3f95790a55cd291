//! Durations and sizes: text to value and back.

use std::time::Duration;

/// No duration in the file is longer.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Unit and its milliseconds, largest first.
const TIMES: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Unit and its bytes, largest first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoDuration {
    Malformed,
    TooLong,
}

/// `"250ms"`, `"5s"`, `"10m"`, `"1h"`: a whole number and a unit, at most [`DURATION_MAX`].
pub(super) fn duration(text: &str) -> Result<Duration, NoDuration> {
    let (number, factor) = split(text, &TIMES).ok_or(NoDuration::Malformed)?;
    let millis = number.and_then(|n| n.checked_mul(factor)).ok_or(NoDuration::TooLong)?;
    let duration = Duration::from_millis(millis);
    if duration > DURATION_MAX { Err(NoDuration::TooLong) } else { Ok(duration) }
}

/// The shortest text for a duration; below a millisecond it rounds up, for 0 would mean off.
pub(super) fn duration_text(duration: Duration) -> String {
    let millis = duration.as_nanos().div_ceil(1_000_000);
    if millis == 0 {
        return "0s".into();
    }
    join(millis, &TIMES)
}

/// `"64KiB"`, `"1MiB"`, `"1GiB"`, `"512B"`, `"0"`: a whole number and a unit, in bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (number, factor) = split(text, &SIZES)?;
    number?.checked_mul(factor)
}

/// The shortest text for a size.
pub(super) fn size_text(bytes: u64) -> String {
    if bytes == 0 {
        return "0".into();
    }
    join(u128::from(bytes), &SIZES)
}

/// Number and factor of the unit. Digits that fit no `u64` leave the number out.
fn split(text: &str, units: &[(&str, u64)]) -> Option<(Option<u64>, u64)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    (!digits.is_empty()).then(|| (digits.parse().ok(), *factor))
}

/// The largest unit that divides the value gives the fewest digits.
fn join(value: u128, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| value.is_multiple_of(u128::from(*factor));
    let (name, factor) = units.iter().find(fits).copied().unwrap_or(("", 1));
    format!("{}{name}", value / u128::from(factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_whole_number_and_a_unit() {
        for (text, millis) in [
            ("0s", 0),
            ("0ms", 0),
            ("250ms", 250),
            ("5s", 5000),
            ("10m", 600_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "", "5", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5s", "1h30m", "5S", "5us", "5sec",
            "٥s",
        ] {
            assert_eq!(duration(text), Err(NoDuration::Malformed), "{text:?}");
        }
        for text in ["25h", "86400001ms", "18446744073709551615h", "99999999999999999999999s"] {
            assert_eq!(duration(text), Err(NoDuration::TooLong), "{text}");
        }
    }

    #[test]
    fn a_duration_prints_in_its_shortest_form() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (60_000, "1m"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(duration_text(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration_text(Duration::from_micros(1)), "1ms");
        assert!(!duration_text(Duration::MAX).is_empty());
    }

    #[test]
    fn sizes_need_a_whole_number_and_a_binary_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("0B", 0),
            ("512B", 512),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
            ("2GiB", 2 << 30),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "1",
            "64",
            "KiB",
            "1KB",
            "1kib",
            "1 KiB",
            "-1B",
            "1.5MiB",
            "18446744073709551615GiB",
        ] {
            assert_eq!(size(text), None, "{text:?}");
        }
        assert_eq!(size_text(0), "0");
        assert_eq!(size_text(256 << 10), "256KiB");
        assert_eq!(size_text(4097), "4097B");
    }

    proptest! {
        #[test]
        fn a_valid_duration_survives_its_text(millis in 0..=86_400_000_u64) {
            let value = Duration::from_millis(millis);
            prop_assert_eq!(duration(&duration_text(value)), Ok(value));
        }

        #[test]
        fn a_size_survives_its_text(bytes in any::<u64>(), shift in 0..64_u32) {
            let value = bytes >> shift << (shift / 2);
            prop_assert_eq!(size(&size_text(value)), Some(value));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = (duration(&text), size(&text));
        }
    }
}

//! Words of the command line that several commands share: durations and sizes.
//!
//! This room refuses to know what the values are for.

use std::time::Duration;

/// Parses a duration such as `5ms`, `1.5s` or `10m`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(format!("unknown unit `{unit}` (write for example 5ms, 1s or 10m)"));
        }
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .ok_or_else(|| "not a duration (write for example 5ms, 1s or 10m)".to_owned())
}

/// Parses a duration that has to be positive.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("has to be positive (write for example 10 or 500ms)".to_owned()),
        positive => Ok(positive),
    }
}

/// Parses a size such as `128`, `64KiB` or `1GiB`, in bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => {
            return Err(format!("unknown unit `{unit}` (write for example 128, 64KiB or 1GiB)"));
        }
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "not a size (write for example 128, 64KiB or 1GiB)".to_owned())
}

fn split(text: &str) -> (&str, &str) {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bare_numbers_are_seconds() {
        assert_eq!(duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "s", "-1s", "1 s", "5 minutes", "1e400s", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong:?} was taken");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn sizes_are_binary_and_do_not_wrap() {
        assert_eq!(size("128"), Ok(128));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for wrong in ["", "KiB", "1kb", "1.5MiB", "-1", "99999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong:?} was taken");
        }
    }
}

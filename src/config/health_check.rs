//! How a pool learns that a backend is gone before a client does.

use std::{fmt, ops::RangeInclusive, time::Duration};

/// When a backend is asked, what it is asked, and how often it has to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// What it is asked.
    pub probe: Probe,
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
            probe: Probe::Tcp,
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
    /// To accept a connection.
    Tcp,
    /// For a page.
    Http(HttpProbe),
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

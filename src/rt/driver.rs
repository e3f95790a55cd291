//! Which kernel interface carries the shards: one for all, chosen once each of them has tried to
//! make a ring of its own.

use std::io;

use crate::errno::cause;

/// A kernel interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A ring per shard.
    IoUring,
    /// An epoll per shard: the same product where there is no ring.
    Epoll,
}

impl Driver {
    /// The name in configuration, log, `/stats` and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Driver::IoUring => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

/// What was chosen, and why where that is not obvious.
#[derive(Clone, Debug)]
pub struct Choice {
    /// For all shards.
    pub driver: Driver,
    /// Empty when io_uring was free to be chosen and was.
    pub reason: String,
}

/// Chooses a driver; `wanted` is `None` for "auto", `refusal` what the kernel answered to a shard
/// that got no [`super::Engine`] of that driver.
///
/// # Errors
/// io_uring was demanded and this host refuses it: the sentence says what the kernel answered and
/// what to do.
pub fn choose(wanted: Option<Driver>, refusal: Option<&io::Error>) -> Result<Choice, String> {
    let (driver, reason) = match (wanted, refusal.map(explain)) {
        (Some(Driver::Epoll), _) => (Driver::Epoll, "asked for by runtime.driver".to_owned()),
        (_, None) => (Driver::IoUring, String::new()),
        (None, Some(refusal)) => (Driver::Epoll, format!("no io_uring: {refusal}")),
        (Some(Driver::IoUring), Some(refusal)) => {
            return Err(format!(
                "runtime.driver = \"io_uring\": this host refuses io_uring: {refusal} \
                 (write \"auto\" or \"epoll\", or allow io_uring)"
            ));
        }
    };
    Ok(Choice { driver, reason })
}

/// What the kernel answered, and what it means.
fn explain(error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ", a seccomp profile or kernel.io_uring_disabled forbids it"
        }
        io::ErrorKind::Unsupported => ", the kernel is built without it",
        io::ErrorKind::InvalidInput => ", the kernel lacks what we need, which came with 6.1",
        io::ErrorKind::OutOfMemory => {
            ", the limit on locked memory (RLIMIT_MEMLOCK) is too small: a shard \
             takes about 150 KiB, of all processes of this user together; raise it, or write \
             fewer shards or driver = \"epoll\""
        }
        _ => "",
    };
    format!("{}{hint}", cause(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wanted: Option<Driver>, refusal: Option<i32>) -> Result<(Driver, String), String> {
        let refusal = refusal.map(io::Error::from_raw_os_error);
        choose(wanted, refusal.as_ref()).map(|choice| (choice.driver, choice.reason))
    }

    #[test]
    fn one_refusal_makes_it_epoll_for_all_unless_the_ring_was_demanded() {
        const NOMEM: i32 = 12;
        let (ring, epoll) = (Driver::IoUring, Driver::Epoll);
        assert_eq!(chosen(None, None), Ok((ring, String::new())));
        assert_eq!(chosen(Some(ring), None), Ok((ring, String::new())));
        let asked = "asked for by runtime.driver".to_owned();
        assert_eq!(chosen(Some(epoll), None), Ok((epoll, asked)));
        let (driver, reason) = chosen(None, Some(NOMEM)).unwrap();
        assert_eq!(driver, epoll);
        assert!(reason.starts_with("no io_uring: cannot allocate memory, the limit"), "{reason}");
        let sentence = chosen(Some(ring), Some(NOMEM)).unwrap_err();
        assert!(sentence.contains("this host refuses io_uring: cannot"), "{sentence}");
        assert!(sentence.contains("RLIMIT_MEMLOCK"), "{sentence}");
        assert!(sentence.contains("write \"auto\" or \"epoll\""), "{sentence}");
    }
}

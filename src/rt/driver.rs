//! Which kernel interface carries a shard: chosen once, by a probe with the real flags.

use std::io;

use crate::args::cause;

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

/// Chooses a driver; `wanted` is `None` for "auto".
///
/// # Errors
/// io_uring was demanded and this host refuses it: the sentence says what the kernel answered and
/// what to do.
pub fn choose(wanted: Option<Driver>) -> Result<Choice, String> {
    if wanted == Some(Driver::Epoll) {
        return Ok(Choice { driver: Driver::Epoll, reason: "asked for by runtime.driver".into() });
    }
    let refusal = match super::ring::probe() {
        Ok(()) => return Ok(Choice { driver: Driver::IoUring, reason: String::new() }),
        Err(error) => explain(&error),
    };
    match wanted {
        Some(_) => Err(format!(
            "runtime.driver = \"io_uring\": this host refuses io_uring: {refusal} \
             (write \"auto\" or \"epoll\", or allow io_uring)"
        )),
        None => Ok(Choice { driver: Driver::Epoll, reason: format!("no io_uring: {refusal}") }),
    }
}

/// What the kernel answered, and what it means.
pub(super) fn explain(error: &io::Error) -> String {
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

//! What wakes a shard from another thread.

use std::{io, os::fd::OwnedFd};

use rustix::event::EventfdFlags;

/// Wakes a shard from another thread.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A bell for a shard that may not run yet; what is rung before is answered then.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Bell> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Bell(rustix::event::eventfd(0, flags)?))
    }

    /// A second descriptor of it, to be waited on.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn watched(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Rings; never blocks (an eventfd that is full has rung already).
    pub fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

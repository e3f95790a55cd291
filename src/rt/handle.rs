//! A descriptor that is registered with its shard's engine.

use std::os::fd::{BorrowedFd, RawFd};

use super::try_with_local;

/// A registered descriptor, by its place in the engine's table; given up with the handle.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) place: u32,
    pub(super) fd: RawFd,
}

impl Handle {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the engine owns the descriptor and keeps it open while this handle lives.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        try_with_local(|local| local.engine.orphan(self.place));
    }
}

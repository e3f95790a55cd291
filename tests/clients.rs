//! Whose connections are taken.

mod kit;

#[path = "clients/access.rs"]
mod access;

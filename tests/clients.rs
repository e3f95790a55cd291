//! Whose connections are taken, and what a server is told of its client.

mod kit;

#[path = "clients/access.rs"]
mod access;
#[path = "clients/proxy_header.rs"]
mod proxy_header;

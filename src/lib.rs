//! Ringway: an edge load balancer and sidecar proxy for Linux.
#![allow(missing_docs)]

pub mod args;
pub mod backend;
pub mod bench;
pub mod child;
pub mod cli;
pub mod config;
pub mod demo;

//! Ringway: an edge load balancer and sidecar proxy for Linux.
#![allow(missing_docs)]

pub mod backend;
pub mod bench;
pub mod bridge;
pub mod cli;
pub mod config;
pub mod counter;
pub mod demo;
pub mod hist;
pub mod rt;
pub mod sock;

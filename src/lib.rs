//! Ringway: an edge load balancer and sidecar proxy for Linux.
#![allow(missing_docs)]

pub mod args;
pub mod backend;
pub mod bench;
pub mod bridge;
pub mod child;
pub mod cli;
pub mod config;
pub mod coordinator;
pub mod counter;
pub mod demo;
pub mod health;
pub mod hist;
pub mod limits;
pub mod log;
pub mod rt;
pub mod run;
pub mod shard;
pub mod sock;

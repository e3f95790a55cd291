//! What the coordinator shows: pages, metrics and lines, from what is known and what shards counted.

pub mod events;
pub mod gather;
pub mod histograms;
pub mod metrics;
pub mod page;
pub mod panics;
pub mod pressure;
pub mod ready;
pub mod report;
pub mod seconds;
pub mod stats;

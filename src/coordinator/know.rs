//! What the coordinator knows of backends: who they are, whether they are well, and what changed.

pub mod check;
pub mod counts;
pub mod events;
pub mod lookups;
pub mod names;
pub mod pools;
mod probe;

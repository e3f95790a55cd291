//! The phases of everything that has some: one shape for what a shard records and for what the
//! coordinator keeps of it.

use super::{
    Plan,
    phases::{BackendLatency, ListenerLatency},
};
use crate::hist::{Kind, Latency};

/// One `L` for each phase; of a shard all its histograms, exchanged whole.
#[derive(Debug)]
pub struct Histograms<L = Latency> {
    /// In the order of the plan.
    pub listeners: Vec<ListenerLatency<L>>,
    /// By slot.
    pub backends: Vec<BackendLatency<L>>,
}

impl<L> Histograms<L> {
    /// What `make` gives, for everything in `plan`.
    pub fn new(plan: &Plan, make: impl Fn(Kind) -> L) -> Self {
        Histograms {
            listeners: plan.listeners.iter().map(|_| ListenerLatency::new(&make)).collect(),
            backends: (0..plan.slots).map(|_| BackendLatency::new(&make)).collect(),
        }
    }

    /// All phases, listeners first.
    pub fn each(&self) -> impl Iterator<Item = &L> {
        let listeners = self.listeners.iter().flat_map(ListenerLatency::phases);
        let backends = self.backends.iter().flat_map(BackendLatency::phases);
        listeners.map(|(_, phase)| phase).chain(backends.map(|(_, phase)| phase))
    }

    /// The same, to change them.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut L> {
        let listeners = self.listeners.iter_mut().flat_map(ListenerLatency::each_mut);
        let backends = self.backends.iter_mut().flat_map(BackendLatency::each_mut);
        listeners.chain(backends)
    }
}

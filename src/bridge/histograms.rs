//! The phases of everything that has some: one shape for what a shard records and for what the
//! coordinator keeps of it.

use super::Plan;
use crate::hist::{Kind, Latency};

/// One `L` for each phase; of a shard all its histograms, exchanged whole.
#[derive(Debug)]
pub struct Histograms<L = Latency> {
    /// In the order of the plan.
    pub listeners: Vec<ListenerLatency<L>>,
    /// By slot.
    pub backends: Vec<BackendLatency<L>>,
}

/// The phases of a listener.
#[derive(Debug)]
pub struct ListenerLatency<L> {
    /// Accept to established, failovers included.
    pub connect: L,
    /// Accept to the first byte received from the server.
    pub first_byte: L,
    /// Accept to both sockets closed.
    pub session: L,
}

/// The phases of a backend.
#[derive(Debug)]
pub struct BackendLatency<L> {
    /// One dial, successes only.
    pub connect: L,
    /// Established to the first byte received.
    pub first_byte: L,
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

impl<L> ListenerLatency<L> {
    /// What `make` gives for each phase.
    pub fn new(make: impl Fn(Kind) -> L) -> Self {
        let [connect, first_byte] = [Kind::Listener; 2].map(&make);
        ListenerLatency { connect, first_byte, session: make(Kind::Session) }
    }

    /// Name and content of each phase.
    pub fn phases(&self) -> [(&'static str, &L); 3] {
        [("connect", &self.connect), ("first_byte", &self.first_byte), ("session", &self.session)]
    }

    /// The phases in the same order, to change them.
    pub fn each_mut(&mut self) -> [&mut L; 3] {
        [&mut self.connect, &mut self.first_byte, &mut self.session]
    }
}

impl<L> BackendLatency<L> {
    fn new(make: impl Fn(Kind) -> L) -> Self {
        let [connect, first_byte] = [Kind::Backend; 2].map(make);
        BackendLatency { connect, first_byte }
    }

    /// Name and content of each phase.
    pub fn phases(&self) -> [(&'static str, &L); 2] {
        [("connect", &self.connect), ("first_byte", &self.first_byte)]
    }

    /// The phases in the same order, to change them.
    pub fn each_mut(&mut self) -> [&mut L; 2] {
        [&mut self.connect, &mut self.first_byte]
    }
}

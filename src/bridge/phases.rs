//! The phases whose latency is recorded: closed sets, and one value for each phase of such a set.

use std::{
    array,
    marker::PhantomData,
    ops::{Index, IndexMut},
};

use crate::hist::Kind;

/// A phase in the life of something.
pub trait Phase: Copy + 'static {
    /// All of its set, in index order.
    const ALL: &'static [Self];

    /// Its place among them.
    fn index(self) -> usize;

    /// The word in `/stats`, and a label value in `/metrics`.
    fn name(self) -> &'static str;

    /// What its histogram can hold.
    fn kind(self) -> Kind;
}

/// A set of phases, a line for each: what it is, its word, what its histogram can hold.
macro_rules! phases {
    (
        $(#[$of:meta])* $set:ident {
            $($(#[$what:meta])* $phase:ident: $name:literal, $kind:ident;)+
        }
    ) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $set {
            $($(#[$what])* $phase,)+
        }

        impl $set {
            /// How many there are.
            pub const COUNT: usize = [$($set::$phase),+].len();
        }

        impl Phase for $set {
            const ALL: &'static [$set] = &[$($set::$phase),+];

            fn index(self) -> usize {
                self as usize
            }

            fn name(self) -> &'static str {
                match self {
                    $($set::$phase => $name,)+
                }
            }

            fn kind(self) -> Kind {
                match self {
                    $($set::$phase => Kind::$kind,)+
                }
            }
        }
    };
}

phases! {
    /// Of a connection to a listener, from its accept.
    ListenerPhase {
        /// To established, failovers included.
        Connect: "connect", Listener;
        /// To the first byte received from the server.
        FirstByte: "first_byte", Listener;
        /// To both sockets closed.
        Session: "session", Session;
    }
}

phases! {
    /// Of a connection to a backend.
    BackendPhase {
        /// One dial, successes only.
        Connect: "connect", Backend;
        /// Established to the first byte received.
        FirstByte: "first_byte", Backend;
    }
}

/// One `L` for each phase of a set.
#[derive(Debug)]
pub struct Phases<P, L, const N: usize>([L; N], PhantomData<P>);

/// One for each phase of a listener.
pub type ListenerLatency<L> = Phases<ListenerPhase, L, { ListenerPhase::COUNT }>;

/// One for each phase of a backend.
pub type BackendLatency<L> = Phases<BackendPhase, L, { BackendPhase::COUNT }>;

impl<P: Phase, L, const N: usize> Phases<P, L, N> {
    /// What `make` gives for each phase.
    pub fn new(make: impl Fn(Kind) -> L) -> Self {
        Phases(array::from_fn(|at| make(P::ALL[at].kind())), PhantomData)
    }

    /// Name and content of each phase.
    pub fn phases(&self) -> [(&'static str, &L); N] {
        array::from_fn(|at| (P::ALL[at].name(), &self.0[at]))
    }

    /// The phases in the same order, to change them.
    pub fn each_mut(&mut self) -> [&mut L; N] {
        self.0.each_mut()
    }
}

impl<P: Phase, L, const N: usize> Index<P> for Phases<P, L, N> {
    type Output = L;

    fn index(&self, phase: P) -> &L {
        &self.0[phase.index()]
    }
}

impl<P: Phase, L, const N: usize> IndexMut<P> for Phases<P, L, N> {
    fn index_mut(&mut self, phase: P) -> &mut L {
        &mut self.0[phase.index()]
    }
}

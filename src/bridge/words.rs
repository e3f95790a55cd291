//! The closed sets of the contract: why a connection ended, why one was refused, why a dial failed.
//! Each word is a name in `/stats` and a label value in `/metrics`.

/// Which of the two sockets of a relayed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The socket that was accepted.
    Client,
    /// The socket that was dialed.
    Server,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

impl Direction {
    /// Both, in index order.
    pub const ALL: [Direction; 2] = [Direction::Up, Direction::Down];

    /// The side that bytes come from.
    pub fn source(self) -> Side {
        match self {
            Direction::Up => Side::Client,
            Direction::Down => Side::Server,
        }
    }

    /// The one that ends at this side.
    pub fn to(side: Side) -> Direction {
        match side {
            Side::Client => Direction::Down,
            Side::Server => Direction::Up,
        }
    }

    /// The word in `/metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Up => "up",
            Direction::Down => "down",
        }
    }
}

/// How bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Through a buffer of ours.
    Copied,
    /// Through a pipe, inside the kernel.
    Spliced,
}

impl Path {
    /// Both, in index order.
    pub const ALL: [Path; 2] = [Path::Copied, Path::Spliced];

    /// The word in `/metrics`.
    pub fn name(self) -> &'static str {
        match self {
            Path::Copied => "copied",
            Path::Spliced => "spliced",
        }
    }
}

/// Why a connection ended; exactly one for each accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Both sides finished, the client first.
    ClientFin,
    /// Both sides finished, the server first.
    ServerFin,
    /// The client reset it, also while we were dialing.
    ClientReset,
    /// The server reset it.
    ServerReset,
    /// All dials failed, the last one was refused.
    ConnectRefused,
    /// All dials failed, the last one was not answered within `connect_timeout`.
    ConnectTimeout,
    /// All dials failed, the last one found no route or no host.
    ConnectUnreachable,
    /// All dials failed, the last one for want of a local port, descriptor, memory or permission.
    ConnectLocal,
    /// No backend could be tried.
    NoBackend,
    /// No byte in either direction for `idle_timeout`.
    IdleTimeout,
    /// One direction ended, the other silent for `half_close_timeout`.
    HalfCloseTimeout,
    /// Not given yet: connections have no maximum age.
    MaxAge,
    /// Cut at the end of a drain.
    Drained,
    /// Refused before a pick for want of a place; [`Refusal`] says of which.
    Overload,
    /// Refused before a pick: the listener's `allow` or `deny` does not want the client, or it is a
    /// dial of our own, too many deep.
    Denied,
    /// Not given yet: a backend that goes keeps its connections.
    BackendRemoved,
    /// Cut because the check of its backend failed.
    BackendUnhealthy,
    /// Not given yet: there is no planned mischief.
    Chaos,
    /// Not given yet: TCP has no protocol to break.
    ProtocolError,
    /// A relay was over without a reason, or the kernel lost a completion of it.
    InternalError,
}

impl EndReason {
    /// All, in index order.
    pub const ALL: [EndReason; 20] = [
        EndReason::ClientFin,
        EndReason::ServerFin,
        EndReason::ClientReset,
        EndReason::ServerReset,
        EndReason::ConnectRefused,
        EndReason::ConnectTimeout,
        EndReason::ConnectUnreachable,
        EndReason::ConnectLocal,
        EndReason::NoBackend,
        EndReason::IdleTimeout,
        EndReason::HalfCloseTimeout,
        EndReason::MaxAge,
        EndReason::Drained,
        EndReason::Overload,
        EndReason::Denied,
        EndReason::BackendRemoved,
        EndReason::BackendUnhealthy,
        EndReason::Chaos,
        EndReason::ProtocolError,
        EndReason::InternalError,
    ];

    /// The word of the contract.
    pub fn name(self) -> &'static str {
        match self {
            EndReason::ClientFin => "client_fin",
            EndReason::ServerFin => "server_fin",
            EndReason::ClientReset => "client_reset",
            EndReason::ServerReset => "server_reset",
            EndReason::ConnectRefused => "connect_refused",
            EndReason::ConnectTimeout => "connect_timeout",
            EndReason::ConnectUnreachable => "connect_unreachable",
            EndReason::ConnectLocal => "connect_local",
            EndReason::NoBackend => "no_backend",
            EndReason::IdleTimeout => "idle_timeout",
            EndReason::HalfCloseTimeout => "half_close_timeout",
            EndReason::MaxAge => "max_age",
            EndReason::Drained => "drained",
            EndReason::Overload => "overload",
            EndReason::Denied => "denied",
            EndReason::BackendRemoved => "backend_removed",
            EndReason::BackendUnhealthy => "backend_unhealthy",
            EndReason::Chaos => "chaos",
            EndReason::ProtocolError => "protocol_error",
            EndReason::InternalError => "internal_error",
        }
    }

    /// Whether it counts as an error in `/stats/history` and on the page: every end but the two
    /// FINs and what ends by plan: a drain, an age, a backend that goes.
    pub fn is_error(self) -> bool {
        use EndReason::{BackendRemoved, ClientFin, Drained, MaxAge, ServerFin};
        ![ClientFin, ServerFin, MaxAge, Drained, BackendRemoved].contains(&self)
    }

    /// Whether it is an error that the proxy or a backend may have to answer for: not what the
    /// client did or left undone, nor what the file asks for.
    pub fn is_failure(self) -> bool {
        use EndReason::{Chaos, ClientReset, Denied, HalfCloseTimeout, IdleTimeout};
        let of_others = [ClientReset, IdleTimeout, HalfCloseTimeout, Denied, Chaos];
        self.is_error() && !of_others.contains(&self)
    }

    /// A reset by that side.
    pub fn reset_by(side: Side) -> EndReason {
        match side {
            Side::Client => EndReason::ClientReset,
            Side::Server => EndReason::ServerReset,
        }
    }

    /// A FIN that was read from that side first.
    pub fn fin_by(side: Side) -> EndReason {
        match side {
            Side::Client => EndReason::ClientFin,
            Side::Server => EndReason::ServerFin,
        }
    }

    /// The side that reset the connection, if one did.
    pub fn reset_side(self) -> Option<Side> {
        match self {
            EndReason::ClientReset => Some(Side::Client),
            EndReason::ServerReset => Some(Side::Server),
            _ => None,
        }
    }
}

/// Why a connection was closed before a backend was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `listener.max_connections` reached.
    ListenerFull,
    /// `runtime.max_connections` reached.
    RuntimeFull,
    /// The process is out of descriptors.
    Descriptors,
    /// The listener's `allow` or `deny` does not want the client.
    Denied,
    /// Every backend that is left has `backend.max_connections`.
    BackendsFull,
    /// The client has `listener.max_connections_per_source`, or no slot is left to count it.
    SourceFull,
    /// Too many of our own dials are above it: a pool leads back to its listener.
    Loop,
}

impl Refusal {
    /// All, in index order.
    pub const ALL: [Refusal; 7] = [
        Refusal::ListenerFull,
        Refusal::RuntimeFull,
        Refusal::Descriptors,
        Refusal::Denied,
        Refusal::BackendsFull,
        Refusal::SourceFull,
        Refusal::Loop,
    ];

    /// The word in `/stats`.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::ListenerFull => "listener_max_connections",
            Refusal::RuntimeFull => "runtime_max_connections",
            Refusal::Descriptors => "descriptors",
            Refusal::Denied => "denied",
            Refusal::BackendsFull => "backend_max_connections",
            Refusal::SourceFull => "source_max_connections",
            Refusal::Loop => "loop",
        }
    }

    /// How such a connection ended.
    pub fn end_reason(self) -> EndReason {
        match self {
            Refusal::Denied | Refusal::Loop => EndReason::Denied,
            _ => EndReason::Overload,
        }
    }
}

/// What went wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The dial was refused, or failed in a way no other word names.
    Refused,
    /// The dial was not answered within `connect_timeout`.
    Timeout,
    /// No route to the host, or it is down.
    Unreachable,
    /// Our own fault: no local port, descriptor, memory or permission.
    Local,
    /// Reset before it sent anything.
    ResetBeforeFirstByte,
    /// Closed without a byte although the client had sent some.
    ClosedBeforeFirstByte,
}

impl Failure {
    /// All, in index order.
    pub const ALL: [Failure; 6] = [
        Failure::Refused,
        Failure::Timeout,
        Failure::Unreachable,
        Failure::Local,
        Failure::ResetBeforeFirstByte,
        Failure::ClosedBeforeFirstByte,
    ];

    /// The word in `/stats`.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Refused => "refused",
            Failure::Timeout => "timeout",
            Failure::Unreachable => "unreachable",
            Failure::Local => "local",
            Failure::ResetBeforeFirstByte => "reset_before_first_byte",
            Failure::ClosedBeforeFirstByte => "closed_before_first_byte",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_order_is_declaration_order() {
        assert!(EndReason::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
        assert!(Refusal::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
        assert!(Failure::ALL.iter().enumerate().all(|(i, r)| *r as usize == i));
    }
}

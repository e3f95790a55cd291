//! Why a name could not be looked up.

/// Why a name could not be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// NXDOMAIN.
    NoSuchName,
    /// It exists, and has nothing of what was asked for.
    Empty,
    /// The server does not talk to us.
    Refused,
    /// The server cannot tell: its code.
    Server(String),
    /// Nobody answered.
    Timeout,
    /// The answer, or the way to the server, is broken.
    Broken(String),
}

impl Why {
    /// True exactly when the server has answered: that there is nothing.
    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Why::NoSuchName | Why::Empty)
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::NoSuchName => f.write_str("no such name"),
            Why::Empty => f.write_str("the name has no address"),
            Why::Refused => f.write_str("the server refuses to answer"),
            Why::Server(code) => write!(f, "the server cannot tell ({code})"),
            Why::Timeout => f.write_str("no server answered in time"),
            Why::Broken(cause) => write!(f, "no usable answer ({cause})"),
        }
    }
}

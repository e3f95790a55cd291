//! Faults that tests plant. In the product each of these is a constant that the compiler drops.

/// A bug of ours that a test plants, to see that the simulation finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A FIN is passed on although bytes that came before it wait in the inbox.
    FinOvertakes,
    /// What an abandoned socket had received is not given back to the ring.
    BufferKept,
    /// A slot is used again while an operation names it, and the births are not compared.
    SlotReused,
    /// A receive that was stopped is taken for one that goes on.
    StoppedForEver,
    /// A reset that a send met, and whose task has not run since, is taken for a FIN.
    ResetIsFin,
    /// A receive that has to end is not cancelled.
    NeverStopped,
    /// Of a send that was cut short the bytes are counted twice.
    CountedTwice,
    /// A connection that ended in a reset is not recorded.
    Unrecorded,
    /// A pipe with bytes in it is lent to the next one.
    PipeWithResidue,
    /// An end is taken for a FIN although a send to that side is not over.
    FinWhileSending,
    /// Nothing is looked at again when the kernel has lost a completion.
    LossIgnored,
    /// A short receive counts as the last one although the end, told once, stands behind it.
    EndForgotten,
    /// A receive that ran short of memory counts as one that found nothing.
    ShortageIsEmpty,
    /// A splice that stands before an urgent byte counts as one that found nothing.
    UrgentForgotten,
}

/// Whether this thread's simulation has that bug planted.
#[cfg(test)]
pub(crate) fn has(bug: Bug) -> bool {
    crate::sim::has_planted(bug)
}

/// Never, outside tests.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn has(_: Bug) -> bool {
    false
}

/// Where a panic can be planted in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It has its places, and nobody was picked yet.
    Admitted,
    /// A server was picked.
    Picked,
    /// The dial has begun.
    Dialing,
    /// The server has accepted.
    Connected,
    /// Bytes of the client were received, and not sent.
    CopyUp,
    /// Bytes of the server were received, and not sent.
    CopyDown,
    /// A pipe has bytes in it.
    Splice,
    /// A sink is full, and bytes are held for it.
    SinkFull,
    /// One side has ended.
    HalfClosed,
    /// A reset is passed on.
    ResetPassedOn,
    /// It was taken from the queue: the accepting task's work, not its own.
    Accepted,
    /// What a shard's connections share is being changed.
    Changing,
}

/// Panics where `RINGWAY_PLANT_PANICS` is set and the client comes from the place's own address:
/// 127.0.0.100 and so on, in the order of [`Place`].
#[cfg(debug_assertions)]
#[track_caller]
pub(crate) fn panic_at(place: Place, client: std::net::SocketAddr) {
    static PLANTED: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var_os("RINGWAY_PLANT_PANICS").is_some());
    let its_own = std::net::Ipv4Addr::new(127, 0, 0, 100 + place as u8);
    assert!(!*PLANTED || client.ip() != its_own, "planted: {place:?}");
}

/// Not in the product.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn panic_at(_: Place, _: std::net::SocketAddr) {}

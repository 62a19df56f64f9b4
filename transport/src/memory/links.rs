use std::{
    collections::BTreeSet,
    fmt,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::plane::Plane;

/// Decides what happens to each message between two addresses. Asked again for a message of a stream that was lost, as
/// often as it would be sent again.
pub trait Links: Send + Sync + 'static {
    /// Decides on one message. Streams keep their order whatever the delays.
    fn carry(&self, from: SocketAddr, to: SocketAddr, plane: Plane, parcel: Parcel) -> Carry;
}

/// One message on a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parcel {
    /// Part of a stream or of the connection's own upkeep: sent again when lost.
    Reliable {
        /// Its bytes.
        len: usize,
    },
    /// A datagram: gone when lost.
    Datagram {
        /// Its bytes.
        len: usize,
    },
}

/// What a link does with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carry {
    /// Delivers it after this long.
    After(Duration),
    /// Loses it.
    Lost,
}

/// Links that deliver everything at once.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Links for Direct {
    fn carry(&self, _from: SocketAddr, _to: SocketAddr, _plane: Plane, _parcel: Parcel) -> Carry {
        Carry::After(Duration::ZERO)
    }
}

/// Links with one delay for all, which can be cut one way and healed.
pub struct Switchboard {
    state: Mutex<Wiring>,
}

struct Wiring {
    delay: Duration,
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
}

impl Switchboard {
    /// Makes whole links with a delay.
    pub fn new(delay: Duration) -> Self {
        Self { state: Mutex::new(Wiring { delay, cut: BTreeSet::new() }) }
    }

    /// Changes the delay of what is sent from then on.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Loses everything from one address to another, one way.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.lock().cut.insert((from, to));
    }

    /// Loses everything between two addresses.
    pub fn part(&self, one: SocketAddr, other: SocketAddr) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Makes all links whole.
    pub fn heal(&self) {
        self.lock().cut.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Wiring> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links for Switchboard {
    fn carry(&self, from: SocketAddr, to: SocketAddr, _plane: Plane, _parcel: Parcel) -> Carry {
        let wiring = self.lock();
        if wiring.cut.contains(&(from, to)) { Carry::Lost } else { Carry::After(wiring.delay) }
    }
}

impl fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Switchboard")
    }
}

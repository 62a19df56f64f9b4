//! Members: who they are and what is known about them.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Identifies an agent for its whole life: its node id. It survives restarts and changes of address.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct MemberId(pub [u8; 16]);

impl fmt::Display for MemberId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                out.write_str("-")?;
            }
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Counts the lives of a member: a higher one replaces a lower one everywhere, at once. It only ever grows, across
/// restarts too, which is why the caller keeps it on disk (see [`crate::Output::Persist`]).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Incarnation(pub u64);

/// What a member is at present, as seen from here.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Status {
    /// It answers, or others say that it does.
    Alive,
    /// It answers neither us nor those whom we asked. A private opinion: only a failure is told to others.
    Suspect,
    /// Someone waited long enough and declared it failed. It may come back by itself.
    Failed,
    /// It left on purpose, or was made to leave. It comes back only by joining again.
    Left,
}

impl Status {
    /// Whether the member counts as present.
    pub fn is_active(self) -> bool {
        match self {
            Self::Alive | Self::Suspect => true,
            Self::Failed | Self::Left => false,
        }
    }
}

/// What is known about one member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is.
    pub id: MemberId,
    /// Where its gossip arrives.
    pub addr: SocketAddr,
    /// Its latest life.
    pub incarnation: Incarnation,
    /// How it is.
    pub status: Status,
    /// What it says about itself. Absent for the moment between hearing of a member and hearing from it.
    pub digest: Option<Arc<Digest>>,
}

/// Who we are, given at the start.
#[derive(Clone, Debug)]
pub struct Me {
    /// Our node id.
    pub id: MemberId,
    /// Where others reach us: never an unspecified address.
    pub addr: SocketAddr,
    /// The last value of [`crate::Output::Persist`] that was written, zero on the first start ever. Our next life is one
    /// above it.
    pub persisted: Incarnation,
    /// What we say about ourselves.
    pub digest: Digest,
}

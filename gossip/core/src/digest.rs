//! What a member says about itself.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::member::Incarnation;

/// Most bytes of an encoded digest. A digest travels beside other news in one packet of 1,300 bytes or so, and every
/// member keeps the digest of every other.
pub const DIGEST_BYTES_MAX: usize = 512;

/// Encoding of the digests that this build writes. A reader takes what it knows from a later one and passes all of it on.
const DIGEST_FORMAT: u8 = 1;

/// What kind of agent a member is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Role {
    /// Holds the region's state. Failures are reported to servers directly.
    Server,
    /// Runs tasks.
    #[default]
    Client,
}

/// What a member is about to do.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Flags {
    /// Takes no more work.
    pub draining: bool,
    /// Is shutting down on purpose.
    pub leaving: bool,
}

/// What a member says about itself, known to all. Small: [`DIGEST_BYTES_MAX`] bounds its encoding.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Digest {
    /// Its name, unique by convention only.
    pub name: String,
    /// Server or client.
    pub role: Role,
    /// Its region.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The version of the agent.
    pub version: String,
    /// Where it answers requests of agents.
    pub rpc_addr: Option<SocketAddr>,
    /// Where it answers HTTP.
    pub http_addr: Option<SocketAddr>,
    /// How loaded it is, in its own scale. A change of load alone spreads seldom: in a region of ten thousand, once in
    /// some minutes.
    pub load: u16,
    /// What it is about to do.
    pub flags: Flags,
    /// Small facts of servers: raft id, cluster id, expected servers.
    pub tags: BTreeMap<String, String>,
}

/// Why a digest can not be told to others.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DigestError {
    /// Ours is too large; nothing was changed. Shorten its tags.
    #[error("digest takes {bytes} bytes, at most {DIGEST_BYTES_MAX} can be told: shorten its tags")]
    TooLarge {
        /// What it takes.
        bytes: usize,
    },
    /// Bytes that are no digest. Nothing was changed.
    #[error("digest is malformed")]
    Malformed,
    /// The digest is of a later format that shares nothing with ours.
    #[error("digest has format {format}, which this version can not read")]
    Format {
        /// What it says.
        format: u8,
    },
}

impl Digest {
    /// Encodes the digest.
    ///
    /// # Errors
    /// [`DigestError::TooLarge`] when it would not fit beside other news.
    pub fn encode(&self) -> Result<Vec<u8>, DigestError> {
        let bytes = postcard::to_extend(self, vec![DIGEST_FORMAT]).map_err(|_| DigestError::Malformed)?;
        match bytes.len() {
            fits if fits <= DIGEST_BYTES_MAX => Ok(bytes),
            bytes => Err(DigestError::TooLarge { bytes }),
        }
    }

    /// Reads a digest. Fields that a later version adds at the end are ignored.
    ///
    /// # Errors
    /// [`DigestError::Malformed`], [`DigestError::Format`] or [`DigestError::TooLarge`]; bad bytes never panic.
    pub fn decode(bytes: &[u8]) -> Result<Self, DigestError> {
        if bytes.len() > DIGEST_BYTES_MAX {
            return Err(DigestError::TooLarge { bytes: bytes.len() });
        }
        match bytes.split_first() {
            Some((&DIGEST_FORMAT, body)) => postcard::take_from_bytes(body)
                .map(|(digest, _later)| digest)
                .map_err(|_| DigestError::Malformed),
            Some((&format, _)) => Err(DigestError::Format { format }),
            None => Err(DigestError::Malformed),
        }
    }

    /// Whether nothing but the load differs.
    pub(crate) fn differs_in_load_only(&self, other: &Self) -> bool {
        Self { load: 0, ..self.clone() } == Self { load: 0, ..other.clone() }
    }
}

/// Orders what a member says: by its life, then by how often it changed its mind in it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Stamp {
    pub(crate) incarnation: Incarnation,
    pub(crate) version: u32,
}

/// A digest as packets carry it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Saying {
    pub(crate) stamp: Stamp,
    /// Passed on as it came, with all that is not understood.
    pub(crate) raw: Bytes,
}

/// A digest that is kept: as it came, and as far as it is understood.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) stamp: Stamp,
    pub(crate) raw: Bytes,
    /// Absent when a later version wrote it in a way that shares nothing with ours.
    pub(crate) digest: Option<Arc<Digest>>,
}

impl Told {
    pub(crate) fn keep(saying: &Saying) -> Self {
        // A copy, since the bytes may be a small part of a long list.
        let raw = Bytes::copy_from_slice(&saying.raw);
        Self { stamp: saying.stamp, digest: Digest::decode(&raw).ok().map(Arc::new), raw }
    }

    pub(crate) fn saying(&self) -> Saying {
        Saying { stamp: self.stamp, raw: self.raw.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_does_not_fit_is_refused() {
        let mut digest = Digest::default();
        digest.tags.insert("long".into(), "x".repeat(DIGEST_BYTES_MAX));
        assert!(matches!(digest.encode(), Err(DigestError::TooLarge { bytes }) if bytes > DIGEST_BYTES_MAX));
    }

    #[test]
    fn a_format_of_the_future_is_named() {
        assert_eq!(Digest::decode(&[9, 1, 2]), Err(DigestError::Format { format: 9 }));
        assert_eq!(Digest::decode(&[]), Err(DigestError::Malformed));
    }

    #[test]
    fn only_load_counts_as_load() {
        let idle = Digest::default();
        let busy = Digest { load: 7, ..Digest::default() };
        let draining = Digest { flags: Flags { draining: true, leaving: false }, ..Digest::default() };
        assert!(idle.differs_in_load_only(&busy));
        assert!(!idle.differs_in_load_only(&draining));
    }
}

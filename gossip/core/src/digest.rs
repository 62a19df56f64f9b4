//! What a member says about itself.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

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

use std::fmt;

use bytes::Bytes;
use ring::digest;

use crate::types::{LogPoint, Members, Payload, Record};

/// The version of the envelope that this build writes.
pub const ENTRY_VERSION: u8 = 1;

const CRC_AT: usize = 4;
const CRC_END: usize = 8;
const INDEX_AT: usize = 8;
const TERM_AT: usize = 16;
const HASH_AT: usize = 24;
const BODY_AT: usize = HASH_AT + CHAIN_HASH_LEN;
const CHAIN_HASH_LEN: usize = 16;

const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERS: u8 = 2;

/// The first 16 bytes of a SHA-256: it ties an entry to all before it in this log.
///
/// A chain starts anew behind a snapshot that came from elsewhere, so two servers may hash one entry differently.
#[derive(Clone, Copy, Default, Eq, PartialEq)]
pub struct ChainHash(pub [u8; CHAIN_HASH_LEN]);

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl ChainHash {
    /// Hashes an envelope, whose header holds the hash of the one before.
    pub fn of(envelope: &[u8]) -> Self {
        let full = digest::digest(&digest::SHA256, envelope);
        let mut short = [0; CHAIN_HASH_LEN];
        short.copy_from_slice(&full.as_ref()[..CHAIN_HASH_LEN]);
        Self(short)
    }

    /// Starts a chain behind an entry whose bytes this server never had.
    pub fn anchor(point: LogPoint) -> Self {
        let mut text = [0; 22];
        text[..6].copy_from_slice(b"anchor");
        text[6..14].copy_from_slice(&point.term.to_le_bytes());
        text[14..].copy_from_slice(&point.index.to_le_bytes());
        Self::of(&text)
    }
}

/// Why bytes are no entry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeEntryError {
    /// Fewer bytes than a header.
    #[error("the entry is only {len} bytes long")]
    Short {
        /// How many there are.
        len: usize,
    },
    /// Written by a version of Wayfarer that this one does not know.
    #[error("entry version {version} is unknown; this build reads version {ENTRY_VERSION}")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The bytes changed since they were written.
    #[error("the checksum does not match")]
    Checksum,
    /// A kind of entry that this build does not know.
    #[error("entry kind {kind} is unknown")]
    Kind {
        /// The kind found.
        kind: u8,
    },
    /// The list of members can not be read.
    #[error("the members can not be read: {reason}")]
    Members {
        /// What is wrong.
        reason: String,
    },
}

/// Encodes an entry and the hash of the one before it as it stands on disk.
///
/// The layout, little-endian: version (1), kind (1), zero (2), crc32 of all other bytes (4), index (8), term (8),
/// hash of the entry before (16), body.
pub fn encode_entry(record: &Record, previous: ChainHash) -> Vec<u8> {
    let members;
    let (kind, body): (u8, &[u8]) = match &record.payload {
        Payload::Blank => (KIND_BLANK, &[]),
        Payload::Command(bytes) => (KIND_COMMAND, bytes),
        Payload::Members(list) => {
            members = postcard::to_stdvec(list).expect("plain maps and strings always encode");
            (KIND_MEMBERS, &members)
        }
    };
    let mut out = Vec::with_capacity(BODY_AT + body.len());
    out.extend_from_slice(&[ENTRY_VERSION, kind, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&record.point.index.to_le_bytes());
    out.extend_from_slice(&record.point.term.to_le_bytes());
    out.extend_from_slice(&previous.0);
    out.extend_from_slice(body);
    let crc = checksum(&out);
    out[CRC_AT..CRC_END].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes what [`encode_entry`] wrote: the entry and the hash of the one before.
///
/// # Errors
///
/// See [`DecodeEntryError`]. An unknown version or kind is never skipped.
pub fn decode_entry(bytes: &[u8]) -> Result<(Record, ChainHash), DecodeEntryError> {
    if bytes.len() < BODY_AT {
        return Err(DecodeEntryError::Short { len: bytes.len() });
    }
    if bytes[0] != ENTRY_VERSION {
        return Err(DecodeEntryError::Version { version: bytes[0] });
    }
    if checksum(bytes).to_le_bytes() != bytes[CRC_AT..CRC_END] && !mutants::on!("raft-entry-unchecked") {
        return Err(DecodeEntryError::Checksum);
    }
    let body = &bytes[BODY_AT..];
    let payload = match bytes[1] {
        KIND_BLANK => Payload::Blank,
        KIND_COMMAND => Payload::Command(Bytes::copy_from_slice(body)),
        KIND_MEMBERS => Payload::Members(
            postcard::from_bytes::<Members>(body)
                .map_err(|error| DecodeEntryError::Members { reason: error.to_string() })?,
        ),
        kind => return Err(DecodeEntryError::Kind { kind }),
    };
    let mut hash = [0; CHAIN_HASH_LEN];
    hash.copy_from_slice(&bytes[HASH_AT..BODY_AT]);
    let point = LogPoint { term: number(bytes, TERM_AT), index: number(bytes, INDEX_AT) };
    Ok((Record { point, payload }, ChainHash(hash)))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..CRC_AT]);
    hasher.update(&bytes[CRC_END..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Record {
        Record {
            point: LogPoint { term: 3, index: 7 },
            payload: Payload::Command(Bytes::from_static(b"register web")),
        }
    }

    #[test]
    fn every_flipped_bit_of_an_entry_is_noticed() {
        let good = encode_entry(&command(), ChainHash([9; 16]));
        assert_eq!(decode_entry(&good), Ok((command(), ChainHash([9; 16]))));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_entry(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_shortened_entry_is_noticed() {
        let good = encode_entry(&command(), ChainHash::default());
        for len in 0..good.len() {
            assert!(decode_entry(&good[..len]).is_err(), "length {len}");
        }
    }
}

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use super::{ChainHash, ClusterMarker};
use crate::types::{LogPoint, VoteRecord};

/// The version of the mark that this build writes.
pub const MARK_VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"WFMK";
const MARK_LEN: usize = 112;
/// Two slots a page apart: one torn or misdirected write can not damage both.
const SLOT_BYTES: u64 = 4096;
const SLOTS: u64 = 2;

const HAS_LAST: u8 = 1;
const HAS_VOTE: u8 = 2;
const HAS_CLUSTER: u8 = 4;
const VOTE_COMMITTED: u8 = 8;

/// What a server knows about its log without asking the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mark {
    /// Grows with each write; the slot with the greater one counts.
    pub sequence: u64,
    /// The last entry that is durable, and its hash.
    pub last: Option<(LogPoint, ChainHash)>,
    /// The last vote, and how many were given before it.
    pub vote: Option<(VoteRecord, u64)>,
    /// The cluster that the log belongs to.
    pub cluster: Option<ClusterMarker>,
}

/// Why a mark can not be read.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// Neither slot holds what was once written to it.
    #[error("both slots of the mark are damaged")]
    Damaged,
    /// Written by a version of Wayfarer that this one does not know.
    #[error("mark version {version} is unknown; this build reads version {MARK_VERSION}")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The file could not be read or written.
    #[error("the mark can not be read or written")]
    Io(#[from] io::Error),
}

/// Encodes one slot.
///
/// The layout, little-endian: magic (4), version (1), flags (1), zero (2), sequence (8), last: index (8), term (8),
/// hash (16); vote: term (8), node (8), number (8); cluster (16), zero (20), crc32 of all before it (4).
pub fn encode_mark(mark: &Mark) -> [u8; MARK_LEN] {
    let mut out = [0; MARK_LEN];
    let mut flags = 0;
    out[..4].copy_from_slice(&MAGIC);
    out[4] = MARK_VERSION;
    out[8..16].copy_from_slice(&mark.sequence.to_le_bytes());
    if let Some((point, hash)) = mark.last {
        flags |= HAS_LAST;
        out[16..24].copy_from_slice(&point.index.to_le_bytes());
        out[24..32].copy_from_slice(&point.term.to_le_bytes());
        out[32..48].copy_from_slice(&hash.0);
    }
    if let Some((vote, number)) = mark.vote {
        flags |= HAS_VOTE | if vote.committed { VOTE_COMMITTED } else { 0 };
        out[48..56].copy_from_slice(&vote.term.to_le_bytes());
        out[56..64].copy_from_slice(&vote.node.to_le_bytes());
        out[64..72].copy_from_slice(&number.to_le_bytes());
    }
    if let Some(ClusterMarker(cluster)) = mark.cluster {
        flags |= HAS_CLUSTER;
        out[72..88].copy_from_slice(&cluster.to_le_bytes());
    }
    out[5] = flags;
    let crc = crc32fast::hash(&out[..MARK_LEN - 4]);
    out[MARK_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes one slot.
///
/// # Errors
///
/// [`MarkError::Damaged`] for anything that was not written whole, [`MarkError::Version`] for a later format.
pub fn decode_mark(bytes: &[u8]) -> Result<Mark, MarkError> {
    let Some(slot) = bytes.get(..MARK_LEN) else { return Err(MarkError::Damaged) };
    let crc = crc32fast::hash(&slot[..MARK_LEN - 4]).to_le_bytes();
    if slot[..4] != MAGIC || slot[MARK_LEN - 4..] != crc {
        return Err(MarkError::Damaged);
    }
    if slot[4] != MARK_VERSION {
        return Err(MarkError::Version { version: slot[4] });
    }
    let number = |at: usize| u64::from_le_bytes(array(slot, at));
    let flags = slot[5];
    let last = (flags & HAS_LAST != 0).then(|| {
        let point = LogPoint { index: number(16), term: number(24) };
        (point, ChainHash(array(slot, 32)))
    });
    let vote = (flags & HAS_VOTE != 0).then(|| {
        let committed = flags & VOTE_COMMITTED != 0;
        (VoteRecord { term: number(48), node: number(56), committed }, number(64))
    });
    let cluster = (flags & HAS_CLUSTER != 0).then(|| ClusterMarker(u128::from_le_bytes(array(slot, 72))));
    Ok(Mark { sequence: number(8), last, vote, cluster })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The mark's file: two slots, written in turn.
pub(super) struct MarkFile {
    file: File,
    mark: Mark,
    /// The slot whose content is known to be synced. It is not written again before the other one is synced, so that
    /// a power cut may tear one slot at most.
    stable: u64,
    /// Whether something was written that is not synced yet.
    dirty: bool,
}

impl MarkFile {
    /// Reads the mark, if the file is there.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, MarkError> {
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut newest: Option<(Mark, u64)> = None;
        for slot in 0..SLOTS {
            let mut bytes = [0; MARK_LEN];
            if file.read_exact_at(&mut bytes, slot * SLOT_BYTES).is_err() {
                continue;
            }
            match decode_mark(&bytes) {
                Ok(mark) if newest.is_none_or(|(best, _)| mark.sequence > best.sequence) => {
                    newest = Some((mark, slot));
                }
                Ok(_) | Err(MarkError::Damaged) => {}
                Err(error) => return Err(error),
            }
        }
        match newest {
            Some((mark, stable)) => {
                // What was read may stand in the page cache alone.
                file.sync_data()?;
                Ok(Some(Self { file, mark, stable, dirty: false }))
            }
            None => Err(MarkError::Damaged),
        }
    }

    /// Makes a mark that says nothing, durably.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.write_all_at(&vec![0; usize::try_from(SLOT_BYTES * SLOTS).expect("two pages fit a usize")], 0)?;
        let mut mark = Self { file, mark: Mark::default(), stable: 1, dirty: false };
        mark.write(Mark::default())?;
        mark.file.sync_all()?;
        mark.sync()?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(mark)
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) fn dirty(&self) -> bool {
        self.dirty
    }

    /// Writes a mark into the slot that is free. It survives the process; [`MarkFile::sync`] makes it survive the machine.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        let mark = Mark { sequence: self.mark.sequence + 1, ..mark };
        self.file.write_all_at(&encode_mark(&mark), self.free_slot() * SLOT_BYTES)?;
        self.mark = mark;
        self.dirty = true;
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if self.dirty {
            self.stable = self.free_slot();
        }
        self.dirty = false;
        Ok(())
    }

    fn free_slot(&self) -> u64 {
        (self.stable + 1) % SLOTS
    }
}

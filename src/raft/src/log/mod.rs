//! The log on disk or in memory, behind one blocking trait.

mod attempts;
mod entry;
mod fjall;
mod mark;
mod memory;

use std::{io, sync::Arc, time::Duration};

pub use self::{
    entry::{ChainHash, DecodeEntryError, ENTRY_VERSION, decode_entry, encode_entry},
    fjall::{FjallLog, MarkSync, wipe},
    mark::{MARK_VERSION, Mark, MarkError, decode_mark, encode_mark},
    memory::{MemoryDisk, MemoryLog},
};
use crate::types::{LogPoint, Record, VoteRecord};

/// What a store held when it was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// The last entry that was removed because a snapshot covers it.
    pub purged: Option<LogPoint>,
    /// The index of the first entry, or the only one that a first entry could have.
    pub first: u64,
    /// The last entry, or `purged` when there is none.
    pub last: Option<LogPoint>,
    /// The last vote.
    pub vote: Option<VoteRecord>,
    /// An entry known to be committed; perhaps not the last such.
    pub committed: Option<LogPoint>,
    /// The cluster that the log belongs to.
    pub cluster: Option<ClusterMarker>,
}

impl Found {
    /// Tells whether nothing was ever written.
    pub fn is_empty(&self) -> bool {
        self.last.is_none() && self.vote.is_none() && self.purged.is_none()
    }
}

/// Names one cluster for ever, so that the logs of two can never mix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClusterMarker(pub u128);

/// How much a store wrote since it was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Groups of entries that were made durable together.
    pub groups: u64,
    /// Entries in them.
    pub entries: u64,
    /// Syncs of the log.
    pub log_syncs: u64,
    /// Syncs of the mark.
    pub mark_syncs: u64,
}

/// Whether a store has caught up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Settled {
    /// Nothing is left to do.
    Done,
    /// There is more; ask again in the next quiet moment.
    More,
}

/// Why a store could not do what it was asked. All but [`StoreError::Gap`] mean that the store may not be used further.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space left. What was acknowledged is still there.
    #[error("the disk is full")]
    Full {
        /// What the system said.
        source: io::Error,
    },
    /// A read, write or sync failed; what was in flight may or may not be there.
    #[error("log input/output failed")]
    Io {
        /// What the system said.
        source: io::Error,
    },
    /// The engine below refused, or found its own files damaged.
    #[error("the log engine failed: {reason}")]
    Engine {
        /// What it said.
        reason: String,
    },
    /// An entry is not what was written.
    #[error("log entry {index} is damaged: {reason}")]
    Corrupt {
        /// The entry's index.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller tried to append at a place that would leave a hole. Nothing was written.
    #[error("append at {at} would leave a hole: the next index is {expected}")]
    Gap {
        /// Where the caller wanted to append.
        at: u64,
        /// The only index possible.
        expected: u64,
    },
}

impl From<io::Error> for StoreError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { source },
            _ => Self::Io { source },
        }
    }
}

/// Keeps the log, the vote and a few facts. Blocking, with one caller; after an error other than a gap it is used no further.
///
/// Calls take effect in order. Where a call says "durable", a crash of the process or the machine right after it
/// returned changes nothing.
pub trait LogStore: Send + 'static {
    /// Tells what was there when the store was opened.
    fn found(&self) -> Found;

    /// Appends entries that follow the last one. Durable on return. `committed` rides along when given.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn append(&mut self, records: &[Record], committed: Option<LogPoint>) -> Result<(), StoreError>;

    /// Removes every entry after `keep`, or all. Durable on return.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn truncate_after(&mut self, keep: Option<u64>) -> Result<(), StoreError>;

    /// Removes entries up to and with `upto`, which may lie past the last one. That they are gone is durable on return;
    /// their space comes back later.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn purge(&mut self, upto: LogPoint) -> Result<(), StoreError>;

    /// Saves the vote. Durable on return.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), StoreError>;

    /// Saves which cluster this log belongs to. Durable on return.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn save_cluster(&mut self, cluster: ClusterMarker) -> Result<(), StoreError>;

    /// Notes a committed entry. Not durable: losing it costs a slower start, nothing else.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn save_committed(&mut self, committed: LogPoint) -> Result<(), StoreError>;

    /// Catches up with work that may lag behind the appends; called when there is a quiet moment.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn settle(&mut self) -> Result<Settled, StoreError>;

    /// Catches up if the lag has reached its limit; called after a busy store acknowledged a group.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn settle_if_late(&mut self) -> Result<(), StoreError>;

    /// Hands out a reader that works beside the writer.
    fn reader(&self) -> Arc<dyn LogRead>;

    /// Tells how much was written since the store was opened.
    fn counts(&self) -> Counts;

    /// Tells how much simulated time the next call takes. A real store takes its own.
    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// Reads durable entries, from any thread.
pub trait LogRead: Send + Sync + 'static {
    /// Reads the entries in `from..to` that are there, without holes.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    fn read(&self, from: u64, to: u64) -> Result<Vec<Record>, StoreError>;
}

//! Snapshots: one file each, compressed in blocks, each block with its checksum.

mod file;
mod store;

pub use self::file::{SNAPSHOT_VERSION, SnapshotError, check_snapshot};
pub(crate) use self::{
    file::{BlockReader, BlockWriter},
    store::{SnapshotData, SnapshotStore},
};

/// The directory of snapshots below the data directory.
pub(crate) const SNAPSHOT_DIR: &str = "snapshots";

//! Copies of the whole state: taken at one index, and put in the place of what a region runs.

use std::io;

use bytes::Bytes;
use protocol::{Command, RestoreStep};
use raft::LogPoint;
use state::{Capture, Store};
use uuid::Uuid;

use crate::{Server, SubmitError};

/// Bytes of a compressed copy in one command. Small enough that heartbeats and other commands pass between two of them.
const PART_BYTES_MAX: usize = 1 << 20;

/// Largest compressed copy that is taken in: it is in memory and in the log of every server until it is installed.
const COPY_BYTES_MAX: usize = 1 << 30;

/// Level of compression: the fastest is enough, the copy is dropped once it is installed.
const COMPRESSION_LEVEL: i32 = 1;

/// Why a copy did not become the state. Nothing changed, unless [`SubmitError`] says that it may have.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is no copy, or not whole.
    #[error("the copy can not be read: {0}")]
    Unreadable(String),
    /// It is larger than this version takes in.
    #[error("the copy takes {size} bytes compressed, more than the {max} that are taken in")]
    TooLarge {
        /// What it takes.
        size: usize,
        /// What is taken in.
        max: usize,
    },
    /// It was refused or lost on its way.
    #[error("the copy was not installed")]
    Submit(#[from] SubmitError),
}

impl Server {
    /// Takes the state as this server has it, to be written elsewhere, and its place in the log. Constant in time.
    pub fn capture(&self) -> (Capture, LogPoint) {
        let capture = self.raft().with_state(|machine| machine.store().capture());
        let term = self.raft().status().applied.map_or(0, |applied| applied.term);
        let index = capture.index();
        (capture, LogPoint { term, index })
    }

    /// Replaces what the region runs by a copy that [`Capture::write`] wrote, on all servers at one index, and returns
    /// that index. The region keeps its id and who may join it. Only the leader can.
    ///
    /// # Errors
    ///
    /// See [`RestoreError`]. A copy that can not be read is found before anything is sent.
    pub async fn restore(&self, copy: Bytes) -> Result<u64, RestoreError> {
        let packed = self.env().spawn_blocking(move || check_and_pack(&copy)).await;
        let packed = packed.map_err(|error| RestoreError::Unreadable(error.to_string()))??;
        let id = Uuid::from_u128(self.env().random_u128());
        match self.send_parts(id, &packed).await {
            Ok(index) => Ok(index),
            Err(error) => {
                // Should this be lost as well, the next restore drops the parts.
                let given_up = self.submit(&Command::Restore(RestoreStep::Abort { id })).await;
                if let Err(error) = given_up {
                    tracing::warn!(%error, "parts of a restore that failed stay until the next one");
                }
                Err(error.into())
            }
        }
    }

    async fn send_parts(&self, id: Uuid, packed: &Bytes) -> Result<u64, SubmitError> {
        let step = |step| Command::Restore(step);
        self.submit(&step(RestoreStep::Begin { id })).await?;
        let mut parts = 0;
        for start in (0..packed.len()).step_by(PART_BYTES_MAX) {
            let bytes = packed.slice(start..packed.len().min(start + PART_BYTES_MAX));
            self.submit(&step(RestoreStep::Part { id, number: parts, bytes })).await?;
            parts += 1;
        }
        Ok(self.submit(&step(RestoreStep::Install { id, parts })).await?.index)
    }
}

/// Reads the copy as every server will, and packs it.
fn check_and_pack(copy: &Bytes) -> Result<Bytes, RestoreError> {
    let unreadable = |error: &dyn std::error::Error| RestoreError::Unreadable(error.to_string());
    let mut reader: &[u8] = copy;
    Store::restore(&mut reader).map_err(|error| unreadable(&error))?;
    if !reader.is_empty() {
        return Err(RestoreError::Unreadable(format!("{} bytes follow its end", reader.len())));
    }
    let packed = pack(copy).map_err(|error| unreadable(&error))?;
    if packed.len() > COPY_BYTES_MAX {
        return Err(RestoreError::TooLarge { size: packed.len(), max: COPY_BYTES_MAX });
    }
    Ok(packed)
}

fn pack(copy: &[u8]) -> io::Result<Bytes> {
    zstd::bulk::compress(copy, COMPRESSION_LEVEL).map(Bytes::from)
}

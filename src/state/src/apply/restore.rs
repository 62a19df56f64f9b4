use std::io::{self, Read};

use bytes::{Buf, Bytes};
use protocol::RestoreStep;
use uuid::Uuid;

use super::Writer;
use crate::{
    ChangedRow, Refusal, State, Table, image,
    table::{Restore, Staged},
};

impl State {
    /// What indexes of this state are ahead of those of the log.
    pub fn index_offset(&self) -> u64 {
        self.restore.get().map_or(0, |restore| restore.offset)
    }

    /// The restore whose parts are on their way, and how many there are.
    pub fn staged_parts(&self) -> Option<(Uuid, usize)> {
        let staged = self.restore.get()?.staged.as_ref()?;
        Some((staged.id, staged.parts.len()))
    }
}

impl Writer<'_> {
    /// Takes one step of replacing the state by a copy. Only the last one changes what the region runs.
    pub(super) fn restore(&mut self, step: &RestoreStep) -> Result<(), Refusal> {
        let mut restore = self.state.restore.get().map(|row| Restore::clone(row)).unwrap_or_default();
        match step {
            RestoreStep::Begin { id } => restore.staged = Some(Staged { id: *id, parts: Vec::new() }),
            RestoreStep::Part { id, number, bytes } => {
                let staged = restore.staged.as_mut().filter(|staged| staged.id == *id);
                let staged = staged.ok_or(Refusal::RestoreGone)?;
                let at = usize::try_from(*number).map_err(|_| Refusal::RestoreGone)?;
                match staged.parts.get(at) {
                    // Whoever lost the answer to a part sends it again.
                    Some(known) if known == bytes => return Ok(()),
                    None if at == staged.parts.len() => staged.parts.push(bytes.clone()),
                    Some(_) | None => return Err(Refusal::RestoreGone),
                }
            }
            RestoreStep::Install { id, parts } => {
                let staged = restore.staged.filter(|staged| staged.id == *id);
                let whole = staged.filter(|staged| staged.parts.len() as u64 == u64::from(*parts));
                return self.install(whole.ok_or(Refusal::RestoreGone)?, restore.offset);
            }
            RestoreStep::Abort { id } => {
                if restore.staged.as_ref().is_none_or(|staged| staged.id != *id) {
                    return Ok(());
                }
                restore.staged = None;
            }
        }
        self.state.restore.set(restore);
        self.note(ChangedRow::Restore { installed: false });
        Ok(())
    }

    /// Replaces all that the region runs. What makes it this region stays: its id, and who may join it.
    fn install(&mut self, staged: Staged, offset: u64) -> Result<(), Refusal> {
        let unreadable = |reason: String| Refusal::RestoreUnreadable { reason };
        let parts = Parts(staged.parts.into_iter().collect());
        let mut reader =
            zstd::stream::read::Decoder::new(parts).map_err(|error| unreadable(error.to_string()))?;
        let (mut next, _) = image::read(&mut reader).map_err(|error| unreadable(error.to_string()))?;
        let log_index = self.index - offset;
        let index = self.index.max(next.index + 1);
        next.index = index;
        // Every list that someone waits on has changed.
        next.table_indexes = [index; Table::ALL.len()];
        next.cluster = self.state.cluster.clone();
        next.join_tokens = self.state.join_tokens.clone();
        next.join_settings = self.state.join_settings.clone();
        next.regions = self.state.regions.clone();
        // What was signed before the copy was made can be checked with its keys; a copy of a region that had none yet
        // brings none.
        if next.root_keys.is_empty() {
            next.root_keys = self.state.root_keys.clone();
        }
        next.restore = Default::default();
        next.restore.set(Restore { offset: index - log_index, staged: None });
        self.index = index;
        *self.state = next;
        self.note(ChangedRow::Restore { installed: true });
        Ok(())
    }
}

/// Reads parts one after the other.
struct Parts(std::collections::VecDeque<Bytes>);

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        let Some(first) = self.0.front_mut() else { return Ok(0) };
        let count = first.len().min(buffer.len());
        first.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

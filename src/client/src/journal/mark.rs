//! How long the journal is, kept beside it.
//!
//! Each record of the journal has a checksum, but a journal that ends early at the end of a record, or an older one put
//! in its place, looks whole. So its length and the checksum of all of it stand in a small file too, which is written
//! after the journal is synced: the journal may have more than the mark says, never less.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

const MAGIC: [u8; 4] = *b"WFCM";
/// Two states of 12 bytes between the magic and the checksum.
const MARK_LEN: usize = 4 + 2 * 12 + 4;

/// A journal's length and the checksum of its bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct State {
    pub(super) length: u64,
    pub(super) sum: u32,
}

/// The mark's file.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// Opens or makes the file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map(Self)
    }

    /// Tells whether a journal is shorter than, or another one than, the mark says. A mark that is not there or damaged
    /// says nothing.
    pub(super) fn contradicts(&self, journal: &[u8]) -> bool {
        let mut bytes = [0; MARK_LEN];
        if self.0.read_exact_at(&mut bytes, 0).is_err() {
            return false;
        }
        let Some(states) = decode(&bytes) else {
            tracing::warn!("the mark of the client's journal is damaged; it is made anew");
            return false;
        };
        let agrees = |state: &State| {
            let length = usize::try_from(state.length).unwrap_or(usize::MAX);
            journal.get(..length).is_some_and(|bytes| crc32fast::hash(bytes) == state.sum)
        };
        !states.iter().any(agrees)
    }

    /// Says how the journal is. Not synced: a power cut leaves an older mark, which the journal contains.
    pub(super) fn write(&self, state: State) -> io::Result<()> {
        self.0.write_all_at(&encode([state, state]), 0)
    }

    /// Says how the journal is and how it is about to be, durably: it is replaced as a whole.
    pub(super) fn announce(&self, current: State, next: State) -> io::Result<()> {
        self.0.write_all_at(&encode([current, next]), 0)?;
        self.0.sync_data()
    }
}

fn encode(states: [State; 2]) -> [u8; MARK_LEN] {
    let mut out = [0; MARK_LEN];
    out[..4].copy_from_slice(&MAGIC);
    for (at, state) in [4, 16].into_iter().zip(states) {
        out[at..at + 8].copy_from_slice(&state.length.to_le_bytes());
        out[at + 8..at + 12].copy_from_slice(&state.sum.to_le_bytes());
    }
    let sum = crc32fast::hash(&out[..MARK_LEN - 4]);
    out[MARK_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
    out
}

fn decode(bytes: &[u8; MARK_LEN]) -> Option<[State; 2]> {
    let (body, sum) = bytes.split_at(MARK_LEN - 4);
    if bytes[..4] != MAGIC || *sum != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    let state = |at: usize| {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let sum = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().expect("four bytes"));
        State { length, sum }
    };
    Some([state(4), state(16)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(journal: &[u8]) -> State {
        State { length: journal.len() as u64, sum: crc32fast::hash(journal) }
    }

    #[test]
    fn a_journal_may_have_more_than_its_mark_and_never_less() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let mark = Mark::open(&dir.path().join("mark")).expect("it is made");
        assert!(!mark.contradicts(b"anything"), "an empty mark says nothing");
        mark.write(state(b"one two")).expect("room on the disk");
        assert!(!mark.contradicts(b"one two") && !mark.contradicts(b"one two three"));
        assert!(mark.contradicts(b"one") && mark.contradicts(b"two two") && mark.contradicts(b""));
        mark.announce(state(b"one two"), state(b"2")).expect("room on the disk");
        assert!(!mark.contradicts(b"one two") && !mark.contradicts(b"2") && mark.contradicts(b"one"));
    }

    #[test]
    fn a_damaged_mark_says_nothing() {
        let good = encode([state(b"one"), state(b"two")]);
        assert_eq!(decode(&good), Some([state(b"one"), state(b"two")]));
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
    }
}

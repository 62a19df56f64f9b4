//! Counts the starts that ended while the log was being opened.
//!
//! On some damaged files the engine panics, and panics again while it cleans up: that ends the process, and no code of ours
//! can answer. So each attempt is written down before it begins. A log on which several in a row ended that way is damaged.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The file beside the log.
pub(super) const ATTEMPTS_FILE: &str = "opening";

/// Attempts that may end in the middle before the log counts as damaged. Whoever kills a process while it starts does not do
/// so more often in a row.
const UNFINISHED_MAX: u8 = 3;

/// An attempt to open the log that is under way. It stays on the disk unless it is [finished](Self::finish).
#[derive(Debug)]
pub(super) struct Attempt {
    path: PathBuf,
}

impl Attempt {
    /// Writes down that an attempt begins; none when the attempts before it tell that it would not end either. A disk that
    /// is full is no reason not to try: then the attempt is not counted.
    pub(super) fn begin(dir: &Path) -> Option<Self> {
        let path = dir.join(ATTEMPTS_FILE);
        // A file without its one byte is of an attempt too.
        let unfinished = fs::read(&path).map_or(0, |bytes| bytes.first().copied().unwrap_or(1));
        if unfinished >= UNFINISHED_MAX {
            return None;
        }
        // It has to outlive the process, not the machine: a machine that fails as often has other troubles.
        if let Err(error) = fs::write(&path, [unfinished + 1]) {
            tracing::warn!(path = %path.display(), %error, "the attempt to open the log is not counted");
        }
        Some(Self { path })
    }

    /// The attempt came to an end, whatever it found.
    pub(super) fn finish(self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the attempt to open the log can not be crossed out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_end_in_the_middle_are_counted_until_one_ends_well() {
        let dir = tempfile::tempdir().expect("a directory");
        let begin = || Attempt::begin(dir.path());
        for _ in 0..UNFINISHED_MAX - 1 {
            assert!(begin().is_some());
        }
        begin().expect("one more is allowed").finish();
        for _ in 0..UNFINISHED_MAX {
            assert!(begin().is_some());
        }
        assert!(begin().is_none());
    }
}

//! The log files of a task, and where in the engine's output they end.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use driver::LogConfig;
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::entries::Entry;

/// The size of the record of positions: it is overwritten in place by one write, so it never changes its length.
const RECORD: usize = 512;

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// How far the files have come in one stream: the last entry that is in them, and where they ended then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// When the last entry was said.
    at: i64,
    /// How many entries of that very moment are in: the pieces of a long line share theirs.
    same: u64,
    /// The newest file at that time.
    index: u32,
    /// Its length at that time.
    offset: u64,
}

/// The record of positions, a file beside the logs. What was written to the logs after the record is the excess: it is
/// known by the length of the files, and is left out when the engine tells it again.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    container: String,
    stdout: Position,
    stderr: Position,
}

/// Both outputs of a task.
pub(super) struct LogFiles {
    container: String,
    record: File,
    stdout: Rotated,
    stderr: Rotated,
}

impl LogFiles {
    /// Opens the files of a task. Those of an earlier launch go on; those of the same container go on exactly behind
    /// what is in them.
    pub fn open(dir: &Path, task: &str, container: &str, config: LogConfig) -> io::Result<Self> {
        let path = dir.join(format!(".{task}.docker-position"));
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let known = known.filter(|record| record.container == container);
        let record = options().truncate(false).open(&path)?;
        let mut files = Self {
            container: container.to_owned(),
            record,
            stdout: Rotated::open(dir, &format!("{task}.stdout"), config, known.as_ref().map(|k| k.stdout))?,
            stderr: Rotated::open(dir, &format!("{task}.stderr"), config, known.as_ref().map(|k| k.stderr))?,
        };
        files.resume();
        if known.is_none() {
            files.save();
        }
        Ok(files)
    }

    /// Prepares for hearing again, from `since` on, what the engine has said.
    pub fn resume(&mut self) {
        self.stdout.resume();
        self.stderr.resume();
    }

    /// Returns the second from which on the engine must be asked.
    pub fn since(&self) -> i32 {
        let oldest = self.stdout.position.at.min(self.stderr.position.at);
        i32::try_from(oldest / 1_000_000_000).unwrap_or(0)
    }

    /// Writes what was heard and notes how far it goes. What cannot be written is dropped: a task must not stall
    /// because a disk is full.
    pub fn take(&mut self, heard: Vec<(Stream, Entry)>) {
        for (stream, entry) in heard {
            match stream {
                Stream::Stdout => self.stdout.take(&entry),
                Stream::Stderr => self.stderr.take(&entry),
            }
        }
        self.save();
    }

    fn save(&mut self) {
        let record = Record {
            container: self.container.clone(),
            stdout: self.stdout.checkpoint(),
            stderr: self.stderr.checkpoint(),
        };
        let mut bytes = serde_json::to_vec(&record).unwrap_or_default();
        bytes.resize(bytes.len().max(RECORD), b' ');
        // A record that is not written makes the excess larger, no more.
        let _ = self.record.write_all_at(&bytes, 0);
    }
}

/// One stream, as files `<prefix>.0`, `<prefix>.1` and so on, of which the newest few are kept.
struct Rotated {
    dir: PathBuf,
    prefix: String,
    index: u32,
    file: Option<File>,
    written: u64,
    max_bytes: u64,
    max_files: u32,
    position: Position,
    /// Entries of the position's moment still to be skipped.
    same_left: u64,
    /// Bytes that are in the files already, though they come after the position.
    excess: u64,
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // A task that shares the directory could put a link in the way.
    let flags = OFlags::NOFOLLOW.bits();
    options.create(true).write(true).read(true).mode(0o644).custom_flags(flags.cast_signed());
    options
}

impl Rotated {
    fn open(dir: &Path, prefix: &str, config: LogConfig, known: Option<Position>) -> io::Result<Self> {
        let mut rotated = Self {
            dir: dir.to_owned(),
            prefix: prefix.to_owned(),
            index: newest(dir, prefix)?,
            file: None,
            written: 0,
            max_bytes: (u64::from(config.max_file_size_mb) << 20).max(1),
            max_files: config.max_files.max(1),
            position: Position::default(),
            same_left: 0,
            excess: 0,
        };
        rotated.reopen()?;
        if let Some(position) = known {
            rotated.position = position;
            rotated.excess = rotated.since_position();
        }
        Ok(rotated)
    }

    /// Counts what was written after the position was noted.
    fn since_position(&self) -> u64 {
        let lengths = (self.position.index..=self.index)
            .filter_map(|index| fs::metadata(self.path(index)).ok().map(|file| file.len()));
        lengths.sum::<u64>().saturating_sub(self.position.offset)
    }

    fn resume(&mut self) {
        self.same_left = self.position.same;
    }

    fn checkpoint(&mut self) -> Position {
        // While an excess is being skipped the files are ahead, and the old position stays true.
        if self.excess == 0 {
            self.position.index = self.index;
            self.position.offset = self.written;
        }
        self.position
    }

    fn take(&mut self, entry: &Entry) {
        if entry.at < self.position.at && entry.at != 0 {
            return;
        }
        if entry.at == self.position.at {
            if self.same_left > 0 {
                self.same_left -= 1;
                return;
            }
            self.position.same += 1;
        } else if entry.at != 0 {
            (self.position.at, self.position.same, self.same_left) = (entry.at, 1, 0);
        }
        let known = usize::try_from(self.excess).unwrap_or(usize::MAX).min(entry.text.len());
        self.excess -= known as u64;
        // The position moves on with what is skipped, so that a stop in between is right as well.
        self.position.offset += known as u64;
        self.write(&entry.text[known..]);
    }

    fn write(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            if self.written >= self.max_bytes {
                self.rotate();
            }
            let room = usize::try_from(self.max_bytes - self.written).unwrap_or(usize::MAX).min(text.len());
            let wrote = self.file.as_mut().is_some_and(|file| file.write_all(&text[..room]).is_ok());
            if !wrote {
                return;
            }
            self.written += room as u64;
            text = &text[room..];
        }
    }

    fn rotate(&mut self) {
        self.index += 1;
        // A directory that takes no file loses the output until it does.
        if self.reopen().is_err() {
            self.file = None;
            self.written = 0;
        }
        if let Some(old) = self.index.checked_sub(self.max_files) {
            // It may never have been there, or a person may have removed it.
            let _ = fs::remove_file(self.path(old));
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = options().append(true).open(self.path(self.index))?;
        self.written = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn path(&self, index: u32) -> PathBuf {
        self.dir.join(format!("{}.{index}", self.prefix))
    }
}

/// Finds the newest file of a stream.
fn newest(dir: &Path, prefix: &str) -> io::Result<u32> {
    let mut newest = 0;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let index = name.to_str().and_then(|name| name.strip_prefix(prefix)?.strip_prefix('.')?.parse().ok());
        newest = newest.max(index.unwrap_or(0));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(at: i64, text: &str) -> (Stream, Entry) {
        (Stream::Stdout, Entry { at, text: Bytes::from(text.to_owned()) })
    }

    fn open(dir: &Path, container: &str) -> LogFiles {
        LogFiles::open(dir, "t", container, LogConfig::default()).expect("the files can be opened")
    }

    fn text(dir: &Path) -> String {
        fs::read_to_string(dir.join("t.stdout.0")).expect("it is there")
    }

    #[test]
    fn hearing_everything_again_adds_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let said =
            || vec![entry(1, "a\n"), entry(2, "b1"), entry(2, "b2"), entry(2, "b3\n"), entry(5, "c\n")];
        open(dir.path(), "c1").take(said()[..3].to_vec());
        for _ in 0..3 {
            open(dir.path(), "c1").take(said());
        }
        let mut files = open(dir.path(), "c1");
        files.take(said());
        // A connection that broke and is made again.
        files.resume();
        files.take(said());
        assert_eq!(text(dir.path()), "a\nb1b2b3\nc\n");
    }

    #[test]
    fn what_was_written_after_the_record_is_not_written_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = open(dir.path(), "c1");
        files.take(vec![entry(1, "a\n")]);
        // The agent dies between the output and the record.
        files.stdout.take(&entry(2, "bb\n").1);
        files.stdout.take(&entry(3, "cc\n").1);
        drop(files);
        let mut again = open(dir.path(), "c1");
        again.take(vec![entry(1, "a\n"), entry(2, "bb\n")]);
        drop(again);
        open(dir.path(), "c1").take(vec![entry(2, "bb\n"), entry(3, "cc\n"), entry(4, "d\n")]);
        assert_eq!(text(dir.path()), "a\nbb\ncc\nd\n");
    }

    #[test]
    fn another_container_goes_on_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        open(dir.path(), "c1").take(vec![entry(9, "old\n")]);
        let mut files = open(dir.path(), "c2");
        assert_eq!(files.since(), 0);
        files.take(vec![entry(3, "new\n")]);
        assert_eq!(text(dir.path()), "old\nnew\n");
    }

    #[test]
    fn files_are_rotated_and_a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = LogConfig { max_files: 2, max_file_size_mb: 1, disabled: false };
        let mut files = LogFiles::open(dir.path(), "t", "c", config).expect("they can be opened");
        files.take((1..=5).map(|n| entry(n, &"x".repeat(700_000))).collect());
        let sizes =
            |n: u32| fs::metadata(dir.path().join(format!("t.stdout.{n}"))).map(|file| file.len()).ok();
        assert_eq!((sizes(1), sizes(2), sizes(3)), (None, Some(1 << 20), Some(3_500_000 - 3 * (1 << 20))));
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("u.stdout.0")).expect("a link");
        assert!(LogFiles::open(dir.path(), "u", "c", config).is_err());
    }
}

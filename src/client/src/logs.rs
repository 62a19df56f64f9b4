//! Reading what grows: a task's output across its rotated files, and single files.
//!
//! A reader keeps the file that it reads open. When it has read it to its end and a later one is there, it looks at the
//! old one once more before it goes on, so that nothing written before the rotation is missed; a file that was removed
//! meanwhile is read to its end all the same. Nothing here waits: whoever follows asks again later.

use std::{fs::File, os::unix::fs::FileExt};

use crate::files::{AllocFiles, FileError};

/// Bytes read at a time; also the largest frame.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Directory of the output, below the allocation's.
const LOG_DIR: &str = "alloc/logs";

/// One of a task's two outputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum From {
    /// This many bytes after the beginning.
    Start(u64),
    /// This many bytes before the end.
    End(u64),
}

/// What one look found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Chunk {
    /// Bytes, and where in the file they end.
    Data {
        /// The file, from the allocation's directory on.
        file: String,
        /// The position after them.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Something happened to the file.
    Event {
        /// The file.
        file: String,
        /// `file truncated` or `file deleted`.
        event: &'static str,
        /// The position at which reading goes on.
        offset: u64,
    },
    /// There is nothing more at this moment.
    Nothing,
    /// There will be nothing more.
    Gone,
}

/// Reads one output of a task.
#[derive(Debug)]
pub struct LogReader {
    files: AllocFiles,
    prefix: String,
    current: Option<Open>,
    /// The least index that may be opened next.
    next: u64,
    /// Bytes to leave out of the next file.
    skip: u64,
}

/// Reads one file.
#[derive(Debug)]
pub struct FileReader {
    files: AllocFiles,
    path: String,
    open: Open,
}

#[derive(Debug)]
struct Open {
    index: u64,
    file: File,
    offset: u64,
}

impl Output {
    /// Its name in files and queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl std::str::FromStr for Output {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => Err(()),
        }
    }
}

impl LogReader {
    /// Begins to read an output of a task; none of its files need be there yet.
    pub fn open(files: AllocFiles, task: &str, output: Output, from: From) -> Self {
        let prefix = format!("{task}.{}.", output.as_str());
        let mut reader = Self { files, prefix, current: None, next: 0, skip: 0 };
        reader.seek(from);
        reader
    }

    /// Tells whether any file of this output is there.
    pub fn has_files(&self) -> bool {
        !self.indexes().is_empty()
    }

    /// Reads what comes next.
    ///
    /// # Errors
    ///
    /// When a file that is there can not be read.
    pub fn read(&mut self) -> Result<Chunk, FileError> {
        loop {
            let Some(mut open) = self.current.take() else {
                let Some(index) = self.indexes().into_iter().find(|index| *index >= self.next) else {
                    return Ok(Chunk::Nothing);
                };
                self.open_index(index)?;
                continue;
            };
            let path = self.path(open.index);
            let later = self.indexes().into_iter().find(|index| *index > open.index);
            // What is later was looked for first: what this read does not find was not written before the rotation.
            match read_on(&self.files, &path, &mut open)? {
                Chunk::Nothing => match later {
                    Some(later) => self.next = later,
                    None => {
                        self.current = Some(open);
                        return Ok(Chunk::Nothing);
                    }
                },
                found => {
                    self.current = Some(open);
                    return Ok(found);
                }
            }
        }
    }

    fn seek(&mut self, from: From) {
        let sizes: Vec<(u64, u64)> = self
            .indexes()
            .into_iter()
            .filter_map(|index| {
                let size = self.files.stat(&self.path(index)).ok()?.size;
                Some((index, size))
            })
            .collect();
        let Some((last, _)) = sizes.last().copied() else { return };
        let mut rest = match from {
            From::Start(offset) => offset,
            From::End(offset) => sizes.iter().map(|(_, size)| size).sum::<u64>().saturating_sub(offset),
        };
        for (index, size) in sizes {
            if rest < size || index == last {
                (self.next, self.skip) = (index, rest);
                return;
            }
            rest -= size;
        }
    }

    fn open_index(&mut self, index: u64) -> Result<(), FileError> {
        let path = self.path(index);
        self.next = index + 1;
        match self.files.open_file(&path) {
            Ok(file) => {
                let size = file.metadata().map_err(|source| self.files.io("stat", &path, source))?.len();
                // Past the end there is nothing to read; reading goes on with what is written from here on.
                let offset = std::mem::take(&mut self.skip).min(size);
                self.current = Some(Open { index, file, offset });
                Ok(())
            }
            // It was rotated away between the two looks.
            Err(error) if error.is_missing() => {
                self.skip = 0;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn path(&self, index: u64) -> String {
        format!("{LOG_DIR}/{}{index}", self.prefix)
    }

    fn indexes(&self) -> Vec<u64> {
        let names = self.files.names(LOG_DIR);
        let mut indexes: Vec<u64> =
            names.iter().filter_map(|name| name.strip_prefix(&self.prefix)?.parse().ok()).collect();
        indexes.sort_unstable();
        indexes
    }
}

impl FileReader {
    /// Begins to read a file.
    ///
    /// # Errors
    ///
    /// When it is not there, is no file, or is a secret.
    pub fn open(files: AllocFiles, path: &str, from: From) -> Result<Self, FileError> {
        let (file, facts) = files.read(path)?;
        let offset = match from {
            From::Start(offset) => offset.min(facts.size),
            From::End(offset) => facts.size.saturating_sub(offset),
        };
        Ok(Self {
            files,
            path: path.trim_start_matches('/').to_owned(),
            open: Open { index: 0, file, offset },
        })
    }

    /// Reads what comes next.
    ///
    /// # Errors
    ///
    /// When the file can not be read.
    pub fn read(&mut self) -> Result<Chunk, FileError> {
        match read_on(&self.files, &self.path, &mut self.open)? {
            Chunk::Nothing if is_removed(&self.open.file) => Ok(Chunk::Gone),
            found => Ok(found),
        }
    }

    /// What is said when the file is gone.
    pub fn deleted(&self) -> Chunk {
        Chunk::Event { file: self.path.clone(), event: "file deleted", offset: self.open.offset }
    }
}

fn is_removed(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|meta| meta.nlink() == 0)
}

fn read_on(files: &AllocFiles, path: &str, open: &mut Open) -> Result<Chunk, FileError> {
    let mut data = vec![0; CHUNK_BYTES];
    let count = open.file.read_at(&mut data, open.offset).map_err(|source| files.io("read", path, source))?;
    if count > 0 {
        data.truncate(count);
        open.offset += count as u64;
        return Ok(Chunk::Data { file: path.to_owned(), offset: open.offset, data });
    }
    let size = open.file.metadata().map_err(|source| files.io("stat", path, source))?.len();
    if size < open.offset {
        open.offset = 0;
        return Ok(Chunk::Event { file: path.to_owned(), event: "file truncated", offset: 0 });
    }
    Ok(Chunk::Nothing)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::Path};

    use super::*;

    fn open(dir: &Path, from: From) -> LogReader {
        let files = AllocFiles::open(dir, vec!["web".to_owned()]).expect("the directory");
        LogReader::open(files, "web", Output::Stdout, from)
    }

    fn dir_with(contents: &[(u64, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory for the test");
        fs::create_dir_all(dir.path().join(LOG_DIR)).expect("room on the disk");
        for (index, text) in contents {
            write(dir.path(), *index, text);
        }
        dir
    }

    fn write(dir: &Path, index: u64, text: &str) {
        let path = dir.join(LOG_DIR).join(format!("web.stdout.{index}"));
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).expect("room on the disk");
        file.write_all(text.as_bytes()).expect("room on the disk");
    }

    fn drain(reader: &mut LogReader) -> String {
        let mut text = String::new();
        loop {
            match reader.read().expect("the files can be read") {
                Chunk::Data { data, .. } => text.push_str(&String::from_utf8_lossy(&data)),
                Chunk::Nothing => return text,
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    #[test]
    fn files_follow_each_other_by_number_not_by_name() {
        let dir = dir_with(&[(9, "nine "), (10, "ten "), (11, "eleven")]);
        assert_eq!(drain(&mut open(dir.path(), From::Start(0))), "nine ten eleven");
        assert_eq!(drain(&mut open(dir.path(), From::Start(7))), "n eleven");
        assert_eq!(drain(&mut open(dir.path(), From::End(8))), "n eleven");
        assert_eq!(drain(&mut open(dir.path(), From::End(999))), "nine ten eleven");
        assert_eq!(drain(&mut open(dir.path(), From::Start(999_999))), "");
    }

    #[test]
    fn following_loses_nothing_when_files_rotate_away() {
        let dir = dir_with(&[(0, "a")]);
        let mut reader = open(dir.path(), From::Start(0));
        assert_eq!(drain(&mut reader), "a");
        write(dir.path(), 0, "b");
        write(dir.path(), 1, "c");
        fs::remove_file(dir.path().join(LOG_DIR).join("web.stdout.0")).expect("it is there");
        assert_eq!(drain(&mut reader), "bc");
        write(dir.path(), 1, "d");
        assert_eq!(drain(&mut reader), "d");
    }

    #[test]
    fn a_reader_made_anew_goes_on_where_the_last_one_was() {
        let dir = dir_with(&[(3, "one "), (4, "two ")]);
        let seen = drain(&mut open(dir.path(), From::Start(0))).len() as u64;
        write(dir.path(), 5, "three");
        assert_eq!(drain(&mut open(dir.path(), From::Start(seen))), "three");
    }

    #[test]
    fn output_that_is_not_there_yet_is_waited_for() {
        let dir = dir_with(&[]);
        let mut reader = open(dir.path(), From::End(10));
        assert!(!reader.has_files());
        assert_eq!(reader.read().expect("nothing is no error"), Chunk::Nothing);
        write(dir.path(), 0, "first");
        assert_eq!(drain(&mut reader), "first");
    }

    #[test]
    fn chunks_name_the_file_and_where_they_end() {
        let dir = dir_with(&[(0, "12345")]);
        let chunk = open(dir.path(), From::Start(2)).read().expect("the file");
        assert_eq!(
            chunk,
            Chunk::Data { file: "alloc/logs/web.stdout.0".to_owned(), offset: 5, data: b"345".to_vec() }
        );
    }

    #[test]
    fn a_file_that_shrinks_or_goes_is_told() {
        let dir = dir_with(&[]);
        let path = dir.path().join("note");
        fs::write(&path, "hello").expect("room on the disk");
        let files = AllocFiles::open(dir.path(), Vec::new()).expect("the directory");
        let mut reader = FileReader::open(files, "note", From::Start(0)).expect("the file");
        assert!(matches!(reader.read().expect("the file"), Chunk::Data { offset: 5, .. }));
        fs::write(&path, "").expect("room on the disk");
        assert!(matches!(reader.read().expect("the file"), Chunk::Event { event: "file truncated", .. }));
        fs::remove_file(&path).expect("it is there");
        assert_eq!(reader.read().expect("the file"), Chunk::Gone);
    }
}

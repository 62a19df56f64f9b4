//! Files of an allocation, on behalf of a user.
//!
//! Everything is reached below the allocation's own directory, whatever links its tasks made, and what a task keeps in
//! its `secrets` and `private` directories is not given out.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Component, Path, PathBuf},
};

use model::AllocId;
use rustix::fs::{FileType, Stat};

use crate::{
    Client,
    hooks::{Beneath, BeneathError},
};

/// Bytes from which the type of a file is guessed.
const SNIFF_BYTES: u64 = 512;

/// Entries of one directory that are listed; a directory with more is refused, as its list would not fit an answer.
const ENTRIES_MAX: usize = 100_000;

/// The files of one allocation.
#[derive(Debug)]
pub struct AllocFiles {
    root: PathBuf,
    beneath: Beneath,
    tasks: Vec<String>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq)]
pub struct FileFacts {
    /// Its last name.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Its kind and permissions, e.g. `-rw-r--r--`.
    pub mode: String,
    /// When it was last written, in nanoseconds since the epoch.
    pub modified: i64,
    /// A guess at its content; none for what is not a file, and in lists.
    pub content_type: Option<&'static str>,
}

/// Why a file could not be reached. The texts are those that programs match on.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is nothing.
    #[error("{verb} {path}: no such file or directory")]
    Missing {
        /// What was tried.
        verb: &'static str,
        /// The whole path.
        path: String,
    },
    /// The path leads out.
    #[error("Path escapes the alloc directory")]
    Escapes,
    /// It is a task's secret.
    #[error("Reading secret file prohibited: {path}")]
    Secret {
        /// The path as it was given.
        path: String,
    },
    /// A file is wanted.
    #[error("file {path:?} is a directory")]
    Directory {
        /// The path as it was given.
        path: String,
    },
    /// It is neither a file nor a directory.
    #[error("file {path:?} is not a regular file")]
    NotRegular {
        /// The path as it was given.
        path: String,
    },
    /// A directory has too many entries.
    #[error("directory {path:?} has more than {ENTRIES_MAX} entries")]
    TooMany {
        /// The path as it was given.
        path: String,
    },
    /// The system refused.
    #[error("{verb} {path}: {source}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The whole path.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl FileError {
    /// Tells whether there is nothing at the path.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

impl Client {
    /// Opens the files of an allocation; none when this client does not have it, or made no directory for it yet.
    pub fn files(&self, id: AllocId) -> Option<AllocFiles> {
        let view = self.alloc(id)?;
        let assigned = view.assigned.load();
        let tasks = assigned.group().tasks.iter().map(|task| task.name.to_string()).collect();
        AllocFiles::open(view.dir.root(), tasks).ok()
    }
}

impl AllocFiles {
    /// Opens an allocation's directory. `tasks` are those whose secrets are kept.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(root: &Path, tasks: Vec<String>) -> Result<Self, BeneathError> {
        Ok(Self { root: root.to_owned(), beneath: Beneath::open(root)?, tasks })
    }

    /// Lists a directory in the order of its names.
    ///
    /// # Errors
    ///
    /// When it is not there, or no directory.
    pub fn list(&self, path: &str) -> Result<Vec<FileFacts>, FileError> {
        let found = self.beneath.list(Path::new(path)).map_err(|error| self.error("open", path, error))?;
        if found.len() > ENTRIES_MAX {
            return Err(FileError::TooMany { path: path.to_owned() });
        }
        Ok(found.into_iter().map(|(name, stat)| facts_of_entry(&name.to_string_lossy(), &stat)).collect())
    }

    /// Tells what is at a path.
    ///
    /// # Errors
    ///
    /// When nothing is.
    pub fn stat(&self, path: &str) -> Result<FileFacts, FileError> {
        let meta = self.beneath.look(Path::new(path)).map_err(|error| self.error("stat", path, error))?;
        let kind = meta.file_type();
        let content_type = match (kind.is_file() && !self.is_secret(path), kind.is_dir()) {
            (true, _) => Some(self.sniff(path)?),
            // Directories have no content to look at; clients expect the name of unknown bytes.
            (false, true) => Some("application/octet-stream"),
            (false, false) => None,
        };
        let letters = [
            (kind.is_dir(), "d"),
            (kind.is_block_device(), "D"),
            (kind.is_char_device(), "Dc"),
            (kind.is_fifo(), "p"),
            (kind.is_socket(), "S"),
        ];
        let kind = letters.iter().find(|(is, _)| *is).map_or("", |(_, letter)| letter);
        Ok(FileFacts {
            name: Path::new(path)
                .file_name()
                .map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned()),
            is_dir: meta.is_dir(),
            size: meta.size(),
            mode: mode_text(kind, meta.mode()),
            modified: meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec()),
            content_type,
        })
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// When it is not there, is no file, or is a secret.
    pub fn read(&self, path: &str) -> Result<(File, FileFacts), FileError> {
        let facts = self.stat(path)?;
        if facts.is_dir {
            return Err(FileError::Directory { path: path.to_owned() });
        }
        let file = self.open_file(path)?;
        Ok((file, facts))
    }

    /// Opens a file for reading, without a look at its content.
    pub(crate) fn open_file(&self, path: &str) -> Result<File, FileError> {
        if self.is_secret(path) {
            return Err(FileError::Secret { path: path.to_owned() });
        }
        let file = self.beneath.read(Path::new(path)).map_err(|error| self.error("open", path, error))?;
        let meta = file.metadata().map_err(|source| self.io("open", path, source))?;
        // A link inside may lead into a task's secrets: what counts is where the file is, not how it was called.
        if let Some(real) = real_path(&file)
            && let Ok(inside) = real.strip_prefix(self.root.canonicalize().as_ref().unwrap_or(&self.root))
            && self.is_secret(&inside.to_string_lossy())
        {
            return Err(FileError::Secret { path: path.to_owned() });
        }
        if meta.is_dir() {
            return Err(FileError::Directory { path: path.to_owned() });
        }
        if !meta.is_file() {
            return Err(FileError::NotRegular { path: path.to_owned() });
        }
        Ok(file)
    }

    /// Lists the names in a directory; an absent one has none.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let found = self.beneath.list(Path::new(path)).unwrap_or_default();
        found.into_iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    pub(crate) fn io(&self, verb: &'static str, path: &str, source: io::Error) -> FileError {
        FileError::Io { verb, path: self.whole(path), source }
    }

    fn sniff(&self, path: &str) -> Result<&'static str, FileError> {
        if Path::new(path).extension().is_some_and(|extension| extension == "json") {
            return Ok("application/json");
        }
        let file = self.beneath.read(Path::new(path)).map_err(|error| self.error("open", path, error))?;
        let mut head = Vec::new();
        file.take(SNIFF_BYTES).read_to_end(&mut head).map_err(|source| self.io("read", path, source))?;
        Ok(content_type(&head))
    }

    /// Tells whether a path is in a directory where a task keeps what nobody else may read.
    fn is_secret(&self, path: &str) -> bool {
        let mut parts: Vec<String> = Vec::new();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(name) => parts.push(name.to_string_lossy().into_owned()),
                Component::ParentDir => {
                    parts.pop();
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        match parts.as_slice() {
            [task, dir, ..] => (dir == "secrets" || dir == "private") && self.tasks.contains(task),
            _ => false,
        }
    }

    fn error(&self, verb: &'static str, path: &str, error: BeneathError) -> FileError {
        match error {
            BeneathError::Escapes { .. } => FileError::Escapes,
            BeneathError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                FileError::Missing { verb, path: self.whole(path) }
            }
            BeneathError::Io { source, .. } => self.io(verb, path, source),
        }
    }

    fn whole(&self, path: &str) -> String {
        self.root.join(path.trim_start_matches('/')).display().to_string()
    }
}

/// Where an open file is, as the kernel knows it.
fn real_path(file: &File) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()
}

fn facts_of_entry(name: &str, stat: &Stat) -> FileFacts {
    let kind = FileType::from_raw_mode(stat.st_mode);
    let letter = match kind {
        FileType::Directory => "d",
        FileType::Symlink => "L",
        FileType::Fifo => "p",
        FileType::Socket => "S",
        FileType::CharacterDevice => "Dc",
        FileType::BlockDevice => "D",
        FileType::RegularFile | FileType::Unknown => "",
    };
    let nanos = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    FileFacts {
        name: name.to_owned(),
        is_dir: kind == FileType::Directory,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: mode_text(letter, stat.st_mode),
        modified: stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(nanos),
        content_type: None,
    }
}

/// Writes kind and permissions as Go's tools do: all letters of the kind, then nine of permissions.
fn mode_text(kind: &str, mode: u32) -> String {
    let mut text = kind.to_owned();
    for (bit, letter) in [(0o4000, 'u'), (0o2000, 'g'), (0o1000, 't')] {
        if mode & bit != 0 {
            text.push(letter);
        }
    }
    if text.is_empty() {
        text.push('-');
    }
    // A character device has its own letter after those of the permissions' extra bits.
    if let Some(rest) = text.strip_prefix("Dc") {
        text = format!("D{rest}c");
    }
    for at in (0..9).rev() {
        let letter = ['x', 'w', 'r'][at % 3];
        text.push(if mode & (1 << at) != 0 { letter } else { '-' });
    }
    text
}

/// Guesses what a file holds from its first bytes.
fn content_type(head: &[u8]) -> &'static str {
    const SIGNATURES: [(&[u8], &str); 12] = [
        (b"%PDF-", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"\x1f\x8b\x08", "application/x-gzip"),
        (b"PK\x03\x04", "application/zip"),
        (b"BM", "image/bmp"),
        (b"\xfe\xff", "text/plain; charset=utf-16be"),
        (b"\xff\xfe", "text/plain; charset=utf-16le"),
        (b"\xef\xbb\xbf", "text/plain; charset=utf-8"),
        (b"<?xml", "text/xml; charset=utf-8"),
    ];
    const TAGS: [&[u8]; 6] = [b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<!--"];
    let trimmed = head.trim_ascii_start();
    if TAGS.iter().any(|tag| trimmed.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag))) {
        return "text/html; charset=utf-8";
    }
    if let Some((_, kind)) = SIGNATURES.iter().find(|(start, _)| head.starts_with(start)) {
        return kind;
    }
    let binary = |byte: &u8| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f);
    if head.iter().any(binary) { "application/octet-stream" } else { "text/plain; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn files() -> (tempfile::TempDir, AllocFiles) {
        let dir = tempfile::tempdir().expect("a directory for the test");
        for path in ["alloc/logs", "web/local", "web/secrets"] {
            std::fs::create_dir_all(dir.path().join(path)).expect("room on the disk");
        }
        std::fs::write(dir.path().join("web/local/index.html"), "hello 0").expect("room on the disk");
        std::fs::write(dir.path().join("web/secrets/key"), "hidden").expect("room on the disk");
        let files = AllocFiles::open(dir.path(), vec!["web".to_owned()]).expect("the directory");
        (dir, files)
    }

    #[test]
    fn directories_are_listed_and_files_described() {
        let (dir, files) = files();
        let sticky = dir.path().join("web/tmp");
        std::fs::create_dir(&sticky).expect("room on the disk");
        std::fs::set_permissions(&sticky, std::fs::Permissions::from_mode(0o1777)).expect("own directory");
        let list = files.list("web").expect("the directory");
        assert_eq!(
            list.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(),
            ["local", "secrets", "tmp"]
        );
        assert_eq!(list[2].mode, "dtrwxrwxrwx");
        let facts = files.stat("web/local/index.html").expect("the file");
        assert_eq!(
            (facts.name.as_str(), facts.size, facts.content_type),
            ("index.html", 7, Some("text/plain; charset=utf-8"))
        );
        assert_eq!(files.list("/").expect("the root").len(), 2);
    }

    #[test]
    fn what_is_missing_or_outside_is_said_as_programs_expect() {
        let (dir, files) = files();
        let missing = files.list("nope").expect_err("nothing there").to_string();
        assert_eq!(missing, format!("open {}/nope: no such file or directory", dir.path().display()));
        assert_eq!(files.list("../..").expect_err("outside").to_string(), "Path escapes the alloc directory");
        assert_eq!(
            files.read("web/local").expect_err("no file").to_string(),
            "file \"web/local\" is a directory"
        );
    }

    #[test]
    fn secrets_are_not_given_out_by_any_name() {
        let (dir, files) = files();
        symlink("secrets", dir.path().join("web/open")).expect("a link");
        symlink("../secrets/key", dir.path().join("web/local/key")).expect("a link");
        for path in ["web/secrets/key", "/web//local/../secrets/key", "web/open/key", "web/local/key"] {
            assert!(matches!(files.read(path), Err(FileError::Secret { .. })), "{path}");
        }
        assert_eq!(files.stat("web/secrets/key").expect("its size is no secret").content_type, None);
    }

    #[test]
    fn content_is_guessed_from_its_beginning() {
        assert_eq!(content_type(b"  <!DOCTYPE HTML><p>"), "text/html; charset=utf-8");
        assert_eq!(content_type(b"\x7fELF\x02\x01\x00"), "application/octet-stream");
        assert_eq!(content_type(b""), "text/plain; charset=utf-8");
        assert_eq!(content_type(b"\x1f\x8b\x08\x00"), "application/x-gzip");
    }
}

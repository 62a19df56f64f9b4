//! Files below one directory, whatever links a task put there.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat2, statat};

/// A directory that no path given to it leads out of: every step is resolved by the kernel below its handle, and
/// links that point outside are refused.
#[derive(Debug)]
pub struct Beneath {
    root: OwnedFd,
}

/// Why a file below a directory could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum BeneathError {
    /// The path leads out of the directory, or through a link that does.
    #[error("path {path:?} escapes the directory of the allocation")]
    Escapes {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The path as it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl BeneathError {
    /// Tells whether there is nothing at the path.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Beneath {
    /// Opens the directory.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(root: &Path) -> Result<Self, BeneathError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_fd = rustix::fs::open(root, flags, Mode::empty());
        let root =
            root_fd.map_err(|error| BeneathError::Io { path: root.to_owned(), source: error.into() })?;
        Ok(Self { root })
    }

    /// Opens a file or directory below for reading.
    ///
    /// # Errors
    ///
    /// When it is not there, or elsewhere.
    pub fn read(&self, path: &Path) -> Result<File, BeneathError> {
        let relative = relative(path)?;
        self.open_at(&relative, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty(), path).map(File::from)
    }

    /// Tells what is at a path below, without opening it: sockets, pipes and devices are only looked at.
    ///
    /// # Errors
    ///
    /// When it is not there, or elsewhere.
    pub fn look(&self, path: &Path) -> Result<fs::Metadata, BeneathError> {
        let relative = relative(path)?;
        let handle = self.open_at(&relative, OFlags::PATH, Mode::empty(), path)?;
        File::from(handle).metadata().map_err(|source| BeneathError::Io { path: path.to_owned(), source })
    }

    /// Lists a directory below: names with what is there, links not followed, in the order of the names.
    ///
    /// # Errors
    ///
    /// When it is not there, or elsewhere, or no directory.
    pub fn list(&self, path: &Path) -> Result<Vec<(OsString, Stat)>, BeneathError> {
        let relative = relative(path)?;
        let io = |error: rustix::io::Errno| BeneathError::Io { path: path.to_owned(), source: error.into() };
        let handle = self.open_at(&relative, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty(), path)?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&handle).map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            match statat(&handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => found.push((name.to_owned(), stat)),
                // It was removed between the two looks.
                Err(rustix::io::Errno::NOENT) => {}
                Err(error) => return Err(io(error)),
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(found)
    }

    /// Writes a file below, with the directories that lead to it.
    ///
    /// # Errors
    ///
    /// When the path leads out, or the disk refuses.
    pub fn write(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<(), BeneathError> {
        let path = path.as_ref();
        let relative = relative(path)?;
        self.make_parents(&relative, path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let file = self.open_at(&relative, flags, Mode::from_raw_mode(mode), path)?;
        let io = |source| BeneathError::Io { path: path.to_owned(), source };
        // The mode at creation is cut by the agent's mask, and an older file keeps its own.
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(|error| io(error.into()))?;
        File::from(file).write_all(content).map_err(io)
    }

    fn make_parents(&self, relative: &Path, given: &Path) -> Result<(), BeneathError> {
        let Some(parent) = relative.parent() else { return Ok(()) };
        let mut made = PathBuf::new();
        for part in parent.components() {
            let above = self.directory(&made, given)?;
            made.push(part);
            match mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(BeneathError::Io { path: given.to_owned(), source: error.into() }),
            }
        }
        Ok(())
    }

    fn directory(&self, relative: &Path, given: &Path) -> Result<OwnedFd, BeneathError> {
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        self.open_at(relative, OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), given)
    }

    fn open_at(
        &self,
        relative: &Path,
        flags: OFlags,
        mode: Mode,
        given: &Path,
    ) -> Result<OwnedFd, BeneathError> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, relative, flags | OFlags::CLOEXEC, mode, resolve).map_err(|error| match error {
            rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => {
                BeneathError::Escapes { path: given.to_owned() }
            }
            error => BeneathError::Io { path: given.to_owned(), source: error.into() },
        })
    }
}

/// Reads a path as one below the directory: a leading slash means the directory itself, `..` may not climb out.
fn relative(path: &Path) -> Result<PathBuf, BeneathError> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return Err(BeneathError::Escapes { path: path.to_owned() });
                }
            }
            Component::Normal(name) => clean.push(name),
        }
    }
    if clean.as_os_str().is_empty() {
        clean.push(".");
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::symlink};

    use super::*;

    fn text(below: &Beneath, path: &str) -> Result<String, BeneathError> {
        let mut text = String::new();
        below.read(Path::new(path))?.read_to_string(&mut text).expect("a small text");
        Ok(text)
    }

    #[test]
    fn files_are_written_and_read_below() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let below = Beneath::open(dir.path()).expect("the directory");
        below.write("a/b/file", b"hello", 0o600).expect("room on the disk");
        assert_eq!(text(&below, "/a/b/../b/file").expect("the file"), "hello");
        assert!(below.read(Path::new("nope")).is_err_and(|error| error.is_missing()));
    }

    #[test]
    fn no_path_and_no_link_leads_out() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let inside = dir.path().join("inside");
        std::fs::create_dir(&inside).expect("a directory");
        std::fs::write(dir.path().join("secret"), b"x").expect("room on the disk");
        symlink("../secret", inside.join("link")).expect("a link");
        symlink("/etc", inside.join("etc")).expect("a link");
        let below = Beneath::open(&inside).expect("the directory");
        for path in ["../secret", "link", "etc/passwd", "a/../../secret"] {
            assert!(matches!(text(&below, path), Err(BeneathError::Escapes { .. })), "{path}");
        }
        assert!(matches!(below.write("link", b"y", 0o600), Err(BeneathError::Escapes { .. })));
        assert_eq!(std::fs::read(dir.path().join("secret")).expect("the file"), b"x");
    }
}

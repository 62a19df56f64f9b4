use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{Seek, SeekFrom, Write},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::PathBuf,
};

use rustix::{
    io::Errno,
    pipe::{SpliceFlags, splice},
};

/// Bytes moved at one time. A pipe holds no more than this unless someone enlarged it.
const CHUNK_MAX: usize = 64 * 1024;

/// Bytes of the buffer that is used only where the kernel cannot move bytes by itself.
const COPY_MAX: usize = 4096;

/// What came of taking from a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There may be more.
    Some,
    /// Nothing there at the moment.
    Nothing,
    /// Nobody can write any more.
    End,
}

/// One stream of a task, as files `<prefix>.0`, `<prefix>.1` and so on, of which the newest few are kept.
///
/// A task must not stall because a disk is full: what cannot be written is dropped, and counted.
pub(super) struct Rotated {
    prefix: Vec<u8>,
    index: u32,
    file: Option<File>,
    written: u64,
    max_bytes: u64,
    max_files: u32,
    pub dropped: u64,
}

impl Rotated {
    /// Continues a stream at the file `index`, or at the next one when that is full.
    pub fn open(prefix: Vec<u8>, index: u32, max_bytes: u64, max_files: u32) -> Self {
        let mut rotated = Self {
            prefix,
            index,
            file: None,
            written: 0,
            max_bytes: max_bytes.max(1),
            max_files: max_files.max(1),
            dropped: 0,
        };
        rotated.open_file();
        rotated
    }

    /// Moves what the pipe holds into the file, at most one chunk.
    pub fn take(&mut self, pipe: BorrowedFd<'_>) -> Taken {
        if self.written >= self.max_bytes {
            self.rotate();
        }
        if self.file.is_none() {
            self.open_file();
        }
        let room = usize::try_from(self.max_bytes - self.written).unwrap_or(usize::MAX).min(CHUNK_MAX);
        let Some(file) = &self.file else {
            return self.drop_some(pipe);
        };
        match splice(pipe, None, file, None, room, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => Taken::End,
            Ok(n) => {
                self.written += n as u64;
                Taken::Some
            }
            Err(Errno::AGAIN) => Taken::Nothing,
            Err(Errno::INTR) => Taken::Some,
            // Some file systems cannot be spliced to, and a full disk ends here too: copying tells them apart.
            Err(_) => self.copy_some(pipe, room),
        }
    }

    fn copy_some(&mut self, pipe: BorrowedFd<'_>, room: usize) -> Taken {
        let mut buffer = [0_u8; COPY_MAX];
        let room = room.min(COPY_MAX);
        match rustix::io::read(pipe, &mut buffer[..room]) {
            Ok(0) => Taken::End,
            Ok(n) => {
                let wrote = self.file.as_mut().is_some_and(|file| file.write_all(&buffer[..n]).is_ok());
                if wrote {
                    self.written += n as u64;
                } else {
                    self.dropped += n as u64;
                }
                Taken::Some
            }
            Err(Errno::INTR) => Taken::Some,
            Err(Errno::AGAIN) => Taken::Nothing,
            Err(_) => Taken::End,
        }
    }

    fn drop_some(&mut self, pipe: BorrowedFd<'_>) -> Taken {
        self.copy_some(pipe, COPY_MAX)
    }

    fn rotate(&mut self) {
        self.index += 1;
        self.open_file();
        if let Some(old) = self.index.checked_sub(self.max_files) {
            // It may never have been there, or a person may have removed it.
            let _ = fs::remove_file(self.path(old));
        }
    }

    fn open_file(&mut self) {
        // Not in append mode: the kernel refuses to splice into such a file. Nobody else writes here.
        let opened = OpenOptions::new().create(true).write(true).truncate(false).open(self.path(self.index));
        self.written = 0;
        self.file = opened.ok();
        if let Some(end) = self.file.as_mut().and_then(|file| file.seek(SeekFrom::End(0)).ok()) {
            self.written = end;
            if end >= self.max_bytes {
                self.rotate();
            }
        }
    }

    fn path(&self, index: u32) -> PathBuf {
        let mut path = self.prefix.clone();
        path.extend_from_slice(format!(".{index}").as_bytes());
        PathBuf::from(OsStr::from_bytes(&path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::ffi::OsStrExt};

    use super::*;

    fn drain(stream: &mut Rotated, text: &[u8]) {
        let (read, write) = rustix::pipe::pipe().expect("pipes exist");
        let mut write = File::from(write);
        write.write_all(text).expect("the pipe takes it");
        drop(write);
        while stream.take(read.as_fd()) == Taken::Some {}
    }

    #[test]
    fn files_are_filled_kept_and_continued() {
        let dir = tempfile::tempdir().expect("a directory");
        let prefix = dir.path().join("t.stdout").as_os_str().as_bytes().to_vec();
        let mut stream = Rotated::open(prefix.clone(), 0, 4, 2);
        drain(&mut stream, b"aaaabbbbcc");
        drop(stream);
        drain(&mut Rotated::open(prefix, 2, 4, 2), b"ddee");
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).expect("it is there").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, ["t.stdout.2", "t.stdout.3"]);
        assert_eq!(fs::read(dir.path().join("t.stdout.2")).expect("kept"), b"ccdd");
        assert_eq!(fs::read(dir.path().join("t.stdout.3")).expect("newest"), b"ee");
    }

    #[test]
    fn a_stream_that_cannot_be_written_is_drained_and_counted() {
        let mut stream = Rotated::open(b"/no/such/dir/t.stdout".to_vec(), 0, 4, 2);
        drain(&mut stream, b"lost words");
        assert_eq!(stream.dropped, 10);
    }
}

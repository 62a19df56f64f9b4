use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::io::AsyncRead;
use tracing::{info, warn};

use super::file::check;
use crate::{log::MemoryDisk, network::SnapshotStream, types::LogPoint, wire::WireMeta};

/// Snapshots kept: the current one, and one more in case it turns out damaged.
const SNAPSHOTS_KEPT: usize = 2;
const EXTENSION: &str = "snapshot";
const DRAFT_EXTENSION: &str = "tmp";

/// Where snapshots are kept.
pub(crate) enum SnapshotStore {
    Directory { path: PathBuf, drafts: AtomicU64 },
    Memory(MemoryDisk),
}

/// A finished snapshot, or one that arrived and is not installed yet.
#[derive(Clone, Debug)]
pub(crate) struct SnapshotData {
    source: Source,
    arrived: bool,
}

#[derive(Clone, Debug)]
enum Source {
    File(PathBuf),
    Memory(Bytes),
}

/// A snapshot that is being written. Dropped unfinished, its file goes away.
pub(crate) struct Draft {
    sink: Sink,
    path: Option<PathBuf>,
}

enum Sink {
    File(File),
    Memory(Vec<u8>),
}

impl SnapshotStore {
    pub(crate) fn directory(path: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        for entry in fs::read_dir(&path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == DRAFT_EXTENSION) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self::Directory { path, drafts: AtomicU64::new(0) })
    }

    pub(crate) fn draft(&self) -> io::Result<Draft> {
        match self {
            Self::Directory { path, drafts } => {
                let number = drafts.fetch_add(1, Ordering::Relaxed);
                let path = path.join(format!("draft-{number}.{DRAFT_EXTENSION}"));
                Ok(Draft { sink: Sink::File(File::create(&path)?), path: Some(path) })
            }
            Self::Memory(_) => Ok(Draft { sink: Sink::Memory(Vec::new()), path: None }),
        }
    }

    /// Makes a draft the current snapshot, durably, and removes the oldest.
    pub(crate) fn keep(&self, draft: Draft, last: Option<LogPoint>) -> io::Result<SnapshotData> {
        let arrived = draft.finish()?;
        self.adopt(arrived, last)
    }

    /// Makes a snapshot that arrived the current one, durably, and removes the oldest.
    pub(crate) fn adopt(&self, data: SnapshotData, last: Option<LogPoint>) -> io::Result<SnapshotData> {
        let at = last.unwrap_or(LogPoint { term: 0, index: 0 });
        let source = match (self, data.source) {
            (Self::Directory { path: directory, .. }, Source::File(draft)) => {
                let path = directory.join(format!("{:016x}-{:016x}.{EXTENSION}", at.index, at.term));
                fs::rename(draft, &path)?;
                File::open(directory)?.sync_all()?;
                for old in names(directory)?.into_iter().skip(SNAPSHOTS_KEPT) {
                    fs::remove_file(old)?;
                }
                Source::File(path)
            }
            (Self::Memory(disk), Source::Memory(bytes)) => {
                disk.put_snapshot(at, bytes.clone(), SNAPSHOTS_KEPT);
                Source::Memory(bytes)
            }
            (Self::Directory { .. }, Source::Memory(_)) | (Self::Memory(_), Source::File(_)) => {
                return Err(io::Error::other("a snapshot of another store"));
            }
        };
        info!(index = at.index, term = at.term, "kept snapshot");
        Ok(SnapshotData { source, arrived: false })
    }

    /// Finds the latest snapshot that is whole.
    pub(crate) fn current(&self) -> io::Result<Option<(WireMeta, SnapshotData)>> {
        let candidates: Vec<SnapshotData> = match self {
            Self::Directory { path, .. } => names(path)?
                .into_iter()
                .map(|path| SnapshotData { source: Source::File(path), arrived: false })
                .collect(),
            Self::Memory(disk) => disk
                .snapshots()
                .into_iter()
                .map(|(_, bytes)| SnapshotData { source: Source::Memory(bytes), arrived: false })
                .collect(),
        };
        for data in candidates {
            match data.check() {
                Ok(meta) => return Ok(Some((meta, data))),
                Err(error) => warn!(snapshot = ?data.source, %error, "passing over a damaged snapshot"),
            }
        }
        Ok(None)
    }
}

/// Lists the snapshots, latest first.
fn names(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.reverse();
    Ok(paths)
}

impl Draft {
    /// Makes what was written durable under its temporary name.
    pub(crate) fn finish(mut self) -> io::Result<SnapshotData> {
        let source = match (&mut self.sink, self.path.take()) {
            (Sink::File(file), Some(path)) => {
                if let Err(error) = file.sync_all() {
                    self.path = Some(path);
                    return Err(error);
                }
                Source::File(path)
            }
            (Sink::Memory(bytes), _) => Source::Memory(Bytes::from(std::mem::take(bytes))),
            (Sink::File(_), None) => return Err(io::Error::other("a draft without a name")),
        };
        Ok(SnapshotData { source, arrived: true })
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.sink {
            Sink::File(file) => file.write(bytes),
            Sink::Memory(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::File(file) => file.flush(),
            Sink::Memory(_) => Ok(()),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = fs::remove_file(path)
        {
            warn!(path = %path.display(), %error, "a snapshot draft stays behind until the next start");
        }
    }
}

impl SnapshotData {
    pub(crate) fn arrived(&self) -> bool {
        self.arrived
    }

    pub(crate) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match &self.source {
            Source::File(path) => Box::new(BufReader::with_capacity(256 << 10, File::open(path)?)),
            Source::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
        })
    }

    /// Opens the file as it stands, to be sent elsewhere.
    pub(crate) fn stream(&self) -> io::Result<SnapshotStream> {
        let stream: Box<dyn AsyncRead + Send + Unpin> = match &self.source {
            Source::File(path) => Box::new(tokio::fs::File::from_std(File::open(path)?)),
            Source::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
        };
        Ok(stream)
    }

    pub(crate) fn check(&self) -> io::Result<WireMeta> {
        Ok(check(self.open()?)?)
    }

    /// Removes a snapshot that arrived and was not installed.
    pub(crate) fn discard(self) {
        if let (true, Source::File(path)) = (self.arrived, &self.source)
            && path.exists()
            && let Err(error) = fs::remove_file(path)
        {
            warn!(path = %path.display(), %error, "an unused snapshot stays behind until the next start");
        }
    }
}

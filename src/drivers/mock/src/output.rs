use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use driver::{LogConfig, TaskConfig};

/// Where a pretended task writes.
#[derive(Clone, Debug)]
pub(crate) struct LogFiles {
    dir: PathBuf,
    task: String,
    config: LogConfig,
}

impl LogFiles {
    pub fn of(task: &TaskConfig) -> Self {
        Self { dir: task.dirs.logs.clone(), task: task.task().replace('/', "_"), config: task.logs }
    }

    /// Appends to a stream, going on to the next file where one is full, and keeping the newest few. Blocks.
    pub fn append(&self, stream: &str, mut bytes: &[u8]) -> io::Result<()> {
        if self.config.disabled {
            return Ok(());
        }
        let max = u64::from(self.config.max_file_size_mb.max(1)) << 20;
        let mut index = self.newest(stream);
        loop {
            let mut file = OpenOptions::new().create(true).append(true).open(self.path(stream, index))?;
            let room = usize::try_from(max.saturating_sub(file.metadata()?.len())).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            file.write_all(now)?;
            if later.is_empty() {
                return Ok(());
            }
            bytes = later;
            index += 1;
            if let Some(old) = index.checked_sub(self.config.max_files.max(1)) {
                // It may never have been there.
                let _ = fs::remove_file(self.path(stream, old));
            }
        }
    }

    fn newest(&self, stream: &str) -> u32 {
        let prefix = format!("{}.{stream}.", self.task);
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let index = |name: std::ffi::OsString| name.to_str()?.strip_prefix(&prefix)?.parse::<u32>().ok();
        entries.filter_map(|entry| index(entry.file_name())).max().unwrap_or_default()
    }

    fn path(&self, stream: &str, index: u32) -> PathBuf {
        Path::new(&self.dir).join(format!("{}.{stream}.{index}", self.task))
    }
}

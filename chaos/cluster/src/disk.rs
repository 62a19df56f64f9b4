//! A disk of its own for a server: a file with a file system, which can be filled, throttled and frozen.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::sys::stat::{major, minor};

use crate::network::must;

/// Enough for a log and a snapshot, and quickly filled. The file is sparse.
const SIZE: &str = "384M";

/// The name of what fills a disk.
const FILLER: &str = "filler";

/// Where throttled groups are made: only version 1 of control groups throttles by device here.
const THROTTLES: &str = "/sys/fs/cgroup/blkio";

/// A mounted disk.
pub struct Disk {
    /// Where it is mounted.
    pub dir: PathBuf,
    group: PathBuf,
}

impl Disk {
    /// Makes a file system in `image` and mounts it.
    ///
    /// # Errors
    ///
    /// When this machine has no loop devices or no file systems for them.
    pub fn mount(image: &Path, dir: &Path, group: &str) -> io::Result<Self> {
        let (image, place) = (image.to_string_lossy(), dir.to_string_lossy());
        fs::create_dir_all(dir)?;
        must("truncate", &["-s", SIZE, &image])?;
        must("mkfs.ext4", &["-q", "-F", "-m", "0", &image])?;
        must("mount", &["-o", "loop,noatime", &image, &place])?;
        Ok(Self { dir: dir.to_owned(), group: Path::new(THROTTLES).join(group) })
    }

    /// Writes until nothing fits any more.
    ///
    /// # Errors
    ///
    /// When not even a name fits.
    pub fn fill(&self) -> io::Result<()> {
        let mut file = File::create(self.dir.join(FILLER))?;
        for block in [1 << 20, 1 << 12, 1] {
            let bytes = vec![1; block];
            while file.write_all(&bytes).is_ok() {}
        }
        // Without this the space is only promised, and an agent's write may come first.
        file.sync_all()
    }

    /// Takes away what fills it.
    ///
    /// # Errors
    ///
    /// When there is nothing.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.dir.join(FILLER))
    }

    /// Lets writes wait until [`Disk::thaw`].
    ///
    /// # Errors
    ///
    /// When the file system can not.
    pub fn freeze(&self) -> io::Result<()> {
        must("fsfreeze", &["-f", &self.dir.to_string_lossy()]).map(drop)
    }

    /// Lets writes go on.
    ///
    /// # Errors
    ///
    /// When it was not frozen.
    pub fn thaw(&self) -> io::Result<()> {
        must("fsfreeze", &["-u", &self.dir.to_string_lossy()]).map(drop)
    }

    /// Lets a process write so many bytes a second.
    ///
    /// # Errors
    ///
    /// Where control groups do not throttle devices.
    pub fn slow(&self, pid: u32, rate: u32) -> io::Result<()> {
        fs::create_dir_all(&self.group)?;
        let device = fs::metadata(&self.dir)?.dev();
        let rule = format!("{}:{} {rate}", major(device), minor(device));
        fs::write(self.group.join("blkio.throttle.write_bps_device"), rule)?;
        fs::write(self.group.join("cgroup.procs"), pid.to_string())
    }

    /// Lets whoever was throttled write as before.
    ///
    /// # Errors
    ///
    /// When a process can not be moved back.
    pub fn quicken(&self) -> io::Result<()> {
        release(&self.group)
    }
}

/// Moves every process out of a group, and removes it.
fn release(group: &Path) -> io::Result<()> {
    for pid in fs::read_to_string(group.join("cgroup.procs"))?.split_whitespace() {
        // A process that ended in between needs no moving.
        let _ = fs::write(Path::new(THROTTLES).join("cgroup.procs"), pid);
    }
    fs::remove_dir(group)
}

/// Thaws and unmounts whatever is mounted below a directory, and removes throttles of a prefix.
pub fn remove(root: &Path, prefix: &str) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(root)).collect();
    below.sort();
    for point in below.iter().rev() {
        let place = point.to_string_lossy();
        // Most are not frozen, and say so.
        let _ = must("fsfreeze", &["-u", &place]);
        if let Err(error) = must("umount", &["-l", &place]) {
            eprintln!("{place} stays mounted: {error}");
        }
    }
    for entry in fs::read_dir(THROTTLES).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{prefix}-"))
            && let Err(error) = release(&entry.path())
        {
            eprintln!("{} is left: {error}", entry.path().display());
        }
    }
}

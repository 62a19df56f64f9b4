//! The directories of an allocation on the disk.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// User and group that own what tasks may write to.
const NOBODY: u32 = 65_534;

/// Size of a task's secrets in MiB, unless it asks for more.
const SECRETS_MB: u32 = 1;

/// Where an allocation lives.
#[derive(Clone, Debug)]
pub struct AllocDir {
    root: PathBuf,
}

/// Whether secrets are kept in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Secrets {
    /// A file system in memory, of this many MiB beyond the default.
    InMemory {
        /// Asked for by the task.
        extra_mb: u32,
    },
    /// A plain directory: the agent may not mount, or the task only pretends.
    OnDisk,
}

/// Why the directories could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make {path}")]
pub struct BuildError {
    path: PathBuf,
    source: io::Error,
}

impl AllocDir {
    /// Names the directory of an allocation below the node's.
    pub fn new(node_dir: &Path, alloc_id: &str) -> Self {
        Self { root: node_dir.join(alloc_id) }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the tasks share.
    pub fn shared(&self) -> PathBuf {
        self.root.join("alloc")
    }

    /// Where the tasks' output goes.
    pub fn logs(&self) -> PathBuf {
        self.root.join("alloc/logs")
    }

    /// A task's own directory.
    pub fn task(&self, task: &str) -> PathBuf {
        self.root.join(task)
    }

    /// Makes what the tasks share. Making it twice is harmless.
    ///
    /// # Errors
    ///
    /// When the disk is full, or the directory may not be written to.
    pub fn build(&self) -> Result<(), BuildError> {
        make(&self.root, 0o711)?;
        make_open(&self.shared(), 0o777)?;
        for name in ["logs", "tmp", "data"] {
            make_open(&self.shared().join(name), 0o777)?;
        }
        Ok(())
    }

    /// Makes a task's directory. Making it twice is harmless.
    ///
    /// # Errors
    ///
    /// As for [`Self::build`].
    pub fn build_task(&self, task: &str, secrets: Secrets) -> Result<(), BuildError> {
        let dir = self.task(task);
        make_open(&dir, 0o777)?;
        make_open(&dir.join("local"), 0o777)?;
        make_open(&dir.join("tmp"), 0o1777)?;
        for name in ["secrets", "private"] {
            let path = dir.join(name);
            make_open(&path, 0o777)?;
            if let Secrets::InMemory { extra_mb } = secrets
                && !is_mount(&path)
            {
                let size = SECRETS_MB + if name == "secrets" { extra_mb } else { 0 };
                mount_memory(&path, size).map_err(|source| BuildError { path: path.clone(), source })?;
                make_open(&path, 0o777)?;
            }
        }
        Ok(())
    }

    /// Removes everything, what is mounted below it first. Removing twice is harmless.
    ///
    /// # Errors
    ///
    /// When something is still there.
    pub fn remove(&self, tasks: &[&str]) -> io::Result<()> {
        for task in tasks {
            for name in ["secrets", "private"] {
                let path = self.task(task).join(name);
                if is_mount(&path) {
                    unmount(&path, UnmountFlags::DETACH)?;
                }
            }
        }
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Tells whether secrets can be kept in memory here: mounting takes root.
pub fn can_mount() -> bool {
    rustix::process::geteuid().is_root()
}

fn make(path: &Path, mode: u32) -> Result<(), BuildError> {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.map_err(|source| BuildError { path: path.to_owned(), source })
}

/// Makes a directory that tasks of any user may write to.
fn make_open(path: &Path, mode: u32) -> Result<(), BuildError> {
    make(path, mode)?;
    if can_mount() {
        chown(path, Some(NOBODY), Some(NOBODY))
            .map_err(|source| BuildError { path: path.to_owned(), source })?;
    }
    Ok(())
}

fn mount_memory(path: &Path, size_mb: u32) -> io::Result<()> {
    let flags = MountFlags::NOEXEC | MountFlags::NOSUID | MountFlags::NODEV;
    let sized = std::ffi::CString::new(format!("size={size_mb}m,noswap")).map_err(io::Error::other)?;
    if mount("tmpfs", path, "tmpfs", flags, sized.as_c_str()).is_ok() {
        return Ok(());
    }
    // Kernels before 6.4 do not know `noswap`.
    let sized = std::ffi::CString::new(format!("size={size_mb}m")).map_err(io::Error::other)?;
    mount("tmpfs", path, "tmpfs", flags, sized.as_c_str()).map_err(io::Error::from)
}

/// A mount point is on another device than the directory that it is in.
fn is_mount(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev()).ok();
    match (device(path), path.parent().and_then(device)) {
        (Some(inner), Some(outer)) => inner != outer,
        _ => false,
    }
}

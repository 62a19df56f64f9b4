//! Control groups: what bounds a task, counts what it uses, and finds all of its processes.
//!
//! Both hierarchies are served. A task's group is `<parent>/<alloc id>.<task>` in each controller of version 1, and
//! `<parent>/share.slice/<alloc id>.<task>.scope` (`reserve.slice` with cores of its own) in version 2. Where groups
//! cannot be made, tasks run without bounds and the reason is stated; nothing here fails a task for want of them.
//!
//! Read [`Cgroups`] first.

mod kill;
pub(crate) mod stats;
mod v1;
mod v2;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use kill::KillGroup;

use crate::Resources;

/// The parent of all tasks' groups in version 1.
pub const PARENT_V1: &str = "nomad";
/// The parent of all tasks' groups in version 2, and what tasks see as `NOMAD_PARENT_CGROUP`.
pub const PARENT_V2: &str = "nomad.slice";

/// Where the hierarchies are mounted on every system we know.
const ROOT: &str = "/sys/fs/cgroup";

/// Tries to remove a group: the kernel keeps it busy for a moment after its last process.
const REMOVE_TRIES: u32 = 50;
/// The pause between two tries; together half a second.
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// The control groups of this machine.
#[derive(Clone, Debug)]
pub struct Cgroups {
    version: Version,
}

#[derive(Clone, Debug)]
enum Version {
    V1(v1::Hierarchies),
    V2(v2::Hierarchy),
    None { reason: String },
}

/// The groups of one task, as a handle persists them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCgroup {
    /// Version 1: controller to directory. Version 2: one entry named `unified`.
    pub dirs: BTreeMap<String, PathBuf>,
}

/// The entry of a version 2 group.
const UNIFIED: &str = "unified";

/// Why groups could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or directory of the hierarchy refused.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The job names a group that is not there.
    #[error("cgroup {} does not exist", .0.display())]
    Missing(PathBuf),
}

impl Cgroups {
    /// Looks at what this machine has and prepares the parent group.
    pub fn detect(parent: Option<&str>) -> Self {
        Self::detect_at(Path::new(ROOT), parent)
    }

    /// As `detect`, for hierarchies mounted elsewhere.
    pub fn detect_at(root: &Path, parent: Option<&str>) -> Self {
        let version = if root.join("cgroup.controllers").exists() {
            v2::Hierarchy::prepare(root, parent.unwrap_or(PARENT_V2)).map(Version::V2)
        } else {
            v1::Hierarchies::prepare(root, parent.unwrap_or(PARENT_V1)).map(Version::V1)
        };
        let version = version.unwrap_or_else(|error| {
            let source =
                std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            Version::None { reason: format!("{error}{source}") }
        });
        Self { version }
    }

    /// Makes a description of a machine without control groups.
    pub fn none(reason: impl Into<String>) -> Self {
        Self { version: Version::None { reason: reason.into() } }
    }

    /// Why tasks run without bounds here, if they do.
    pub fn disabled(&self) -> Option<&str> {
        match &self.version {
            Version::None { reason } => Some(reason),
            Version::V1(_) | Version::V2(_) => None,
        }
    }

    /// The value of the node attribute `os.cgroups.version`.
    pub fn version(&self) -> Option<&'static str> {
        match &self.version {
            Version::V1(_) => Some("1"),
            Version::V2(_) => Some("2"),
            Version::None { .. } => None,
        }
    }

    /// Makes the groups of a task and sets its bounds. An existing group of the same name is taken over.
    ///
    /// # Errors
    ///
    /// What was made is removed again.
    pub fn create(&self, name: &str, resources: &Resources) -> Result<TaskCgroup, CgroupError> {
        let name = file_name(name);
        let mut made = TaskCgroup::default();
        let outcome = match &self.version {
            Version::V1(hierarchies) => hierarchies.create(&name, resources, &mut made),
            Version::V2(hierarchy) => hierarchy.create(&name, resources, &mut made),
            Version::None { .. } => Ok(()),
        };
        match outcome {
            Ok(()) => Ok(made),
            Err(error) => {
                // The first error says why; an empty group left behind is found by the census.
                let _ = made.remove();
                Err(error)
            }
        }
    }

    /// Groups that a task without groups of its own in them joins beside its own; they outlive it.
    pub fn shared_procs(&self, resources: &Resources) -> Option<PathBuf> {
        match &self.version {
            Version::V1(hierarchies) if resources.cpu.cores.is_empty() => hierarchies.shared_procs(),
            Version::V1(_) | Version::V2(_) | Version::None { .. } => None,
        }
    }

    /// Finds the groups that a job names itself instead of being given one: a path for version 2, a path by
    /// controller for version 1. They are joined, never changed and never removed.
    ///
    /// # Errors
    ///
    /// A group is not there.
    pub fn foreign(
        &self,
        v1: &BTreeMap<String, String>,
        v2: &str,
    ) -> Result<Option<Vec<PathBuf>>, CgroupError> {
        let dirs: Vec<PathBuf> = match &self.version {
            Version::V1(hierarchies) if !v1.is_empty() => v1
                .iter()
                .map(|(controller, path)| beneath(&hierarchies.root().join(controller), path))
                .collect(),
            Version::V2(hierarchy) if !v2.is_empty() => vec![beneath(hierarchy.root(), v2)],
            Version::V1(_) | Version::V2(_) | Version::None { .. } => return Ok(None),
        };
        for dir in &dirs {
            if !dir.join("cgroup.procs").exists() {
                return Err(CgroupError::Missing(dir.clone()));
            }
        }
        Ok(Some(dirs.into_iter().map(|dir| dir.join("cgroup.procs")).collect()))
    }
}

/// Takes a path inside a hierarchy that a job wrote, relative to its root or absolute with the root in it.
fn beneath(root: &Path, path: &str) -> PathBuf {
    let path = Path::new(path);
    if path.starts_with(root) { path.to_owned() } else { root.join(path.strip_prefix("/").unwrap_or(path)) }
}

/// Makes a name fit for one directory: task names may hold a slash.
fn file_name(name: &str) -> String {
    name.replace('/', "_")
}

impl TaskCgroup {
    /// Tells whether there is no group at all.
    pub fn is_empty(&self) -> bool {
        self.dirs.is_empty()
    }

    /// The files that a process joins these groups by.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.dirs.values().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// The group through which all processes can be found and killed.
    pub fn kill_group(&self) -> Option<KillGroup> {
        if let Some(dir) = self.dirs.get(UNIFIED) {
            return Some(KillGroup::V2(dir.clone()));
        }
        self.dirs.get("freezer").map(|dir| KillGroup::V1(dir.clone()))
    }

    /// Lists the processes in it.
    pub fn pids(&self) -> Vec<u32> {
        self.kill_group().map(|group| group.pids()).unwrap_or_default()
    }

    /// How often the kernel ended a process of it for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let from = |controller: &str, file: &str| {
            let text = fs::read_to_string(self.dirs.get(controller)?.join(file)).ok()?;
            stats::flat_key(&text, "oom_kill")
        };
        from(UNIFIED, "memory.events").or_else(|| from("memory", "memory.oom_control")).unwrap_or_default()
    }

    /// Kills what is in it, waits a moment, and removes it. What is gone already counts as removed. Blocks.
    ///
    /// # Errors
    ///
    /// A directory is still there.
    pub fn remove(&self) -> Result<(), CgroupError> {
        for dir in self.dirs.values() {
            let mut tries = 0;
            loop {
                match remove_tree(dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(source) if tries >= REMOVE_TRIES => {
                        return Err(CgroupError::Io { action: "remove", path: dir.clone(), source });
                    }
                    Err(_) => {}
                }
                if let Some(group) = self.kill_group() {
                    group.kill_all();
                }
                tries += 1;
                thread::sleep(REMOVE_PAUSE);
            }
        }
        Ok(())
    }
}

/// Removes a group and the groups that the task made inside it. Their files go with them.
fn remove_tree(dir: &Path) -> io::Result<()> {
    let Err(error) = fs::remove_dir(dir) else { return Ok(()) };
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(());
    }
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Io { action: "create", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn write(path: PathBuf, value: &str) -> Result<(), CgroupError> {
    fs::write(&path, value).map_err(|source| CgroupError::Io { action: "write", path, source })
}

/// Writes a bound that this kernel may not have; without the file there is nothing to bound.
fn write_if_there(path: PathBuf, value: &str) -> Result<(), CgroupError> {
    match fs::write(&path, value) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Ok(())
        }
        Err(source) => Err(CgroupError::Io { action: "write", path, source }),
        Ok(()) => Ok(()),
    }
}

/// Parses a list such as `0-3,7`.
fn parse_cpu_list(text: &str) -> Vec<u16> {
    let mut cores = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// Writes a list of cores as the kernel reads it.
fn cpu_list(cores: &[u16]) -> String {
    cores.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;

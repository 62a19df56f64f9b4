//! What is on the machine beside processes: mounts and control groups that carry an allocation's id.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Something that was made for an allocation.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Found {
    /// `mount` or `cgroup`.
    pub kind: &'static str,
    /// Where.
    pub name: String,
    /// For which allocation.
    pub alloc: String,
}

/// Groups of tasks lie at most this deep: controller, parent, partition, task.
const GROUP_DEPTH_MAX: usize = 4;

/// The ids of allocations that have a directory somewhere below: they are named so.
#[must_use]
pub fn allocations_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() || !path.is_dir() {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_id(&name) {
            found.push(name);
        } else {
            found.extend(allocations_below(&path));
        }
    }
    found
}

fn is_id(name: &str) -> bool {
    name.len() == 36 && name.bytes().filter(|byte| *byte == b'-').count() == 4
}

/// Mounts below a directory that carry an allocation's id.
#[must_use]
pub fn mounts(root: &Path) -> Vec<Found> {
    let text = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let below = points.filter(|point| point.starts_with(root));
    let found = below.filter_map(|point| {
        let alloc = point.components().find_map(|part| {
            let name = part.as_os_str().to_string_lossy().into_owned();
            is_id(&name).then_some(name)
        })?;
        Some(Found { kind: "mount", name: point.to_string_lossy().into_owned(), alloc })
    });
    found.collect()
}

/// Control groups of these allocations.
#[must_use]
pub fn groups(allocations: &[String]) -> Vec<Found> {
    let mut found = Vec::new();
    groups_below(Path::new("/sys/fs/cgroup"), allocations, 0, &mut found);
    found
}

fn groups_below(dir: &Path, allocations: &[String], depth: usize, found: &mut Vec<Found>) {
    if depth > GROUP_DEPTH_MAX {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(alloc) = allocations.iter().find(|id| name.starts_with(id.as_str())) {
            let name = entry.path().to_string_lossy().into_owned();
            found.push(Found { kind: "cgroup", name, alloc: alloc.clone() });
        } else {
            groups_below(&entry.path(), allocations, depth + 1, found);
        }
    }
}

/// Removes the empty control groups of allocations.
pub fn remove_groups(allocations: &[String]) {
    for group in groups(allocations) {
        if let Err(error) = fs::remove_dir(&group.name)
            && error.kind() != io::ErrorKind::NotFound
        {
            eprintln!("{} stays: {error}", group.name);
        }
    }
}

//! What an agent that was killed leaves on the machine beside processes: mounts, control groups, files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Takes away every mount below a directory, the innermost first. Agents mount small file systems for secrets.
pub fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    below.sort();
    for point in below.iter().rev() {
        match Command::new("umount").arg("-l").arg(point).status() {
            Ok(status) if status.success() => {}
            failed => eprintln!("{} stays mounted: {failed:?}", point.display()),
        }
    }
}

/// Removes the empty control groups of allocations, which carry their ids.
pub fn remove_groups(allocations: &[String]) {
    remove_groups_below(Path::new("/sys/fs/cgroup"), allocations, 0);
}

/// Groups of tasks lie at most this deep: controller, parent, partition, task.
const GROUP_DEPTH_MAX: usize = 4;

fn remove_groups_below(dir: &Path, allocations: &[String], depth: usize) {
    if depth > GROUP_DEPTH_MAX {
        return;
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if allocations.iter().any(|id| name.starts_with(id.as_str())) {
            if let Err(error) = fs::remove_dir(entry.path())
                && error.kind() != io::ErrorKind::NotFound
            {
                eprintln!("{} stays: {error}", entry.path().display());
            }
        } else {
            remove_groups_below(&entry.path(), allocations, depth + 1);
        }
    }
}

/// The ids of allocations that have a directory somewhere below: they are named so.
#[must_use]
pub fn allocations_below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.len() == 36 && name.bytes().filter(|byte| *byte == b'-').count() == 4 {
            found.push(name);
        } else if !entry.path().is_symlink() {
            found.extend(allocations_below(&entry.path()));
        }
    }
    found
}

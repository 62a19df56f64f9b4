//! The system: its name and version, memory, disk, control groups.

use std::{fs, path::Path};

use rustix::{fs::statvfs, system::uname};

use super::{Found, Settings};

const MIB: u64 = 1 << 20;

pub(super) fn look(settings: &Settings, found: &mut Found) {
    let names = uname();
    let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
    found.set("kernel.name", text(names.sysname()).to_lowercase());
    found.set("kernel.version", text(names.release()));
    found.set("kernel.arch", text(names.machine()));
    found.set("unique.hostname", text(names.nodename()));
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    found.set("os.name", field("ID").unwrap_or_else(|| "linux".to_owned()));
    let detailed = fs::read_to_string("/etc/debian_version").ok().map(|version| version.trim().to_owned());
    if let Some(version) = detailed.or_else(|| field("VERSION_ID")) {
        found.set("os.version", version);
    }
    if let Some(id) = host_id() {
        found.set("unique.host_id", id);
    }
    if let Some(version) = cgroup_version() {
        found.set("os.cgroups.version", version);
    }
    if let Some(version) = landlock_version() {
        found.set("kernel.landlock", version);
    }
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|info| {
        let kib = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        kib.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let total = settings.memory_total_mb.map(|mb| mb * MIB).or_else(|| total.map(|kib| kib * 1_024));
    if let Some(total) = total {
        found.set("memory.totalbytes", total.to_string());
        found.resources.capacity.memory_mb = total / MIB;
    }
}

pub(super) fn look_at_storage(settings: &Settings, found: &mut Found) {
    let mut path: &Path = &settings.alloc_dir;
    while !path.exists() {
        match path.parent() {
            Some(parent) => path = parent,
            None => return,
        }
    }
    let Ok(space) = statvfs(path) else {
        tracing::warn!(path = %path.display(), "size of the disk is unknown; no allocation with a disk fits");
        return;
    };
    let total = settings.disk_total_mb.map_or(space.f_blocks * space.f_frsize, |mb| mb * MIB);
    found.set("unique.storage.bytestotal", total.to_string());
    if let Some(volume) = volume_of(path) {
        found.set("unique.storage.volume", volume);
    }
    found.resources.capacity.disk_mb = settings.disk_free_mb.unwrap_or(total / MIB);
}

/// Finds the device that a path is on: the longest mount point that the path begins with.
fn volume_of(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let best = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?))
        })
        .filter(|(_, point)| path.starts_with(point))
        .max_by_key(|(_, point)| point.len());
    best.map(|(device, _)| device.to_owned())
}

fn host_id() -> Option<String> {
    let text = fs::read_to_string("/etc/machine-id").ok()?;
    let id = uuid::Uuid::try_parse(text.trim()).ok()?;
    Some(id.as_hyphenated().to_string())
}

/// Version 2 counts where its controllers are; a hybrid machine has them in version 1.
fn cgroup_version() -> Option<&'static str> {
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    if unified.is_ok_and(|controllers| !controllers.trim().is_empty()) {
        return Some("2");
    }
    Path::new("/sys/fs/cgroup/cpu").exists().then_some("1")
}

fn landlock_version() -> Option<String> {
    let enabled = fs::read_to_string("/sys/kernel/security/lsm").ok()?;
    if !enabled.split(',').any(|module| module.trim() == "landlock") {
        return None;
    }
    let release = uname().release().to_string_lossy().into_owned();
    landlock_of_kernel(&release).map(|version| format!("v{version}"))
}

/// The kernel says its Landlock version only to a system call that has no safe wrapper; each came with a release.
fn landlock_of_kernel(release: &str) -> Option<u8> {
    const SINCE: [((u32, u32), u8); 7] =
        [((6, 15), 7), ((6, 12), 6), ((6, 10), 5), ((6, 7), 4), ((6, 2), 3), ((5, 19), 2), ((5, 13), 1)];
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let kernel = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    SINCE.iter().find(|(since, _)| kernel >= *since).map(|(_, version)| *version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn landlock_follows_from_the_kernel() {
        assert_eq!(landlock_of_kernel("6.18.44-fc-v769"), Some(7));
        assert_eq!(landlock_of_kernel("6.1.0-42-amd64"), Some(2));
        assert_eq!(landlock_of_kernel("5.13"), Some(1));
        assert_eq!(landlock_of_kernel("4.19.0"), None);
        assert_eq!(landlock_of_kernel("nonsense"), None);
    }
}

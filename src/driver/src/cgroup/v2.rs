use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CgroupError, TaskCgroup, UNIFIED, cpu_list, make_dir, parse_cpu_list, write_if_there};
use crate::Resources;

/// Controllers passed down to tasks, where the kernel has them.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// The range of `cpu.weight`.
const WEIGHT_MAX: u64 = 10_000;

/// What a share of 1024 weighs in version 2, and the greatest share of version 1: the kernel's own conversion.
const SHARES_MAX: u64 = 262_144;

/// Where tasks are, by whether they have cores of their own.
#[derive(Clone, Copy)]
enum Part {
    Share,
    Reserve,
}

impl Part {
    fn dir(self) -> &'static str {
        match self {
            Self::Share => "share.slice",
            Self::Reserve => "reserve.slice",
        }
    }
}

/// The hierarchy of version 2.
#[derive(Clone, Debug)]
pub(super) struct Hierarchy {
    root: PathBuf,
    parent: PathBuf,
}

impl Hierarchy {
    pub fn prepare(root: &Path, parent: &str) -> Result<Self, CgroupError> {
        let parent = root.join(parent.trim_matches('/'));
        pass_controllers_down(root);
        let mut dir = root.to_owned();
        for part in parent.strip_prefix(root).unwrap_or(&parent) {
            dir.push(part);
            make_dir(&dir)?;
            pass_controllers_down(&dir);
        }
        for part in [Part::Share, Part::Reserve] {
            make_dir(&parent.join(part.dir()))?;
            pass_controllers_down(&parent.join(part.dir()));
        }
        Ok(Self { root: root.to_owned(), parent })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn create(
        &self,
        name: &str,
        resources: &Resources,
        made: &mut TaskCgroup,
    ) -> Result<(), CgroupError> {
        let part = if resources.cpu.cores.is_empty() { Part::Share } else { Part::Reserve };
        let dir = self.parent.join(part.dir()).join(format!("{name}.scope"));
        make_dir(&dir)?;
        made.dirs.insert(UNIFIED.to_owned(), dir.clone());
        if let Some(weight) = weight(resources) {
            write_if_there(dir.join("cpu.weight"), &weight.to_string())?;
        }
        if let Some(limit) = resources.memory.hard_limit() {
            write_if_there(dir.join("memory.max"), &limit.to_string())?;
            write_if_there(dir.join("memory.swap.max"), "0")?;
        }
        if let Some(reserved) = resources.memory.reservation() {
            write_if_there(dir.join("memory.low"), &reserved.to_string())?;
        }
        if !resources.cpu.cores.is_empty() {
            write_if_there(dir.join("cpuset.cpus"), &cpu_list(&resources.cpu.cores))?;
        }
        self.shrink_shared();
        Ok(())
    }

    /// Takes the reserved cores out of what the others share. When nothing would be left, they are shared after all.
    fn shrink_shared(&self) {
        let read = |path: PathBuf| parse_cpu_list(&fs::read_to_string(path).unwrap_or_default());
        let all = read(self.parent.join("cpuset.cpus.effective"));
        if all.is_empty() {
            return;
        }
        let reserve = fs::read_dir(self.parent.join(Part::Reserve.dir())).into_iter().flatten().flatten();
        let taken: Vec<u16> = reserve.flat_map(|entry| read(entry.path().join("cpuset.cpus"))).collect();
        let free: Vec<u16> = all.iter().copied().filter(|core| !taken.contains(core)).collect();
        let shared = cpu_list(if free.is_empty() { &all } else { &free });
        let path = self.parent.join(Part::Share.dir()).join("cpuset.cpus");
        if cpu_list(&read(path.clone())) != shared {
            // A kernel that refuses leaves the old set, in which every task still runs.
            let _ = fs::write(path, shared);
        }
    }
}

/// Turns megahertz into a weight: the part of the node's, or the kernel's conversion when the node's is unknown.
fn weight(resources: &Resources) -> Option<u64> {
    let (shares, total) = (resources.cpu.shares_mhz, resources.cpu.node_total_mhz);
    if shares == 0 {
        return None;
    }
    if let Some(part) = shares.saturating_mul(WEIGHT_MAX).checked_div(total) {
        return Some(part.clamp(1, WEIGHT_MAX));
    }
    let shares = shares.clamp(2, SHARES_MAX);
    Some(1 + (shares - 2) * (WEIGHT_MAX - 1) / (SHARES_MAX - 2))
}

/// Gives the groups below the controllers of this one, each for itself: one that is missing must not cost the others.
fn pass_controllers_down(dir: &Path) {
    for controller in CONTROLLERS {
        // Where it is refused, the bounds of that controller are not set, which `write_if_there` allows for.
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuResources;

    #[test]
    fn a_share_weighs_its_part_of_the_node() {
        let resources = |shares_mhz, node_total_mhz| Resources {
            cpu: CpuResources { shares_mhz, node_total_mhz, cores: Vec::new() },
            ..Resources::default()
        };
        assert_eq!(weight(&resources(0, 4000)), None);
        assert_eq!(weight(&resources(1000, 4000)), Some(2500));
        assert_eq!(weight(&resources(1, 40_000)), Some(1));
        assert_eq!(weight(&resources(1024, 0)), Some(39));
    }
}

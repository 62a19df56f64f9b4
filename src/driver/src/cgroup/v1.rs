use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{CgroupError, TaskCgroup, cpu_list, make_dir, parse_cpu_list, write, write_if_there};
use crate::Resources;

/// Controllers that a task gets a group of its own in. Without the freezer there is no safe kill and no point.
const CONTROLLERS: [&str; 4] = ["freezer", "cpu", "cpuacct", "memory"];

/// The least weight that the kernel takes.
const SHARES_MIN: u64 = 2;
/// The greatest weight that the kernel takes.
const SHARES_MAX: u64 = 262_144;

/// The hierarchies of version 1 that are mounted here.
#[derive(Clone, Debug)]
pub(super) struct Hierarchies {
    root: PathBuf,
    parent: String,
    controllers: Vec<&'static str>,
    cpuset: bool,
}

impl Hierarchies {
    pub fn prepare(root: &Path, parent: &str) -> Result<Self, CgroupError> {
        let parent = parent.trim_matches('/').to_owned();
        let mut controllers = Vec::new();
        for controller in CONTROLLERS {
            let mount = root.join(controller);
            if mount.join("cgroup.procs").exists() {
                fs::create_dir_all(mount.join(&parent)).map_err(|source| CgroupError::Io {
                    action: "create",
                    path: mount.join(&parent),
                    source,
                })?;
                // `cpu` and `cpuacct` are often one hierarchy under two names.
                controllers.push(controller);
            }
        }
        if !controllers.contains(&"freezer") {
            return Err(CgroupError::Missing(root.join("freezer")));
        }
        let mut hierarchies = Self { root: root.to_owned(), parent, controllers, cpuset: false };
        // Without it, cores are not pinned; everything else works.
        hierarchies.cpuset = hierarchies.prepare_cpuset().is_ok();
        Ok(hierarchies)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn cpuset_dir(&self, part: &str) -> PathBuf {
        self.root.join("cpuset").join(&self.parent).join(part)
    }

    /// A set without cores or memory nodes accepts no process, so each level is given its parent's.
    fn prepare_cpuset(&self) -> Result<(), CgroupError> {
        let mount = self.root.join("cpuset");
        let read = |file: &str| fs::read_to_string(mount.join(file)).unwrap_or_default().trim().to_owned();
        let (cores, nodes) = (read("cpuset.cpus"), read("cpuset.mems"));
        for part in ["", "share", "reserve"] {
            let dir = self.cpuset_dir(part);
            fs::create_dir_all(&dir).map_err(|source| CgroupError::Io {
                action: "create",
                path: dir.clone(),
                source,
            })?;
            for (file, value) in [("cpuset.cpus", &cores), ("cpuset.mems", &nodes)] {
                if fs::read_to_string(dir.join(file)).unwrap_or_default().trim().is_empty() {
                    write(dir.join(file), value)?;
                }
            }
        }
        Ok(())
    }

    pub fn create(
        &self,
        name: &str,
        resources: &Resources,
        made: &mut TaskCgroup,
    ) -> Result<(), CgroupError> {
        for controller in &self.controllers {
            let dir = self.root.join(controller).join(&self.parent).join(name);
            make_dir(&dir)?;
            made.dirs.insert((*controller).to_owned(), dir.clone());
            match *controller {
                "cpu" if resources.cpu.shares_mhz > 0 => {
                    let shares = resources.cpu.shares_mhz.clamp(SHARES_MIN, SHARES_MAX);
                    write(dir.join("cpu.shares"), &shares.to_string())?;
                }
                "memory" => bound_memory(&dir, resources)?,
                _ => {}
            }
        }
        if self.cpuset && !resources.cpu.cores.is_empty() {
            let dir = self.cpuset_dir("reserve").join(name);
            make_dir(&dir)?;
            made.dirs.insert("cpuset".to_owned(), dir.clone());
            let nodes =
                fs::read_to_string(self.cpuset_dir("reserve").join("cpuset.mems")).unwrap_or_default();
            write(dir.join("cpuset.mems"), nodes.trim())?;
            write(dir.join("cpuset.cpus"), &cpu_list(&resources.cpu.cores))?;
            self.shrink_shared();
        } else if self.cpuset {
            // The shared set is joined and belongs to nobody, so that removing a task leaves it.
            self.shrink_shared();
        }
        Ok(())
    }

    /// The set that tasks without cores of their own run in.
    pub fn shared_procs(&self) -> Option<PathBuf> {
        self.cpuset.then(|| self.cpuset_dir("share").join("cgroup.procs"))
    }

    /// Takes the reserved cores out of the shared set. When nothing would be left, they are shared after all.
    fn shrink_shared(&self) {
        let reserve = self.cpuset_dir("reserve");
        let all = parse_cpu_list(&fs::read_to_string(reserve.join("cpuset.cpus")).unwrap_or_default());
        let taken: Vec<u16> = fs::read_dir(&reserve)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| fs::read_to_string(entry.path().join("cpuset.cpus")).ok())
            .flat_map(|text| parse_cpu_list(&text))
            .collect();
        let free: Vec<u16> = all.iter().copied().filter(|core| !taken.contains(core)).collect();
        let shared = cpu_list(if free.is_empty() { &all } else { &free });
        let path = self.cpuset_dir("share").join("cpuset.cpus");
        let before = parse_cpu_list(&fs::read_to_string(&path).unwrap_or_default());
        if cpu_list(&before) != shared {
            // A kernel that refuses leaves the old set, in which every task still runs.
            let _ = fs::write(path, shared);
        }
    }
}

fn bound_memory(dir: &Path, resources: &Resources) -> Result<(), CgroupError> {
    if let Some(limit) = resources.memory.hard_limit() {
        write(dir.join("memory.limit_in_bytes"), &limit.to_string())?;
        // Swap beyond the limit would let a task outgrow what it was given. Not every kernel accounts for it.
        write_if_there(dir.join("memory.memsw.limit_in_bytes"), &limit.to_string())?;
    }
    if let Some(reserved) = resources.memory.reservation() {
        write(dir.join("memory.soft_limit_in_bytes"), &reserved.to_string())?;
    }
    Ok(())
}

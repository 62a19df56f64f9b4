use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use super::*;
use crate::{CpuResources, MemoryResources};

fn small() -> Resources {
    Resources {
        cpu: CpuResources { shares_mhz: 100, node_total_mhz: 1000, cores: Vec::new() },
        memory: MemoryResources { memory_mb: 32, memory_max_mb: Some(64) },
        disk_mb: 0,
    }
}

/// A group that holds a process which will not end by itself.
fn occupied(cgroups: &Cgroups, name: &str) -> (TaskCgroup, std::process::Child) {
    let group = cgroups.create(name, &small()).expect("this machine grants groups");
    let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("sleep exists");
    for file in group.procs_files() {
        fs::write(file, child.id().to_string()).expect("a process can be moved");
    }
    (group, child)
}

fn an_occupied_group_is_found_killed_and_removed(cgroups: &Cgroups, name: &str) {
    let (group, mut child) = occupied(cgroups, name);
    assert_eq!(group.pids(), [child.id()]);
    let kill = group.kill_group().expect("there is one");
    assert_eq!(KillGroup::parse(&kill.to_arg()), Some(kill.clone()));
    assert_eq!(kill.kill_all(), 1);
    let status = child.wait().expect("it is our child");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    group.remove().expect("an empty group goes");
    group.remove().expect("twice is harmless");
    assert!(group.dirs.values().all(|dir| !dir.exists()));
}

fn usable(cgroups: &Cgroups) -> bool {
    match cgroups.disabled() {
        None => true,
        Some(reason) => {
            eprintln!("skipped: no control groups here: {reason}");
            false
        }
    }
}

#[test]
fn this_machines_groups_bound_find_and_kill() {
    let cgroups = Cgroups::detect(Some("wayfarer-test-cgroup"));
    if usable(&cgroups) {
        an_occupied_group_is_found_killed_and_removed(&cgroups, "a0.task/with slash");
    }
}

#[test]
fn the_second_version_finds_and_kills() {
    // Beside version 1 controllers, version 2 is often mounted without any of its own.
    let side = Path::new(ROOT).join("unified");
    let cgroups = Cgroups::detect_at(&side, Some("wayfarer-test.slice"));
    if side.join("cgroup.controllers").exists() && usable(&cgroups) {
        assert_eq!(cgroups.version(), Some("2"));
        an_occupied_group_is_found_killed_and_removed(&cgroups, "a1.task");
    }
}

#[test]
fn memory_bounds_reach_the_kernel() {
    let cgroups = Cgroups::detect(Some("wayfarer-test-memory"));
    if !usable(&cgroups) {
        return;
    }
    let group = cgroups.create("a2.task", &small()).expect("this machine grants groups");
    let (controller, file) = match cgroups.version() {
        Some("1") => ("memory", "memory.limit_in_bytes"),
        _ => (UNIFIED, "memory.max"),
    };
    if let Ok(limit) = fs::read_to_string(group.dirs[controller].join(file)) {
        assert_eq!(limit.trim(), (64_u64 << 20).to_string());
    }
    assert_eq!(group.oom_kills(), 0);
    group.remove().expect("an empty group goes");
}

#[test]
fn a_machine_without_groups_says_why_and_goes_on() {
    let cgroups = Cgroups::detect_at(Path::new("/no/such/hierarchy"), None);
    assert!(cgroups.disabled().is_some_and(|reason| reason.contains("/no/such/hierarchy")));
    let group = cgroups.create("a.b", &small()).expect("nothing to make");
    assert!(group.is_empty());
    group.remove().expect("nothing to remove");
}

#[test]
fn a_foreign_group_must_exist() {
    let cgroups = Cgroups::detect(Some("wayfarer-test-foreign"));
    if usable(&cgroups) {
        let named = BTreeMap::from([("freezer".to_owned(), "/no/such/group".to_owned())]);
        assert!(matches!(cgroups.foreign(&named, "no/such/group"), Err(CgroupError::Missing(_))));
        assert!(cgroups.foreign(&BTreeMap::new(), "").expect("nothing named").is_none());
    }
}

#[test]
fn lists_of_cores_are_read_and_written() {
    assert_eq!(parse_cpu_list("0-2,5\n"), [0, 1, 2, 5]);
    assert_eq!(parse_cpu_list(""), Vec::<u16>::new());
    assert_eq!(cpu_list(&[1, 3]), "1,3");
}

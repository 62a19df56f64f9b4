//! Processes of the machine: which belong to a run, which are tasks, and how they are told apart.

use std::{collections::BTreeMap, fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The variable that marks the tasks of a run; its value is the run's prefix.
pub const MARK: &str = "WAYFARER_CHAOS_RUN";

/// The variable that says on which agent's behalf a task runs: one in a container sees another directory than others.
pub const NODE: &str = "WAYFARER_CHAOS_NODE";

/// A task's process.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TaskProcess {
    /// Its number.
    pub pid: u32,
    /// When it began, in the kernel's ticks: with the number it is never another process.
    pub started: u64,
    /// The allocation, by its variable.
    pub alloc: String,
    /// The task's name.
    pub task: String,
    /// The name of its agent.
    pub node: String,
}

/// Every task of a run that lives.
#[must_use]
pub fn tasks(prefix: &str) -> Vec<TaskProcess> {
    let mut found: Vec<TaskProcess> = all().filter_map(|pid| task(pid, prefix)).collect();
    found.sort();
    found
}

fn task(pid: u32, prefix: &str) -> Option<TaskProcess> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let text = String::from_utf8_lossy(&environ);
    let variables: BTreeMap<&str, &str> = text.split('\0').filter_map(|pair| pair.split_once('=')).collect();
    if variables.get(MARK) != Some(&prefix) {
        return None;
    }
    // Between fork and exec a task's environment is already there, and the process is still the shim's.
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name.starts_with("wayfarer") {
        return None;
    }
    let value = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    Some(TaskProcess {
        pid,
        started: started(pid)?,
        alloc: value("NOMAD_ALLOC_ID")?,
        task: value("NOMAD_TASK_NAME")?,
        node: value(NODE)?,
    })
}

/// When a process began; none for one that is gone or has ended.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

/// Open files.
#[must_use]
pub fn files(pid: u32) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u64::try_from(entries.count()).ok()
}

/// The only child of a process, when it has one.
#[must_use]
pub fn child_of(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Every process that was started in a directory or for it: its working directory, an argument or a variable lies there.
/// A run's directory has a name of its own, so these are the run's agents, shims and tasks and no one else's.
#[must_use]
pub fn of_directory(dir: &Path) -> Vec<u32> {
    let wanted = dir.as_os_str().as_encoded_bytes();
    let own = ancestors(std::process::id());
    all().filter(|pid| !own.contains(pid) && is_of(*pid, wanted)).collect()
}

/// A process and all that it was started by: they may name the directory without being of the run.
fn ancestors(pid: u32) -> Vec<u32> {
    let mut chain = vec![pid];
    while let Some(parent) = chain.last().copied().and_then(parent_of).filter(|parent| *parent > 1) {
        chain.push(parent);
    }
    chain
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

fn is_of(pid: u32, wanted: &[u8]) -> bool {
    let base = format!("/proc/{pid}");
    // The guard and the run itself name the directory too; they are not what is looked for.
    let name = fs::read_to_string(format!("{base}/comm")).unwrap_or_default();
    if name.starts_with("wayfarer-chaos") {
        return false;
    }
    let says = |name: &str| {
        fs::read(format!("{base}/{name}"))
            .is_ok_and(|bytes| bytes.windows(wanted.len()).any(|window| window == wanted))
    };
    let inside = fs::read_link(format!("{base}/cwd"))
        .is_ok_and(|path| path.as_os_str().as_encoded_bytes().starts_with(wanted));
    inside || says("cmdline") || says("environ")
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Sends a signal. A process that is gone gets none.
pub fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended in this very moment, which is as good.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_started_for_a_directory_is_found_and_its_finder_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut child = Command::new("sleep").arg("600").env("OF", dir.path()).spawn().expect("a process");
        // A process has its new name and environment a moment after its parent goes on.
        let tries = std::iter::repeat_with(|| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            of_directory(dir.path())
        });
        let found = tries.take(500).find(|found| !found.is_empty()).unwrap_or_default();
        signal(child.id(), Signal::SIGKILL);
        child.wait().expect("it ends");
        assert_eq!(found, [child.id()]);
        assert_eq!(of_directory(dir.path()), [0_u32; 0], "one that ended is not found");
    }
}

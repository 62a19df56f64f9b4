use std::{fs, io, path::Path};

use super::{INTENT_FILE, Intent, Supervisor, read_processes};
use crate::{
    CensusError, DestroyTaskError, Found, FoundKind,
    cgroup::TaskCgroup,
    process::{self, ProcessId},
};

impl Supervisor {
    /// Lists the processes and control groups of every launch that this driver ever made here and that are left.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// The records or the process list cannot be read.
    pub fn census(&self, alloc_dir: Option<&Path>) -> Result<Vec<Found>, CensusError> {
        let search = |place: &Path, error: io::Error| CensusError::Search {
            place: place.display().to_string(),
            reason: error.to_string(),
        };
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.state_dir).map_err(|error| search(&self.state_dir, error))?;
        for entry in entries.flatten() {
            self.census_of_launch(&entry.path(), &mut found);
        }
        let pids = process::all().map_err(|error| search(Path::new("/proc"), error))?;
        found.extend(pids.into_iter().filter_map(|pid| self.census_of_process(pid, alloc_dir)));
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn census_of_launch(&self, dir: &Path, found: &mut Vec<Found>) {
        let Some(intent) = read_intent(dir) else { return };
        let mut add = |kind| {
            let (alloc_id, task) = (intent.id.alloc_id().to_owned(), Some(intent.id.task().to_owned()));
            found.push(Found { alloc_id, task, kind });
        };
        if let Some((shim, task)) = read_processes(dir) {
            for process in [shim, task].into_iter().filter(|process| process.is_alive()) {
                add(FoundKind::Process { pid: process.pid, start_ticks: process.start_ticks });
            }
        }
        for dir in intent.cgroup.dirs.values().filter(|dir| dir.exists()) {
            add(FoundKind::Cgroup { path: dir.display().to_string() });
        }
    }

    /// Recognises a process by its environment: a shim by its driver's directory, a task and its offspring by the
    /// allocation's directory. Other agents on this machine have other directories.
    fn census_of_process(&self, pid: u32, alloc_dir: Option<&Path>) -> Option<Found> {
        if pid == std::process::id() {
            return None;
        }
        let variable = |name| process::environment_variable(pid, name);
        let (alloc_id, task) = if Path::new(&variable("WAYFARER_STATE").unwrap_or_default()) == self.state_dir
        {
            (variable("WAYFARER_ALLOC_ID")?, variable("WAYFARER_TASK"))
        } else {
            let dir = variable("NOMAD_ALLOC_DIR")?;
            let ours = alloc_dir.is_some_and(|root| Path::new(&dir).starts_with(root));
            if !ours || !process::shares_our_mounts(pid) {
                return None;
            }
            (variable("NOMAD_ALLOC_ID")?, variable("NOMAD_TASK_NAME"))
        };
        let process = ProcessId::of(pid).ok().filter(|process| process.is_alive())?;
        Some(Found { alloc_id, task, kind: FoundKind::Process { pid, start_ticks: process.start_ticks } })
    }

    /// Removes one thing that the census found, and the records of launches of which nothing is left. Blocks.
    ///
    /// # Errors
    ///
    /// It is still there.
    pub fn remove_stray(&self, found: &Found) -> Result<(), DestroyTaskError> {
        let remains = |what: String, reason: String| DestroyTaskError::Remove { what, reason };
        match &found.kind {
            FoundKind::Process { pid, start_ticks } => {
                let process = ProcessId { pid: *pid, start_ticks: *start_ticks };
                process.end().map_err(|error| remains(format!("process {pid}"), error.to_string()))?;
            }
            FoundKind::Cgroup { path } => {
                // The freezer can kill what is in it; the group as a whole is named by each of its directories.
                let group = self.group_of(path);
                group.remove().map_err(|error| remains(path.clone(), error.to_string()))?;
            }
            FoundKind::Container { .. } | FoundKind::Network { .. } | FoundKind::Virtual { .. } => {}
        }
        self.prune(&found.alloc_id);
        Ok(())
    }

    fn group_of(&self, path: &str) -> TaskCgroup {
        let entries = fs::read_dir(&self.state_dir).into_iter().flatten().flatten();
        let groups = entries.filter_map(|entry| Some(read_intent(&entry.path())?.cgroup));
        let mut holding = groups.filter(|group| group.dirs.values().any(|dir| dir == Path::new(path)));
        holding.next().unwrap_or_default()
    }

    fn prune(&self, alloc_id: &str) {
        for entry in fs::read_dir(&self.state_dir).into_iter().flatten().flatten() {
            let dir = entry.path();
            if read_intent(&dir).is_some_and(|intent| intent.id.alloc_id() == alloc_id) {
                let mut left = Vec::new();
                self.census_of_launch(&dir, &mut left);
                if left.is_empty() {
                    // The next census comes by again.
                    let _ = fs::remove_dir_all(dir);
                }
            }
        }
    }
}

fn read_intent(dir: &Path) -> Option<Intent> {
    serde_json::from_slice(&fs::read(dir.join(INTENT_FILE)).ok()?).ok()
}

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use runtime::Env;
use tokio::{net::UnixStream, process::Child, sync::watch};

use super::{Record, RequestError, connection, read_exit};
use crate::{
    CpuStats, ExitResult, MemoryStats, PidStats, Signal, TaskId, TaskState, TaskStats,
    cgroup::{CgroupError, stats},
    process::tree,
    shim::wire::{Exit, Request},
};

/// How long a killed task may take to be gone. Past it a process hangs in the kernel.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// Processes of a task that are measured one by one. What lies beyond is still in the sums of its group.
const MEASURED_PROCESSES_MAX: usize = 1024;

/// A task that a shim owns. Cheap to clone; dropping every clone leaves the task alone.
#[derive(Clone, Debug)]
pub struct Supervised {
    id: TaskId,
    record: Arc<Record>,
    env: Env,
    ended: watch::Receiver<Option<(ExitResult, i64)>>,
}

impl Supervised {
    /// Watches for the end of a task. `child` is the shim when this agent started it and has to reap it.
    pub(super) fn watch(
        env: &Env,
        id: TaskId,
        record: Record,
        connection: Option<UnixStream>,
        child: Option<Child>,
    ) -> Self {
        let record = Arc::new(record);
        let (tell, ended) = watch::channel(None);
        let task = Self { id, record: Arc::clone(&record), env: env.clone(), ended };
        let watcher = env.clone();
        env.spawn("shim-watch", async move {
            let told = match connection {
                Some(connection) => connection::exit(connection).await,
                None => None,
            };
            let at = watcher.wall();
            let found = watcher.spawn_blocking(move || found_exit(&record, told, at)).await;
            tell.send_replace(Some(found.expect("reading files does not panic")));
            if let Some(mut child) = child {
                // Only reaped: how a shim ended says nothing about its task.
                let _ = child.wait().await;
            }
        });
        task
    }

    /// What finds this task again.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Waits until it has ended.
    pub async fn wait(&self) -> ExitResult {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.map(|ended| ended.clone()) {
            Ok(Some((result, _))) => result,
            // The watcher only goes away unanswered when the agent shuts down.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Tells whether it runs.
    pub fn state(&self) -> TaskState {
        match &*self.ended.borrow() {
            None => TaskState::Running,
            Some((result, at)) => TaskState::Exited { result: result.clone(), at: *at },
        }
    }

    /// Tells whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Signals its main process.
    ///
    /// # Errors
    ///
    /// It has ended, or the system refused.
    pub async fn signal(&self, signal: Signal) -> Result<(), RequestError> {
        if self.has_ended() {
            return Err(RequestError::Ended);
        }
        connection::ask(&self.record.dir, Request::Signal(signal.0)).await
    }

    /// Signals it, kills it after `timeout`, and waits until it is gone. The shim keeps the time, so that a stop
    /// under way is finished even without this agent.
    ///
    /// # Errors
    ///
    /// It is still there some seconds after it was killed, or its shim cannot be reached.
    pub async fn stop(&self, signal: Signal, timeout: Duration) -> Result<(), RequestError> {
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        self.end_by(Request::Stop { signal: signal.0, timeout_ms }, timeout + KILL_GRACE).await
    }

    /// Kills it and all it started, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It is still there after some seconds, or its shim cannot be reached.
    pub async fn kill(&self) -> Result<(), RequestError> {
        self.end_by(Request::Kill, KILL_GRACE).await
    }

    async fn end_by(&self, request: Request, patience: Duration) -> Result<(), RequestError> {
        if self.has_ended() {
            return Ok(());
        }
        let asked = connection::ask(&self.record.dir, request).await;
        let patience = match &asked {
            Ok(()) | Err(RequestError::Ended) => patience,
            // A signal that this system does not know must not let the task live.
            Err(RequestError::Refused(_)) => patience,
            // It may be ending at this moment, and then the watcher knows soon.
            Err(RequestError::Reach(_) | RequestError::Undead) => Duration::from_secs(1),
        };
        match tokio::time::timeout(patience, self.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => asked.and(Err(RequestError::Undead)),
        }
    }

    /// Measures it.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub async fn stats(&self) -> Result<TaskStats, RequestError> {
        if self.has_ended() {
            return Err(RequestError::Ended);
        }
        let record = Arc::clone(&self.record);
        let measured = self.env.spawn_blocking(move || measure(&record)).await;
        let (cpu, memory, pids) = measured.expect("reading files does not panic");
        Ok(TaskStats { at: self.env.wall(), cpu, memory, pids })
    }

    /// Removes its control groups and records. Its logs stay.
    ///
    /// # Errors
    ///
    /// A control group is still there; the records stay too, so that the census finds it.
    pub async fn forget(&self) -> Result<(), CgroupError> {
        let record = Arc::clone(&self.record);
        let removed = self.env.spawn_blocking(move || {
            // All that its shim may still do is sync a record that is about to be removed. One that will not go is
            // found by the census.
            let _ = record.shim.end();
            record.cgroup.remove()?;
            match fs::remove_dir_all(&record.dir) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    Err(CgroupError::Io { action: "remove", path: record.dir.clone(), source })
                }
                _ => Ok(()),
            }
        });
        removed.await.expect("removing files does not panic")
    }

    pub(super) fn parts(&self) -> (&TaskId, &Record, &Env) {
        (&self.id, &self.record, &self.env)
    }

    /// The launch's directory.
    pub fn dir(&self) -> &PathBuf {
        &self.record.dir
    }
}

/// Turns what the shim said, or left behind, into a result. Blocks.
fn found_exit(record: &Record, told: Option<Exit>, now: i64) -> (ExitResult, i64) {
    let Some(exit) = told.or_else(|| read_exit(&record.dir)) else {
        kill_remains(record);
        let err = Some("the task's shim was lost; what was left of the task has been killed".to_owned());
        return (ExitResult { exit_code: -1, err, ..ExitResult::default() }, now);
    };
    let mut result = match exit.signal {
        0 => ExitResult::exited(exit.code),
        signal => ExitResult::signaled(signal),
    };
    // A shell reports a killed child of its as 137.
    let killed = exit.signal == 9 || exit.code == 137;
    if killed && record.cgroup.oom_kills() > 0 {
        result.oom_killed = true;
        result.err = Some("OOM Killed".to_owned());
    }
    (result, exit.at)
}

/// Removes what is left of a launch whose shim is gone: processes, unless the machine was started again and their numbers
/// may be others', control groups, and the records, so that no later sweep has to know of it. Blocks.
pub(super) fn remove_lost(record: &Record, rebooted: bool) {
    if !rebooted {
        kill_remains(record);
    }
    if record.cgroup.remove().is_ok() {
        // What is left is found by the next census, and so are groups, by these records.
        let _ = fs::remove_dir_all(&record.dir);
    }
}

/// Kills what a lost shim left. Blocks.
pub(super) fn kill_remains(record: &Record) {
    if let Some(group) = record.cgroup.kill_group() {
        group.kill_all();
    }
    // It is gone already, or it is exactly the process that was started.
    let _ = record.task.end();
}

fn measure(record: &Record) -> (CpuStats, MemoryStats, Vec<PidStats>) {
    let mut pids = record.cgroup.pids();
    if pids.is_empty() {
        pids = tree(record.task.pid);
    }
    pids.truncate(MEASURED_PROCESSES_MAX);
    let (cpu, memory, pids) = stats::of_processes(&pids);
    let (cpu, memory) = record.cgroup.stats().unwrap_or((cpu, memory));
    (cpu, memory, pids)
}

//! The agent's side of the [shim](crate::shim): starts shims, finds them again, speaks to them.
//!
//! Files of a launch, in a directory of its own below the driver's state directory:
//!
//! | file | written by | holds |
//! | --- | --- | --- |
//! | `intent.json` | the agent, before it starts the shim | whose launch it is, and its control groups |
//! | `shim` | the shim, once the task's process exists | both processes, each with its start time |
//! | `ctl` | the shim | the socket on which it is spoken to, while the task runs |
//! | `exit` | the shim, once the task has ended | exit code, signal, time |
//!
//! Read [`Supervisor`] first.

mod census;
mod connection;
mod error;
mod exec;
mod task;

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use runtime::Env;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::{Child, Command},
    sync::Semaphore,
};

pub use error::{LaunchError, ReachError, RequestError, errno_text};
pub use task::Supervised;

use crate::{
    LogConfig, TaskId,
    cgroup::TaskCgroup,
    process::{ProcessId, boot_id},
    shim::{
        LaunchUser, SHIM_NAME,
        wire::{EXIT_FILE, Exit, INTENT_FILE, LaunchSpec, SHIM_FILE},
    },
};

/// Shims being started at one time. Each holds a thread for about a millisecond; more at once only queue for cores.
const LAUNCHES_MAX: usize = 16;

/// How long a launch may take, of which it normally needs three milliseconds. A machine that swaps needs more.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes that a shim may say about a launch; it says one or two lines.
const LAUNCH_ANSWER_MAX: u64 = 4096;

/// Characters of a task's name in the name of its directory, which the launch makes unique anyway.
const DIR_TASK_NAME_MAX: usize = 80;

/// Starts and finds shims for one driver.
#[derive(Clone, Debug)]
pub struct Supervisor {
    env: Env,
    driver: &'static str,
    state_dir: PathBuf,
    launches: Arc<Semaphore>,
}

/// What to launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Which launch it is.
    pub id: TaskId,
    /// What the task's process becomes.
    pub spec: LaunchSpec,
    /// The groups made for it, all of which `spec.join` names too.
    pub cgroup: TaskCgroup,
    /// Where its output goes.
    pub log_dir: PathBuf,
    /// How its output is kept.
    pub logs: LogConfig,
}

/// What a driver persists to find a supervised task again. Holds no environment: the shim keeps that in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The launch's directory.
    pub dir: PathBuf,
    /// The shim.
    pub shim: ProcessId,
    /// The task's main process.
    pub task: ProcessId,
    /// When the task was started, in nanoseconds since the epoch.
    pub started_at: i64,
    /// The boot of the machine that it runs in.
    pub boot_id: Option<String>,
    /// Its control groups.
    pub cgroup: TaskCgroup,
    /// Groups that it joined, for commands that are run beside it.
    pub join: Vec<PathBuf>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Whom it runs as.
    pub user: Option<LaunchUser>,
    /// The network namespace it is in.
    pub network_namespace: Option<PathBuf>,
    /// How ready the kernel is to end it when memory is short.
    pub oom_score_adj: i32,
}

/// The intent file.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    id: TaskId,
    cgroup: TaskCgroup,
}

impl Supervisor {
    /// Keeps the records of a driver's launches below `state_dir`, which must be the agent's alone.
    ///
    /// # Errors
    ///
    /// The directory cannot be made.
    pub fn new(env: Env, driver: &'static str, state_dir: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&state_dir)?;
        Ok(Self { env, driver, state_dir, launches: Arc::new(Semaphore::new(LAUNCHES_MAX)) })
    }

    /// Starts a shim and, through it, the task. When this returns, the task's command has been executed.
    ///
    /// # Errors
    ///
    /// Nothing of it runs; the control groups are left to the caller.
    pub async fn launch(&self, launch: Launch) -> Result<Supervised, LaunchError> {
        let permit = self.launches.acquire().await.expect("the semaphore is never closed");
        let started_at = self.env.wall();
        let dir = self.state_dir.join(dir_name(&launch.id));
        let spec = serde_json::to_vec(&launch.spec).expect("a specification is plain data");
        let prepared = {
            let (dir, launch, this) = (dir.clone(), launch.clone(), self.clone());
            self.env.spawn_blocking(move || this.spawn_shim(&dir, &launch)).await
        };
        let (child, socket) = prepared.expect("starting a process does not panic")?;
        drop(permit);
        let answer = tokio::time::timeout(LAUNCH_TIMEOUT, converse(socket, &spec)).await;
        let answer = answer.unwrap_or(Err(LaunchError::Timeout(LAUNCH_TIMEOUT)));
        let (shim, task) = match answer {
            Ok(processes) => processes,
            Err(error) => {
                abandon(child, &dir).await;
                return Err(error);
            }
        };
        let record = record(dir, (shim, task), started_at, launch.spec, launch.cgroup);
        let connection = connection::connect(&record.dir).await.ok();
        Ok(Supervised::watch(&self.env, launch.id, record, connection, Some(child)))
    }

    /// Tells whether an earlier agent began this launch and could not write down any more that it did. Blocks.
    pub fn was_begun(&self, id: &TaskId) -> bool {
        self.state_dir.join(dir_name(id)).exists()
    }

    /// Takes charge of a launch that an earlier agent began when it ended, if the task runs. Otherwise removes what there is
    /// of it.
    ///
    /// # Errors
    ///
    /// The shim does not answer, or has not started the task yet. Nothing was changed; asking again helps.
    pub async fn find(&self, launch: Launch) -> Result<Option<Supervised>, ReachError> {
        let dir = self.state_dir.join(dir_name(&launch.id));
        let looked = {
            let (this, dir, launch) = (self.clone(), dir.clone(), launch.clone());
            self.env.spawn_blocking(move || this.look_for(&dir, &launch)).await
        };
        let Some(processes) = looked.expect("reading files does not panic")? else { return Ok(None) };
        let record = record(dir, processes, self.env.wall(), launch.spec, launch.cgroup);
        match self.recover(launch.id, record).await {
            Ok(found) => Ok(Some(found)),
            Err(ReachError::Rebooted | ReachError::Gone { .. }) => Ok(None),
            Err(error @ (ReachError::Silent { .. } | ReachError::Starting { .. })) => Err(error),
        }
    }

    /// Finds the processes of a launch that runs, or removes what is left of it. Blocks.
    fn look_for(&self, dir: &Path, launch: &Launch) -> Result<Option<(ProcessId, ProcessId)>, ReachError> {
        let processes = read_processes(dir);
        if let Some(processes) = processes.filter(|(shim, _)| shim.is_alive() && read_exit(dir).is_none()) {
            return Ok(Some(processes));
        }
        if processes.is_none()
            && let Some(pid) = self.shim_of(&launch.id)
        {
            return Err(ReachError::Starting { pid });
        }
        // It ended, and its end may have been noted before; or it never came to be.
        match processes {
            Some(processes) => {
                let (spec, cgroup) = (launch.spec.clone(), launch.cgroup.clone());
                task::remove_lost(&record(dir.to_owned(), processes, 0, spec, cgroup), false);
            }
            None => {
                if launch.cgroup.remove().is_ok() {
                    // What stays is found by the census.
                    let _ = fs::remove_dir_all(dir);
                }
            }
        }
        Ok(None)
    }

    /// Finds the shim of a task by its environment.
    fn shim_of(&self, id: &TaskId) -> Option<u32> {
        let is_its = |pid: &u32| {
            let says = |name, value: &str| {
                crate::process::environment_variable(*pid, name).is_some_and(|found| found == value)
            };
            says("WAYFARER_ALLOC_ID", id.alloc_id())
                && says("WAYFARER_TASK", id.task())
                && says("WAYFARER_STATE", &self.state_dir.to_string_lossy())
                && ProcessId::of(*pid).is_ok_and(|process| process.is_alive())
        };
        crate::process::all().unwrap_or_default().into_iter().find(is_its)
    }

    /// Takes charge of a task that an earlier agent launched, whether it runs or has ended since.
    ///
    /// # Errors
    ///
    /// Its shim is gone without a word. Whatever was left of the task has been killed, because nobody can tell its
    /// exit any more.
    pub async fn recover(&self, id: TaskId, record: Record) -> Result<Supervised, ReachError> {
        let connection = connection::connect(&record.dir).await.ok();
        if connection.is_none() && read_exit(&record.dir).is_none() {
            let rebooted = record.boot_id.is_some() && record.boot_id != boot_id();
            if !rebooted && record.shim.is_alive() {
                return Err(ReachError::Silent { pid: record.shim.pid });
            }
            let dir = record.dir.clone();
            // Nobody holds this launch any more, so nobody else will be told to destroy it.
            let removed = self.env.spawn_blocking(move || task::remove_lost(&record, rebooted));
            removed.await.expect("removing files does not panic");
            return Err(if rebooted { ReachError::Rebooted } else { ReachError::Gone { dir } });
        }
        Ok(Supervised::watch(&self.env, id, record, connection, None))
    }

    /// Makes the launch's directory, writes the intent, and starts the shim. Blocks.
    fn spawn_shim(&self, dir: &Path, launch: &Launch) -> Result<(Child, UnixStream), LaunchError> {
        let prepare = |source| LaunchError::Prepare { dir: dir.to_owned(), source };
        fs::DirBuilder::new().mode(0o700).create(dir).map_err(prepare)?;
        let intent = Intent { id: launch.id.clone(), cgroup: launch.cgroup.clone() };
        let intent = serde_json::to_vec(&intent).expect("an intent is plain data");
        fs::File::create(dir.join(INTENT_FILE))
            .and_then(|mut file| file.write_all(&intent))
            .map_err(prepare)?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(LaunchError::Spawn)?;
        let mut command = self.shim_command("supervise");
        command.env("WAYFARER_ALLOC_ID", launch.id.alloc_id()).env("WAYFARER_TASK", launch.id.task());
        command.arg(dir);
        if launch.logs.disabled {
            command.args(["", "0", "0"]);
        } else {
            let prefix = launch.log_dir.join(launch.id.task().replace('/', "_"));
            command.arg(&prefix);
            for stream in ["stdout", "stderr"] {
                command.arg(last_log_index(&prefix, stream).to_string());
            }
        }
        command.arg(launch.logs.max_files.to_string());
        command.arg((u64::from(launch.logs.max_file_size_mb) << 20).to_string());
        command.args(launch.cgroup.kill_group().map(|group| group.to_arg()));
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
        let child = command.spawn().map_err(LaunchError::Spawn)?;
        ours.set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(ours))
            .map(|ours| (child, ours))
            .map_err(prepare)
    }

    /// This very program, under the name by which it is a shim. It is reached through `/proc`, so that replacing
    /// the file on disk does not put an agent and its shims at odds.
    fn shim_command(&self, stage: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(SHIM_NAME).arg(stage).env_clear().stdout(Stdio::null()).stderr(Stdio::null());
        command.env("WAYFARER_DRIVER", self.driver).env("WAYFARER_STATE", &self.state_dir);
        command
    }
}

/// What is kept of a launch.
fn record(
    dir: PathBuf,
    (shim, task): (ProcessId, ProcessId),
    started_at: i64,
    spec: LaunchSpec,
    cgroup: TaskCgroup,
) -> Record {
    let LaunchSpec { join, cwd, user, network_namespace, oom_score_adj, .. } = spec;
    let boot_id = boot_id();
    #[rustfmt::skip]
    let record = Record {
        dir, shim, task, started_at, boot_id, cgroup, join, cwd, user, network_namespace, oom_score_adj,
    };
    record
}

/// Sends the specification and reads until the last shim process has let go of the socket: then the command has
/// been executed, or one of them said why not.
async fn converse(mut socket: UnixStream, spec: &[u8]) -> Result<(ProcessId, ProcessId), LaunchError> {
    // A shim that fails early closes before it has read all; its answer says more than our error.
    let sent = async {
        socket.write_all(spec).await?;
        socket.shutdown().await
    };
    let sent = sent.await;
    let mut answer = String::new();
    let read = socket.take(LAUNCH_ANSWER_MAX).read_to_string(&mut answer).await;
    let mut processes = None;
    for line in answer.lines() {
        if let Some(failure) = line.strip_prefix("E ") {
            let (errno, step) = failure.split_once(' ').unwrap_or(("0", failure));
            return Err(LaunchError::Step {
                step: step.to_owned(),
                errno: errno.parse().unwrap_or_default(),
            });
        }
        processes = parse_processes(line).or(processes);
    }
    sent.and(read.map(drop)).map_err(LaunchError::Spawn)?;
    processes.ok_or(LaunchError::NoAnswer)
}

/// Waits for a shim whose launch failed, and removes what it wrote.
async fn abandon(mut child: Child, dir: &Path) {
    if tokio::time::timeout(Duration::from_secs(1), child.wait()).await.is_err() {
        // A shim that hangs is killed; what it may have started is found by its control group.
        let _ = child.kill().await;
    }
    // An empty directory that stays is found by the census.
    let _ = fs::remove_dir_all(dir);
}

/// Reads `P <shim> <its start> <task> <its start>`.
fn parse_processes(line: &str) -> Option<(ProcessId, ProcessId)> {
    let mut numbers = line.strip_prefix("P ")?.split_ascii_whitespace().map(str::parse::<u64>);
    let mut process = || {
        let pid = u32::try_from(numbers.next()?.ok()?).ok()?;
        Some(ProcessId { pid, start_ticks: numbers.next()?.ok()? })
    };
    Some((process()?, process()?))
}

fn read_processes(dir: &Path) -> Option<(ProcessId, ProcessId)> {
    parse_processes(fs::read_to_string(dir.join(SHIM_FILE)).ok()?.trim())
}

fn read_exit(dir: &Path) -> Option<Exit> {
    Exit::from_line(&fs::read_to_string(dir.join(EXIT_FILE)).ok()?)
}

fn dir_name(id: &TaskId) -> String {
    let task: String =
        id.task().chars().map(|c| if c == '/' { '_' } else { c }).take(DIR_TASK_NAME_MAX).collect();
    format!("{}.{task}.{}", id.alloc_id(), id.launch())
}

/// Finds the newest file of a stream, which a restarted task continues.
fn last_log_index(prefix: &Path, stream: &str) -> u32 {
    let (Some(dir), Some(name)) = (prefix.parent(), prefix.file_name().and_then(|name| name.to_str())) else {
        return 0;
    };
    let prefix = format!("{name}.{stream}.");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let index = |name: std::ffi::OsString| name.to_str()?.strip_prefix(&prefix)?.parse::<u32>().ok();
    entries.filter_map(|entry| index(entry.file_name())).max().unwrap_or_default()
}

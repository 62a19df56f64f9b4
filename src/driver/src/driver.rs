use std::{path::Path, time::Duration};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Capabilities, CensusError, DestroyTaskError, DriverNetwork, EventReceiver, ExecRequest, ExecStreams,
    ExecTaskError, ExitResult, Fingerprint, Found, NetworkError, NetworkIsolation, NetworkRequest,
    RecoverTaskError, Signal, SignalTaskError, StartTaskError, StatsError, StopTaskError, TaskConfig, TaskId,
    TaskStats, WaitError,
    schema::{ConfigErrors, Schema},
};

/// Runs tasks of one kind on this machine. Shared as `Arc<dyn Driver>`; every method may be called at any time from
/// many tasks, and cancelling a call never leaves a task half known: either the driver forgot it or it can be
/// recovered, stopped and destroyed.
///
/// The life of a task: `validate`, `start` (or `recover` from a handle), any of `wait`, `stats`, `signal`, `exec`,
/// `stop`, and at last `destroy`, after which its id is unknown.
pub trait Driver: Send + Sync + 'static {
    /// The name that jobs use, such as `raw_exec`.
    fn name(&self) -> &'static str;

    /// What this driver can do. Does not change while the agent runs.
    fn capabilities(&self) -> Capabilities;

    /// The shape of a task's `config` block.
    fn config_schema(&self) -> &Schema;

    /// Checks a task's `config` without touching the machine. `config` is the JSON of the job file's block.
    ///
    /// # Errors
    ///
    /// Names every argument that is missing, unknown or of the wrong kind.
    fn validate(&self, config: &Value) -> Result<(), ConfigErrors> {
        self.config_schema().check(config).map(|_| ())
    }

    /// Looks at the machine and tells whether this driver works. The client calls it every 30 seconds.
    fn fingerprint(&self) -> BoxFuture<'_, Fingerprint>;

    /// Starts a task. The caller has already written down that it is about to. When this returns, the command runs.
    ///
    /// # Errors
    ///
    /// Nothing is left running. `StartTaskError::recoverable` tells whether trying again here may help.
    fn start(&self, task: TaskConfig) -> BoxFuture<'_, Result<Started, StartTaskError>>;

    /// Takes charge of a task that an earlier agent was starting when it ended: it had written down that it was about to, and no
    /// handle. None when nothing of that start runs; what there is of it is removed then. `task` is what was given to `start`,
    /// apart from its environment.
    ///
    /// # Errors
    ///
    /// It is not known whether anything runs. `StartTaskError::recoverable` tells whether asking again may help.
    fn find(&self, task: TaskConfig) -> BoxFuture<'_, Result<Option<Started>, StartTaskError>> {
        drop(task);
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Takes charge of a task that an earlier agent started. Recovering a known task is harmless. A task that ended
    /// while no agent ran is recovered too, so that `wait` gives its exit.
    ///
    /// # Errors
    ///
    /// The task is gone and its exit is unknown, or the handle is not this driver's.
    fn recover(&self, handle: TaskHandle) -> BoxFuture<'_, Result<(), RecoverTaskError>>;

    /// Waits until the task has ended. Any number may wait, also after the end.
    ///
    /// # Errors
    ///
    /// The task is unknown.
    fn wait<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<ExitResult, WaitError>>;

    /// Sends `signal` and, when the task still runs after `timeout`, kills it and all it started. Returns once the
    /// task has ended. Stopping an ended task succeeds.
    ///
    /// # Errors
    ///
    /// The task is unknown, or would not die.
    fn stop<'a>(
        &'a self,
        id: &'a TaskId,
        signal: Signal,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(), StopTaskError>>;

    /// Forgets a task and removes what was made for it, except its logs and directories. `force` kills it first.
    /// An unknown id succeeds, because it may have been destroyed before.
    ///
    /// # Errors
    ///
    /// The task runs and `force` is false, or something could not be removed (the census will show it).
    fn destroy<'a>(&'a self, id: &'a TaskId, force: bool) -> BoxFuture<'a, Result<(), DestroyTaskError>>;

    /// Tells how a task is doing, or nothing when it is unknown.
    fn inspect(&self, id: &TaskId) -> Option<TaskStatus>;

    /// Measures what a task uses at this moment. CPU is cumulative; the caller makes rates of it.
    ///
    /// # Errors
    ///
    /// The task is unknown, has ended, or cannot be measured.
    fn stats<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<TaskStats, StatsError>>;

    /// Sends a signal to the task's main process.
    ///
    /// # Errors
    ///
    /// The task is unknown or has ended, or this driver cannot signal.
    fn signal<'a>(&'a self, id: &'a TaskId, signal: Signal) -> BoxFuture<'a, Result<(), SignalTaskError>>;

    /// Runs a command beside the task: same user, directory, environment, bounds. Returns its exit once it ended
    /// and all its output is passed on. Dropping the returned future kills the command.
    ///
    /// # Errors
    ///
    /// The task is unknown or has ended, the command could not be started, or this driver cannot exec.
    fn exec<'a>(
        &'a self,
        id: &'a TaskId,
        request: ExecRequest,
        streams: ExecStreams,
    ) -> BoxFuture<'a, Result<ExitResult, ExecTaskError>>;

    /// Subscribes to messages for users, such as the progress of an image pull. They become task events of type
    /// `Driver`. A subscriber that lags loses the oldest ones.
    fn events(&self) -> EventReceiver;

    /// Lists everything on this machine that carries the mark of an allocation and belongs to this driver, known or
    /// not. Whoever asks compares it with what should be there.
    ///
    /// # Errors
    ///
    /// The machine could not be searched.
    fn census(&self) -> BoxFuture<'_, Result<Vec<Found>, CensusError>>;

    /// Removes one thing that the census found. Removing twice is harmless.
    ///
    /// # Errors
    ///
    /// It is still there.
    fn remove_stray<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<(), DestroyTaskError>>;

    /// Makes the network namespace that the tasks of an allocation share, for drivers whose capabilities say
    /// `must_create_network`. Others leave it to the client.
    ///
    /// # Errors
    ///
    /// Nothing is left behind.
    fn create_network<'a>(
        &'a self,
        _request: &'a NetworkRequest,
    ) -> BoxFuture<'a, Result<NetworkIsolation, NetworkError>> {
        Box::pin(async { Err(NetworkError::Unsupported { driver: self.name() }) })
    }

    /// Removes what `create_network` made. Removing twice is harmless.
    ///
    /// # Errors
    ///
    /// Something is still there.
    fn destroy_network<'a>(
        &'a self,
        _alloc_id: &'a str,
        _network: &'a NetworkIsolation,
    ) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(async { Ok(()) })
    }

    /// Whether the driver writes the task's output into the log directory itself, so that the client need not.
    fn writes_logs(&self, _log_dir: &Path) -> bool {
        true
    }
}

/// A task that has just been started.
#[derive(Clone, Debug)]
pub struct Started {
    /// What the client persists to find the task again.
    pub handle: TaskHandle,
    /// The task's own address, when the driver gave it one.
    pub network: Option<DriverNetwork>,
}

/// Finds a running task again after the agent restarted. Only the driver that made it reads `state`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskHandle {
    /// The launch that this handle belongs to.
    pub id: TaskId,
    /// The name of the driver that made it.
    pub driver: String,
    /// The version of `state`; a driver reads all versions it ever wrote.
    pub version: u32,
    /// What the driver needs. Holds no secrets: it is written to disk.
    pub state: Value,
}

/// How a task is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Whether it runs.
    pub state: TaskState,
    /// When it was started, in nanoseconds since the epoch.
    pub started_at: i64,
    /// The task's own address, when the driver gave it one.
    pub network: Option<DriverNetwork>,
    /// Facts for people, such as the process id.
    pub attributes: Vec<(&'static str, String)>,
}

/// Whether a task runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It runs.
    Running,
    /// It has ended.
    Exited {
        /// How.
        result: ExitResult,
        /// When, in nanoseconds since the epoch.
        at: i64,
    },
}

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use driver::{
    BoxFuture, Capabilities, CensusError, DestroyTaskError, Driver, DriverContext, EventReceiver,
    EventSender, ExecRequest, ExecStreams, ExecTaskError, ExitResult, Fingerprint, Found, FsIsolation,
    NetworkMode, RecoverTaskError, Signal, SignalTaskError, StartTaskError, Started, StatsError,
    StopTaskError, TaskConfig, TaskHandle, TaskId, TaskStats, TaskStatus, WaitError,
    cgroup::{CgroupError, TaskCgroup},
    schema::{ConfigErrors, Schema},
    shim::LaunchSpec,
    supervisor::{Launch, LaunchError, ReachError, Record, RequestError, Supervised, Supervisor, errno_text},
};
use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    Config,
    config::{Options, without_denied},
    lookup, text, user,
};

/// The driver's name in jobs.
const NAME: &str = "raw_exec";

/// The version of our handles.
const HANDLE_VERSION: u32 = 1;

/// The search path of a task whose environment has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs commands of the host as tasks.
#[derive(Clone)]
pub struct RawExec {
    inner: Arc<Inner>,
}

struct Inner {
    context: DriverContext,
    config: Config,
    schema: Schema,
    supervisor: Supervisor,
    events: EventSender,
    tasks: Mutex<HashMap<TaskId, Supervised>>,
}

impl RawExec {
    /// Makes the driver. Tasks of an earlier agent are taken over one by one, by `recover`.
    ///
    /// # Errors
    ///
    /// The state directory cannot be made.
    pub fn new(context: DriverContext, config: Config) -> std::io::Result<Self> {
        let supervisor = Supervisor::new(context.env.clone(), NAME, context.state_dir.clone())?;
        let (schema, events, tasks) = (Options::schema(), EventSender::default(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { context, config, schema, supervisor, events, tasks }) })
    }
}

impl Inner {
    fn task(&self, id: &TaskId) -> Option<Supervised> {
        self.tasks.lock().get(id).cloned()
    }

    async fn start(&self, task: TaskConfig) -> Result<Started, StartTaskError> {
        if !self.config.enabled {
            let message =
                "the raw_exec driver is disabled; set enabled = true in its plugin block".to_owned();
            return Err(StartTaskError::Refused { message });
        }
        if self.task(&task.id).is_some() {
            return Err(StartTaskError::Duplicate(task.id));
        }
        let options = Options::check(&self.schema, &task.config)?;
        let launch = self.launch_of(&task, &options).await?;
        let (program, cgroup) = (launch.spec.program.clone(), launch.cgroup.clone());
        match self.supervisor.launch(launch).await {
            Ok(supervised) => {
                let handle = handle_of(&task.id, supervised.record());
                self.tasks.lock().insert(task.id, supervised);
                Ok(Started { handle, network: None })
            }
            Err(error) => {
                // What stays is found by the census; the launch's error is the one to tell.
                let _ = self.context.env.spawn_blocking(move || cgroup.remove()).await;
                Err(text::launch(&error, &program, &options.args))
            }
        }
    }

    /// Says what a task's launch is, and makes its control groups.
    async fn launch_of(&self, task: &TaskConfig, options: &Options) -> Result<Launch, StartTaskError> {
        let preparation = Preparation { context: self.context.clone(), config: self.config.clone() };
        let prepared = {
            let (task, options) = (task.clone(), options.clone());
            self.context.env.spawn_blocking(move || preparation.prepare(&task, &options)).await
        };
        let (spec, cgroup) = prepared.expect("preparing does not panic")?;
        Ok(Launch { id: task.id.clone(), spec, cgroup, log_dir: task.dirs.logs.clone(), logs: task.logs })
    }

    async fn find(&self, task: TaskConfig) -> Result<Option<Started>, StartTaskError> {
        let (supervisor, id) = (self.supervisor.clone(), task.id.clone());
        let begun = self.context.env.spawn_blocking(move || supervisor.was_begun(&id)).await;
        if !begun.expect("looking for a file does not panic") {
            return Ok(None);
        }
        let options = Options::check(&self.schema, &task.config)?;
        let launch = self.launch_of(&task, &options).await?;
        let found = self.supervisor.find(launch).await;
        let found = found.map_err(|error| StartTaskError::retry(error.to_string()))?;
        Ok(found.map(|supervised| {
            let handle = handle_of(&task.id, supervised.record());
            self.tasks.lock().insert(task.id, supervised);
            Started { handle, network: None }
        }))
    }

    async fn destroy(&self, id: &TaskId, force: bool) -> Result<(), DestroyTaskError> {
        let Some(task) = self.task(id) else { return Ok(()) };
        let remains = |what: String, reason: String| DestroyTaskError::Remove { what, reason };
        if !task.has_ended() {
            if !force {
                return Err(DestroyTaskError::Running(id.clone()));
            }
            task.kill().await.map_err(|error| remains(format!("the process of task {id}"), chain(&error)))?;
        }
        task.forget()
            .await
            .map_err(|error| remains(format!("what was made for task {id}"), chain(&error)))?;
        self.tasks.lock().remove(id);
        Ok(())
    }
}

/// What is found out about a task before it is launched, on a thread that may block.
struct Preparation {
    context: DriverContext,
    config: Config,
}

impl Preparation {
    fn prepare(
        &self,
        task: &TaskConfig,
        options: &Options,
    ) -> Result<(LaunchSpec, TaskCgroup), StartTaskError> {
        let user = match task.user.as_deref().filter(|user| !user.is_empty()) {
            Some(name) => Some(user::find(name, &self.config).map_err(|error| text::refused(&error))?),
            None => None,
        };
        let env = without_denied(&task.env, &[&self.config.denied_envvars, &options.denied_envvars]);
        let path = env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
        let program =
            lookup::find(&options.command, &task.dirs.task, path).map_err(|error| text::refused(&error))?;
        let (cgroup, join) = self.cgroups(task, options)?;
        let cwd = if options.work_dir.is_empty() {
            task.dirs.task.clone()
        } else {
            PathBuf::from(&options.work_dir)
        };
        let spec = LaunchSpec {
            program,
            args: options.args.clone(),
            env,
            cwd,
            user,
            join,
            network_namespace: task.network.as_ref().and_then(|network| network.path.clone()),
            oom_score_adj: i32::try_from(options.oom_score_adj).unwrap_or_default(),
            no_new_privileges: false,
            terminal: false,
        };
        Ok((spec, cgroup))
    }

    /// Makes the task's groups, or finds those that the job names instead.
    fn cgroups(
        &self,
        task: &TaskConfig,
        options: &Options,
    ) -> Result<(TaskCgroup, Vec<PathBuf>), StartTaskError> {
        let refused = |error: CgroupError| match error {
            CgroupError::Missing(_) => text::refused(&error),
            CgroupError::Io { .. } => {
                StartTaskError::retry(format!("failed to create cgroup: {}", chain(&error)))
            }
        };
        let cgroups = &self.context.cgroups;
        let foreign = cgroups.foreign(&options.cgroup_v1_override, &options.cgroup_v2_override);
        if let Some(join) = foreign.map_err(refused)? {
            return Ok((TaskCgroup::default(), join));
        }
        let name = format!("{}.{}", task.alloc_id(), task.task());
        let cgroup = cgroups.create(&name, &task.resources).map_err(refused)?;
        let mut join = cgroup.procs_files();
        join.extend(cgroups.shared_procs(&task.resources).filter(|_| !cgroup.is_empty()));
        Ok((cgroup, join))
    }
}

fn handle_of(id: &TaskId, record: &Record) -> TaskHandle {
    let state = serde_json::to_value(record).expect("a record is plain data");
    TaskHandle { id: id.clone(), driver: NAME.to_owned(), version: HANDLE_VERSION, state }
}

/// Says an error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

impl Driver for RawExec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send_signals: true,
            exec: true,
            fs_isolation: FsIsolation::None,
            network_modes: &[NetworkMode::Host, NetworkMode::Group],
            must_create_network: false,
            mounts: false,
            default_kill_signal: "SIGINT",
            dynamic_users: false,
        }
    }

    fn config_schema(&self) -> &Schema {
        &self.inner.schema
    }

    fn validate(&self, config: &Value) -> Result<(), ConfigErrors> {
        Options::check(&self.inner.schema, config).map(drop)
    }

    fn fingerprint(&self) -> BoxFuture<'_, Fingerprint> {
        Box::pin(async {
            if !self.inner.config.enabled {
                return Fingerprint::undetected("disabled");
            }
            Fingerprint::healthy(BTreeMap::from([("driver.raw_exec".to_owned(), "true".to_owned())]))
        })
    }

    fn start(&self, task: TaskConfig) -> BoxFuture<'_, Result<Started, StartTaskError>> {
        // A task of its own carries the start to its end even when the caller stops waiting. Then nobody knows of
        // the process, and it is ended.
        let (tell, told) = tokio::sync::oneshot::channel();
        let inner = Arc::clone(&self.inner);
        let id = task.id.clone();
        self.inner.context.env.spawn("raw-exec-start", async move {
            let outcome = inner.start(task).await;
            let started = outcome.is_ok();
            if tell.send(outcome).is_err() && started {
                // What cannot be removed is found by the census.
                let _ = inner.destroy(&id, true).await;
            }
        });
        Box::pin(async {
            told.await.unwrap_or_else(|_| Err(StartTaskError::retry("the agent is shutting down")))
        })
    }

    fn find(&self, task: TaskConfig) -> BoxFuture<'_, Result<Option<Started>, StartTaskError>> {
        Box::pin(self.inner.find(task))
    }

    fn recover(&self, handle: TaskHandle) -> BoxFuture<'_, Result<(), RecoverTaskError>> {
        Box::pin(async move {
            let id = handle.id;
            if self.inner.task(&id).is_some() {
                return Ok(());
            }
            if handle.driver != NAME || handle.version != HANDLE_VERSION {
                let reason = format!("it is {} version {}", handle.driver, handle.version);
                return Err(RecoverTaskError::Handle { id, reason });
            }
            let record: Record = serde_json::from_value(handle.state)
                .map_err(|error| RecoverTaskError::Handle { id: id.clone(), reason: error.to_string() })?;
            match self.inner.supervisor.recover(id.clone(), record).await {
                Ok(task) => {
                    self.inner.tasks.lock().insert(id, task);
                    Ok(())
                }
                Err(error @ (ReachError::Silent { .. } | ReachError::Starting { .. })) => {
                    Err(RecoverTaskError::Reach { id, source: std::io::Error::other(error) })
                }
                Err(error @ (ReachError::Rebooted | ReachError::Gone { .. })) => {
                    Err(RecoverTaskError::Lost { id, reason: error.to_string() })
                }
            }
        })
    }

    fn wait<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<ExitResult, WaitError>> {
        Box::pin(async move {
            let task = self.inner.task(id).ok_or_else(|| WaitError::Unknown(id.clone()))?;
            Ok(task.wait().await)
        })
    }

    fn stop<'a>(
        &'a self,
        id: &'a TaskId,
        signal: Signal,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(), StopTaskError>> {
        Box::pin(async move {
            let task = self.inner.task(id).ok_or_else(|| StopTaskError::Unknown(id.clone()))?;
            let failed = |error: RequestError| StopTaskError::Stop { id: id.clone(), reason: chain(&error) };
            task.stop(signal, timeout).await.map_err(failed)
        })
    }

    fn destroy<'a>(&'a self, id: &'a TaskId, force: bool) -> BoxFuture<'a, Result<(), DestroyTaskError>> {
        Box::pin(self.inner.destroy(id, force))
    }

    fn inspect(&self, id: &TaskId) -> Option<TaskStatus> {
        let task = self.inner.task(id)?;
        let record = task.record();
        Some(TaskStatus {
            state: task.state(),
            started_at: record.started_at,
            network: None,
            attributes: vec![("pid", record.task.pid.to_string())],
        })
    }

    fn stats<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<TaskStats, StatsError>> {
        Box::pin(async move {
            let task = self.inner.task(id).ok_or_else(|| StatsError::Unknown(id.clone()))?;
            let mut stats = task.stats().await.map_err(|_| StatsError::Ended(id.clone()))?;
            // Only these are asked of this driver; the other numbers are a bonus where control groups count them.
            stats.cpu.measured = &["System Mode", "User Mode", "Percent"];
            stats.memory.measured = &["RSS", "Swap"];
            Ok(stats)
        })
    }

    fn signal<'a>(&'a self, id: &'a TaskId, signal: Signal) -> BoxFuture<'a, Result<(), SignalTaskError>> {
        Box::pin(async move {
            let task = self.inner.task(id).ok_or_else(|| SignalTaskError::Unknown(id.clone()))?;
            task.signal(signal).await.map_err(|error| match error {
                RequestError::Ended => SignalTaskError::Ended(id.clone()),
                RequestError::Refused(errno) => SignalTaskError::Send {
                    message: format!("failed to signal task with {signal}: {}", errno_text(errno)),
                },
                RequestError::Reach(_) | RequestError::Undead => {
                    SignalTaskError::Send { message: chain(&error) }
                }
            })
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a TaskId,
        request: ExecRequest,
        streams: ExecStreams,
    ) -> BoxFuture<'a, Result<ExitResult, ExecTaskError>> {
        Box::pin(async move {
            let task = self.inner.task(id).ok_or_else(|| ExecTaskError::Unknown(id.clone()))?;
            if task.has_ended() {
                return Err(ExecTaskError::Ended(id.clone()));
            }
            let program = request.command.first().ok_or(ExecTaskError::NoCommand)?.clone();
            let ran = self.inner.supervisor.exec(&task, &request, streams).await;
            ran.map_err(|error| ExecTaskError::Start {
                message: match &error {
                    LaunchError::Step { step, errno } if step == "exec" => {
                        format!("failed to start command: fork/exec {program}: {}", errno_text(*errno))
                    }
                    other => chain(other),
                },
            })
        })
    }

    fn events(&self) -> EventReceiver {
        self.inner.events.subscribe()
    }

    fn census(&self) -> BoxFuture<'_, Result<Vec<Found>, CensusError>> {
        let inner = Arc::clone(&self.inner);
        let searched = self
            .inner
            .context
            .env
            .spawn_blocking(move || inner.supervisor.census(Some(&inner.context.alloc_dir)));
        Box::pin(async { searched.await.expect("searching does not panic") })
    }

    fn remove_stray<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<(), DestroyTaskError>> {
        let (inner, found) = (Arc::clone(&self.inner), found.clone());
        let removed = self.inner.context.env.spawn_blocking(move || inner.supervisor.remove_stray(&found));
        Box::pin(async { removed.await.expect("removing does not panic") })
    }
}

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use driver::{
    BoxFuture, Capabilities, CensusError, DestroyTaskError, Driver, EventReceiver, EventSender, ExecOutput,
    ExecRequest, ExecStreams, ExecTaskError, ExitResult, Fingerprint, Found, FoundKind, NetworkMode,
    RecoverTaskError, Signal, SignalTaskError, StartTaskError, Started, StatsError, StopTaskError,
    TaskConfig, TaskHandle, TaskId, TaskState, TaskStats, TaskStatus, WaitError,
    schema::{ConfigErrors, Schema},
};
use parking_lot::Mutex;
use runtime::Env;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Config, World,
    options::{Command, Options},
    output::LogFiles,
    world::Stream,
};

/// The driver's name in jobs.
const NAME: &str = "mock_driver";

/// The version of our handles.
const HANDLE_VERSION: u32 = 1;

/// Pretends to run tasks.
#[derive(Clone)]
pub struct MockDriver {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    config: Config,
    schema: Schema,
    world: World,
    events: EventSender,
    /// The tasks of the world that this agent started or recovered.
    known: Mutex<HashSet<TaskId>>,
}

/// What a handle holds.
#[derive(Serialize, Deserialize)]
struct Record {
    started_at: i64,
    options: Options,
}

impl MockDriver {
    /// Makes the driver for tasks that live in `world`, and lets time pass there.
    pub fn new(env: Env, config: Config, world: World) -> Self {
        env.spawn("mock-world", world.clone().run(env.clone()));
        let (schema, events, known) = (Options::schema(), EventSender::default(), Mutex::default());
        Self { inner: Arc::new(Inner { env, config, schema, world, events, known }) }
    }
}

impl Inner {
    /// Looks at a task that this agent knows.
    fn look(&self, id: &TaskId) -> Option<(Arc<Options>, TaskState, i64)> {
        if self.known.lock().contains(id) { self.world.look(id) } else { None }
    }

    async fn start(&self, task: TaskConfig) -> Result<Started, StartTaskError> {
        let options = Options::check(&self.schema, &task.config)?;
        if self.look(&task.id).is_some() {
            return Err(StartTaskError::Duplicate(task.id));
        }
        if !options.start_block_for.is_zero() {
            self.env.sleep(options.start_block_for).await;
        }
        if !options.start_error.is_empty() {
            let (message, recoverable) = (options.start_error, options.start_error_recoverable);
            return Err(StartTaskError::Failed { message, recoverable });
        }
        let started_at = self.env.wall();
        let record = Record { started_at, options: options.clone() };
        let state = serde_json::to_value(record).expect("a record is plain data");
        let network = options.network();
        let command = options.command.clone();
        // Known before it begins: whoever cancels this call finds the task by its id.
        self.known.lock().insert(task.id.clone());
        if !self.world.begin(&self.env, &task.id, options, started_at, Duration::ZERO) {
            return Err(StartTaskError::Duplicate(task.id));
        }
        self.world.speak(&self.env, &task.id, &LogFiles::of(&task), &command).await;
        let handle = TaskHandle { id: task.id, driver: NAME.to_owned(), version: HANDLE_VERSION, state };
        Ok(Started { handle, network })
    }

    fn recover(&self, handle: TaskHandle) -> Result<(), RecoverTaskError> {
        let id = handle.id;
        let misfit = |reason: String| RecoverTaskError::Handle { id: id.clone(), reason };
        if handle.driver != NAME || handle.version != HANDLE_VERSION {
            return Err(misfit(format!("it is {} version {}", handle.driver, handle.version)));
        }
        let record: Record =
            serde_json::from_value(handle.state).map_err(|error| misfit(error.to_string()))?;
        // A wall clock that went back makes the task younger, never older than it can be.
        let age = u64::try_from(self.env.wall() - record.started_at).map(Duration::from_nanos);
        let age = age.unwrap_or_default();
        // In a world that outlived the agent, the task is still there and this changes nothing.
        self.world.begin(&self.env, &id, record.options, record.started_at, age);
        self.known.lock().insert(id);
        Ok(())
    }

    async fn exec(&self, command: &Command, streams: ExecStreams) -> ExitResult {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (text, repeat, pause) = stream.of(command);
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            for n in 0..=repeat {
                if bytes.is_empty() {
                    break;
                }
                if n > 0 && !pause.is_zero() {
                    self.env.sleep(pause).await;
                }
                let output = match stream {
                    Stream::Stdout => ExecOutput::Stdout(bytes.clone()),
                    Stream::Stderr => ExecOutput::Stderr(bytes.clone()),
                };
                if streams.output.send(output).await.is_err() {
                    return ExitResult::signaled(Signal::KILL.0.into());
                }
            }
        }
        self.env.sleep(command.run_for).await;
        command.result()
    }
}

impl Driver for MockDriver {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send_signals: true,
            exec: true,
            fs_isolation: self.inner.config.fs_isolation,
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
        let attributes = BTreeMap::from([("driver.mock_driver".to_owned(), "true".to_owned())]);
        Box::pin(async { Fingerprint::healthy(attributes) })
    }

    fn start(&self, task: TaskConfig) -> BoxFuture<'_, Result<Started, StartTaskError>> {
        Box::pin(self.inner.start(task))
    }

    fn recover(&self, handle: TaskHandle) -> BoxFuture<'_, Result<(), RecoverTaskError>> {
        Box::pin(async { self.inner.recover(handle) })
    }

    fn wait<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<ExitResult, WaitError>> {
        Box::pin(async move {
            let unknown = || WaitError::Unknown(id.clone());
            self.inner.look(id).ok_or_else(unknown)?;
            self.inner.world.wait(id).await.ok_or_else(unknown)
        })
    }

    fn stop<'a>(
        &'a self,
        id: &'a TaskId,
        _signal: Signal,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<(), StopTaskError>> {
        Box::pin(async move {
            let unknown = || StopTaskError::Unknown(id.clone());
            self.inner.look(id).ok_or_else(unknown)?;
            self.inner.world.ask_to_stop(&self.inner.env, id, timeout);
            self.inner.world.wait(id).await.map(drop).ok_or_else(unknown)
        })
    }

    fn destroy<'a>(&'a self, id: &'a TaskId, force: bool) -> BoxFuture<'a, Result<(), DestroyTaskError>> {
        Box::pin(async move {
            let Some((_, state, _)) = self.inner.look(id) else { return Ok(()) };
            if state == TaskState::Running {
                if !force {
                    return Err(DestroyTaskError::Running(id.clone()));
                }
                self.inner.world.kill(&self.inner.env, id);
            }
            self.inner.world.remove(id);
            self.inner.known.lock().remove(id);
            Ok(())
        })
    }

    fn inspect(&self, id: &TaskId) -> Option<TaskStatus> {
        let (options, state, started_at) = self.inner.look(id)?;
        Some(TaskStatus { state, started_at, network: options.network(), attributes: Vec::new() })
    }

    fn stats<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<TaskStats, StatsError>> {
        Box::pin(async move {
            match self.inner.look(id) {
                None => Err(StatsError::Unknown(id.clone())),
                Some((_, TaskState::Exited { .. }, _)) => Err(StatsError::Ended(id.clone())),
                // A pretended task uses nothing.
                Some(_) => Ok(TaskStats { at: self.inner.env.wall(), ..TaskStats::default() }),
            }
        })
    }

    fn signal<'a>(&'a self, id: &'a TaskId, signal: Signal) -> BoxFuture<'a, Result<(), SignalTaskError>> {
        Box::pin(async move {
            let (options, state, _) =
                self.inner.look(id).ok_or_else(|| SignalTaskError::Unknown(id.clone()))?;
            if state != TaskState::Running {
                return Err(SignalTaskError::Ended(id.clone()));
            }
            if !options.command.signal_error.is_empty() {
                return Err(SignalTaskError::Send { message: options.command.signal_error.clone() });
            }
            // A pretended task hears every signal and heeds the one that nothing can ignore.
            if signal == Signal::KILL {
                self.inner.world.kill(&self.inner.env, id);
            }
            Ok(())
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a TaskId,
        request: ExecRequest,
        streams: ExecStreams,
    ) -> BoxFuture<'a, Result<ExitResult, ExecTaskError>> {
        Box::pin(async move {
            let (options, state, _) =
                self.inner.look(id).ok_or_else(|| ExecTaskError::Unknown(id.clone()))?;
            if state != TaskState::Running {
                return Err(ExecTaskError::Ended(id.clone()));
            }
            if request.command.is_empty() {
                return Err(ExecTaskError::NoCommand);
            }
            let missing = || ExecTaskError::Start {
                message: "this mock task has no exec_command block that says what to pretend".to_owned(),
            };
            let command = options.exec_command.as_ref().ok_or_else(missing)?;
            Ok(self.inner.exec(command, streams).await)
        })
    }

    fn events(&self) -> EventReceiver {
        self.inner.events.subscribe()
    }

    fn census(&self) -> BoxFuture<'_, Result<Vec<Found>, CensusError>> {
        let found = |id: TaskId| Found {
            alloc_id: id.alloc_id().to_owned(),
            task: Some(id.task().to_owned()),
            kind: FoundKind::Virtual { name: id.as_str().to_owned() },
        };
        let all = self.inner.world.running().into_iter().map(found).collect();
        Box::pin(async { Ok(all) })
    }

    fn remove_stray<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<(), DestroyTaskError>> {
        Box::pin(async move {
            let running = self.inner.world.running();
            let named =
                |id: &&TaskId| matches!(&found.kind, FoundKind::Virtual { name } if name == id.as_str());
            if let Some(id) = running.iter().find(named) {
                self.inner.world.kill(&self.inner.env, id);
                if !self.inner.known.lock().contains(id) {
                    self.inner.world.remove(id);
                }
            }
            Ok(())
        })
    }
}

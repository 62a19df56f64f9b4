use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bollard::query_parameters::{KillContainerOptions, StatsOptions};
use driver::{
    BoxFuture, Capabilities, CensusError, DestroyTaskError, Driver, EventReceiver, EventSender, ExecRequest,
    ExecStreams, ExecTaskError, ExitResult, Fingerprint, Found, FoundKind, FsIsolation, NetworkError,
    NetworkIsolation, NetworkMode, NetworkRequest, RecoverTaskError, Signal, SignalTaskError, StartTaskError,
    Started, StatsError, StopTaskError, TaskConfig, TaskHandle, TaskId, TaskStats, TaskStatus, WaitError,
    schema::{ConfigErrors, Schema},
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use runtime::{Env, Shutdown};
use serde_json::Value;
use tracing::{info, warn};

use crate::{
    Config,
    engine::{ASK, Engine, EngineError},
    exec::Exec,
    fingerprint,
    images::Images,
    labels,
    launch::Launcher,
    options::Options,
    request::Facts,
    stats, sweep,
    task::{Record, Task, Watcher, nanoseconds},
};

/// The driver's name in jobs.
const NAME: &str = "docker";
/// The version of our handles.
const HANDLE_VERSION: u32 = 1;
/// Tries to remove a container that nobody was told of: some five minutes. The next sweep finds what stays longer.
const REMOVALS_MAX: u32 = 20;
/// Between two of them.
const REMOVAL_PAUSE: Duration = Duration::from_secs(15);
/// How long a container may take to end once it is killed; what is stuck in the kernel ends never.
const KILL_PATIENCE: Duration = Duration::from_secs(30);

/// Runs containers as tasks. Dropping it stops what it does in the background; containers are left as they are.
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    config: Arc<Config>,
    schema: Schema,
    engine: Engine,
    launcher: Launcher,
    images: Arc<Images>,
    shutdown: Shutdown,
    events: EventSender,
    tasks: Mutex<Tasks>,
    facts: Mutex<Option<Facts>>,
    /// Whether the engine has ever answered: one that did and does not is ill, not absent.
    seen: AtomicBool,
}

#[derive(Default)]
struct Tasks {
    known: HashMap<TaskId, Arc<Task>>,
    starting: HashSet<TaskId>,
    /// The node that this agent is, learned from its tasks when the configuration does not say.
    node_id: Option<String>,
}

impl Drop for Docker {
    fn drop(&mut self) {
        self.inner.shutdown.fire();
    }
}

impl Docker {
    /// Makes the driver. Tasks of an earlier agent are taken over one by one, by `recover`. The engine need not be there.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, because it sweeps in the background.
    pub fn new(env: &Env, config: Config) -> Self {
        let (env, config) = (env.clone(), Arc::new(config));
        let shutdown = env.shutdown().child();
        let engine = Engine::new(env.clone(), config.endpoint.clone());
        let events = EventSender::default();
        let images = Images::new(env.clone(), engine.clone(), shutdown.clone(), config.gc.image_delay);
        let watcher = Watcher { env: env.clone(), engine: engine.clone(), shutdown: shutdown.clone() };
        let launcher = Launcher {
            watcher,
            images: Arc::clone(&images),
            events: events.clone(),
            config: Arc::clone(&config),
        };
        let tasks = Mutex::new(Tasks { node_id: config.node_id.clone(), ..Tasks::default() });
        let inner = Arc::new(Inner {
            schema: Options::schema(),
            facts: Mutex::default(),
            seen: AtomicBool::new(false),
            env,
            config,
            engine,
            launcher,
            images,
            shutdown,
            events,
            tasks,
        });
        if inner.config.gc.dangling.enabled {
            let sweeper = Arc::clone(&inner);
            inner.env.spawn("docker-sweep", async move { sweeper.sweep_for_ever().await });
        }
        Self { inner }
    }
}

impl Inner {
    fn task(&self, id: &TaskId) -> Option<Arc<Task>> {
        self.tasks.lock().known.get(id).cloned()
    }

    fn adopt(&self, id: TaskId, record: Record) {
        let mut tasks = self.tasks.lock();
        if !record.node_id.is_empty() {
            tasks.node_id.get_or_insert_with(|| record.node_id.clone());
        }
        let task = self.launcher.watcher.watch(id.clone(), record);
        tasks.known.insert(id, task);
    }

    async fn facts(&self) -> Facts {
        if let Some(facts) = self.facts.lock().clone() {
            return facts;
        }
        match fingerprint::look(&self.engine).await {
            Ok((info, _)) => {
                let facts = fingerprint::facts(&info);
                *self.facts.lock() = Some(facts.clone());
                facts
            }
            // The launch will say that the engine does not answer.
            Err(_) => Facts::default(),
        }
    }

    async fn start(&self, task: TaskConfig) -> Result<Started, StartTaskError> {
        let options = Options::check(&self.schema, &task.config)?;
        {
            let mut tasks = self.tasks.lock();
            if tasks.known.contains_key(&task.id) || !tasks.starting.insert(task.id.clone()) {
                return Err(StartTaskError::Duplicate(task.id));
            }
        }
        let launched = self.launcher.launch(&task, &options, self.facts().await).await;
        let outcome = launched.map(|record| self.started(&task.id, record));
        self.tasks.lock().starting.remove(&task.id);
        outcome
    }

    fn started(&self, id: &TaskId, record: Record) -> Started {
        let state = serde_json::to_value(&record).expect("a record is plain data");
        let network = record.network.clone();
        self.adopt(id.clone(), record);
        let handle = TaskHandle { id: id.clone(), driver: NAME.to_owned(), version: HANDLE_VERSION, state };
        Started { handle, network }
    }

    async fn find(&self, task: TaskConfig) -> Result<Option<Started>, StartTaskError> {
        let options = Options::check(&self.schema, &task.config)?;
        let found = self.launcher.find(&task, &options).await?;
        Ok(found.map(|record| self.started(&task.id, record)))
    }

    async fn recover(&self, handle: TaskHandle) -> Result<(), RecoverTaskError> {
        let id = handle.id;
        if self.task(&id).is_some() {
            return Ok(());
        }
        if handle.driver != NAME || handle.version != HANDLE_VERSION {
            let reason = format!("it is {} version {}", handle.driver, handle.version);
            return Err(RecoverTaskError::Handle { id, reason });
        }
        let record: Record = serde_json::from_value(handle.state)
            .map_err(|error| RecoverTaskError::Handle { id: id.clone(), reason: error.to_string() })?;
        match self.launcher.watcher.inspect(&record.container).await {
            Ok(seen) => {
                let state = seen.state.unwrap_or_default();
                if state.started_at.as_deref().and_then(nanoseconds).is_none() {
                    let reason = format!("container {} was never started", record.container);
                    return Err(RecoverTaskError::Lost { id, reason });
                }
            }
            Err(error) if error.is_missing() => {
                let reason = format!("container {} does not exist", record.container);
                return Err(RecoverTaskError::Lost { id, reason });
            }
            // The container outlives neither more nor less because nobody answers: its watcher keeps asking.
            Err(error) if error.is_unreachable() => {
                warn!(task = %id, %error, "took over a task whose engine does not answer");
            }
            Err(error) => return Err(RecoverTaskError::Reach { id, source: io::Error::other(error) }),
        }
        // Two may recover the same task at once.
        if self.task(&id).is_none() {
            self.images.acquire(&record.image);
            self.adopt(id, record);
        }
        Ok(())
    }

    async fn send(&self, task: &Task, signal: Signal) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.to_string() };
        let container = &task.record.container;
        self.engine
            .call(ASK, |client| async move { client.kill_container(container, Some(options)).await })
            .await
    }

    async fn stop(&self, id: &TaskId, signal: Signal, timeout: Duration) -> Result<(), StopTaskError> {
        let task = self.task(id).ok_or_else(|| StopTaskError::Unknown(id.clone()))?;
        if task.has_ended() {
            return Ok(());
        }
        // A signal that does not arrive is followed by the kill, which tells.
        let asked = self.send(&task, signal).await.is_ok();
        if asked && tokio::time::timeout(timeout, task.wait()).await.is_ok() {
            return Ok(());
        }
        let killed = self.send(&task, Signal::KILL).await;
        // Where nobody was told, there is nothing to wait for.
        let told = !killed.as_ref().is_err_and(EngineError::is_unreachable);
        let patience = if told { KILL_PATIENCE } else { Duration::ZERO };
        if tokio::time::timeout(patience, task.wait()).await.is_ok() {
            return Ok(());
        }
        let reason = match killed {
            Err(error) => error.to_string(),
            Ok(()) => format!("it was killed and still runs after {KILL_PATIENCE:?}"),
        };
        Err(StopTaskError::Stop { id: id.clone(), reason })
    }

    async fn destroy(&self, id: &TaskId, force: bool) -> Result<(), DestroyTaskError> {
        let Some(task) = self.task(id) else { return Ok(()) };
        if !task.has_ended() && !force {
            return Err(DestroyTaskError::Running(id.clone()));
        }
        let container = &task.record.container;
        let remains =
            |reason: String| DestroyTaskError::Remove { what: format!("container {container}"), reason };
        if self.config.gc.container {
            self.launcher.remove(container).await.map_err(|error| remains(error.to_string()))?;
        } else if !task.has_ended() {
            let killed = self.send(&task, Signal::KILL).await;
            if tokio::time::timeout(KILL_PATIENCE, task.wait()).await.is_err() {
                return Err(remains(
                    killed.err().map_or("it was killed and still runs".to_owned(), |e| e.to_string()),
                ));
            }
        }
        if self.tasks.lock().known.remove(id).is_some() {
            self.images.release(&task.record.image);
        }
        Ok(())
    }

    /// Removes a container that nobody was told of, as soon as the engine lets it.
    async fn destroy_unknown(&self, id: &TaskId) {
        for _ in 0..REMOVALS_MAX {
            let Err(error) = self.destroy(id, true).await else { return };
            warn!(task = %id, %error, "a container that nobody wants is left; trying again");
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                () = self.env.sleep(REMOVAL_PAUSE) => {}
            }
        }
    }

    async fn stats(&self, id: &TaskId) -> Result<TaskStats, StatsError> {
        let task = self.task(id).ok_or_else(|| StatsError::Unknown(id.clone()))?;
        if task.has_ended() {
            return Err(StatsError::Ended(id.clone()));
        }
        let container = &task.record.container;
        let options = StatsOptions { stream: false, one_shot: true };
        let measured = self.engine.call(ASK, |client| async move {
            Box::pin(client.stats(container, Some(options))).next().await.transpose()
        });
        match measured.await {
            Ok(Some(answer)) => Ok(stats::of(&answer, self.env.wall())),
            Ok(None) => Err(StatsError::Ended(id.clone())),
            Err(error) if error.is_missing() => Err(StatsError::Ended(id.clone())),
            Err(error) => Err(StatsError::Measure { id: id.clone(), reason: error.to_string() }),
        }
    }

    async fn fingerprint(&self) -> Fingerprint {
        match fingerprint::look(&self.engine).await {
            Ok((info, bridge)) => {
                self.seen.store(true, Ordering::Relaxed);
                *self.facts.lock() = Some(fingerprint::facts(&info));
                fingerprint::describe(&info, bridge.as_deref(), &self.config)
            }
            Err(error) => {
                let text = format!("Failed to connect to docker daemon: {error}");
                if self.seen.load(Ordering::Relaxed) {
                    Fingerprint::unhealthy(text)
                } else {
                    Fingerprint::undetected(text)
                }
            }
        }
    }

    async fn census(&self) -> Result<Vec<Found>, CensusError> {
        let marked = sweep::marked(&self.engine, self.config.node_id.as_deref()).await;
        let marked = marked.map_err(|error| CensusError::Search {
            place: format!("the container engine at {}", self.engine.endpoint()),
            reason: error.to_string(),
        })?;
        // Where ended containers are kept on purpose they are no strays.
        let counts = |found: &sweep::Marked| found.running || self.config.gc.container;
        Ok(marked.into_iter().filter(counts).map(sweep::Marked::found).collect())
    }

    async fn remove_stray(&self, found: &Found) -> Result<(), DestroyTaskError> {
        let (FoundKind::Container { id } | FoundKind::Network { name: id }) = &found.kind else {
            let what = format!("{:?}", found.kind);
            return Err(DestroyTaskError::Remove { what, reason: "it is not this driver's".to_owned() });
        };
        let remains = |reason: String| DestroyTaskError::Remove { what: format!("container {id}"), reason };
        let seen = match self.launcher.watcher.inspect(id).await {
            Ok(seen) => seen,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(remains(error.to_string())),
        };
        let marks = seen.config.and_then(|config| config.labels).unwrap_or_default();
        if !marks.contains_key(labels::TASK) && !marks.contains_key(labels::NETWORK) {
            return Err(remains("it does not carry this driver's mark".to_owned()));
        }
        self.launcher.remove(id).await.map_err(|error| remains(error.to_string()))
    }

    /// Removes containers that nobody answers for. The client's census does the same at its start; this catches what
    /// an engine brings back later.
    async fn sweep_for_ever(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                () = self.env.sleep(self.config.gc.dangling.period) => {}
            }
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                () = self.sweep() => {}
            }
        }
    }

    async fn sweep(&self) {
        let Some(node_id) = self.tasks.lock().node_id.clone() else { return };
        let Ok(marked) = sweep::marked(&self.engine, Some(&node_id)).await else { return };
        let grace = i64::try_from(self.config.gc.dangling.creation_grace.as_secs()).unwrap_or(i64::MAX);
        let oldest = (self.env.wall() / 1_000_000_000).saturating_sub(grace);
        let dangling: Vec<_> = {
            let tasks = self.tasks.lock();
            let is_known = |id: &TaskId| tasks.known.contains_key(id) || tasks.starting.contains(id);
            let kept = |found: &sweep::Marked| !found.running && !self.config.gc.container;
            marked
                .into_iter()
                .filter(|found| !kept(found) && found.is_dangling(&node_id, oldest, is_known))
                .collect()
        };
        for found in dangling {
            if self.config.gc.dangling.dry_run {
                info!(container = found.id, "dangling container would be removed");
                continue;
            }
            match self.launcher.remove(&found.id).await {
                Ok(()) => info!(container = found.id, "removed dangling container"),
                Err(error) => warn!(container = found.id, %error, "dangling container stays"),
            }
        }
    }
}

impl Driver for Docker {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            send_signals: true,
            exec: true,
            fs_isolation: FsIsolation::Image,
            network_modes: &[NetworkMode::Host, NetworkMode::Group, NetworkMode::Task],
            must_create_network: true,
            mounts: true,
            default_kill_signal: "SIGTERM",
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
        Box::pin(self.inner.fingerprint())
    }

    fn start(&self, task: TaskConfig) -> BoxFuture<'_, Result<Started, StartTaskError>> {
        // A task of its own carries the start to its end even when the caller stops waiting. Then nobody knows of
        // the container, and it is removed.
        let (tell, told) = tokio::sync::oneshot::channel();
        let inner = Arc::clone(&self.inner);
        let id = task.id.clone();
        self.inner.env.spawn("docker-start", async move {
            let outcome = inner.start(task).await;
            let started = outcome.is_ok();
            if tell.send(outcome).is_err() && started {
                inner.destroy_unknown(&id).await;
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
        Box::pin(self.inner.recover(handle))
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
        Box::pin(self.inner.stop(id, signal, timeout))
    }

    fn destroy<'a>(&'a self, id: &'a TaskId, force: bool) -> BoxFuture<'a, Result<(), DestroyTaskError>> {
        Box::pin(self.inner.destroy(id, force))
    }

    fn inspect(&self, id: &TaskId) -> Option<TaskStatus> {
        let task = self.inner.task(id)?;
        Some(TaskStatus {
            state: task.state(),
            started_at: task.record.started_at,
            network: task.record.network.clone(),
            attributes: vec![("container_id", task.record.container.clone())],
        })
    }

    fn stats<'a>(&'a self, id: &'a TaskId) -> BoxFuture<'a, Result<TaskStats, StatsError>> {
        Box::pin(self.inner.stats(id))
    }

    fn signal<'a>(&'a self, id: &'a TaskId, signal: Signal) -> BoxFuture<'a, Result<(), SignalTaskError>> {
        Box::pin(async move {
            let task = self.inner.task(id).ok_or_else(|| SignalTaskError::Unknown(id.clone()))?;
            if task.has_ended() {
                return Err(SignalTaskError::Ended(id.clone()));
            }
            self.inner.send(&task, signal).await.map_err(|error| {
                if error.is_missing() || error.is_conflict() {
                    return SignalTaskError::Ended(id.clone());
                }
                SignalTaskError::Send { message: format!("failed to signal task with {signal}: {error}") }
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
            let exec = Exec { env: &self.inner.env, engine: &self.inner.engine };
            exec.run(id, &task.record.container, request, streams).await
        })
    }

    fn events(&self) -> EventReceiver {
        self.inner.events.subscribe()
    }

    fn census(&self) -> BoxFuture<'_, Result<Vec<Found>, CensusError>> {
        Box::pin(self.inner.census())
    }

    fn remove_stray<'a>(&'a self, found: &'a Found) -> BoxFuture<'a, Result<(), DestroyTaskError>> {
        Box::pin(self.inner.remove_stray(found))
    }

    fn create_network<'a>(
        &'a self,
        request: &'a NetworkRequest,
    ) -> BoxFuture<'a, Result<NetworkIsolation, NetworkError>> {
        Box::pin(async move {
            let node_id = self.inner.tasks.lock().node_id.clone();
            self.inner.launcher.create_network(request, node_id.as_deref()).await
        })
    }

    fn destroy_network<'a>(
        &'a self,
        alloc_id: &'a str,
        network: &'a NetworkIsolation,
    ) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(self.inner.launcher.destroy_network(alloc_id, network))
    }
}

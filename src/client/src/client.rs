use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use driver::{Driver, Signal, TaskId};
use model::{AllocId, AllocRecord, ClientStatus, DesiredStatus, Job, JobKey, Node, NodeId, Text};
use parking_lot::Mutex;
use protocol::session::{AllocUpdate, Assignments};
use runtime::{Env, Instant};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    alloc_dir::AllocDir,
    alloc_runner::{self, AskError, Handle, Request, Start, View},
    context::{Context, Drivers},
    journal::{Journal, OpenError, Remembered},
    metadata::Metadata,
    offline,
    outbox::Outbox,
    session::{SessionNode, UnknownJob},
    stats::Sampler,
    task_runner::Assigned,
};

/// Settings of a client, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The region.
    pub region: String,
    /// Where allocations live. Absolute.
    pub alloc_dir: PathBuf,
    /// Where the client's own records are; none when its tasks end with it.
    pub state_dir: Option<PathBuf>,
    /// The longest that a task may take to stop. 30 seconds unless changed.
    pub max_kill_timeout: Duration,
    /// Time between two looks for allocations to remove. A minute unless changed.
    pub gc_interval: Duration,
    /// Allocations kept; beyond it, ended ones are removed, the oldest first. 50 unless changed.
    pub gc_max_allocs: usize,
    /// The agent's own environment, for tasks that share the host.
    pub host_env: BTreeMap<String, String>,
}

/// Whether a server hears this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contact {
    /// A server holds its session, and has a leader.
    Held,
    /// None does, since then.
    LostAt(Instant),
}

/// Names a job version for good.
type JobRef = (JobKey, u64, u64);

/// Time until a driver that could not tell what there is is asked again. Each time costs it one question.
const SWEEP_AGAIN: Duration = Duration::from_secs(15);

/// Runs allocations on a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    config: Config,
    allocs: Mutex<Allocs>,
    node_changed: Notify,
    sampler: Sampler,
    metadata: Metadata,
    contact: watch::Sender<Contact>,
    leaving: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Allocs {
    running: BTreeMap<AllocId, Handle>,
    jobs: BTreeMap<JobRef, Arc<Job>>,
}

impl Allocs {
    /// Finds the allocations on this node that hold what this one is to have: the one that it replaces and those that
    /// make room for it. They must be over before this one starts.
    fn predecessors(&self, alloc: &AllocRecord) -> Vec<watch::Receiver<bool>> {
        let Some(extra) = &alloc.extra else { return Vec::new() };
        let before = extra.previous.iter().chain(&extra.preempted);
        before.filter_map(|id| Some(self.running.get(id)?.view.over.subscribe())).collect()
    }
}

impl Client {
    /// Makes a client and takes up what an earlier one left.
    ///
    /// # Errors
    ///
    /// When the journal can not be opened.
    pub fn start(
        env: &Env,
        config: Config,
        mut node: Node,
        drivers: Vec<Arc<dyn Driver>>,
    ) -> Result<Self, OpenError> {
        let metadata = Metadata::open(&node.meta, config.state_dir.as_deref());
        node.meta = metadata.merged();
        let (journal, remembered) = match &config.state_dir {
            Some(dir) => {
                let opened = Journal::open(env, dir)?;
                (opened.journal, opened.remembered)
            }
            None => (Journal::nowhere(), Vec::new()),
        };
        let context = Context {
            env: env.clone(),
            region: config.region.clone(),
            alloc_dir: config.alloc_dir.clone(),
            max_kill_timeout: config.max_kill_timeout,
            drivers: Drivers(drivers.into_iter().map(|driver| (driver.name(), driver)).collect()),
            journal,
            outbox: Outbox::default(),
            node: ArcSwap::from_pointee(node),
            host_env: config.host_env.clone(),
        };
        let client = Self {
            inner: Arc::new(Inner {
                context: Arc::new(context),
                config,
                allocs: Mutex::default(),
                node_changed: Notify::new(),
                sampler: Sampler::default(),
                metadata,
                contact: watch::Sender::new(Contact::LostAt(env.now())),
                leaving: watch::Sender::new(false),
            }),
        };
        client.restore(remembered);
        env.spawn("client-alone", offline::stop_what_may_not_run_alone(client.clone()));
        env.spawn("client-collection", client.clone().collect_for_ever());
        env.spawn("client-driver-events", client.clone().forward_driver_events());
        Ok(client)
    }

    fn restore(&self, mut remembered: Vec<Remembered>) {
        let mut allocs = self.inner.allocs.lock();
        // Those that others wait for come first.
        remembered.sort_by_key(|it| (it.alloc.create_index, it.alloc.id));
        for Remembered { alloc, job, tasks } in remembered {
            let id = alloc.id;
            let key = (job.key.clone(), job.create_index, job.version);
            let job = allocs.jobs.entry(key).or_insert(job).clone();
            let after = allocs.predecessors(&alloc);
            let handle = alloc_runner::spawn(&self.inner.context, Start { alloc, job, tasks, after });
            allocs.running.insert(id, handle);
            // The earlier agent may have been killed before it could tell how this one ended.
            self.inner.context.outbox.unsettle(id);
        }
    }

    /// Removes what carries the mark of an allocation that this client does not know: an earlier agent was killed
    /// between making it and writing it down, or after writing down that it is gone. Where a driver can not tell now what
    /// there is, it is asked again until it can.
    pub async fn sweep(&self) {
        for driver in self.inner.context.drivers.0.values() {
            if self.sweep_of(&**driver).await {
                continue;
            }
            let (client, driver) = (self.clone(), driver.clone());
            self.env().spawn("client-strays", async move {
                loop {
                    tokio::select! {
                        biased;
                        () = client.env().shutdown().wait() => return,
                        () = client.env().sleep(SWEEP_AGAIN) => {}
                    }
                    if client.sweep_of(&*driver).await {
                        return;
                    }
                }
            });
        }
    }

    /// Removes what one driver has of allocations that this client does not know; false when the driver can not tell.
    async fn sweep_of(&self, driver: &dyn Driver) -> bool {
        let found = match driver.census().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(driver = driver.name(), %error, "could not look for strays");
                return false;
            }
        };
        // Who is known is asked last: an allocation that came while the driver looked is known before anything is made for it.
        let known: BTreeSet<String> =
            self.inner.allocs.lock().running.keys().map(ToString::to_string).collect();
        for stray in found.iter().filter(|stray| !known.contains(&stray.alloc_id)) {
            tracing::info!(alloc_id = stray.alloc_id, kind = ?stray.kind, "removing what no allocation owns");
            if let Err(error) = driver.remove_stray(stray).await {
                tracing::warn!(alloc_id = stray.alloc_id, %error, "stray is left");
            }
        }
        true
    }

    /// The node's id.
    pub fn node_id(&self) -> NodeId {
        self.inner.context.node.load().id
    }

    /// The node as it is.
    pub fn node(&self) -> Arc<Node> {
        self.inner.context.node.load_full()
    }

    /// The client's settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Replaces the node, and tells the servers when something but times changed.
    pub fn set_node(&self, node: Node) {
        let old = self.inner.context.node.swap(Arc::new(node));
        if *old != **self.inner.context.node.load() {
            self.inner.node_changed.notify_one();
        }
    }

    /// Time, chance and tasks.
    pub fn env(&self) -> &Env {
        &self.inner.context.env
    }

    /// Whether a server that speaks for the region hears this node.
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.inner.contact.subscribe()
    }

    fn note_contact(&self, held: bool) {
        let now = self.inner.context.env.now();
        self.inner.contact.send_if_modified(|contact| match (*contact, held) {
            (Contact::Held, false) => {
                *contact = Contact::LostAt(now);
                true
            }
            (Contact::LostAt(_), true) => {
                *contact = Contact::Held;
                true
            }
            (Contact::Held, true) | (Contact::LostAt(_), false) => false,
        });
    }

    /// Tells the server that this node leaves on purpose, and opens no other session. Its tasks go on.
    pub fn leave(&self) {
        self.inner.leaving.send_replace(true);
    }

    /// Stops the allocations whose time alone is over, and returns how long the others have.
    pub(crate) async fn stop_overdue(&self, alone: Duration) -> Option<Duration> {
        let handles: Vec<Handle> = self.inner.allocs.lock().running.values().cloned().collect();
        let mut next: Option<Duration> = None;
        for handle in handles {
            let limit = offline::time_alone(handle.view.assigned.load().group());
            let over = handle.view.ended_at.lock().is_some();
            let Some(limit) = limit.filter(|_| !over) else { continue };
            match limit.checked_sub(alone).filter(|left| !left.is_zero()) {
                Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
                // A runner that is gone has stopped its tasks.
                None => drop(handle.requests.send(Request::StopAlone { limit }).await),
            }
        }
        next
    }

    /// Finds a driver.
    pub fn driver(&self, name: &str) -> Option<Arc<dyn Driver>> {
        self.inner.context.drivers.0.get(name).cloned()
    }

    /// Lists the drivers.
    pub fn drivers(&self) -> Vec<Arc<dyn Driver>> {
        self.inner.context.drivers.0.values().cloned().collect()
    }

    /// What was measured last.
    pub(crate) fn sampler(&self) -> &Sampler {
        &self.inner.sampler
    }

    /// The record of the node's metadata.
    pub(crate) fn metadata_record(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// Lists how everything is that the client knows of.
    pub fn told(&self) -> Vec<AllocUpdate> {
        let handles: Vec<Handle> = self.inner.allocs.lock().running.values().cloned().collect();
        handles.into_iter().map(|handle| handle.view.told.lock().clone()).collect()
    }

    /// Finds an allocation.
    pub fn alloc(&self, id: AllocId) -> Option<Arc<View>> {
        self.inner.allocs.lock().running.get(&id).map(|handle| handle.view.clone())
    }

    /// Lists the ids of the allocations that are kept.
    pub fn alloc_ids(&self) -> Vec<AllocId> {
        self.inner.allocs.lock().running.keys().copied().collect()
    }

    /// Finds the launch of a task that runs, and its driver.
    pub fn running_task(&self, id: AllocId, task: &str) -> Option<(Arc<dyn Driver>, TaskId)> {
        let view = self.alloc(id)?;
        let launch = view.running(task)?;
        let assigned = view.assigned.load_full();
        let wanted = assigned.group().tasks.iter().find(|candidate| candidate.name == task)?;
        Some((self.driver(&wanted.driver)?, launch))
    }

    /// Does what the servers want: starts, changes, stops and removes allocations.
    ///
    /// # Errors
    ///
    /// When an allocation's job was not sent; the others are done. A new session is told everything anew.
    pub async fn apply(&self, assignments: Assignments) -> Result<(), UnknownJob> {
        let mut requests = Vec::new();
        let mut gone = Vec::new();
        let mut unknown = None;
        {
            let mut allocs = self.inner.allocs.lock();
            for job in assignments.jobs {
                allocs.jobs.insert((job.key.clone(), job.create_index, job.version), job);
            }
            let mut named: BTreeSet<AllocId> = assignments.kept.into_iter().collect();
            let mut jobs = BTreeSet::new();
            for alloc in assignments.allocs {
                named.insert(alloc.id);
                let key = (alloc.job.clone(), alloc.job_create_index, alloc.job_version);
                let Some(job) = allocs.jobs.get(&key).cloned() else {
                    unknown = Some(UnknownJob { alloc: alloc.id });
                    continue;
                };
                jobs.insert(key);
                if let Some(handle) = allocs.running.get(&alloc.id) {
                    let known = handle.view.assigned.load().alloc.alloc_modify_index;
                    if alloc.alloc_modify_index > known {
                        requests.push((handle.clone(), Request::Update(Box::new(Assigned { alloc, job }))));
                    }
                    continue;
                }
                if alloc.client_status.is_terminal() {
                    continue;
                }
                // One that was stopped before this client ever heard of it may still stand between two others.
                let after = allocs.predecessors(&alloc);
                let waits = after.iter().any(|over| !*over.borrow());
                if alloc.desired == DesiredStatus::Run
                    || waits
                    || mutants::on!("client-starts-what-is-stopped")
                {
                    let start = Start { alloc, job, tasks: BTreeMap::new(), after };
                    let id = start.alloc.id;
                    let handle = alloc_runner::spawn(&self.inner.context, start);
                    allocs.running.insert(id, handle);
                } else {
                    self.inner.context.outbox.put(never_started(&alloc));
                }
            }
            gone.extend(assignments.removed);
            if assignments.complete {
                gone.extend(allocs.running.keys().filter(|id| !named.contains(id)).copied());
                allocs.jobs.retain(|key, _| jobs.contains(key));
            }
        }
        for (handle, request) in requests {
            // A runner that is gone has nothing to change.
            let _ = handle.requests.send(request).await;
        }
        for id in gone {
            self.inner.context.env.spawn("allocation-removal", {
                let client = self.clone();
                async move { client.destroy(id).await }
            });
        }
        unknown.map_or(Ok(()), Err)
    }

    /// Stops an allocation's tasks, removes everything of it, and forgets it. Unknown ones are gone already.
    pub async fn destroy(&self, id: AllocId) {
        let Some(handle) = self.inner.allocs.lock().running.get(&id).cloned() else { return };
        let (done, gone) = oneshot::channel();
        if handle.requests.send(Request::Destroy { done }).await.is_ok() {
            // The sender is dropped when the agent stops meanwhile; then the next start takes it up.
            let _ = gone.await;
        }
        self.forget(id);
    }

    fn forget(&self, id: AllocId) {
        self.inner.context.outbox.forget(id);
        // Its job stays: the server that sent it counts on that until it sends a complete list.
        self.inner.allocs.lock().running.remove(&id);
    }

    /// Restarts a task, or all of them.
    ///
    /// # Errors
    ///
    /// When there is no such allocation or task, or nothing of it runs.
    pub async fn restart(&self, id: AllocId, task: Option<Text>, all: bool) -> Result<(), AskError> {
        self.ask(id, |done| Request::Restart { task, all, done }).await
    }

    /// Sends a signal to a task, or to all of them.
    ///
    /// # Errors
    ///
    /// When there is no such allocation or task, nothing of it runs, or its driver refuses.
    pub async fn signal(&self, id: AllocId, task: Option<Text>, signal: Signal) -> Result<(), AskError> {
        self.ask(id, |done| Request::Signal { task, signal, done }).await
    }

    async fn ask(
        &self,
        id: AllocId,
        request: impl FnOnce(oneshot::Sender<Result<(), AskError>>) -> Request,
    ) -> Result<(), AskError> {
        let handle = self.inner.allocs.lock().running.get(&id).cloned().ok_or(AskError::Gone)?;
        let (done, answer) = oneshot::channel();
        handle.requests.send(request(done)).await.map_err(|_| AskError::Gone)?;
        answer.await.map_err(|_| AskError::Gone)?
    }

    /// Removes ended allocations: all of them, or the oldest beyond the bound.
    pub async fn collect(&self, all: bool) {
        for id in self.collectable(all) {
            tracing::info!(alloc_id = %id, "removing ended allocation");
            self.destroy(id).await;
        }
    }

    fn collectable(&self, all: bool) -> Vec<AllocId> {
        let allocs = self.inner.allocs.lock();
        let mut ended: Vec<_> = allocs
            .running
            .iter()
            // The servers would have it run again if they never heard that it is over.
            .filter(|(id, _)| self.inner.context.outbox.is_settled(**id))
            .filter_map(|(id, handle)| handle.view.ended_at.lock().map(|at| (at, *id)))
            .collect();
        ended.sort_unstable();
        let excess = allocs.running.len().saturating_sub(self.inner.config.gc_max_allocs);
        let count = if all { ended.len() } else { excess.min(ended.len()) };
        ended.into_iter().take(count).map(|(_, id)| id).collect()
    }

    async fn collect_for_ever(self) {
        let shutdown = self.inner.context.env.shutdown().clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = self.inner.context.env.sleep(self.inner.config.gc_interval) => {}
            }
            self.collect(false).await;
        }
    }

    /// Turns what drivers say into events of the tasks that they say it of.
    async fn forward_driver_events(self) {
        let shutdown = self.inner.context.env.shutdown().clone();
        let (sender, mut events) = tokio::sync::mpsc::channel(256);
        for driver in self.drivers() {
            let (mut from, sender) = (driver.events(), sender.clone());
            self.inner.context.env.spawn("driver-events", async move {
                while let Some(event) = from.next().await {
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            });
        }
        loop {
            let event = tokio::select! {
                biased;
                () = shutdown.wait() => return,
                event = events.recv() => event,
            };
            let Some(event) = event else { return };
            let Ok(id) = event.id.alloc_id().parse::<AllocId>() else { continue };
            let handle = self.inner.allocs.lock().running.get(&id).cloned();
            if let Some(handle) = handle {
                let note = Request::Note {
                    task: event.id.task().into(),
                    event: crate::events::driver_message(&event),
                };
                // A runner that is gone has no history to add to.
                let _ = handle.requests.send(note).await;
            }
        }
    }

    /// Stops and removes everything, for agents whose tasks end with them.
    pub async fn stop_all(&self) {
        let ids = self.alloc_ids();
        let mut stopping = Vec::new();
        for id in ids {
            let client = self.clone();
            stopping.push(
                self.inner.context.env.spawn("allocation-removal", async move { client.destroy(id).await }),
            );
        }
        for task in stopping {
            if let Err(error) = task.await {
                tracing::warn!(%error, "allocation could not be removed at shutdown");
            }
        }
    }

    /// The directories of an allocation.
    pub fn dir(&self, id: AllocId) -> Option<AllocDir> {
        self.alloc(id).map(|view| view.dir.clone())
    }
}

fn never_started(alloc: &model::AllocRecord) -> AllocUpdate {
    AllocUpdate {
        id: alloc.id,
        node_id: alloc.node_id,
        client_status: ClientStatus::Complete,
        client_description: "".into(),
        task_states: alloc.task_states.clone(),
        health: None,
        network: None,
    }
}

impl SessionNode for Client {
    fn env(&self) -> &Env {
        Self::env(self)
    }

    fn node(&self) -> Arc<Node> {
        Self::node(self)
    }

    async fn node_changed(&self) {
        self.inner.node_changed.notified().await;
    }

    fn outbox(&self) -> &Outbox {
        &self.inner.context.outbox
    }

    fn told(&self) -> Vec<AllocUpdate> {
        Self::told(self)
    }

    async fn apply(&self, assignments: Assignments) -> Result<(), UnknownJob> {
        Self::apply(self, assignments).await
    }

    fn leaving(&self) -> watch::Receiver<bool> {
        self.inner.leaving.subscribe()
    }

    fn set_contact(&self, held: bool) {
        self.note_contact(held);
    }
}

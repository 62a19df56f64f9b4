//! Runs one allocation: makes its directories, runs its tasks in order, and tells how it is as a whole.
//!
//! One task owns the allocation's state and awaits one [`Event`] at a time; the tasks' runners tell it what happens.

mod stopping;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use driver::{Signal, TaskId};
use model::{
    AllocHealth, AllocId, AllocRecord, ClientStatus, DesiredStatus, Job, JobType, Task, TaskEvent,
    TaskEventKind as Kind, TaskRunState, TaskState, Text, Timestamp,
};
use parking_lot::Mutex;
use protocol::session::AllocUpdate;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    alloc_dir::{AllocDir, Secrets, can_mount},
    context::Context,
    events,
    health::{Part, Rule, Verdict, Watch},
    journal::{Entry, TaskRow},
    lifecycle::{self, Consequence},
    restart::Tracker,
    task_runner::{Assigned, Live, Note, TaskRunner, Wish, fresh_state},
};

use stopping::{STAGES, Stopping};

/// Requests waiting for an allocation. Users and servers send a few in its life; more wait in their senders.
const REQUESTS_MAX: usize = 16;

/// Notes of tasks waiting for their allocation.
const NOTES_MAX: usize = 64;

/// Wishes waiting for a task.
const WISHES_MAX: usize = 8;

/// What is said of an allocation that was stopped because its run took too long. Known to users.
const OVERRAN: &str = "allocation exceeded max_run_duration";

/// What is asked of an allocation.
#[derive(Debug)]
pub enum Request {
    /// The servers changed it.
    Update(Box<Assigned>),
    /// A user wants tasks to start again.
    Restart {
        /// One task, or the running ones.
        task: Option<Text>,
        /// Tasks that ended, too.
        all: bool,
        /// What came of it.
        done: oneshot::Sender<Result<(), AskError>>,
    },
    /// A user wants a signal sent.
    Signal {
        /// One task, or all.
        task: Option<Text>,
        /// The signal.
        signal: Signal,
        /// What came of it.
        done: oneshot::Sender<Result<(), AskError>>,
    },
    /// A driver says something about a task.
    Note {
        /// The task.
        task: Text,
        /// What it says.
        event: TaskEvent,
    },
    /// No server was reachable for as long as the job lets it run alone.
    StopAlone {
        /// That long.
        limit: Duration,
    },
    /// Stop the tasks, remove everything, and end.
    Destroy {
        /// Sent once nothing is left.
        done: oneshot::Sender<()>,
    },
}

/// Why something that a user asked for did not happen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AskError {
    /// The allocation has no such task.
    #[error("Could not find task named: {task}")]
    NoSuchTask {
        /// What was named.
        task: Text,
    },
    /// Nothing of it runs.
    #[error("Task not running")]
    NotRunning,
    /// The driver refused.
    #[error("{0}")]
    Driver(String),
    /// The allocation is gone.
    #[error("Unknown allocation")]
    Gone,
}

/// What others know of a running allocation.
#[derive(Clone, Debug)]
pub struct Handle {
    /// Where requests go.
    pub requests: mpsc::Sender<Request>,
    /// The allocation as it was last told.
    pub view: Arc<View>,
}

/// The allocation as others see it.
#[derive(Debug)]
pub struct View {
    /// The allocation and its job.
    pub assigned: Arc<ArcSwap<Assigned>>,
    /// Its directories.
    pub dir: AllocDir,
    /// What the servers were last told.
    pub told: Mutex<AllocUpdate>,
    /// The launches that run, by position of the task.
    pub live: Vec<Arc<Live>>,
    /// When the allocation ended, for collection.
    pub ended_at: Mutex<Option<Timestamp>>,
    /// Turns true when nothing of the allocation runs or will run.
    pub over: watch::Sender<bool>,
}

impl View {
    /// Returns the launch of a task that runs.
    pub fn running(&self, task: &str) -> Option<TaskId> {
        let assigned = self.assigned.load();
        let at = assigned.group().tasks.iter().position(|candidate| candidate.name == task)?;
        self.live.get(at)?.id.lock().clone()
    }
}

/// What an allocation starts with.
pub struct Start {
    /// The allocation.
    pub alloc: AllocRecord,
    /// Its job.
    pub job: Arc<Job>,
    /// What an earlier agent knew of its tasks.
    pub tasks: std::collections::BTreeMap<Text, TaskRow>,
    /// Those whose place it takes on this node, until they are over.
    pub after: Vec<watch::Receiver<bool>>,
}

/// Begins to run an allocation, or takes it up again.
pub fn spawn(context: &Arc<Context>, start: Start) -> Handle {
    let (requests, queue) = mpsc::channel(REQUESTS_MAX);
    let runner = Runner::new(context.clone(), start, queue);
    let handle = Handle { requests, view: runner.view.clone() };
    context.env.spawn("allocation", runner.run());
    handle
}

/// One thing that happens to an allocation.
enum Event {
    Asked(Request),
    Noted(Note),
    LookAgain,
    PredecessorsOver,
    Stopped,
}

struct Runner {
    context: Arc<Context>,
    view: Arc<View>,
    requests: mpsc::Receiver<Request>,
    notes: mpsc::Receiver<Note>,
    note_sender: mpsc::Sender<Note>,
    wishes: Vec<mpsc::Sender<Wish>>,
    gates: watch::Sender<Arc<[bool]>>,
    rows: Vec<TaskRow>,
    states: Vec<TaskState>,
    stopping: Option<Stopping>,
    consequence: Consequence,
    health: Option<Watch>,
    verdict: Option<AllocHealth>,
    look_at: Option<Timestamp>,
    destroyed: Option<oneshot::Sender<()>>,
    after: Vec<watch::Receiver<bool>>,
    /// It ran for as long as its group lets it, and is or was stopped for that.
    overran: bool,
    /// What comes last was told that it does not come.
    poststop_told: bool,
}

impl Runner {
    fn new(context: Arc<Context>, start: Start, requests: mpsc::Receiver<Request>) -> Self {
        let dir = AllocDir::new(&context.alloc_dir, &start.alloc.id.to_string());
        let group = &start.job.spec.groups[usize::from(start.alloc.group)];
        let rows: Vec<TaskRow> = group
            .tasks
            .iter()
            .map(|task| {
                let known = start.tasks.get(&task.name).cloned();
                known.unwrap_or_else(|| TaskRow {
                    state: fresh_state(&task.name),
                    restarts: Tracker::default(),
                    launch: 0,
                    handle: None,
                })
            })
            .collect();
        let states: Vec<TaskState> = rows.iter().map(|row| row.state.clone()).collect();
        let (status, words) = lifecycle::status(&states);
        let told = AllocUpdate {
            id: start.alloc.id,
            node_id: start.alloc.node_id,
            client_status: status,
            client_description: words.into(),
            task_states: states.clone().into(),
            health: None,
            network: None,
        };
        let live = rows.iter().map(|_| Arc::new(Live::default())).collect();
        let overran =
            states.iter().flat_map(|state| &state.events).any(|event| event.kind == Kind::MaxRunDuration);
        let assigned = Arc::new(ArcSwap::from_pointee(Assigned { alloc: start.alloc, job: start.job }));
        let over = watch::Sender::new(false);
        let view = View { assigned, dir, told: Mutex::new(told), live, ended_at: Mutex::new(None), over };
        let (note_sender, notes) = mpsc::channel(NOTES_MAX);
        let none: Arc<[bool]> = vec![false; rows.len()].into();
        Self {
            context,
            view: Arc::new(view),
            requests,
            notes,
            note_sender,
            wishes: Vec::new(),
            gates: watch::Sender::new(none),
            rows,
            states,
            stopping: None,
            consequence: Consequence::None,
            health: None,
            verdict: None,
            look_at: None,
            destroyed: None,
            after: start.after,
            overran,
            poststop_told: false,
        }
    }

    async fn run(mut self) {
        if let Err(error) = self.set_up().await {
            self.fail_all(&error).await;
        } else {
            self.start_tasks();
            self.start_watch();
            if self.view.assigned.load().alloc.desired != DesiredStatus::Run {
                self.begin_stop(false);
            }
            self.settle();
        }
        loop {
            let event = self.next_event().await;
            match event {
                Event::Asked(request) => self.asked(request).await,
                Event::Noted(note) => self.noted(note),
                Event::LookAgain => {}
                Event::PredecessorsOver => self.after.clear(),
                Event::Stopped => return,
            }
            self.settle();
            if let Some(done) = self.destroyed.take_if(|_| lifecycle_over(&self.states)) {
                self.remove().await;
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
                return;
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let again = self.look_at.map(|at| self.context.env.now() + at.since(self.context.now()));
        let again = async {
            match again {
                Some(at) => self.context.env.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let predecessors = async {
            if self.after.is_empty() {
                std::future::pending::<()>().await;
            }
            for over in &mut self.after {
                // A runner that is gone leaves nothing behind.
                drop(over.wait_for(|over| *over).await);
            }
        };
        let shutdown = self.context.env.shutdown();
        tokio::select! {
            biased;
            () = shutdown.wait() => Event::Stopped,
            note = self.notes.recv() => note.map_or(Event::Stopped, Event::Noted),
            request = self.requests.recv() => request.map_or(Event::Stopped, Event::Asked),
            () = predecessors => Event::PredecessorsOver,
            () = again => Event::LookAgain,
        }
    }

    /// Writes down what is about to be done, then makes the directories.
    async fn set_up(&mut self) -> Result<(), String> {
        let assigned = self.view.assigned.load_full();
        let first = self.rows.iter().all(|row| row.state.events.is_empty());
        let now = self.context.now();
        if first {
            for (row, state) in self.rows.iter_mut().zip(&mut self.states) {
                row.state.events = Box::new([events::received(now)]);
                *state = row.state.clone();
            }
            let entries = vec![Entry::Job(assigned.job.clone()), Entry::Alloc(assigned.alloc.clone())];
            self.context.journal.write(entries).await.map_err(|error| error.to_string())?;
        }
        let dir = self.view.dir.clone();
        let tasks: Vec<(Text, Secrets)> =
            assigned.group().tasks.iter().map(|task| (task.name.clone(), secrets_of(task))).collect();
        let made = self.context.env.spawn_blocking(move || {
            dir.build()?;
            tasks.iter().try_for_each(|(name, secrets)| dir.build_task(name, *secrets))
        });
        let made = made.await.map_err(|error| error.to_string())?;
        made.map_err(|error| chain(&error))?;
        if first {
            // A task that waits for others has this behind it only when its turn comes.
            let first = lifecycle::may_start(&assigned.group().tasks, &self.states, false);
            let rows = self.rows.iter_mut().zip(&mut self.states).zip(first);
            for ((row, state), _) in rows.filter(|(_, first)| *first) {
                let mut events = std::mem::take(&mut row.state.events).into_vec();
                events.push(events::building_directory(self.context.now()));
                row.state.events = events.into();
                *state = row.state.clone();
            }
        }
        Ok(())
    }

    fn start_tasks(&mut self) {
        let assigned = self.view.assigned.load_full();
        for (at, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            let (wishes, queue) = mpsc::channel(WISHES_MAX);
            self.wishes.push(wishes);
            let task = &assigned.group().tasks[at];
            let Some(driver) = self.context.drivers.0.get(task.driver.as_str()).cloned() else {
                let error = format!("this node has no driver named {:?}", task.driver.as_str());
                self.fail_task(at, &error);
                continue;
            };
            let runner = TaskRunner {
                context: self.context.clone(),
                assigned: self.view.assigned.clone(),
                dir: self.view.dir.clone(),
                at,
                driver,
                live: self.view.live[at].clone(),
                row,
                wishes: queue,
                notes: self.note_sender.clone(),
                gates: self.gates.subscribe(),
                rng: self.context.env.rng(),
            };
            self.context.env.spawn("task", runner.run());
        }
    }

    /// Begins to watch the health of what a deployment placed, and of what moved or came again outside of one.
    fn start_watch(&mut self) {
        let assigned = self.view.assigned.load();
        let extra = assigned.alloc.extra.as_deref();
        self.health = None;
        self.verdict = extra.and_then(|extra| extra.health).filter(|health| health.healthy.is_some());
        if self.verdict.is_some() || assigned.alloc.desired != DesiredStatus::Run {
            return;
        }
        let (group, now) = (assigned.group(), self.context.now());
        let deployment = extra.is_some_and(|extra| extra.deployment.is_some());
        let pace = match (&group.update, &group.migrate) {
            (Some(update), _) if deployment => {
                Some((&update.health_check, update.min_healthy_time, update.healthy_deadline))
            }
            (_, Some(migrate)) if !deployment && assigned.job.spec.kind == JobType::Service => {
                Some((&migrate.health_check, migrate.min_healthy_time, migrate.healthy_deadline))
            }
            (_, _) => None,
        };
        let Some((_, min_healthy_time, healthy_deadline)) = pace.filter(|(check, _, _)| *check != "manual")
        else {
            return;
        };
        // Checks are not run by this agent yet: tasks alone decide, and docs/status.md says so.
        let deadline = now.after(healthy_deadline);
        let rule = Rule { min_healthy_time, deadline, healthy_deadline, checks: false };
        self.health = Some(Watch::new(rule, now));
    }

    fn noted(&mut self, note: Note) {
        self.states[note.at] = note.state;
    }

    async fn asked(&mut self, request: Request) {
        match request {
            Request::Update(assigned) => self.update(*assigned).await,
            Request::Restart { task, all, done } => {
                let result = self.restart(task.as_ref(), all);
                // Whoever asked may have stopped waiting.
                let _ = done.send(result);
            }
            Request::Signal { task, signal, done } => {
                let result = self.signal(task.as_ref(), signal).await;
                let _ = done.send(result);
            }
            Request::Note { task, event } => {
                if let Some(at) = self.states.iter().position(|state| state.name == task) {
                    self.wish(at, Wish::Note(event));
                }
            }
            Request::StopAlone { limit } => self.stop_alone(limit),
            Request::Destroy { done } => {
                self.destroyed = Some(done);
                self.begin_stop(true);
            }
        }
    }

    async fn update(&mut self, assigned: Assigned) {
        let stop = assigned.alloc.desired != DesiredStatus::Run;
        let at_once = assigned
            .alloc
            .extra
            .as_ref()
            .is_some_and(|extra| extra.transition.no_shutdown_delay == Some(true));
        let deployment = |alloc: &AllocRecord| alloc.extra.as_ref().and_then(|extra| extra.deployment);
        let known = self.view.assigned.load_full();
        let new_deployment = deployment(&assigned.alloc) != deployment(&known.alloc);
        let came_back = times_unknown(&assigned.alloc) > times_unknown(&known.alloc);
        let entries = vec![Entry::Job(assigned.job.clone()), Entry::Alloc(assigned.alloc.clone())];
        self.view.assigned.store(Arc::new(assigned));
        if self.context.journal.write(entries).await.is_err() {
            return;
        }
        if came_back {
            let now = self.context.now();
            (0..self.states.len()).for_each(|at| self.wish(at, Wish::Note(events::reconnected(now))));
        }
        if new_deployment {
            self.verdict = None;
            self.start_watch();
        }
        if stop {
            self.begin_stop(at_once);
        }
    }

    fn restart(&mut self, task: Option<&Text>, all: bool) -> Result<(), AskError> {
        let targets = self.targets(task)?;
        let now = self.context.now();
        // A task that waits for its next launch counts, unless it alone is named: callers know that refusal.
        let alive = |at: &usize| match task {
            Some(_) => self.runs(*at),
            None => self.states[*at].state != TaskRunState::Dead && self.stopping.is_none(),
        };
        let running: Vec<usize> = targets.into_iter().filter(alive).collect();
        if running.is_empty() {
            return Err(AskError::NotRunning);
        }
        for at in running {
            self.wish(at, Wish::Restart { event: events::restart_asked(all || task.is_none(), now) });
        }
        Ok(())
    }

    async fn signal(&mut self, task: Option<&Text>, signal: Signal) -> Result<(), AskError> {
        let targets: Vec<usize> = self.targets(task)?.into_iter().filter(|at| self.runs(*at)).collect();
        if targets.is_empty() {
            return Err(AskError::NotRunning);
        }
        let assigned = self.view.assigned.load_full();
        for at in targets {
            let Some(id) = self.view.live[at].id.lock().clone() else { continue };
            let name = assigned.group().tasks[at].driver.as_str();
            let Some(driver) = self.context.drivers.0.get(name) else { continue };
            self.wish(at, Wish::Note(events::signaling(signal, self.context.now())));
            driver.signal(&id, signal).await.map_err(|error| AskError::Driver(chain(&error)))?;
        }
        Ok(())
    }

    fn targets(&self, task: Option<&Text>) -> Result<Vec<usize>, AskError> {
        let Some(task) = task else { return Ok((0..self.states.len()).collect()) };
        let at = self.states.iter().position(|state| state.name == *task);
        at.map(|at| vec![at]).ok_or_else(|| AskError::NoSuchTask { task: task.clone() })
    }

    fn runs(&self, at: usize) -> bool {
        self.states[at].state == TaskRunState::Running
    }

    fn wish(&self, at: usize, wish: Wish) {
        // A task that is over has no queue, and one that is full has been told often enough.
        if let Some(queue) = self.wishes.get(at) {
            let _ = queue.try_send(wish);
        }
    }

    /// Draws the consequences of how the tasks are, and tells the servers.
    fn settle(&mut self) {
        let assigned = self.view.assigned.load_full();
        let tasks = &assigned.group().tasks;
        let now = self.context.now();
        let consequence = lifecycle::consequence(tasks, &self.states);
        if consequence != self.consequence {
            self.consequence = consequence;
            self.follow(consequence, now);
        }
        self.stop_what_overran(now);
        self.advance_stop();
        let mut gates = lifecycle::may_start(tasks, &self.states, self.stopping.is_some());
        if !self.after.is_empty() || self.overran {
            gates.fill(false);
        }
        let gates: Arc<[bool]> = gates.into();
        self.gates.send_if_modified(|current| {
            let changed = *current != gates;
            *current = gates;
            changed
        });
        self.look_at_health(now);
        let ends_at = self.run_ends_at().filter(|_| self.stopping.is_none() && !self.is_over());
        self.look_at = self.look_at.into_iter().chain(ends_at).min();
        self.finish_poststop(tasks.len());
        self.tell();
    }

    fn follow(&mut self, consequence: Consequence, now: Timestamp) {
        let cause = match consequence {
            Consequence::None => return,
            Consequence::SiblingFailed { task } => events::sibling_failed(&self.states[task].name, now),
            Consequence::LeaderDead => events::leader_dead(now),
            Consequence::MainDead => events::main_dead(now),
        };
        for at in 0..self.states.len() {
            if self.states[at].state != TaskRunState::Dead && self.stopping.is_none() && !self.is_poststop(at)
            {
                self.wish(at, Wish::Note(cause.clone()));
            }
        }
        self.begin_stop(false);
    }

    fn is_over(&self) -> bool {
        main_over(&self.view.assigned.load(), &self.states)
    }

    fn is_poststop(&self, at: usize) -> bool {
        lifecycle::is_poststop(&self.view.assigned.load().group().tasks[at])
    }

    fn look_at_health(&mut self, now: Timestamp) {
        self.look_at = None;
        let Some(watch) = &mut self.health else { return };
        // What a failure does to the other tasks comes first, so that the verdict speaks of all of them.
        if self.stopping.is_some()
            && now < watch.deadline()
            && !main_over(&self.view.assigned.load(), &self.states)
        {
            self.look_at = Some(watch.deadline());
            return;
        }
        let assigned = self.view.assigned.load_full();
        let parts: Vec<(Part, &TaskState)> =
            assigned.group().tasks.iter().map(part).zip(&self.states).collect();
        let verdict = watch.look(&parts, true, now);
        let (healthy, why) = match verdict {
            Verdict::Open { again } => {
                self.look_at = Some(again);
                return;
            }
            Verdict::Healthy => (true, Vec::new()),
            Verdict::Unhealthy { why } => (false, why),
        };
        let extra = assigned.alloc.extra.as_deref();
        let canary = extra.and_then(|extra| extra.health).is_some_and(|health| health.canary);
        self.verdict = Some(AllocHealth { healthy: Some(healthy), timestamp: now, canary, modify_index: 0 });
        self.health = None;
        // Only a deployment has to be told what went wrong, and none that was stopped on purpose.
        let told = assigned.alloc.desired == DesiredStatus::Run
            && extra.is_some_and(|extra| extra.deployment.is_some());
        for (at, why) in why.into_iter().filter(|_| told) {
            self.wish(at, Wish::Note(events::unhealthy(&why, now)));
        }
    }

    /// Puts what changed into the outbox.
    fn tell(&self) {
        if lifecycle_over(&self.states) {
            // One that ends before it could begin has still been promised what those before it hold, and whoever was promised
            // the same by it counts on its word: it is over when they are.
            if !self.after.is_empty() {
                return;
            }
            self.view.over.send_replace(true);
        }
        let (status, words) = lifecycle::status(&self.states);
        let words = if self.overran && status == ClientStatus::Complete { OVERRAN } else { words };
        let mut told = self.view.told.lock();
        let same =
            told.client_status == status && *told.task_states == *self.states && told.health == self.verdict;
        if same {
            return;
        }
        told.client_status = status;
        told.client_description = Text::new_static(words);
        told.task_states = self.states.clone().into();
        told.health = self.verdict;
        if status.is_terminal() && lifecycle_over(&self.states) {
            self.view.ended_at.lock().get_or_insert(self.context.now());
        }
        self.context.outbox.put(told.clone());
    }

    fn fail_task(&mut self, at: usize, error: &str) {
        let now = self.context.now();
        let state = &mut self.states[at];
        let mut kept = std::mem::take(&mut state.events).into_vec();
        kept.push(events::setup_failure(error, now));
        state.events = kept.into();
        state.state = TaskRunState::Dead;
        state.failed = true;
        state.finished_at = now;
    }

    async fn fail_all(&mut self, error: &str) {
        tracing::warn!(alloc_id = %self.id(), error, "allocation could not be set up");
        for at in 0..self.states.len() {
            self.fail_task(at, error);
        }
        self.stopping = Some(Stopping { stage: STAGES, at_once: true });
        self.tell();
    }

    async fn remove(&mut self) {
        let assigned = self.view.assigned.load_full();
        let dir = self.view.dir.clone();
        let names: Vec<Text> = assigned.group().tasks.iter().map(|task| task.name.clone()).collect();
        let removed = self.context.env.spawn_blocking(move || {
            let names: Vec<&str> = names.iter().map(Text::as_str).collect();
            dir.remove(&names)
        });
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(alloc_id = %self.id(), %error, "allocation's directory is left"),
            Err(error) => tracing::warn!(alloc_id = %self.id(), %error, "allocation's directory may be left"),
        }
        if self.context.journal.write(vec![Entry::Forget(self.id())]).await.is_err() {
            tracing::debug!(alloc_id = %self.id(), "agent is stopping; the allocation is forgotten at the next start");
        }
    }

    fn id(&self) -> AllocId {
        self.view.assigned.load().alloc.id
    }
}

/// Counts how often an allocation's node was out of reach.
fn times_unknown(alloc: &AllocRecord) -> usize {
    let states = alloc.extra.iter().flat_map(|extra| &extra.states);
    states.filter(|(status, _)| *status == ClientStatus::Unknown).count()
}

/// Tells whether every task is over.
fn lifecycle_over(states: &[TaskState]) -> bool {
    states.iter().all(|state| state.state == TaskRunState::Dead)
}

/// Tells whether all is over but what comes last.
fn main_over(assigned: &Assigned, states: &[TaskState]) -> bool {
    let tasks = assigned.group().tasks.iter().zip(states);
    tasks
        .filter(|(task, _)| !lifecycle::is_poststop(task))
        .all(|(_, state)| state.state == TaskRunState::Dead)
}

/// Returns what a task is to its allocation's health.
fn part(task: &Task) -> Part {
    match task.lifecycle {
        Some(_) if lifecycle::is_poststop(task) => Part::Apart,
        Some(lifecycle) if !lifecycle.sidecar => Part::Ends,
        None | Some(_) => Part::Stays,
    }
}

fn secrets_of(task: &model::Task) -> Secrets {
    // A task that only pretends has no secrets, and ten thousand mounts slow the machine down.
    if can_mount() && task.driver != "mock_driver" {
        Secrets::InMemory { extra_mb: task.resources.secrets_mb }
    } else {
        Secrets::OnDisk
    }
}

/// Writes an error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

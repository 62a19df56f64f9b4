//! Runs one task: prepares it, starts it, waits for it, and starts it again as its policy says.
//!
//! The runner owns the task's [`TaskRow`] and is the only one that speaks to the driver about starting and stopping.
//! What happens to the task arrives as one [`Happening`] at a time.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use driver::{Driver, ExitResult, RecoverTaskError, Signal, Started, TaskHandle, TaskId};
use model::{
    AllocRecord, Job, RestartPolicy, Task, TaskEvent, TaskEventKind as Kind, TaskGroup, TaskRunState,
    TaskState, Timestamp,
};
use parking_lot::Mutex;
use rand::{RngExt, rngs::SmallRng};
use tokio::sync::{mpsc, watch};

use crate::{
    alloc_dir::AllocDir,
    context::Context,
    events, hooks,
    journal::{Entry, TaskRow},
    launch::Subject,
    restart::{Cause, Decision, Purpose},
    task_env::TaskEnv,
};

/// Events kept of each task, as the API shows them.
const EVENTS_MAX: usize = 10;

/// Time until a task that could not be stopped is told so again, at first. An engine that restarts is back in about as long.
const STOP_AGAIN_FIRST: Duration = Duration::from_secs(1);

/// The same after many tries: how long such a task runs on at most once it can be stopped.
const STOP_AGAIN_MAX: Duration = Duration::from_secs(15);

/// Tries to remove what is left of a task: some five minutes. What an engine does not let go for longer, the next sweep finds.
const REMOVALS_MAX: u32 = 20;

/// An allocation with the job version that it belongs to.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// The allocation.
    pub alloc: AllocRecord,
    /// Its job.
    pub job: Arc<Job>,
}

impl Assigned {
    /// Returns the allocation's group.
    pub fn group(&self) -> &TaskGroup {
        &self.job.spec.groups[usize::from(self.alloc.group)]
    }
}

/// What someone wants of a task.
#[derive(Clone, Debug)]
pub enum Wish {
    /// It is to stop for good.
    Kill {
        /// Noted before it is stopped.
        event: Option<TaskEvent>,
        /// Skip its shutdown delay.
        at_once: bool,
    },
    /// It is to stop and start again.
    Restart {
        /// Noted before it is stopped.
        event: TaskEvent,
    },
    /// Something about it is worth noting.
    Note(TaskEvent),
}

/// What a runner tells its allocation.
#[derive(Clone, Debug)]
pub struct Note {
    /// The task's position in its group.
    pub at: usize,
    /// How it is.
    pub state: TaskState,
}

/// What the runner and others that ask about the task share.
#[derive(Debug, Default)]
pub struct Live {
    /// The launch that runs.
    pub id: Mutex<Option<TaskId>>,
}

/// Runs one task.
pub struct TaskRunner {
    /// The node's parts.
    pub context: Arc<Context>,
    /// The allocation; changes when it is updated in place.
    pub assigned: Arc<ArcSwap<Assigned>>,
    /// Its directories.
    pub dir: AllocDir,
    /// The task's position in its group.
    pub at: usize,
    /// The task's driver.
    pub driver: Arc<dyn Driver>,
    /// What others see of the launch.
    pub live: Arc<Live>,
    /// What is remembered.
    pub row: TaskRow,
    /// Wishes, in order.
    pub wishes: mpsc::Receiver<Wish>,
    /// Where the runner tells how the task is.
    pub notes: mpsc::Sender<Note>,
    /// Which tasks of the group may start.
    pub gates: watch::Receiver<Arc<[bool]>>,
    /// Chance.
    pub rng: SmallRng,
}

/// What the runner does next.
enum Step {
    /// Wait until the task may start.
    Gate,
    /// Prepare and start it.
    Start,
    /// Wait until it ends.
    Watch(TaskId),
    /// Wait before the next start.
    Pause(Duration),
    /// It is over.
    Dead {
        /// Whether it failed.
        failed: bool,
    },
    /// The agent stops: the task goes on without it.
    Abandon,
}

/// What can happen while the runner waits.
enum Happening {
    Ended(ExitResult),
    Wished(Wish),
    Due,
    Abandoned,
}

impl TaskRunner {
    /// Runs the task until it is over for good, or the agent stops.
    pub async fn run(mut self) {
        if self.row.state.state == TaskRunState::Dead {
            return self.linger().await;
        }
        let mut step = self.recover().await;
        loop {
            step = match step {
                Step::Gate => self.gate().await,
                Step::Start => self.start().await,
                Step::Watch(id) => self.watch(id).await,
                Step::Pause(delay) => self.pause(delay).await,
                Step::Dead { failed } => {
                    self.finish(failed).await;
                    return self.linger().await;
                }
                Step::Abandon => return,
            };
            if self.context.env.shutdown().fired() {
                return;
            }
        }
    }

    /// Goes on writing the history of a task that is over: its allocation is stopped, or found to be unhealthy.
    async fn linger(&mut self) {
        // The allocation holds the other end until it is removed or the agent stops.
        while let Some(wish) = self.wishes.recv().await {
            match wish {
                Wish::Kill { event, .. } => self.killing(event).await,
                Wish::Note(event) => self.note(event).await,
                Wish::Restart { .. } => {}
            }
        }
    }

    /// Finds the task again that an earlier agent started.
    async fn recover(&mut self) -> Step {
        let Some(handle) = self.row.handle.as_deref() else { return self.find().await };
        let handle: Result<TaskHandle, _> = serde_json::from_str(handle);
        let (id, error) = match handle {
            Ok(handle) => {
                let id = handle.id.clone();
                match self.driver.recover(handle).await {
                    Ok(()) => {
                        *self.live.id.lock() = Some(id.clone());
                        return Step::Watch(id);
                    }
                    Err(error) => (Some(id), recover_text(&error)),
                }
            }
            Err(error) => (None, error.to_string()),
        };
        if let Some(id) = id {
            self.destroy(&id).await;
        }
        self.row.handle = None;
        let result = ExitResult { err: Some(error), exit_code: 1, ..ExitResult::default() };
        self.row.state.state = TaskRunState::Pending;
        self.note(events::terminated(&result, self.context.now())).await;
        self.decide(Cause::Exited { successful: false }).await
    }

    /// Finds a launch that an earlier agent began and could not write down any more.
    async fn find(&mut self) -> Step {
        if self.row.launch == 0 {
            return Step::Gate;
        }
        let assigned = self.assigned.load_full();
        let subject = self.subject(&assigned, &assigned.group().tasks[self.at]);
        let config = subject.task_config(self.row.launch, &subject.environment(), None);
        let mut pause = STOP_AGAIN_FIRST;
        loop {
            match self.driver.find(config.clone()).await {
                Ok(Some(started)) => return self.started(config.id, &started).await,
                Ok(None) => return Step::Gate,
                Err(error) if error.recoverable() => {
                    tracing::warn!(id = %config.id, %error, again_in = ?pause, "not known whether a task runs");
                }
                Err(error) => {
                    tracing::warn!(id = %config.id, %error, "not known whether a task runs; it is started anew");
                    return Step::Gate;
                }
            }
            tokio::select! {
                biased;
                () = self.context.env.shutdown().wait() => return Step::Abandon,
                () = self.context.env.sleep(pause) => {}
            }
            pause = (pause * 2).min(STOP_AGAIN_MAX);
        }
    }

    /// Notes that a launch runs.
    async fn started(&mut self, id: TaskId, started: &Started) -> Step {
        self.row.handle =
            serde_json::to_string(&started.handle).ok().filter(|_| !mutants::on!("client-forgets-handle"));
        *self.live.id.lock() = Some(id.clone());
        let now = self.context.now();
        self.row.state.state = TaskRunState::Running;
        self.row.state.started_at = now;
        self.note(events::started(now)).await;
        Step::Watch(id)
    }

    async fn gate(&mut self) -> Step {
        loop {
            if self.gates.borrow_and_update().get(self.at).copied().unwrap_or(false) {
                return Step::Start;
            }
            tokio::select! {
                biased;
                wish = self.wishes.recv() => match wish {
                    Some(Wish::Kill { event, .. }) => return self.kill_unstarted(event).await,
                    Some(Wish::Note(event)) => self.note(event).await,
                    Some(Wish::Restart { .. }) => {}
                    None => return Step::Abandon,
                },
                changed = self.gates.changed() => if changed.is_err() {
                    return Step::Abandon;
                },
            }
        }
    }

    async fn pause(&mut self, delay: Duration) -> Step {
        let due = self.context.env.now() + delay;
        loop {
            let happening = tokio::select! {
                biased;
                wish = self.wishes.recv() => wish.map_or(Happening::Abandoned, Happening::Wished),
                () = self.context.env.sleep_until(due) => Happening::Due,
            };
            match happening {
                Happening::Wished(Wish::Kill { event, .. }) => return self.kill_unstarted(event).await,
                Happening::Wished(Wish::Note(event)) => self.note(event).await,
                Happening::Wished(Wish::Restart { .. }) | Happening::Due => return Step::Start,
                Happening::Abandoned => return Step::Abandon,
                Happening::Ended(_) => {}
            }
        }
    }

    /// Prepares the task and starts it. A wish to stop it ends the preparation.
    async fn start(&mut self) -> Step {
        let assigned = self.assigned.load_full();
        let task = &assigned.group().tasks[self.at];
        if self.row.launch == 0 && !self.row.state.events.iter().any(|event| event.kind == Kind::TaskSetup) {
            self.push(events::building_directory(self.context.now()));
        }
        let subject = self.subject(&assigned, task);
        let mut env = subject.environment();
        if let Err(errors) = self.driver.validate(&subject.config(&env)) {
            self.note(events::failed_validation(&errors.to_string(), self.context.now())).await;
            return self.decide(Cause::StartFailed { recoverable: false }).await;
        }
        if let Some(step) = self.prepare(&assigned, task, &mut env).await {
            return step;
        }
        self.row.launch += 1;
        self.row.handle = None;
        if !mutants::on!("client-starts-unwritten") && self.remember().await.is_err() {
            return Step::Abandon;
        }
        let config = self.subject(&assigned, task).task_config(self.row.launch, &env, None);
        let id = config.id.clone();
        let driver = self.driver.clone();
        let mut starting = driver.start(config);
        let started = loop {
            tokio::select! {
                biased;
                wish = self.wishes.recv() => match wish {
                    Some(Wish::Kill { event, .. }) => {
                        drop(starting);
                        self.destroy(&id).await;
                        return self.kill_unstarted(event).await;
                    }
                    Some(Wish::Note(event)) => self.note(event).await,
                    Some(Wish::Restart { .. }) => {}
                    None => return Step::Abandon,
                },
                started = &mut starting => break started,
            }
        };
        match started {
            Ok(started) => self.started(id, &started).await,
            Err(error) => {
                self.note(events::driver_failure(&error.to_string(), self.context.now())).await;
                self.decide(Cause::StartFailed { recoverable: error.recoverable() }).await
            }
        }
    }

    /// Runs what comes before the start; returns the next step when that failed.
    async fn prepare(&mut self, assigned: &Assigned, task: &Task, env: &mut TaskEnv) -> Option<Step> {
        if !task.artifacts.is_empty() {
            self.note(events::downloading_artifacts(self.context.now())).await;
        }
        let dirs = self.subject(assigned, task).dirs();
        let prepared = hooks::prepare(&self.context.env, &assigned.job, task, &dirs, env).await;
        match prepared {
            Ok(()) => None,
            Err(hooks::PrepareError::Template { message }) => {
                self.note(events::killing_for(&format!("Template failed: {message}"), self.context.now()))
                    .await;
                Some(Step::Dead { failed: true })
            }
            Err(hooks::PrepareError::Artifact { message }) => {
                self.note(events::artifact_failed(&message, self.context.now())).await;
                Some(self.decide(Cause::StartFailed { recoverable: true }).await)
            }
            Err(error @ hooks::PrepareError::Payload { .. }) => {
                self.note(events::setup_failure(&error.to_string(), self.context.now())).await;
                Some(self.decide(Cause::StartFailed { recoverable: true }).await)
            }
        }
    }

    async fn watch(&mut self, id: TaskId) -> Step {
        let driver = self.driver.clone();
        let mut ended = driver.wait(&id);
        loop {
            let happening = tokio::select! {
                biased;
                result = &mut ended => Happening::Ended(result.unwrap_or_else(|error| ExitResult {
                    err: Some(error.to_string()),
                    exit_code: 1,
                    ..ExitResult::default()
                })),
                wish = self.wishes.recv() => wish.map_or(Happening::Abandoned, Happening::Wished),
            };
            match happening {
                Happening::Ended(result) => {
                    self.ended(&id, &result).await;
                    return self.decide(Cause::Exited { successful: result.successful() }).await;
                }
                Happening::Wished(Wish::Note(event)) => self.note(event).await,
                Happening::Wished(Wish::Restart { event }) => {
                    self.note(event).await;
                    self.stop(&id).await;
                    return self.decide(Cause::Asked).await;
                }
                Happening::Wished(Wish::Kill { event, at_once }) => {
                    self.killing(event).await;
                    self.wait_before_stop(&id, at_once).await;
                    self.stop(&id).await;
                    self.note(events::killed(self.context.now())).await;
                    return Step::Dead { failed: self.row.state.failed };
                }
                // The agent stops: the task goes on without it.
                Happening::Abandoned => return Step::Abandon,
                Happening::Due => {}
            }
        }
    }

    /// Gives a launch that is to stop for good its shutdown delay, or notes that it gets none.
    async fn wait_before_stop(&mut self, id: &TaskId, at_once: bool) {
        let delay = self.assigned.load().group().tasks[self.at].shutdown_delay;
        if delay.is_zero() {
            return;
        }
        let now = self.context.now();
        if at_once {
            return self.note(events::skipping_shutdown_delay(delay, now)).await;
        }
        self.note(events::waiting_for_shutdown_delay(delay, now)).await;
        tokio::select! {
            biased;
            _ = self.driver.wait(id) => {}
            () = self.context.env.sleep(delay) => {}
        }
    }

    /// Stops a launch, notes how it ended, and removes what was made for it.
    async fn stop(&mut self, id: &TaskId) {
        let assigned = self.assigned.load_full();
        let task = &assigned.group().tasks[self.at];
        let subject = self.subject(&assigned, task);
        let default = self.driver.capabilities().default_kill_signal.parse().unwrap_or(Signal::INT);
        let signal = subject.kill_signal().unwrap_or(default);
        self.stop_for_certain(id, signal, subject.kill_timeout()).await;
        let result = match self.driver.wait(id).await {
            Ok(result) => result,
            Err(error) => ExitResult { err: Some(error.to_string()), ..ExitResult::default() },
        };
        self.ended(id, &result).await;
    }

    /// Has the driver stop a launch, again and again until it is over: whatever runs it may be away for a while, and a task
    /// that nobody wants must not run for ever.
    async fn stop_for_certain(&self, id: &TaskId, signal: Signal, timeout: Duration) {
        let (mut timeout, mut pause) = (timeout, STOP_AGAIN_FIRST);
        while let Err(error) = self.driver.stop(id, signal, timeout).await {
            tracing::warn!(%id, %error, again_in = ?pause, "task could not be stopped");
            tokio::select! {
                biased;
                // One that the driver does not know is over, too.
                _ = self.driver.wait(id) => return,
                () = self.context.env.sleep(pause) => {}
            }
            pause = (pause * 2).min(STOP_AGAIN_MAX);
            // It had its time to end by itself.
            timeout = Duration::ZERO;
        }
    }

    /// Notes how a launch ended, and removes what was made for it.
    async fn ended(&mut self, id: &TaskId, result: &ExitResult) {
        *self.live.id.lock() = None;
        self.row.state.state = TaskRunState::Pending;
        self.push(events::terminated(result, self.context.now()));
        // The handle is kept until the outcome is written: an agent that is killed in between finds the launch again.
        self.row.handle = None;
        if self.remember().await.is_err() {
            tracing::warn!(%id, "outcome of task could not be written");
        }
        self.destroy(id).await;
    }

    async fn destroy(&self, id: &TaskId) {
        let Err(error) = self.driver.destroy(id, true).await else { return };
        tracing::warn!(%id, %error, "something of a task is left; trying again");
        let (env, driver, id) = (self.context.env.clone(), self.driver.clone(), id.clone());
        self.context.env.spawn("task-removal", async move {
            let mut pause = STOP_AGAIN_FIRST;
            for _ in 0..REMOVALS_MAX {
                tokio::select! {
                    biased;
                    () = env.shutdown().wait() => return,
                    () = env.sleep(pause) => {}
                }
                if driver.destroy(&id, true).await.is_ok() {
                    return;
                }
                pause = (pause * 2).min(STOP_AGAIN_MAX);
            }
            tracing::warn!(%id, "something of a task is left; the next sweep removes it");
        });
    }

    /// Asks the restart policy, and notes what it says.
    async fn decide(&mut self, cause: Cause) -> Step {
        let assigned = self.assigned.load_full();
        let policy = self.policy(&assigned);
        let now = self.context.now();
        let jitter = self.rng.random_range(0.0..=1.0);
        let lifecycle = assigned.group().tasks[self.at].lifecycle;
        let purpose = Purpose::of(assigned.job.spec.kind, lifecycle);
        let decision = self.row.restarts.decide(policy, purpose, cause, now, jitter);
        match decision {
            Decision::Restart { delay, reason } => {
                self.row.state.restarts += 1;
                self.row.state.last_restart = now;
                self.row.state.state = TaskRunState::Pending;
                self.note(events::restarting(delay, reason, now)).await;
                Step::Pause(delay)
            }
            Decision::Done => Step::Dead { failed: false },
            Decision::Fail { reason } => {
                self.push(events::not_restarting(&reason, now));
                Step::Dead { failed: true }
            }
        }
    }

    fn policy<'a>(&self, assigned: &'a Assigned) -> &'a RestartPolicy {
        let group = assigned.group();
        group.tasks[self.at].restart.as_ref().unwrap_or(&group.restart)
    }

    fn kill_timeout(&self) -> Duration {
        let assigned = self.assigned.load_full();
        self.subject(&assigned, &assigned.group().tasks[self.at]).kill_timeout()
    }

    fn subject<'a>(&'a self, assigned: &'a Assigned, task: &'a Task) -> Subject<'a> {
        Subject {
            context: &self.context,
            job: &assigned.job,
            alloc: &assigned.alloc,
            group: assigned.group(),
            task,
            dir: &self.dir,
            driver: &*self.driver,
        }
    }

    /// Notes that the task is told to stop, and why if there is a reason of its own.
    async fn killing(&mut self, event: Option<TaskEvent>) {
        if let Some(event) = event {
            self.push(event);
        }
        let timeout = self.kill_timeout();
        self.note(events::killing(timeout, self.context.now())).await;
    }

    async fn kill_unstarted(&mut self, event: Option<TaskEvent>) -> Step {
        self.killing(event).await;
        Step::Dead { failed: self.row.state.failed }
    }

    async fn finish(&mut self, failed: bool) {
        *self.live.id.lock() = None;
        self.row.handle = None;
        self.row.state.state = TaskRunState::Dead;
        self.row.state.failed |= failed;
        self.row.state.finished_at = self.context.now();
        self.publish().await;
    }

    /// Adds an event and tells everyone.
    async fn note(&mut self, event: TaskEvent) {
        self.push(event);
        self.publish().await;
    }

    fn push(&mut self, event: TaskEvent) {
        let fails = event.details.as_ref().is_some_and(|details| details.fails_task);
        self.row.state.failed |= fails;
        let mut kept = std::mem::take(&mut self.row.state.events).into_vec();
        if kept.len() == EVENTS_MAX {
            kept.remove(0);
        }
        kept.push(event);
        self.row.state.events = kept.into();
    }

    /// Tells the allocation how the task is, and writes it down meanwhile.
    async fn publish(&mut self) {
        let note = Note { at: self.at, state: self.row.state.clone() };
        let told = self.notes.send(note);
        let (told, written) = tokio::join!(told, self.context.journal.write(vec![self.entry()]));
        if told.is_err() || written.is_err() {
            // Either ends only with the agent; the runner notices at its next wait.
            tracing::debug!(task = %self.row.state.name, "agent is stopping; state of a task is not told");
        }
    }

    async fn remember(&self) -> Result<(), crate::journal::Closed> {
        self.context.journal.write(vec![self.entry()]).await
    }

    fn entry(&self) -> Entry {
        Entry::Task(self.assigned.load().alloc.id, self.row.clone())
    }
}

fn recover_text(error: &RecoverTaskError) -> String {
    format!("task could not be found again after a restart of the agent: {error}")
}

/// Makes the state of a task that has not been looked at yet.
pub fn fresh_state(name: &model::Text) -> TaskState {
    TaskState {
        name: name.clone(),
        state: TaskRunState::Pending,
        failed: false,
        restarts: 0,
        last_restart: Timestamp::ZERO,
        started_at: Timestamp::ZERO,
        finished_at: Timestamp::ZERO,
        events: Box::new([]),
    }
}

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

use driver::{ExitResult, Signal, TaskId, TaskState};
use parking_lot::Mutex;
use runtime::{Env, Instant};
use tokio::sync::{Notify, oneshot};

use crate::{
    options::{Command, Options},
    output::LogFiles,
};

/// Repeats of an output that are written when no time is to pass between them. More would be one long stall.
const INSTANT_REPEATS_MAX: u32 = 100_000;

/// Timers without a purpose that may lie in the heap before it is cleared of them.
const IDLE_TIMERS_MAX: usize = 1024;

/// Where pretended tasks live. Cheap to clone; all clones are the same world.
#[derive(Clone, Debug, Default)]
pub struct World {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Told when an earlier timer than all others was set.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    tasks: HashMap<TaskId, Virtual>,
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    due: HashMap<u64, (TaskId, Due)>,
    timers_made: u64,
}

/// One pretended task.
#[derive(Debug)]
struct Virtual {
    options: Arc<Options>,
    started_at: i64,
    ended: Option<(ExitResult, i64)>,
    waiters: Vec<oneshot::Sender<()>>,
    timers: Vec<u64>,
}

/// What happens when a timer fires.
#[derive(Debug)]
enum Due {
    End(ExitResult),
    Write { logs: LogFiles, stream: Stream, left: u32 },
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A piece of output that is to be written outside of the lock.
struct Output {
    logs: LogFiles,
    stream: Stream,
    options: Arc<Options>,
    times: u32,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// What is written, how often again, and the pause between.
    pub fn of(self, command: &Command) -> (&str, u32, Duration) {
        match self {
            Self::Stdout => (&command.stdout_string, command.stdout_repeat, command.stdout_repeat_duration),
            Self::Stderr => (&command.stderr_string, command.stderr_repeat, command.stderr_repeat_duration),
        }
    }
}

impl State {
    fn set_timer(&mut self, at: Instant, id: &TaskId, due: Due) {
        self.timers_made += 1;
        self.timers.push(Reverse((at, self.timers_made)));
        self.due.insert(self.timers_made, (id.clone(), due));
        if let Some(task) = self.tasks.get_mut(id) {
            task.timers.retain(|timer| self.due.contains_key(timer));
            task.timers.push(self.timers_made);
        }
    }

    /// Forgets timers of a task that will not need them. What stays in the heap is a number each, and is thrown out
    /// once most of the heap is such.
    fn drop_timers(&mut self, timers: &[u64]) {
        for timer in timers {
            self.due.remove(timer);
        }
        if self.timers.len() > 2 * self.due.len() + IDLE_TIMERS_MAX {
            self.timers.retain(|Reverse((_, timer))| self.due.contains_key(timer));
        }
    }

    fn end(&mut self, id: &TaskId, result: ExitResult, at: i64) {
        if let Some(task) = self.tasks.get_mut(id).filter(|task| task.ended.is_none()) {
            task.ended = Some((result, at));
            for waiter in task.waiters.drain(..) {
                // Who stopped waiting does not mind.
                let _ = waiter.send(());
            }
            let timers = std::mem::take(&mut task.timers);
            self.drop_timers(&timers);
        }
    }

    /// Does what is due, returns what is to be written, and when to come back.
    fn advance(&mut self, now: Instant, wall: i64) -> (Vec<Output>, Option<Instant>) {
        let mut outputs = Vec::new();
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                return (outputs, Some(at));
            }
            self.timers.pop();
            let Some((id, due)) = self.due.remove(&timer) else { continue };
            match due {
                Due::End(result) => self.end(&id, result, wall),
                Due::Write { logs, stream, left } => {
                    let Some(task) = self.tasks.get(&id).filter(|task| task.ended.is_none()) else {
                        continue;
                    };
                    let options = Arc::clone(&task.options);
                    let pause = stream.of(&options.command).2;
                    outputs.push(Output { logs: logs.clone(), stream, options, times: 1 });
                    if left > 1 {
                        self.set_timer(at + pause, &id, Due::Write { logs, stream, left: left - 1 });
                    }
                }
            }
        }
        (outputs, None)
    }
}

impl World {
    /// Lets time pass in this world, until the agent shuts down.
    pub(crate) async fn run(self, env: Env) {
        loop {
            let (outputs, next) = self.inner.state.lock().advance(env.now(), env.wall());
            write(&env, outputs).await;
            let timer = async {
                match next {
                    Some(at) => env.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = timer => {}
                () = self.inner.changed.notified() => {}
                () = env.shutdown().wait() => return,
            }
        }
    }

    /// Lets a task begin that has run for `age` already. False when it is there.
    pub(crate) fn begin(
        &self,
        env: &Env,
        id: &TaskId,
        options: Options,
        started_at: i64,
        age: Duration,
    ) -> bool {
        let mut state = self.inner.state.lock();
        if state.tasks.contains_key(id) {
            return false;
        }
        let (result, run_for) = (options.command.result(), options.command.run_for);
        let options = Arc::new(options);
        let task = Virtual { options, started_at, ended: None, waiters: Vec::new(), timers: Vec::new() };
        state.tasks.insert(id.clone(), task);
        match run_for.checked_sub(age).filter(|left| !left.is_zero()) {
            Some(left) => state.set_timer(env.now() + left, id, Due::End(result)),
            None => {
                let ran = i64::try_from(run_for.as_nanos()).unwrap_or(i64::MAX);
                state.end(id, result, started_at.saturating_add(ran));
            }
        }
        drop(state);
        self.inner.changed.notify_one();
        true
    }

    /// Writes a task's first output, and sets the timers for what is repeated.
    pub(crate) async fn speak(&self, env: &Env, id: &TaskId, logs: &LogFiles, command: &Command) {
        let mut outputs = Vec::new();
        {
            let mut state = self.inner.state.lock();
            let Some(options) = state.tasks.get(id).map(|task| Arc::clone(&task.options)) else { return };
            for stream in [Stream::Stdout, Stream::Stderr] {
                let (text, repeat, pause) = stream.of(command);
                if text.is_empty() {
                    continue;
                }
                let at_once = if pause.is_zero() { repeat.min(INSTANT_REPEATS_MAX) } else { 0 };
                let (logs, options) = (logs.clone(), Arc::clone(&options));
                if repeat > at_once {
                    let due = Due::Write { logs: logs.clone(), stream, left: repeat };
                    state.set_timer(env.now() + pause, id, due);
                }
                outputs.push(Output { logs, stream, options, times: at_once + 1 });
            }
        }
        write(env, outputs).await;
        self.inner.changed.notify_one();
    }

    /// Waits for a task's end. None when it is not there.
    pub(crate) async fn wait(&self, id: &TaskId) -> Option<ExitResult> {
        loop {
            let ended = {
                let mut state = self.inner.state.lock();
                let task = state.tasks.get_mut(id)?;
                if let Some((result, _)) = &task.ended {
                    return Some(result.clone());
                }
                // Those who gave up waiting are forgotten here, or they would gather on a task that never ends.
                task.waiters.retain(|waiter| !waiter.is_closed());
                let (tell, told) = oneshot::channel();
                task.waiters.push(tell);
                told
            };
            // An error means that the task was removed, which the next turn sees.
            let _ = ended.await;
        }
    }

    /// Asks a task to stop: it takes its `kill_after` and succeeds, or is killed when that is longer than `timeout`.
    pub(crate) fn ask_to_stop(&self, env: &Env, id: &TaskId, timeout: Duration) {
        let mut state = self.inner.state.lock();
        let Some(task) = state.tasks.get(id).filter(|task| task.ended.is_none()) else { return };
        let kill_after = task.options.kill_after;
        let (after, result) = if kill_after > timeout {
            (timeout, ExitResult::signaled(Signal::KILL.0.into()))
        } else {
            (kill_after, ExitResult::exited(0))
        };
        if after.is_zero() {
            state.end(id, result, env.wall());
        } else {
            state.set_timer(env.now() + after, id, Due::End(result));
            drop(state);
            self.inner.changed.notify_one();
        }
    }

    /// Ends a task at once.
    pub(crate) fn kill(&self, env: &Env, id: &TaskId) {
        self.inner.state.lock().end(id, ExitResult::signaled(Signal::KILL.0.into()), env.wall());
    }

    /// Removes a task.
    pub(crate) fn remove(&self, id: &TaskId) {
        let mut state = self.inner.state.lock();
        if let Some(task) = state.tasks.remove(id) {
            state.drop_timers(&task.timers);
        }
    }

    /// Looks at a task: its options, whether it runs, and since when.
    pub(crate) fn look(&self, id: &TaskId) -> Option<(Arc<Options>, TaskState, i64)> {
        let state = self.inner.state.lock();
        let task = state.tasks.get(id)?;
        let running = match &task.ended {
            None => TaskState::Running,
            Some((result, at)) => TaskState::Exited { result: result.clone(), at: *at },
        };
        Some((Arc::clone(&task.options), running, task.started_at))
    }

    /// Lets a task end by itself with exit code 1, at this wall time.
    pub fn fail(&self, id: &TaskId, at: i64) {
        self.inner.state.lock().end(id, ExitResult::exited(1), at);
    }

    /// Loses every task at once, as the end of a machine does. Nobody is told.
    pub fn lose_all(&self) {
        *self.inner.state.lock() = State::default();
    }

    /// Lists the tasks that run, whoever started them.
    pub fn running(&self) -> Vec<TaskId> {
        let state = self.inner.state.lock();
        let mut ids: Vec<TaskId> =
            state.tasks.iter().filter(|(_, task)| task.ended.is_none()).map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids
    }
}

async fn write(env: &Env, outputs: Vec<Output>) {
    if outputs.is_empty() {
        return;
    }
    let written = env.spawn_blocking(move || {
        for Output { logs, stream, options, times } in outputs {
            let text = stream.of(&options.command).0.as_bytes().repeat(times as usize);
            // A task does not fail because its log directory is gone; a pretended one neither.
            let _ = logs.append(stream.name(), &text);
        }
    });
    // Only a panic, and then nothing was written.
    let _ = written.await;
}

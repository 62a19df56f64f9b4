use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::task::{AbortHandle, JoinHandle};

thread_local! {
    /// Whose task runs on this thread at the moment.
    static CURRENT: RefCell<Option<Process>> = const { RefCell::new(None) };
}

/// Ended tasks that are remembered before they are cleared away.
const ENDED_TASKS_MAX: usize = 256;

/// The tasks of one simulated agent, which stand still, go on and end together as those of a real process do.
///
/// Cheap to clone; all clones are the same process.
#[derive(Clone, Default)]
pub struct Process {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    paused: bool,
    killed: bool,
    /// Tasks that had something to do while the process stood still.
    waiting: Vec<Waker>,
    tasks: Vec<AbortHandle>,
    /// How many tasks there were when the ended ones were last cleared away.
    tasks_before: usize,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Process")
            .field("paused", &state.paused)
            .field("killed", &state.killed)
            .finish_non_exhaustive()
    }
}

impl Process {
    /// Lets every task stand still, as SIGSTOP does. Time goes on without them.
    pub fn pause(&self) {
        self.lock().paused = true;
    }

    /// Lets every task go on.
    pub fn resume(&self) {
        let waiting = {
            let mut state = self.lock();
            state.paused = false;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Ends every task where it stands, as SIGKILL does: none of them takes another step.
    pub fn kill(&self) {
        let tasks = {
            let mut state = self.lock();
            state.killed = true;
            state.waiting.clear();
            std::mem::take(&mut state.tasks)
        };
        for task in tasks {
            task.abort();
        }
    }

    /// Tells whether it was killed.
    pub fn killed(&self) -> bool {
        self.lock().killed
    }

    /// Starts a task of this process.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        #[allow(clippy::disallowed_methods)]
        let handle = tokio::spawn(Gate { process: self.clone(), future: Box::pin(future) });
        let mut state = self.lock();
        if state.killed {
            handle.abort();
            return handle;
        }
        if state.tasks.len() > 2 * state.tasks_before + ENDED_TASKS_MAX {
            state.tasks.retain(|task| !task.is_finished());
            state.tasks_before = state.tasks.len();
        }
        state.tasks.push(handle.abort_handle());
        drop(state);
        handle
    }

    /// No code that holds this lock can panic, so a poisoned one still guards whole values.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a task that belongs to whoever runs: to the same simulated process as the task that calls this, or to nobody.
/// For libraries that start tasks without being handed an [`crate::Env`].
pub fn spawn_within<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match CURRENT.with_borrow(Clone::clone) {
        Some(process) => process.spawn(future),
        #[allow(clippy::disallowed_methods)]
        None => tokio::spawn(future),
    }
}

/// A task of a process: it takes no step while the process stands still.
struct Gate<F> {
    process: Process,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Gate<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.process.lock();
            if state.paused {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let _running = Running::enter(self.process.clone());
        self.future.as_mut().poll(cx)
    }
}

/// Says whose task runs, until it is dropped.
struct Running {
    before: Option<Process>,
}

impl Running {
    fn enter(process: Process) -> Self {
        Self { before: CURRENT.replace(Some(process)) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::{Env, Shutdown, Skew, WallClock};

    /// Starts a task that starts another one, which counts seconds.
    fn counting() -> (Process, Arc<AtomicU32>) {
        let (env, process) = Env::simulated(WallClock::simulated(0, Skew::default()), 1, Shutdown::new());
        let counted = Arc::new(AtomicU32::new(0));
        let count = counted.clone();
        env.clone().spawn("outer", async move {
            spawn_within(async move {
                loop {
                    env.sleep(Duration::from_secs(1)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        (process, counted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_process_takes_no_step_and_goes_on_later() {
        let (process, counted) = counting();
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        assert_eq!(counted.load(Ordering::Relaxed), 3);
        process.pause();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(counted.load(Ordering::Relaxed), 3);
        process.resume();
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        assert_eq!(counted.load(Ordering::Relaxed), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_killed_process_is_gone_with_the_tasks_that_its_tasks_started() {
        let (process, counted) = counting();
        tokio::time::sleep(Duration::from_millis(3_500)).await;
        process.kill();
        process.resume();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(counted.load(Ordering::Relaxed), 3);
        let late = process.spawn(async { 1 });
        assert!(late.await.is_err(), "nothing starts in a dead process");
    }
}

use std::{path::PathBuf, sync::Arc, time::Duration};

use bollard::{
    errors::Error as BollardError,
    models::{ContainerInspectResponse, ContainerState},
    query_parameters::{InspectContainerOptions, WaitContainerOptions},
};
use driver::{DriverNetwork, ExitResult, LogConfig, TaskId, TaskState};
use futures_util::StreamExt;
use runtime::{Backoff, Env, Shutdown};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::debug;

use crate::{
    engine::{ASK, Engine, EngineError},
    logs::Follower,
};

/// How long one wait for a container's end lasts before the engine is asked how it is doing: an answer that got lost
/// on the way is noticed after this long.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How soon an engine that does not answer is asked again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// How long the last output may take to be written after the end of a task.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// What finds a container again after the agent restarted. Written to disk; holds no secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub container: String,
    pub image: String,
    pub node_id: String,
    pub started_at: i64,
    pub tty: bool,
    pub network: Option<DriverNetwork>,
    /// Where the output goes; none when it stays with the engine.
    pub logs: Option<LogRecord>,
}

/// How the output is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogRecord {
    pub dir: PathBuf,
    pub max_files: u32,
    pub max_file_size_mb: u32,
}

/// A task that is known.
pub(crate) struct Task {
    pub id: TaskId,
    pub record: Record,
    state: watch::Sender<TaskState>,
}

/// What a watcher works with.
#[derive(Clone)]
pub(crate) struct Watcher {
    pub env: Env,
    pub engine: Engine,
    pub shutdown: Shutdown,
}

impl Task {
    pub fn state(&self) -> TaskState {
        self.state.borrow().clone()
    }

    pub fn has_ended(&self) -> bool {
        matches!(*self.state.borrow(), TaskState::Exited { .. })
    }

    /// Waits for the end. An agent that shuts down leaves its callers waiting.
    pub async fn wait(&self) -> ExitResult {
        let mut state = self.state.subscribe();
        loop {
            if let TaskState::Exited { result, .. } = &*state.borrow_and_update() {
                return result.clone();
            }
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Watcher {
    /// Takes charge of a container: follows its output and waits for its end.
    pub fn watch(&self, id: TaskId, record: Record) -> Arc<Task> {
        let (state, _) = watch::channel(TaskState::Running);
        let task = Arc::new(Task { id, record, state });
        let (this, watched) = (self.clone(), Arc::clone(&task));
        self.env.spawn("docker-task", async move { this.run(&watched).await });
        task
    }

    async fn run(&self, task: &Task) {
        let (tell_end, ended) = watch::channel(false);
        let following = task.record.logs.as_ref().map(|logs| {
            let follower = Follower {
                env: self.env.clone(),
                engine: self.engine.clone(),
                shutdown: self.shutdown.clone(),
                container: task.record.container.clone(),
                task: task.id.task().to_owned(),
                dir: logs.dir.clone(),
                config: LogConfig {
                    max_files: logs.max_files,
                    max_file_size_mb: logs.max_file_size_mb,
                    disabled: false,
                },
                tty: task.record.tty,
            };
            self.env.spawn("docker-logs", follower.run(ended))
        });
        let (result, at) = tokio::select! {
            biased;
            () = self.shutdown.wait() => return,
            end = self.end_of(&task.record.container) => end,
        };
        tell_end.send_replace(true);
        if let Some(following) = following
            && tokio::time::timeout(DRAIN_MAX, following).await.is_err()
        {
            debug!(task = %task.id, "the last output is late");
        }
        task.state.send_replace(TaskState::Exited { result, at: at.max(task.record.started_at) });
    }

    /// Waits for the end of a container, however often the engine goes away meanwhile.
    async fn end_of(&self, container: &str) -> (ExitResult, i64) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut rng = self.env.rng();
        let mut told = None;
        loop {
            if told.is_none() {
                told = self.told(container).await;
            }
            match self.inspect(container).await {
                Ok(seen) => {
                    let state = seen.state.unwrap_or_default();
                    if !state.running.unwrap_or(false) {
                        let at = state.finished_at.as_deref().and_then(nanoseconds);
                        return (exit_of(&state), at.unwrap_or_else(|| self.env.wall()));
                    }
                    // It runs after all: what was told belongs to an engine that has restarted it.
                    if told.take().is_none() {
                        backoff.reset();
                        continue;
                    }
                }
                Err(error) if error.is_missing() => return (gone(told), self.env.wall()),
                Err(error) => debug!(container, %error, "cannot ask how the container is doing"),
            }
            self.env.sleep(backoff.next_wait(&mut rng)).await;
        }
    }

    /// Waits until the engine tells a container's exit code; none when it did not.
    async fn told(&self, container: &str) -> Option<i64> {
        let client = self.engine.client().await.ok()?;
        let mut answers = Box::pin(client.wait_container(container, None::<WaitContainerOptions>));
        match tokio::time::timeout(WAIT_MAX, answers.next()).await {
            Ok(Some(Ok(answer))) => Some(answer.status_code),
            Ok(Some(Err(BollardError::DockerContainerWaitError { code, .. }))) => Some(code),
            Ok(Some(Err(error))) => {
                let error = self.engine.heard(error);
                debug!(container, %error, "the wait broke off");
                None
            }
            Ok(None) | Err(_) => None,
        }
    }

    /// Asks the engine about a container.
    pub async fn inspect(&self, container: &str) -> Result<ContainerInspectResponse, EngineError> {
        self.engine
            .call(ASK, |client| async move {
                client.inspect_container(container, None::<InspectContainerOptions>).await
            })
            .await
    }
}

/// Says how a container ended.
pub(crate) fn exit_of(state: &ContainerState) -> ExitResult {
    let code = state.exit_code.unwrap_or_default();
    let oom_killed = state.oom_killed.unwrap_or(false);
    let trouble = state.error.as_deref().filter(|text| !text.is_empty());
    let err = match (code, trouble) {
        (0, None) => None,
        (0, Some(trouble)) => Some(trouble.to_owned()),
        (_, _) if oom_killed => Some("OOM Killed".to_owned()),
        (code, None) => Some(format!("Docker container exited with non-zero exit code: {code}")),
        (code, Some(trouble)) => {
            Some(format!("Docker container exited with non-zero exit code: {code}: {trouble}"))
        }
    };
    ExitResult { exit_code: i32::try_from(code).unwrap_or(i32::MAX), signal: 0, oom_killed, err }
}

/// The end of a container that someone else removed.
fn gone(told: Option<i64>) -> ExitResult {
    let code = told.filter(|code| *code != 0).and_then(|code| i32::try_from(code).ok());
    let text = match code {
        Some(code) => format!("Docker container exited with non-zero exit code: {code}"),
        None => "the container was removed from outside; its exit code is unknown".to_owned(),
    };
    ExitResult { exit_code: code.unwrap_or(-1), err: Some(text), ..ExitResult::default() }
}

/// Reads a time as the engine writes it. Its zero, the year 1, is no time.
pub(crate) fn nanoseconds(text: &str) -> Option<i64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok().filter(|at| *at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_read_as_recorded() {
        let state = |code, oom| ContainerState {
            exit_code: Some(code),
            oom_killed: Some(oom),
            error: Some(String::new()),
            ..ContainerState::default()
        };
        assert_eq!(exit_of(&state(0, false)), ExitResult::exited(0));
        let killed = exit_of(&state(137, false));
        assert_eq!(killed.err.as_deref(), Some("Docker container exited with non-zero exit code: 137"));
        let oom = exit_of(&state(137, true));
        assert_eq!((oom.err.as_deref(), oom.oom_killed, oom.signal), (Some("OOM Killed"), true, 0));
        assert!(!gone(None).successful() && !gone(Some(0)).successful());
    }

    #[test]
    fn the_engines_times_are_read() {
        assert_eq!(nanoseconds("2026-11-22T14:46:49.356994232Z"), Some(1_795_358_809_356_994_232));
        assert_eq!(nanoseconds("0001-01-01T00:00:00Z"), None);
    }
}

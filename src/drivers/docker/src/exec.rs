use std::time::Duration;

use bollard::{
    container::LogOutput,
    exec::{CreateExecOptions, ResizeExecOptions, StartExecOptions, StartExecResults},
};
use driver::{
    ExecInput, ExecOutput, ExecRequest, ExecStreams, ExecTaskError, ExitResult, Signal, TaskId, TermSize,
    process::{self, ProcessId},
};
use futures_util::{Stream, StreamExt};
use runtime::{Backoff, Env};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::engine::{ASK, Engine, EngineError};

/// How soon the engine is asked again whether a command has ended, at first and at most.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// How often. The output of a command ends with the command, or when it has closed both; then it may run on.
const POLLS_MAX: u32 = 1000;
/// How often the processes of a command are looked for before they are killed.
const ROUNDS_MAX: u32 = 10;
/// How often the engine is asked for the process of a command that is to be killed: for about half a minute.
const STARTS_MAX: u32 = 60;
/// How often the size of a terminal is set until the engine knows the terminal.
const RESIZES_MAX: u32 = 20;

/// Runs commands beside tasks.
pub(crate) struct Exec<'a> {
    pub env: &'a Env,
    pub engine: &'a Engine,
}

impl Exec<'_> {
    pub async fn run(
        &self,
        id: &TaskId,
        container: &str,
        request: ExecRequest,
        streams: ExecStreams,
    ) -> Result<ExitResult, ExecTaskError> {
        if request.command.is_empty() {
            return Err(ExecTaskError::NoCommand);
        }
        let failed = |error: EngineError| {
            if error.is_missing() || error.is_conflict() {
                ExecTaskError::Ended(id.clone())
            } else {
                ExecTaskError::Start { message: format!("failed to start command: {error}") }
            }
        };
        let options = CreateExecOptions {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(request.tty),
            cmd: Some(request.command.clone()),
            ..CreateExecOptions::default()
        };
        let created =
            self.engine.call(ASK, |client| async move { client.create_exec(container, options).await });
        let exec = created.await.map_err(failed)?.id;
        // From here on, whoever stops waiting may leave a command that has to be killed.
        let mut abandoned =
            Abandoned { env: self.env, engine: self.engine, exec: Some(exec.clone()), container };
        let start = StartExecOptions { detach: false, tty: request.tty, output_capacity: None };
        let started = self.engine.call(ASK, |client| {
            let exec = exec.clone();
            async move { client.start_exec(&exec, Some(start)).await }
        });
        let attached = started.await.map_err(failed)?;
        let StartExecResults::Attached { output, input } = attached else {
            return Err(ExecTaskError::Start {
                message: "the engine did not attach to the command".to_owned(),
            });
        };
        if let Some(size) = request.size.filter(|_| request.tty) {
            self.resize(&exec, size).await;
        }
        let ExecStreams { input: asked, output: tell } = streams;
        let heard = async { hear(output, &tell).await };
        tokio::select! {
            biased;
            all_told = heard => {
                if !all_told {
                    // The listener is gone; dropping `abandoned` kills the command.
                    return Ok(ExitResult::signaled(i32::from(Signal::KILL.0)));
                }
            }
            never = self.feed(&exec, request.tty, input, asked) => match never {},
        }
        let result = self.exit_of(&exec).await;
        abandoned.exec = None;
        result.map_err(failed)
    }

    /// Passes on what the user sends. Never returns: the end of the input is not the end of the command.
    async fn feed(
        &self,
        exec: &str,
        tty: bool,
        mut input: impl AsyncWrite + Unpin,
        mut asked: tokio::sync::mpsc::Receiver<ExecInput>,
    ) -> std::convert::Infallible {
        while let Some(item) = asked.recv().await {
            match item {
                ExecInput::Stdin(bytes) => {
                    if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                        break;
                    }
                }
                ExecInput::CloseStdin => break,
                ExecInput::Resize(size) if tty => self.resize(exec, size).await,
                ExecInput::Resize(_) => {}
            }
        }
        // A command that no longer reads does not mind.
        let _ = input.shutdown().await;
        while let Some(item) = asked.recv().await {
            if let ExecInput::Resize(size) = item
                && tty
            {
                self.resize(exec, size).await;
            }
        }
        std::future::pending().await
    }

    async fn resize(&self, exec: &str, size: TermSize) {
        let mut backoff = Backoff::new(POLL.0, POLL.1);
        let mut rng = self.env.rng();
        for _ in 0..RESIZES_MAX {
            let options = ResizeExecOptions { height: size.height, width: size.width };
            let resized =
                self.engine.call(ASK, |client| async move { client.resize_exec(exec, options).await });
            match resized.await {
                // A terminal that is not there yet is refused.
                Err(EngineError::Refused { .. }) => self.env.sleep(backoff.next_wait(&mut rng)).await,
                Ok(()) | Err(_) => return,
            }
        }
    }

    async fn exit_of(&self, exec: &str) -> Result<ExitResult, EngineError> {
        let mut backoff = Backoff::new(POLL.0, POLL.1);
        let mut rng = self.env.rng();
        for _ in 0..POLLS_MAX {
            let seen = self.engine.call(ASK, |client| async move { client.inspect_exec(exec).await }).await?;
            if !seen.running.unwrap_or(false) {
                let code = seen.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
                return Ok(ExitResult::exited(code));
            }
            self.env.sleep(backoff.next_wait(&mut rng)).await;
        }
        Err(EngineError::Unreadable("the command ended and still runs".to_owned()))
    }
}

/// Passes on what a command says; false when nobody listens any more.
async fn hear(
    mut output: impl Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    tell: &tokio::sync::mpsc::Sender<ExecOutput>,
) -> bool {
    loop {
        let item = tokio::select! {
            biased;
            () = tell.closed() => return false,
            item = output.next() => item,
        };
        // A conversation that breaks off ends like one that is over: the engine then tells how the command did.
        let Some(Ok(said)) = item else { return true };
        let said = match said {
            LogOutput::StdErr { message } => ExecOutput::Stderr(message),
            LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                ExecOutput::Stdout(message)
            }
        };
        if tell.send(said).await.is_err() {
            return false;
        }
    }
}

/// Kills a command when it is dropped before the command's end is known. The engine has no request for that; where it
/// runs on this machine, the processes can be reached directly.
struct Abandoned<'a> {
    env: &'a Env,
    engine: &'a Engine,
    exec: Option<String>,
    container: &'a str,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        // Without a runtime the agent is on its way out, and the command ends with its container.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let Some(exec) = self.exec.take() else { return };
        let (engine, container, env) = (self.engine.clone(), self.container.to_owned(), self.env.clone());
        self.env.spawn("docker-exec-kill", async move {
            if let Some(pid) = pid_of(&env, &engine, &exec).await {
                // It is gone already, or not ours to kill.
                let _ = env.spawn_blocking(move || kill_tree(pid, &container)).await;
            }
        });
    }
}

/// Finds the process of a command that was asked for. None when it has ended, or did not begin in time. The engine
/// knows the process only after the command has begun to run: on a busy machine, a good while after.
async fn pid_of(env: &Env, engine: &Engine, exec: &str) -> Option<u32> {
    let mut backoff = Backoff::new(POLL.0, POLL.1);
    let mut rng = env.rng();
    for _ in 0..STARTS_MAX {
        let seen = engine.call(ASK, |client| async move { client.inspect_exec(exec).await }).await.ok()?;
        if seen.exit_code.is_some() && !seen.running.unwrap_or(false) {
            return None;
        }
        if let Some(pid) = seen.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 1) {
            return Some(pid);
        }
        env.sleep(backoff.next_wait(&mut rng)).await;
    }
    None
}

/// Kills a process and what it started, as far as their control groups say that they belong to the container. The
/// engine may be on another machine, where the numbers mean something else.
fn kill_tree(pid: u32, container: &str) {
    let belongs = |pid: u32| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(container))
    };
    let mut found: Vec<ProcessId> = Vec::new();
    // All are stopped before any is killed, so that no shell goes on with its next command; what was started meanwhile
    // is found by looking again.
    for _ in 0..ROUNDS_MAX {
        let new: Vec<ProcessId> = [pid]
            .into_iter()
            .chain(process::tree(pid))
            .filter(|pid| !found.iter().any(|known| known.pid == *pid))
            .filter_map(|pid| ProcessId::of(pid).ok().filter(|found| belongs(found.pid)))
            .collect();
        if new.is_empty() {
            break;
        }
        for process in new {
            if !found.iter().any(|known| known.pid == process.pid) {
                // An error says that it ended by itself.
                let _ = process.signal(rustix::process::Signal::STOP);
                found.push(process);
            }
        }
    }
    for process in &found {
        // It ended by itself.
        let _ = process.signal(rustix::process::Signal::KILL);
    }
}

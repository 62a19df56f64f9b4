use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Case, CaseResult, Fault, Script, Stage, cases::was_killed, ensure};
use crate::{
    ExecInput, ExecOutput, ExecRequest, ExecStreams, ExecTaskError, ExitResult, TaskConfig, TaskId, TermSize,
};

pub(super) const CASES: &[(&str, Case)] = &[
    ("a_command_beside_a_task_is_heard", |s| Box::pin(a_command_beside_a_task_is_heard(s))),
    ("a_command_reads_its_input", |s| Box::pin(a_command_reads_its_input(s))),
    ("a_command_sees_the_tasks_environment", |s| Box::pin(a_command_sees_the_tasks_environment(s))),
    ("a_terminal_has_a_size_that_changes", |s| Box::pin(a_terminal_has_a_size_that_changes(s))),
    ("an_abandoned_command_is_killed", |s| Box::pin(an_abandoned_command_is_killed(s))),
    ("a_command_that_cannot_run_says_so", |s| Box::pin(a_command_that_cannot_run_says_so(s))),
];

/// Messages that may wait in either direction.
const CHANNEL_MAX: usize = 64;

/// What came of a command.
struct Ran {
    result: ExitResult,
    stdout: String,
    stderr: String,
}

impl Stage<'_> {
    fn shell(&self, line: &str) -> Result<Vec<String>, Fault> {
        match self.bench.shell {
            Some(shell) if self.capabilities().exec => Ok(shell(line)),
            _ => Err(Fault::Skip("this driver has no exec".to_owned())),
        }
    }

    /// Runs a shell line beside a task, with all its input at hand.
    async fn ran(&self, id: &TaskId, line: &str, tty: bool, input: Vec<ExecInput>) -> Result<Ran, Fault> {
        let request = ExecRequest {
            command: self.shell(line)?,
            tty,
            size: tty.then_some(TermSize { height: 24, width: 80 }),
        };
        let (send, receive) = mpsc::channel(CHANNEL_MAX);
        let (output, mut outputs) = mpsc::channel(CHANNEL_MAX);
        for item in input {
            send.send(item).await?;
        }
        let running = self.driver.exec(id, request, ExecStreams { input: receive, output });
        let hearing = async {
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(heard) = outputs.recv().await {
                match heard {
                    ExecOutput::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                    ExecOutput::Stderr(bytes) => stderr.extend_from_slice(&bytes),
                }
            }
            (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned())
        };
        let (result, (stdout, stderr)) = tokio::join!(running, hearing);
        drop(send);
        Ok(Ran { result: result?, stdout, stderr })
    }

    async fn running(&self) -> Result<TaskConfig, Fault> {
        // Whether there is exec at all is known before anything is started.
        self.shell("true")?;
        Ok(self.started(Script::Forever).await?.0)
    }
}

async fn a_command_beside_a_task_is_heard(stage: &Stage<'_>) -> CaseResult {
    let task = stage.running().await?;
    let ran = stage.ran(&task.id, "echo out; echo err >&2; exit 4", false, Vec::new()).await?;
    ensure!(ran.result.exit_code == 4, "{:?}", ran.result);
    ensure!(ran.stdout == "out\n" && ran.stderr == "err\n", "{:?} and {:?}", ran.stdout, ran.stderr);
    let ran = stage.ran(&task.id, "kill -9 $$", false, Vec::new()).await?;
    ensure!(was_killed(&ran.result), "{:?}", ran.result);
    stage.gone(&task.id).await?;
    let request = ExecRequest { command: stage.shell("true")?, tty: false, size: None };
    let (_send, input) = mpsc::channel(1);
    let (output, _outputs) = mpsc::channel(1);
    let late = stage.driver.exec(&task.id, request, ExecStreams { input, output }).await;
    ensure!(matches!(late, Err(ExecTaskError::Unknown(_))), "{late:?}");
    Ok(())
}

async fn a_command_reads_its_input(stage: &Stage<'_>) -> CaseResult {
    let task = stage.running().await?;
    let long = "0123456789abcdef".repeat(20_000);
    let mut input = vec![ExecInput::Stdin(Bytes::from(long.clone()))];
    input.extend([ExecInput::Stdin(Bytes::from_static(b"end")), ExecInput::CloseStdin]);
    let ran = stage.ran(&task.id, "cat", false, input).await?;
    ensure!(ran.result.successful(), "{:?}", ran.result);
    ensure!(ran.stdout.len() == long.len() + 3, "{} bytes came back", ran.stdout.len());
    ensure!(ran.stdout.ends_with("abcdefend"), "they came back in another order");
    stage.gone(&task.id).await
}

async fn a_command_sees_the_tasks_environment(stage: &Stage<'_>) -> CaseResult {
    let task = stage.running().await?;
    let ran = stage.ran(&task.id, "echo \"$CONFORMANCE\"", false, vec![ExecInput::CloseStdin]).await?;
    ensure!(ran.stdout == "a value with spaces\n", "{:?} {:?}", ran.stdout, ran.stderr);
    stage.gone(&task.id).await
}

async fn a_terminal_has_a_size_that_changes(stage: &Stage<'_>) -> CaseResult {
    let task = stage.running().await?;
    let resize = ExecInput::Resize(TermSize { height: 40, width: 100 });
    let line = "test -t 0 && test -t 1 && echo terminal; stty size; read x; stty size";
    let input = vec![resize, ExecInput::Stdin(Bytes::from_static(b"go\n"))];
    let ran = stage.ran(&task.id, line, true, input).await?;
    ensure!(ran.stdout.contains("terminal"), "{:?}", ran.stdout);
    ensure!(ran.stdout.contains("40 100"), "the size is not that of the resize: {:?}", ran.stdout);
    ensure!(ran.stderr.is_empty(), "a terminal has one output: {:?}", ran.stderr);
    stage.gone(&task.id).await
}

async fn an_abandoned_command_is_killed(stage: &Stage<'_>) -> CaseResult {
    let task = stage.running().await?;
    let marker = task.dirs.alloc_shared.join("marker");
    let line = format!("sleep 1; echo alive > {}", marker.display());
    let abandoned =
        tokio::time::timeout(Duration::from_millis(300), stage.ran(&task.id, &line, false, Vec::new()));
    ensure!(abandoned.await.is_err(), "it ended by itself");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    ensure!(!marker.exists(), "it went on");
    stage.gone(&task.id).await
}

async fn a_command_that_cannot_run_says_so(stage: &Stage<'_>) -> CaseResult {
    let task = stage.running().await?;
    let ask = async |command: Vec<String>| {
        let (_send, input) = mpsc::channel(1);
        let (output, _outputs) = mpsc::channel(1);
        let request = ExecRequest { command, tty: false, size: None };
        stage.driver.exec(&task.id, request, ExecStreams { input, output }).await
    };
    let missing = ask(vec!["/no/such/program".to_owned()]).await;
    // Container engines report it as exit code 126 or 127, as shells do.
    let told = match &missing {
        Err(ExecTaskError::Start { .. }) => true,
        Ok(result) => matches!(result.exit_code, 126 | 127),
        Err(_) => false,
    };
    ensure!(told, "{missing:?}");
    let nothing = ask(Vec::new()).await;
    ensure!(matches!(nothing, Err(ExecTaskError::NoCommand)), "{nothing:?}");
    stage.gone(&task.id).await
}

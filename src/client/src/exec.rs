//! Commands that a user runs beside a task.

use model::AllocId;
use tokio::sync::mpsc;

pub use driver::{ExecInput, ExecOutput, TermSize};

use crate::Client;

/// Messages waiting either way; beyond it the command or the user waits.
const MESSAGES_MAX: usize = 32;

/// A command that was started.
#[derive(Debug)]
pub struct Exec {
    /// Where input goes.
    pub input: mpsc::Sender<ExecInput>,
    /// Where output comes from. Dropping it kills the command.
    pub output: mpsc::Receiver<ExecOutput>,
    /// How the command ended, once it did and all its output was passed on.
    pub result: tokio::sync::oneshot::Receiver<Result<i32, ExecError>>,
}

/// Why a command was not run to its end. The texts are those that programs match on.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExecError {
    /// This client does not have the allocation.
    #[error("Unknown allocation \"{id}\"")]
    NoSuchAlloc {
        /// What was named.
        id: AllocId,
    },
    /// The allocation has no such task.
    #[error("task not found")]
    NoSuchTask,
    /// It does not run.
    #[error("task \"{task}\" is not running.")]
    NotRunning {
        /// What was named.
        task: String,
    },
    /// The driver could not.
    #[error("rpc error: code = Unknown desc = {0}")]
    Driver(String),
}

impl Client {
    /// Runs a command beside a task: same user, same directory, same bounds.
    ///
    /// # Errors
    ///
    /// When there is no such allocation or task, or it does not run. What goes wrong later is in the result.
    pub fn exec(&self, id: AllocId, task: &str, command: Vec<String>, tty: bool) -> Result<Exec, ExecError> {
        let view = self.alloc(id).ok_or(ExecError::NoSuchAlloc { id })?;
        if !view.assigned.load().group().tasks.iter().any(|candidate| candidate.name == task) {
            return Err(ExecError::NoSuchTask);
        }
        let not_running = || ExecError::NotRunning { task: task.to_owned() };
        let (driver, launch) = self.running_task(id, task).ok_or_else(not_running)?;
        let (input, from_user) = mpsc::channel(MESSAGES_MAX);
        let (to_user, output) = mpsc::channel(MESSAGES_MAX);
        let (done, result) = tokio::sync::oneshot::channel();
        let request = driver::ExecRequest { command, tty, size: None };
        let streams = driver::ExecStreams { input: from_user, output: to_user };
        self.env().spawn("exec", async move {
            let ended = driver.exec(&launch, request, streams).await;
            let ended =
                ended.map(|ended| ended.exit_code).map_err(|error| ExecError::Driver(text_of(&error)));
            // Whoever asked may have gone.
            let _ = done.send(ended);
        });
        Ok(Exec { input, output, result })
    }
}

/// Writes an error with all its causes.
fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

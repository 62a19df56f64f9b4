use std::{io, path::PathBuf, time::Duration};

/// Why a task was not launched. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The launch's records could not be written.
    #[error("could not prepare {}", dir.display())]
    Prepare {
        /// The launch's directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The shim could not be started or spoken to.
    #[error("could not start the task's shim")]
    Spawn(#[source] io::Error),
    /// The shim tried and failed.
    #[error("could not launch the task: {step}: {}", errno_text(*errno))]
    Step {
        /// What failed: `exec` and `directory` are the job's doing, others the machine's.
        step: String,
        /// The system's error number.
        errno: i32,
    },
    /// The shim ended without a word.
    #[error("the task's shim ended without an answer; does main call driver::shim::main first?")]
    NoAnswer,
    /// It took too long.
    #[error("the task was not launched within {0:?}")]
    Timeout(Duration),
}

/// Why a task could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The machine was started again since.
    #[error("the machine was rebooted since the task was started")]
    Rebooted,
    /// The shim runs and does not answer.
    #[error("the task's shim (process {pid}) runs and does not answer")]
    Silent {
        /// The shim's process.
        pid: u32,
    },
    /// An earlier agent was starting it when it ended, and its shim has not come to the task's process yet.
    #[error("the task's shim (process {pid}) is still starting it")]
    Starting {
        /// The shim's process.
        pid: u32,
    },
    /// The shim is gone and left no exit.
    #[error("the task's shim is gone and left no exit in {}", dir.display())]
    Gone {
        /// The launch's directory.
        dir: PathBuf,
    },
}

/// Why a shim did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The task has ended.
    #[error("the task has ended")]
    Ended,
    /// The system refused.
    #[error("{}", errno_text(*.0))]
    Refused(i32),
    /// The shim could not be spoken to.
    #[error("could not reach the task's shim")]
    Reach(#[source] io::Error),
    /// It still runs.
    #[error("it still runs after being killed")]
    Undead,
}

/// Says an error number as users of other tools know it: the system's words in lower case.
pub fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

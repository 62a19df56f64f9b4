use std::io;

use crate::{TaskId, schema::ConfigErrors};

/// Why a task was not started. Nothing of it runs.
#[derive(Debug, thiserror::Error)]
pub enum StartTaskError {
    /// The `config` block is wrong.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The launch is already known; the caller must not start it twice.
    #[error("task {0} is already started")]
    Duplicate(TaskId),
    /// The agent's configuration forbids it.
    #[error("{message}")]
    Refused {
        /// What is forbidden and by which setting.
        message: String,
    },
    /// It was tried and failed.
    #[error("{message}")]
    Failed {
        /// What failed, for the user.
        message: String,
        /// Whether trying again on this node may help.
        recoverable: bool,
    },
}

impl StartTaskError {
    /// Makes a failure that is worth another try on this node.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), recoverable: true }
    }

    /// Makes a failure that another try will not change.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), recoverable: false }
    }

    /// Tells whether trying again on this node may help.
    pub fn recoverable(&self) -> bool {
        match self {
            Self::Failed { recoverable, .. } => *recoverable,
            Self::Config(_) | Self::Duplicate(_) | Self::Refused { .. } => false,
        }
    }
}

/// Why a task could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum RecoverTaskError {
    /// The handle is another driver's, or of a version that this one does not know.
    #[error("handle of task {id} does not fit: {reason}")]
    Handle {
        /// The task.
        id: TaskId,
        /// What does not fit.
        reason: String,
    },
    /// The task is gone and nobody knows how it ended.
    #[error("task {id} is lost: {reason}")]
    Lost {
        /// The task.
        id: TaskId,
        /// What was looked for.
        reason: String,
    },
    /// It may be there, but could not be reached; worth another try.
    #[error("could not reach task {id}")]
    Reach {
        /// The task.
        id: TaskId,
        /// Why.
        source: io::Error,
    },
}

/// Why a wait has no answer.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// Never started here, or destroyed.
    #[error("task {0} is unknown")]
    Unknown(TaskId),
}

/// Why a task may still run after a stop.
#[derive(Debug, thiserror::Error)]
pub enum StopTaskError {
    /// Never started here, or destroyed.
    #[error("task {0} is unknown")]
    Unknown(TaskId),
    /// It was told to, and is still there.
    #[error("could not stop task {id}: {reason}")]
    Stop {
        /// The task.
        id: TaskId,
        /// What was tried.
        reason: String,
    },
}

/// Why something of a task may be left.
#[derive(Debug, thiserror::Error)]
pub enum DestroyTaskError {
    /// It runs; stop it first or force.
    #[error("task {0} still runs")]
    Running(TaskId),
    /// Something could not be removed.
    #[error("could not remove {what}: {reason}")]
    Remove {
        /// What is left.
        what: String,
        /// Why.
        reason: String,
    },
}

/// Why there are no measurements.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// Never started here, or destroyed.
    #[error("task {0} is unknown")]
    Unknown(TaskId),
    /// It has ended.
    #[error("task {0} has ended")]
    Ended(TaskId),
    /// The system would not say.
    #[error("could not measure task {id}: {reason}")]
    Measure {
        /// The task.
        id: TaskId,
        /// Why.
        reason: String,
    },
}

/// Why a signal was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalTaskError {
    /// Never started here, or destroyed.
    #[error("task {0} is unknown")]
    Unknown(TaskId),
    /// It has ended.
    #[error("task {0} is not running")]
    Ended(TaskId),
    /// This driver cannot.
    #[error("driver {driver} does not support signals")]
    Unsupported {
        /// The driver.
        driver: &'static str,
    },
    /// It was tried.
    #[error("{message}")]
    Send {
        /// What failed, for the user.
        message: String,
    },
}

/// Why a command was not run beside a task.
#[derive(Debug, thiserror::Error)]
pub enum ExecTaskError {
    /// Never started here, or destroyed.
    #[error("task {0} is unknown")]
    Unknown(TaskId),
    /// It has ended.
    #[error("task {0} is not running")]
    Ended(TaskId),
    /// This driver cannot.
    #[error("driver {driver} does not support exec")]
    Unsupported {
        /// The driver.
        driver: &'static str,
    },
    /// No command was given.
    #[error("command is required but not present")]
    NoCommand,
    /// It was tried.
    #[error("{message}")]
    Start {
        /// What failed, for the user.
        message: String,
    },
}

/// Why the census is incomplete.
#[derive(Debug, thiserror::Error)]
pub enum CensusError {
    /// A place could not be searched.
    #[error("could not search {place}: {reason}")]
    Search {
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
}

/// Why a network was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// This driver leaves networks to the client.
    #[error("driver {driver} does not create networks")]
    Unsupported {
        /// The driver.
        driver: &'static str,
    },
    /// It was tried.
    #[error("{message}")]
    Failed {
        /// What failed.
        message: String,
        /// Whether trying again may help.
        recoverable: bool,
    },
}

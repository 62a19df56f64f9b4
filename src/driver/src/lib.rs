//! The task driver trait, its conformance suite, and the per-task shim.
//!
//! A driver turns a [`TaskConfig`] into something that runs on this machine and answers for it until it is
//! destroyed. Everything outside this crate and `drivers/*` speaks to a driver only through [`Driver`]. The crate
//! also holds what drivers of plain processes share: the [`shim`] that owns a process and outlives the agent, the
//! [`cgroup`] that bounds it, and the [`schema`] that checks a task's free-form configuration.
//!
//! It never decides what runs, where, or how often it is restarted: that is the scheduler's and the client's. It
//! never forks the agent: whatever must happen between fork and exec happens in a small process of its own.
//!
//! Read [`Driver`] first, then [`TaskConfig`].

mod census;
pub mod cgroup;
pub mod conformance;
mod context;
mod driver;
mod error;
mod events;
mod exec;
mod fingerprint;
mod id;
pub mod process;
pub mod schema;
pub mod shim;
mod signals;
mod stats;
pub mod supervisor;
mod task;

pub use census::{Found, FoundKind};
pub use context::DriverContext;
pub use driver::{Driver, Started, TaskHandle, TaskState, TaskStatus};
pub use error::{
    CensusError, DestroyTaskError, ExecTaskError, NetworkError, RecoverTaskError, SignalTaskError,
    StartTaskError, StatsError, StopTaskError, WaitError,
};
pub use events::{EventReceiver, EventSender, TaskEvent};
pub use exec::{ExecInput, ExecOutput, ExecRequest, ExecStreams, TermSize};
pub use fingerprint::{Capabilities, Fingerprint, FsIsolation, NetworkMode};
pub use futures_util::future::BoxFuture;
pub use id::TaskId;
pub use signals::{Signal, UnknownSignal};
pub use stats::{CpuStats, MemoryStats, PidStats, TaskStats};
pub use task::{
    CpuResources, Device, DnsConfig, DriverNetwork, ExitResult, LogConfig, MemoryResources, Mount,
    NetworkIsolation, NetworkRequest, Port, Propagation, Resources, TaskConfig, TaskDirs, TaskEnv,
};

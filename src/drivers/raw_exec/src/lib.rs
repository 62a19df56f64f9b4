//! Tasks as plain processes.
//!
//! The `raw_exec` driver runs a command of the host as it is: no file system or user of its own, only control groups
//! where the machine has them. It is off unless the agent's configuration turns it on. Each task is owned by a
//! [shim](driver::shim), so that a restart of the agent never touches it and its exit is never lost.
//!
//! It never restarts a task, and never touches a process that it did not start.
//!
//! Read [`RawExec`] first.

mod config;
mod lookup;
mod raw_exec;
mod text;
mod user;

pub use config::{Config, IdRanges};
pub use raw_exec::RawExec;

//! What must hold while a cluster is broken on purpose.
//!
//! The simulation and the program that breaks real processes look at their cluster, write down what they see as an
//! [`Observation`], and hand it to every [`Property`]. What users did is a [`History`], which [`check_history`] holds
//! against a model of a register of jobs. This crate looks at nothing itself: it opens no socket, reads no clock and
//! starts no task, so that a finding depends on nothing but what was observed.
//!
//! Read [`Observation`] first, then [`Property`]. Each property has a file of its own under `properties/`, named by what
//! it claims, with tests that hand it a broken cluster.

#[cfg(test)]
mod fixture;
mod handover;
mod history;
mod last_shown;
mod linear;
mod observation;
mod properties;
mod property;
mod rows;

pub use history::{Action, History, JobSeen, Operation, Outcome, Reply, StaleRead};
pub use linear::{HistoryError, STEPS_MAX, check_history};
pub use observation::{
    AgentView, LeftOver, LogPoint, MemberTable, Moment, NodeView, Observation, Phase, ProcessHealth,
    QueueDepth, RaftView, Role, RunningTask, ServerView, StateHash, Trial, Vote, WatchSeen, Watched,
};
pub use properties::{all, strict};
pub use property::{Checker, Property, Violation};
pub use rows::{AllocRow, EvalRow, GroupRow, Holding, JobRow, NodeRow, OwnedPort, Rows, Story};

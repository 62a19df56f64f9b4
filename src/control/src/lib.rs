//! The leader's pure state machines: `step(now, input)` to outputs.
//!
//! Each machine decides one thing: [`broker`] which evaluation is looked at next, [`blocked`] which of those that wait
//! for room may try again, [`liveness`] which nodes are there, [`deployments`] how roll-outs go on, [`drain`] what leaves
//! a draining node, [`periodic`] what the clock launches, [`collection`] which records are old. They read a
//! [`state::Snapshot`] and what changed, and return commands to propose or facts to act on. None of them keeps anything
//! that the state does not hold too: a leader that takes over builds them anew. This crate reads no clock, draws no
//! number, sends nothing and proposes nothing.
//!
//! Read [`Moment`] first, then [`broker::Broker`].

pub mod autopilot;
pub mod blocked;
pub mod broker;
pub mod collection;
pub mod cron;
pub mod deployments;
pub mod drain;
mod evals;
pub mod liveness;
mod moment;
pub mod periodic;
pub mod reporters;
mod reschedule;

pub use evals::{for_job, for_node};
pub use moment::Moment;
pub use reschedule::may_be_replaced;

#[cfg(test)]
mod fixture;

//! Jobs, nodes, allocations, evaluations, deployments: plain data and ids.
//!
//! The words of the whole product live here. This crate decides nothing, knows no clock, no network and no disk, and
//! depends on nothing of ours. What a user writes in a job is kept twice over: [`JobSpec::document`] is the complete
//! job in the API's JSON form, the typed fields beside it are what scheduling and running read.
//!
//! Read [`Job`] first, then [`Allocation`].

mod alloc;
mod cluster;
mod deployment;
mod eval;
mod event;
mod group;
mod id;
mod job;
mod join;
mod metric;
mod named;
mod node;
mod resources;
mod root_key;
mod spec;
mod task;
mod time;

pub use alloc::*;
pub use cluster::*;
pub use deployment::*;
pub use eval::*;
pub use event::*;
pub use group::*;
pub use id::*;
pub use job::*;
pub use join::*;
pub use metric::*;
pub use node::*;
pub use resources::*;
pub use root_key::*;
pub use spec::*;
pub use task::*;
pub use time::{Timestamp, duration_text};

/// A short immutable string, cheap to clone; up to 23 bytes without an allocation.
pub type Text = smol_str::SmolStr;

//! The JSON shapes that users see: Nomad's names, Nomad's order, Nomad's rules for what is absent, `null` or empty.
//!
//! Servers make these from `model` (`Node::of`, `Evaluation::of`, ...); `sdk` and `cli` read them back through
//! [`from_slice`], which takes keys in any case and `null` for anything, as Nomad does. Lists that may be long are not
//! built at all: [`write_alloc_stub`] writes an allocation's line straight from its row. This crate never decides what a
//! request does and never talks to anyone.
//!
//! Read [`shape`](mod@shape) first, then [`Allocation`].

// Fields bear the names of the API, and the API's documentation explains them; types say here what they are.
#![allow(missing_docs)]

#[macro_use]
mod shape;

mod agent;
mod alloc;
mod alloc_writer;
mod archive;
mod cluster;
mod deployment;
mod eval;
mod event;
mod files;
mod job;
mod job_requests;
mod joining;
mod loose;
mod metric;
mod node;
mod operator;
mod resources;
mod search;
mod stats;
mod task;
mod time;

pub use agent::*;
pub use alloc::*;
pub use alloc_writer::{StubFields, write_alloc_stub};
pub use archive::{
    ARCHIVE_VERSION, ArchiveError, Measure, SnapshotMeta, SnapshotTable, StateFacts, read_archive,
    write_archive, write_bundle,
};
pub use cluster::*;
pub use deployment::*;
pub use eval::*;
pub use event::*;
pub use files::*;
pub use job::*;
pub use job_requests::*;
pub use joining::*;
pub use loose::{BodyError, from_slice, from_value};
pub use metric::*;
pub use node::*;
pub use operator::*;
pub use resources::*;
pub use search::*;
pub use stats::*;
pub use task::*;
pub use time::{ParseTimeError, Time};

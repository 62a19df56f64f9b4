//! The in-memory versioned store of a region.
//!
//! [`Store::apply`] is the only writer: it takes one replicated command and changes the state wholly or not at all, in
//! the same way on every server. Readers take a [`Snapshot`], in constant time, and never wait for the writer. The
//! store reads no clock, draws no number, does no input or output and wakes nobody: what a command touched comes back
//! as [`Changes`], and whoever applied it tells the others.
//!
//! Read [`State`] first: everything that can be asked. Then [`Store`].

mod allocs;
mod apply;
mod chain;
mod changes;
mod fits;
mod image;
mod jobs;
mod ordered;
mod prefix;
mod snapshot;
mod store;
mod table;

pub use allocs::AllocTable;
pub use chain::{Chain, Hash};
pub use changes::{Applied, ChangedRow, Changes, EventKind, Outcome, PlanRejection, Refusal};
pub use fits::{Misfit, PortKey, UsedPorts, available, fits, parse_ports};
pub use image::{Capture, RestoreError, TableSize};
pub use jobs::{JobCounts, JobEntry, JobTable};
pub use ordered::{Ordered, OrderedRow};
pub use prefix::{BadPrefix, IdPrefix};
pub use snapshot::Snapshot;
pub use store::Store;
pub use table::{State, Table};

//! Messages between agents and replicated commands, each with a version.
//!
//! [`Command`] is everything that can change the state of a region; [`session`] is what a client and a server say to
//! each other over their one long-lived connection. Both are encoded by [`encode`] and read by [`decode`], which know
//! the version. This crate sends nothing and applies nothing.
//!
//! Read [`Command`] first. Variants and fields of encoded types are appended, never renumbered or removed; what changes
//! shape often is wrapped in [`Named`], which writes field names and so stands new fields.

mod command;
mod envelope;
mod packed;
mod plan;
pub mod session;

pub use command::*;
pub use envelope::{DecodeError, Named, NamedRecord, decode, encode};
pub use plan::*;

//! Job text and job JSON to a job: what a user wrote, made whole, checked, and compared with what runs.
//!
//! A job is a JSON value in the API's shape here; `model::Job` is read from what [`admit`] leaves. This crate never talks to
//! a server, a disk or a clock. Read [`schema`] first: the one table of everything that a job may say.

mod admit;
mod canonical;
mod cron;
mod decode;
pub mod diff;
pub mod duration;
mod object;
pub mod reference;
pub mod schema;
mod shape;
mod validate;

pub use admit::{ServerDefaults, admit};
pub use canonical::canonicalise;
pub use decode::{ROOT_BLOCKS, parse_hcl};
pub use diff::{JobDiff, annotate, diff};
pub use shape::{Error, in_declared_order, normalise_json};
pub use validate::{Limits, Validation, refusal, validate};

//! Decides what each evaluation changes: (snapshot, evaluations) to plans.
//!
//! [`Scheduler::round`] looks at evaluations one after the other and makes a [`Plan`](protocol::Plan) of each: it
//! reconciles what a job wants with what it has, and finds nodes for what is missing. The four kinds of jobs differ in
//! how they are reconciled; placing is the same. Plans stack: the table of nodes counts what earlier plans placed before
//! any of it is committed, so that plans never conflict.
//!
//! This crate reads no clock and draws no number: both come in with [`Context`]. It proposes; `state` decides, by the
//! same rule of what fits ([`state::fits`]). It keeps no evaluation and waits for nothing: that is `control`.
//!
//! Read [`Scheduler`] first, then `reconcile/mod.rs` for what a job needs and `place.rs` for where it goes.

mod ask;
mod class;
mod condition;
mod dry_run;
mod evaluate;
mod exclusive;
mod feasibility;
mod fixed;
mod numa;
mod place;
mod preempt;
mod reconcile;
mod rules;
mod scheduler;
mod score;
mod table;
mod verdict;

pub use dry_run::{DryRun, plan_job};
pub use scheduler::{Budget, Chance, Context, Scheduler};

//! The whole cluster on one thread: servers, clients, gossip, jobs and users, all of it the product's own code, on
//! simulated time, network, disks and drivers, with random faults that follow from one seed.
//!
//! A run makes a [`Plan`] from its seed, builds the region, breaks it as planned while users work on it, looks at it all
//! the time with every property of `chaos-check`, then takes all faults away and waits for the region to heal. The same
//! seed gives the same run, message by message: [`Verdict::trace_hash`] says so. Nothing of it touches a real network, a
//! real clock or another process.
//!
//! Read [`run`] first, then [`Plan`].

mod agent;
mod faults;
mod feed;
mod jobs;
mod machine;
mod network;
mod observe;
mod plan;
mod sockets;
mod trace;
mod users;
mod verdict;
mod world;

pub use faults::{Agent, Fault, Happening};
pub use plan::{Plan, Profile, Size, Work};
pub use trace::Trace;
pub use verdict::{Finding, Verdict};
pub use world::run;

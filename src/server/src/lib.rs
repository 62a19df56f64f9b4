//! Runs control, raft and the RPC endpoints on a server.
//!
//! A server applies what raft commits to its state, tells everyone who waits, holds the sessions of the nodes that are
//! connected to it, and, while it leads, runs the scheduler and the machines of `control`. What it decides it decides in
//! those pure crates; here is only the doing.
//!
//! Read [`Server`] first, then `leader.rs`.

mod allocs;
mod asks;
mod endpoints;
mod events;
mod forward;
mod group;
mod hub;
mod keyring;
mod leader;
mod life;
mod lookout;
mod machine;
mod members;
mod nodes;
mod pace;
mod peers;
mod probe;
mod reads;
mod region;
mod replica;
mod report;
mod restore;
mod server;
mod sessions;
mod start;

pub use endpoints::*;
pub use events::{EventRing, Following};
pub use group::{GroupError, GroupServer, Health, ServerHealth};
pub use hub::{Hub, Waiter, Watch};
pub use keyring::public_signing_key;
pub use leader::Counts;
pub use life::{Differences, Life, Remedy};
pub use machine::Machine;
pub use members::{GossipWord, MemberStatus, ServerMember};
pub use probe::{HostProbe, HostSign, Whereabouts};
pub use reads::Consistency;
pub use replica::{Replica, raft_id};
pub use restore::RestoreError;
pub use server::{Config, Heartbeats, Server, SubmitError, Submitted};
pub use sessions::Sessions;
pub use start::{StartError, cluster_id};

//! Regions of several servers.

mod failover;
mod harness;
mod membership;
mod sessions;

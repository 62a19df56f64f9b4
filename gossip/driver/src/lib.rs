//! Sockets, timers and encryption around `gossip-core`: the part of gossip that does.
//!
//! One task owns one UDP socket and up to two pools on it: the agents of a region, and the servers of all regions.
//! Packets are sealed under a key ring that changes without a pause; who has no key learns nothing and changes nothing,
//! but may ask where the transport listens.
//!
//! This crate never decides who is alive (that is `gossip-core`), never sends a key, never opens a stream, and never waits
//! for a disk longer than a moment. Time is tokio's, tasks and chance are the [`Host`]'s, and the [`Socket`] is a trait,
//! so that a simulation can run it.
//!
//! Read [`Driver::start`] first, then [`Handle`] and [`Event`]. The picture is in `docs/gossip-packets.md`.

mod config;
mod counters;
mod driver;
mod event;
mod handle;
mod host;
mod locate;
pub mod memory;
mod pool;
mod seal;
mod socket;
mod sync;

pub use config::{Config, NoStore, PACKET_MAX, PAYLOAD_MAX, Pool, StartError, Store, SyncBy};
pub use counters::{Dropped, Traffic};
pub use driver::Driver;
pub use event::Event;
pub use handle::{
    Departure, Handle, LocateError, OpenError, PoolError, RingKey, Stats, Stopped, Whom, locate,
};
pub use host::{Host, TokioHost};
pub use locate::Located;
pub use seal::{ChangeRingError, GossipKey, KeyRing, OVERHEAD, ParseKeyError, PoolKind};
pub use socket::{Socket, Udp};

//! Who is there and who is alive: membership by gossip that decides, without a socket and without a clock.
//!
//! Every agent is a member. Members tell each other who joined, who left, who failed and a small [`Digest`] about
//! themselves. Input and time go in by [`Gossip::step`]; what has to be done comes out by [`Gossip::next_output`], and
//! [`Gossip::next_wake`] says when to step again. Membership and the spreading of news are foca's; who is suspected, how
//! long a suspicion lasts and how a member's own slowness counts are this crate's, since foca has no local health.
//!
//! This crate never opens a socket, never reads a clock, never encrypts, never writes to disk, and never decides that a
//! node is down: what it says is a hint for those who decide.
//!
//! Read [`Gossip`] first, then [`Input`] and [`Output`]. The picture is in `docs/gossip.md`.

pub mod simulation;

mod cap;
mod config;
mod contact;
mod detect;
mod digest;
mod directory;
mod gossip;
mod health;
mod identity;
mod member;
mod packets;
mod repair;
mod spread;
mod step;
mod table;
mod timers;
mod wire;

pub use config::{Config, ConfigError};
pub use digest::{DIGEST_BYTES_MAX, Digest, DigestError, Flags, Role};
pub use directory::Directory;
pub use gossip::{Gossip, NewGossipError};
pub use member::{Incarnation, Me, Member, MemberId, Status};
pub use repair::SyncError;
pub use step::{Counters, Event, Input, LeavePrune, Output};

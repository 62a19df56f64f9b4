//! The only door to time, chance and spawning.
//!
//! Everything that a Wayfarer agent does over time goes through an [`Env`]: it reads clocks, draws random numbers,
//! starts named tasks and waits for shutdown. The simulation hands each simulated agent an `Env` of its own, with a
//! seed and a skewed wall clock, and runs the same code. This crate never touches the network or a disk.
//!
//! Read [`Env`] first.

mod backoff;
mod env;
mod process;
mod shutdown;

pub use backoff::Backoff;
pub use env::{Env, Skew, WallClock, WallNanos};
pub use process::{Process, spawn_within};
pub use shutdown::Shutdown;
pub use tokio::time::{Duration, Instant};

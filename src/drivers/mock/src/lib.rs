//! Tasks that only pretend, for tests, benchmarks and simulations.
//!
//! A `mock_driver` task is a few hundred bytes and at most one entry in one heap of timers: no process, no thread and
//! no asynchronous task of its own, so that tens of thousands fit in one agent. What it does (how long it runs, how it
//! ends, what it writes, how it fails to start) is in its configuration.
//!
//! Pretended tasks live in a [`World`]. An agent has one of its own and makes a task anew from its handle after a
//! restart. A simulated machine keeps the world while its agents come and go, as a real one keeps processes.
//!
//! Read [`MockDriver`] first.

mod driver;
mod options;
mod output;
mod world;

pub use driver::MockDriver;
pub use options::{Config, parse_duration};
pub use world::World;

//! What this crate takes from outside: tasks, wall time and chance. The one module that may reach around `runtime`.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use ring::rand::{SecureRandom, SystemRandom};

/// Starts tasks, tells the time and draws numbers. The agent implements it with its own environment; the simulation with
/// a seed, so that the same seed gives the same gossip. Monotonic time is tokio's, which a simulation pauses.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Starts a named task. It ends by itself when the driver is stopped.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Time since the Unix epoch. Used for nothing but to begin a life of a member that lost what it had stored.
    fn unix_time(&self) -> Duration;

    /// Draws 64 random bits.
    fn random(&self) -> u64;
}

/// The machine's clock and chance and plain tokio tasks, for tests and small tools.
#[derive(Clone, Copy, Debug)]
pub struct TokioHost;

impl Host for TokioHost {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        #[allow(clippy::disallowed_methods)]
        drop(tokio::spawn(task));
    }

    fn unix_time(&self) -> Duration {
        #[allow(clippy::disallowed_methods)]
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
        u64::from_be_bytes(bytes)
    }
}

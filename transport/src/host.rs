//! What this crate takes from outside: tasks and wall time. The one module that may reach around `runtime`.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;

/// Starts tasks and tells the time. The agent implements it with its own environment, so that tasks are named and
/// awaited, and certificates are judged by the same clock that the rest of the agent sees.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Starts a named task. The task ends by itself when its connection or endpoint is closed.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Time since the Unix epoch, used for nothing but the validity of certificates and of address tokens.
    fn unix_time(&self) -> Duration;
}

/// The machine's clock and plain tokio tasks, for tests, benches and small tools.
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
}

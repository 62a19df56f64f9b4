//! Time and threads: the one place here that reads a clock, sleeps or starts a thread.

#![expect(
    clippy::disallowed_methods,
    reason = "what is watched here are real processes, which live in real time"
)]

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// A point in time to measure from.
#[derive(Clone, Copy, Debug)]
pub struct Mark(Instant);

impl Mark {
    /// The present moment.
    #[must_use]
    pub fn here() -> Self {
        Self(Instant::now())
    }

    /// Time since then.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Lets time pass.
pub fn pass(time: Duration) {
    thread::sleep(time);
}

/// Asks until there is an answer; none when there is none after that time.
pub fn poll<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Mark::here();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if began.elapsed() >= patience {
            return None;
        }
        pass(PERIOD);
    }
}

/// Does something beside the rest.
pub fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(work)
}

/// Seconds since 1970, for names and reports.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

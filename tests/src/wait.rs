//! Waiting for real processes: the one place here that reads a clock or sleeps.

#![expect(clippy::disallowed_methods, reason = "these tests watch real processes, which live in real time")]

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// How long a condition may take unless a test says otherwise. Machines that run tests are small and busy.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
///
/// # Panics
///
/// When there is none after [`PATIENCE`]; `what` says what was waited for.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// Asks until there is an answer, for as long as `patience`.
///
/// # Panics
///
/// When there is none after that time.
pub fn until_within<T>(patience: Duration, what: &str, ask: impl FnMut() -> Option<T>) -> T {
    poll(patience, ask).unwrap_or_else(|| panic!("waited {} s in vain: {what}", patience.as_secs()))
}

/// Asks until there is an answer; `None` when there is none after that time.
pub fn poll<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(PERIOD);
    }
}

/// Lets time pass. Only for things that must *not* happen: whatever must happen is waited for with [`until`].
pub fn pass(time: Duration) {
    thread::sleep(time);
}

/// Does something and says how long it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

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

/// Does something beside the test.
pub fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::spawn(work)
}

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};

/// Growing waits between tries, with jitter and a ceiling.
///
/// Each wait is drawn evenly from `[d / 2, d]`, where `d` doubles from `first` up to `max`. The caller owns the
/// deadline: a backoff never gives up by itself.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Makes a backoff that starts at `first` and never waits longer than `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    /// Returns the next wait.
    pub fn next_wait(&mut self, rng: &mut SmallRng) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        full.mul_f64(rng.random_range(0.5..=1.0))
    }

    /// Starts again from the first wait, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

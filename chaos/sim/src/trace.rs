use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use runtime::Instant;

/// What happened, in order: every message of the network is in its hash, what a reader wants to know also in its text.
///
/// Cheap to clone; all clones are the same trace.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Written>>);

struct Written {
    began: Instant,
    hash: u64,
    messages: u64,
    shown: bool,
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({:016x})", self.hash())
    }
}

impl Trace {
    /// Begins a trace at this moment of simulated time, which is printed line by line when it is `shown`.
    pub fn begin(now: Instant, shown: bool) -> Self {
        let written = Written { began: now, hash: 0xcbf2_9ce4_8422_2325, messages: 0, shown };
        Self(Arc::new(Mutex::new(written)))
    }

    /// Returns the simulated time since the beginning.
    pub fn now(&self) -> Duration {
        self.lock().began.elapsed()
    }

    /// Notes something that a reader wants to know.
    pub fn note(&self, what: impl fmt::Display) {
        let at = self.now();
        let text = what.to_string();
        let mut written = self.lock();
        written.mix(at.as_nanos() as u64);
        for byte in text.bytes() {
            written.mix(u64::from(byte));
        }
        if written.shown {
            println!("{:>12.6}  {text}", at.as_secs_f64());
        }
    }

    /// Notes something that only has to be the same in every run: a message, a hash.
    pub fn mix(&self, numbers: &[u64]) {
        let mut written = self.lock();
        written.messages += 1;
        for number in numbers {
            written.mix(*number);
        }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// How many messages were sent so far.
    pub fn messages(&self) -> u64 {
        self.lock().messages
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Written {
    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

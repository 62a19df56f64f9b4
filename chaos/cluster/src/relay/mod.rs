//! The network in the middle: every UDP packet between two agents goes through this process, which decides what becomes
//! of it.
//!
//! The kernel's TPROXY hands packets over that were meant for others, and lets them be sent on in their sender's name, so
//! that agents see each other's real addresses and know nothing of it. Agents speak UDP only with each other; what else
//! passes between them (knocking at a port, and what the kernel answers) is cut by the packet filter, see `network`.

mod policy;
mod socket;

use std::{
    collections::BinaryHeap,
    io,
    net::SocketAddrV4,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng};

use policy::Packet;
pub use policy::{Policy, RuleId};
use socket::{Inlet, Outlets, PACKET_BYTES_MAX};

use crate::clock::{self, Mark};

/// Where the packet filter sends packets for others; the port of the hub that nobody else has.
pub const PORT: u16 = 4999;

/// Packets that wait for their time. Beyond it they are lost, as in a router that is full.
const WAITING_MAX: usize = 20_000;

/// Longest wait for a packet before looking whether the run is over.
const PATIENCE: Duration = Duration::from_millis(50);

/// The relay, running beside the rest for as long as this is held.
pub struct Relay {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    policy: Mutex<Policy>,
    over: AtomicBool,
    passed: AtomicU64,
    dropped: AtomicU64,
    doubled: AtomicU64,
}

/// What the relay did so far.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Passed {
    /// Packets handed on.
    pub passed: u64,
    /// Packets that were lost on purpose.
    pub dropped: u64,
    /// Packets handed on twice.
    pub doubled: u64,
}

impl Relay {
    /// Starts it on the network of the calling thread.
    ///
    /// # Errors
    ///
    /// When the kernel refuses transparent sockets.
    pub fn start(seed: u64) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let inlet = Inlet::open(PORT)?;
        let mut loop_state = Loop {
            shared: shared.clone(),
            inlet,
            outlets: Outlets::default(),
            waiting: BinaryHeap::new(),
            rng: SmallRng::seed_from_u64(seed),
            began: Mark::here(),
            number: 0,
        };
        let thread = clock::beside(move || loop_state.run());
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes what becomes of packets.
    pub fn with_policy<T>(&self, change: impl FnOnce(&mut Policy) -> T) -> T {
        change(&mut self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What it did so far.
    #[must_use]
    pub fn passed(&self) -> Passed {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Passed {
            passed: count(&self.shared.passed),
            dropped: count(&self.shared.dropped),
            doubled: count(&self.shared.doubled),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the relay ended in a panic");
        }
    }
}

/// A packet that waits; the heap gives the earliest first.
#[derive(Eq, PartialEq)]
struct Waiting {
    due: Duration,
    number: u64,
    from: SocketAddrV4,
    to: SocketAddrV4,
    bytes: Vec<u8>,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct Loop {
    shared: Arc<Shared>,
    inlet: Inlet,
    outlets: Outlets,
    waiting: BinaryHeap<Waiting>,
    rng: SmallRng,
    began: Mark,
    number: u64,
}

impl Loop {
    fn run(&mut self) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while !self.shared.over.load(Ordering::Relaxed) {
            let now = self.began.elapsed();
            while self.waiting.peek().is_some_and(|first| first.due <= now) {
                let due = self.waiting.pop().expect("it was looked at");
                self.send(due.from, due.to, &due.bytes);
            }
            let next = self.waiting.peek().map_or(PATIENCE, |first| first.due.saturating_sub(now));
            match self.inlet.receive(&mut buffer, next.min(PATIENCE)) {
                Ok(Some((from, to, length))) => self.take(from, to, &buffer[..length]),
                Ok(None) => {}
                Err(error) => {
                    eprintln!("relay: {error}");
                    clock::pass(PATIENCE);
                }
            }
        }
    }

    fn take(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) {
        let fate = {
            let policy = self.shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
            policy.fate(&Packet::of(from, to), &mut self.rng)
        };
        if fate.copies.is_empty() || self.waiting.len() >= WAITING_MAX {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if fate.copies.len() > 1 {
            self.shared.doubled.fetch_add(1, Ordering::Relaxed);
        }
        for after in fate.copies {
            if after.is_zero() {
                self.send(from, to, bytes);
                continue;
            }
            self.number += 1;
            let due = self.began.elapsed() + after;
            self.waiting.push(Waiting { due, number: self.number, from, to, bytes: bytes.to_vec() });
        }
    }

    fn send(&mut self, from: SocketAddrV4, to: SocketAddrV4, bytes: &[u8]) {
        // An agent that is gone, or whose buffer is full, loses packets as on any network.
        if self.outlets.send(from, to, bytes).is_ok() {
            self.shared.passed.fetch_add(1, Ordering::Relaxed);
        } else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tracing::{Instrument, error};

use crate::{Process, Shutdown};

/// Nanoseconds since the Unix epoch, as a wall clock shows them.
pub type WallNanos = i64;

/// Where wall time comes from.
#[derive(Clone)]
pub enum WallClock {
    /// The machine's clock.
    System,
    /// A clock that starts at `epoch` when `started` was, and runs with monotonic (perhaps simulated) time.
    Simulated {
        /// Wall time at `started`.
        epoch: WallNanos,
        /// The monotonic instant that `epoch` belongs to.
        started: Instant,
        /// How far it is off at the moment.
        skew: Skew,
    },
}

impl WallClock {
    /// Makes a clock that shows `epoch` now, but for its skew.
    pub fn simulated(epoch: WallNanos, skew: Skew) -> Self {
        Self::Simulated { epoch, started: Instant::now(), skew }
    }
}

/// How far a simulated clock is off, which may change at any time. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Skew(Arc<AtomicI64>);

impl Skew {
    /// Sets it in nanoseconds, ahead or behind.
    pub fn set(&self, nanos: i64) {
        self.0.store(nanos, Ordering::Relaxed);
    }

    /// Returns how far the clock is off, in nanoseconds, ahead or behind.
    pub fn nanos(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One agent's access to time, chance and tasks. Cheap to clone.
#[derive(Clone)]
pub struct Env {
    inner: Arc<Inner>,
}

struct Inner {
    wall: WallClock,
    seeds: Mutex<SmallRng>,
    shutdown: Shutdown,
    /// None for a real agent, whose process is the operating system's.
    process: Option<Process>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// Makes the environment of a real agent: the machine's clock and a seed from the operating system.
    pub fn real(shutdown: Shutdown) -> Self {
        // Entropy from outside comes in here and in `secret` only.
        #[allow(clippy::disallowed_methods)]
        let seed = rand::random::<u64>();
        Self::with(WallClock::System, seed, shutdown)
    }

    /// Makes an environment from its parts; the same seed draws the same numbers.
    pub fn with(wall: WallClock, seed: u64, shutdown: Shutdown) -> Self {
        Self::make(wall, seed, shutdown, None)
    }

    /// Makes the environment of a simulated agent, whose tasks can be stopped and killed together. It has no threads:
    /// blocking work is done between the steps of its tasks, so that a run repeats exactly.
    pub fn simulated(wall: WallClock, seed: u64, shutdown: Shutdown) -> (Self, Process) {
        let process = Process::default();
        (Self::make(wall, seed, shutdown, Some(process.clone())), process)
    }

    fn make(wall: WallClock, seed: u64, shutdown: Shutdown, process: Option<Process>) -> Self {
        let seeds = Mutex::new(SmallRng::seed_from_u64(seed));
        Self { inner: Arc::new(Inner { wall, seeds, shutdown, process }) }
    }

    /// Returns the monotonic time. It never goes back, and jumps in a simulation.
    #[allow(clippy::unused_self)]
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Returns wall time. It may jump either way; no safety property may depend on it.
    pub fn wall(&self) -> WallNanos {
        match &self.inner.wall {
            #[allow(clippy::disallowed_methods)]
            WallClock::System => SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)),
            WallClock::Simulated { epoch, started, skew } => {
                let elapsed = i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
                epoch.saturating_add(elapsed).saturating_add(skew.0.load(Ordering::Relaxed))
            }
        }
    }

    /// Returns a generator of its own for the caller, seeded from the agent's seed.
    pub fn rng(&self) -> SmallRng {
        SmallRng::seed_from_u64(self.random_u64())
    }

    /// Draws 64 random bits.
    pub fn random_u64(&self) -> u64 {
        self.seeds().next_u64()
    }

    /// Draws 128 random bits, for an id.
    pub fn random_u128(&self) -> u128 {
        let mut seeds = self.seeds();
        (u128::from(seeds.next_u64()) << 64) | u128::from(seeds.next_u64())
    }

    /// Draws 32 bytes that nobody can guess: ids may be, secrets may not. A simulated agent takes them from its seed, so that a
    /// run repeats.
    pub fn secret(&self) -> [u8; 32] {
        if self.inner.process.is_none() {
            // A generator fit for secrets, which the operating system seeds.
            #[allow(clippy::disallowed_methods)]
            return rand::random();
        }
        let mut secret = [0; 32];
        self.seeds().fill_bytes(&mut secret);
        secret
    }

    fn seeds(&self) -> std::sync::MutexGuard<'_, SmallRng> {
        self.inner.seeds.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for `duration` of monotonic time.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// Waits until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep_until(deadline).await;
    }

    /// The signal that ends this agent.
    pub fn shutdown(&self) -> &Shutdown {
        &self.inner.shutdown
    }

    /// Starts a named task. A panic in it is logged with its name and fires the agent's shutdown: a component that
    /// is silently gone is worse than an agent that is restarted. A task that may fail alone catches that itself.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = PanicGuard { name, shutdown: self.inner.shutdown.clone(), done: false };
        let span = tracing::debug_span!("task", name);
        let task = async move {
            let mut guard = guard;
            future.await;
            guard.done = true;
        }
        .instrument(span);
        match &self.inner.process {
            Some(process) => process.spawn(task),
            #[allow(clippy::disallowed_methods)]
            None => tokio::spawn(task),
        }
    }

    /// Runs blocking work away from the event loop.
    pub fn spawn_blocking<F, T>(&self, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match &self.inner.process {
            Some(process) => process.spawn(async move { work() }),
            None => tokio::task::spawn_blocking(work),
        }
    }

    /// Does blocking work for what comes out of a queue, in order, until the queue is closed or the work breaks off. A
    /// real agent gives it a thread of its own. The work may take more out of the queue by itself.
    pub fn work_off<T, W>(&self, name: &'static str, mut queue: mpsc::Receiver<T>, mut work: W)
    where
        T: Send + 'static,
        W: FnMut(T, &mut mpsc::Receiver<T>) -> ControlFlow<()> + Send + 'static,
    {
        if self.inner.process.is_some() {
            self.spawn(name, async move {
                while let Some(item) = queue.recv().await {
                    if work(item, &mut queue).is_break() {
                        return;
                    }
                }
            });
            return;
        }
        // The thread ends by itself with its queue, so nobody needs to join it.
        drop(self.thread(name, move || {
            while let Some(item) = queue.blocking_recv() {
                if work(item, &mut queue).is_break() {
                    return;
                }
            }
        }));
    }

    /// Starts a named operating system thread for blocking work that lasts as long as the agent.
    ///
    /// # Panics
    ///
    /// When the system refuses another thread.
    pub fn thread<F>(&self, name: &str, work: F) -> std::thread::JoinHandle<()>
    where
        F: FnOnce() + Send + 'static,
    {
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .expect("the system grants a thread at start, or the agent cannot run at all")
    }
}

/// Notices a task that ends by unwinding; a task that is cancelled by its runtime's end does not panic.
struct PanicGuard {
    name: &'static str,
    shutdown: Shutdown,
    done: bool,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if !self.done && std::thread::panicking() {
            error!(task = self.name, "task panicked; stopping the agent");
            self.shutdown.fire();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draw = || {
            let env = Env::with(WallClock::System, 7, Shutdown::new());
            (env.random_u64(), env.random_u128())
        };
        assert_eq!(draw(), draw());
    }

    #[test]
    fn secrets_repeat_in_a_simulation_only() {
        let simulated = || Env::simulated(WallClock::System, 7, Shutdown::new()).0.secret();
        let real = || Env::with(WallClock::System, 7, Shutdown::new()).secret();
        assert_eq!(simulated(), simulated());
        assert_ne!(real(), real());
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_wall_clock_follows_paused_time() {
        let skew = Skew::default();
        let env = Env::with(WallClock::simulated(1_000, skew.clone()), 1, Shutdown::new());
        env.sleep(Duration::from_secs(5)).await;
        assert_eq!(env.wall(), 5_000_001_000);
        skew.set(-5_000_000_000);
        assert_eq!(env.wall(), 1_000);
    }

    #[tokio::test]
    async fn a_panicking_task_stops_the_agent() {
        let env = Env::with(WallClock::System, 1, Shutdown::new());
        let joined = env.spawn("broken", async { panic!("on purpose") }).await;
        assert!(joined.is_err());
        assert!(env.shutdown().fired());
    }
}

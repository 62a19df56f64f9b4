//! When a node is told what changed for it.
//!
//! A message costs both ends as much as many allocations in it, so with thousands of nodes what comes within a moment goes
//! in one. A server that is short of time sends fewer and larger ones still: that is what helps it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runtime::Instant;

/// Time between two messages to one node, for each node that is connected here. A node that was told nothing for so
/// long is told at once.
const GAP_PER_NODE: Duration = Duration::from_micros(500);

/// Most of it: nodes must not wait for long, however many there are.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How late messages go out where this server has no time for them: each so much makes the gap longer by what it is without.
const LATE_UNIT: Duration = Duration::from_millis(25);

/// The longest gap of a server that has no time.
const GAP_LATE_MAX: Duration = Duration::from_secs(8);

/// A server whose messages go out later than that is short of time.
const SHORT_OF_TIME: Duration = Duration::from_millis(15);

/// For so long a server that is short of time holds back what is for a node, while more keeps coming for it: the work that
/// is being placed now does not wait for what was placed a moment ago.
const HOLD_MAX: Duration = Duration::from_secs(30);

/// Each message says so large a part of how late they are.
const LATE_WEIGHT: u64 = 32;

/// How late this server's messages to its nodes go out, in microseconds: an average over the last of them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace(Arc<AtomicU64>);

/// What is for one node, and waits to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    since: Instant,
    /// When to send it, or to put it off.
    pub(crate) at: Instant,
    /// How many allocations it was about when it was last put off.
    count: usize,
}

impl Pace {
    /// Begins to wait with what is for a node that was last told something at `told`; so many nodes are connected here.
    pub(crate) fn begin(&self, now: Instant, told: Instant, nodes: usize) -> Waiting {
        Waiting { since: now, at: told + self.gap(nodes), count: 0 }
    }

    /// Decides what to do when a wait is over: to send, which is none, or to wait on. It is about `count` allocations by now.
    pub(crate) fn over(&self, waiting: Waiting, now: Instant, count: usize, nodes: usize) -> Option<Waiting> {
        self.note_late(now.saturating_duration_since(waiting.at));
        let held_long = now.saturating_duration_since(waiting.since) >= HOLD_MAX;
        let holds_back = count > waiting.count && !held_long && self.late() > SHORT_OF_TIME;
        holds_back.then(|| Waiting { at: now + self.gap(nodes), count, ..waiting })
    }

    /// Returns the time between two messages to one node of so many.
    fn gap(&self, nodes: usize) -> Duration {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        let gap = GAP_PER_NODE.saturating_mul(nodes).min(GAP_MAX);
        let more = self.late().as_secs_f64() / LATE_UNIT.as_secs_f64();
        gap.mul_f64(1.0 + more).min(GAP_LATE_MAX)
    }

    fn late(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// One that another overwrites in the same moment is not missed.
    fn note_late(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let known = self.0.load(Ordering::Relaxed);
        self.0.store(known - known / LATE_WEIGHT + late / LATE_WEIGHT, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: usize = 2_000;

    fn now() -> Instant {
        runtime::Env::real(runtime::Shutdown::new()).now()
    }

    /// One whose messages have all gone out so late.
    fn late_by(late: Duration) -> Pace {
        let pace = Pace::default();
        (0..1_000).for_each(|_| pace.note_late(late));
        pace
    }

    #[test]
    fn a_node_that_was_told_nothing_lately_is_told_at_once_and_then_after_a_gap_that_grows_with_the_nodes() {
        let (pace, now) = (Pace::default(), now());
        let long_ago = now - Duration::from_secs(60);
        assert!(pace.begin(now, long_ago, NODES).at <= now);
        let gaps = [1, 100, NODES, 100_000].map(|nodes| pace.begin(now, now, nodes).at - now);
        assert_eq!(gaps, [500, 50_000, 1_000_000, 1_000_000].map(Duration::from_micros));
    }

    #[test]
    fn a_server_that_is_late_lets_more_gather_within_a_bound() {
        let gap = |millis, nodes| late_by(Duration::from_millis(millis)).gap(nodes);
        assert!(gap(100, NODES) > Duration::from_secs(4));
        assert_eq!(gap(10_000, NODES), GAP_LATE_MAX);
        assert!(gap(100, 1) < Duration::from_millis(3), "with few nodes nothing is gained by waiting");
    }

    #[test]
    fn a_server_that_is_late_holds_back_only_while_more_comes_and_never_for_long() {
        let (pace, now) = (late_by(Duration::from_millis(200)), now());
        let first = pace.begin(now, now, NODES);
        let held = pace.over(first, first.at, 5, NODES).expect("more came, and there is no time");
        assert!(held.at > first.at);
        assert!(pace.over(held, held.at, 5, NODES).is_none(), "nothing more came");
        assert!(pace.over(held, now + HOLD_MAX, 50, NODES).is_none(), "it has waited for long");
        assert!(Pace::default().over(first, first.at, 5, NODES).is_none(), "there is time");
    }

    #[test]
    fn one_that_has_time_again_soon_sends_as_before() {
        let (pace, now) = (late_by(Duration::from_millis(200)), now());
        (0..200).for_each(|_| pace.note_late(Duration::ZERO));
        assert!(pace.gap(NODES) < Duration::from_millis(1_100));
        let first = pace.begin(now, now, NODES);
        assert!(pace.over(first, first.at, 5, NODES).is_none());
    }
}

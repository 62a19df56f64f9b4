//! The one heap of timers.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use crate::{directory::Slot, identity::Identity};

/// What falls due.
#[derive(Clone, Debug)]
pub(crate) enum Timer {
    /// One of foca's own.
    Foca(foca::Timer<Identity>),
    /// The next probe goes out.
    Probe,
    /// A probe should have been answered.
    ProbeTimeout(u32),
    /// A suspicion is pursued.
    Suspicion(Slot, u32),
    /// A check for another member is pursued.
    Check(Slot, u32),
    /// Seeds and failed members are tried.
    Rejoin,
    /// One failed member is tried.
    Knock,
    /// Our leave is told once more.
    Depart(u8),
    /// What we say about ourselves is told after a pause.
    Announce,
    /// More of a long list is taken in.
    Absorb,
    /// Those who are dead for long are forgotten.
    Reap,
}

impl Timer {
    /// Whether it draws a conclusion from silence. After a pause of our own, the silence may be ours.
    pub(crate) fn judges(&self) -> bool {
        match self {
            Self::ProbeTimeout(_) | Self::Suspicion(..) | Self::Check(..) => true,
            Self::Foca(_)
            | Self::Probe
            | Self::Rejoin
            | Self::Knock
            | Self::Depart(_)
            | Self::Announce
            | Self::Absorb
            | Self::Reap => false,
        }
    }
}

/// Every timer there is. None is lost: foca stops for good when one of its own does not come back.
///
/// Bounded by what they stand for: a few of foca's and ours, and one for each probe, suspicion and check under way.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Due>>,
    next: u64,
}

#[derive(Debug)]
struct Due {
    at: Duration,
    order: u64,
    timer: Timer,
}

impl Timers {
    pub(crate) fn push(&mut self, at: Duration, timer: Timer) {
        self.next += 1;
        self.heap.push(Reverse(Due { at, order: self.next, timer }));
    }

    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(due)| due.at)
    }

    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Timer> {
        if self.next_due()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due.timer)
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

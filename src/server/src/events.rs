//! The last changes, for event streams: kept by batches, one for each command that touched something.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use state::Changes;
use tokio::sync::{broadcast, watch};

use crate::hub::Hub;

/// Rows that all batches together may hold; the oldest batches make room. A batch keeps its rows as they were before and
/// after, so that a hundred of the largest would take as much memory as a million allocations.
const ROWS_MAX: usize = 65_536;

/// The last batches of changes, and a way to wait for more.
#[derive(Debug)]
pub struct EventRing {
    kept: Mutex<Kept>,
    max: usize,
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    batches: VecDeque<Arc<Changes>>,
    rows: usize,
    /// Batches were dropped to make room.
    dropped: bool,
}

impl Kept {
    /// Adds a batch, and drops the oldest ones that are beyond a limit; the last one stays, however large.
    fn push(&mut self, batch: Arc<Changes>, batches_max: usize) {
        self.rows += batch.rows.len();
        self.batches.push_back(batch);
        while self.batches.len() > batches_max.max(1) || (self.rows > ROWS_MAX && self.batches.len() > 1) {
            let Some(oldest) = self.batches.pop_front() else { return };
            self.rows -= oldest.rows.len();
            self.dropped = true;
        }
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What follows an index.
#[derive(Clone, Debug)]
pub struct Following {
    /// Batches after the index, oldest first.
    pub batches: Vec<Arc<Changes>>,
    /// Batches between the index and the first of these are not kept any more.
    pub gap: bool,
}

impl EventRing {
    /// Makes a ring that keeps `max` batches.
    pub fn new(max: usize) -> Self {
        Self { kept: Mutex::default(), max, last: watch::Sender::new(0) }
    }

    /// Returns the batches after an index; an index of 0 gives all that are kept.
    pub fn after(&self, index: u64) -> Following {
        let kept = self.kept.lock();
        let gap = kept.dropped && kept.batches.front().is_some_and(|first| first.index > index + 1);
        Following { batches: kept.batches.iter().filter(|batch| batch.index > index).cloned().collect(), gap }
    }

    /// The index of the last batch.
    pub fn last_index(&self) -> u64 {
        *self.last.borrow()
    }

    /// Follows the index of the last batch.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn push(&self, changes: Arc<Changes>) {
        let index = changes.index;
        self.kept.lock().push(changes, self.max);
        self.last.send_replace(index);
    }

    /// Fills the ring from a hub for as long as that lives.
    pub(crate) async fn fill(self: Arc<Self>, hub: Arc<Hub>) {
        let mut changes = hub.follow();
        loop {
            match changes.recv().await {
                // What was before is of another state; streams skip to what is there.
                Ok(batch) if batch.replaced() => self.kept.lock().clear(),
                Ok(batch) => {
                    if batch.kind.is_some() && !batch.rows.is_empty() {
                        self.push(batch);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    tracing::warn!(count, "event buffer fell behind; streams skip what was lost");
                    self.kept.lock().clear();
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use state::{ChangedRow, EventKind};

    use super::*;

    fn batch(index: u64, rows: usize) -> Arc<Changes> {
        let rows = (0..rows).map(|_| ChangedRow::SchedulerConfig).collect();
        Arc::new(Changes { index, kind: Some(EventKind::PlanResult), rows })
    }

    fn indexes(ring: &EventRing, after: u64) -> (Vec<u64>, bool) {
        let Following { batches, gap } = ring.after(after);
        (batches.iter().map(|batch| batch.index).collect(), gap)
    }

    #[test]
    fn the_ring_keeps_so_many_batches_and_says_when_some_are_missing() {
        let ring = EventRing::new(2);
        (1..=2).for_each(|index| ring.push(batch(index, 1)));
        assert_eq!(indexes(&ring, 0), (vec![1, 2], false));
        ring.push(batch(3, 1));
        assert_eq!(indexes(&ring, 0), (vec![2, 3], true));
        assert_eq!(indexes(&ring, 2), (vec![3], false));
    }

    #[test]
    fn large_batches_push_older_ones_out_and_the_last_one_stays() {
        let ring = EventRing::new(100);
        ring.push(batch(1, ROWS_MAX / 2));
        ring.push(batch(2, ROWS_MAX / 2));
        assert_eq!(indexes(&ring, 0), (vec![1, 2], false));
        ring.push(batch(3, 1));
        assert_eq!(indexes(&ring, 0), (vec![2, 3], true));
        ring.push(batch(4, ROWS_MAX * 2));
        assert_eq!(indexes(&ring, 0), (vec![4], true));
        ring.push(batch(5, 1));
        assert_eq!(indexes(&ring, 4), (vec![5], false));
    }
}

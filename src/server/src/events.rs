//! The last changes, for event streams: kept by batches, one for each command that touched something.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use state::Changes;
use tokio::sync::{broadcast, watch};

use crate::hub::Hub;

/// The last batches of changes, and a way to wait for more.
#[derive(Debug)]
pub struct EventRing {
    batches: Mutex<VecDeque<Arc<Changes>>>,
    max: usize,
    last: watch::Sender<u64>,
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
        Self { batches: Mutex::default(), max, last: watch::Sender::new(0) }
    }

    /// Returns the batches after an index; an index of 0 gives all that are kept.
    pub fn after(&self, index: u64) -> Following {
        let batches = self.batches.lock();
        let gap = batches.len() == self.max && batches.front().is_some_and(|first| first.index > index + 1);
        Following { batches: batches.iter().filter(|batch| batch.index > index).cloned().collect(), gap }
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
        let mut batches = self.batches.lock();
        if batches.len() == self.max {
            batches.pop_front();
        }
        batches.push_back(changes);
        drop(batches);
        self.last.send_replace(index);
    }

    /// Fills the ring from a hub for as long as that lives.
    pub(crate) async fn fill(self: Arc<Self>, hub: Arc<Hub>) {
        let mut changes = hub.follow();
        loop {
            match changes.recv().await {
                // What was before is of another state; streams skip to what is there.
                Ok(batch) if batch.replaced() => self.batches.lock().clear(),
                Ok(batch) => {
                    if batch.kind.is_some() && !batch.rows.is_empty() {
                        self.push(batch);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    tracing::warn!(count, "event buffer fell behind; streams skip what was lost");
                    self.batches.lock().clear();
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

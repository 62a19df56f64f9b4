//! What the client has to tell the servers: the last word on each allocation, and nothing twice.

use std::collections::BTreeMap;

use model::AllocId;
use parking_lot::Mutex;
use protocol::session::AllocUpdate;
use tokio::sync::Notify;

/// Changes that wait to be handed in. Holds at most one for each allocation of the node.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Mutex<BTreeMap<AllocId, AllocUpdate>>,
    ready: Notify,
}

impl Outbox {
    /// Puts in the last word on an allocation, over what was waiting.
    pub fn put(&self, update: AllocUpdate) {
        self.waiting.lock().insert(update.id, update);
        self.ready.notify_one();
    }

    /// Takes up to `max` changes out; empty when there are none.
    pub fn take(&self, max: usize) -> Vec<AllocUpdate> {
        let mut waiting = self.waiting.lock();
        if waiting.len() <= max {
            return std::mem::take(&mut *waiting).into_values().collect();
        }
        let mut taken = Vec::with_capacity(max);
        while taken.len() < max
            && let Some((_, update)) = waiting.pop_first()
        {
            taken.push(update);
        }
        taken
    }

    /// Drops everything: a session that begins hands in all there is anyway.
    pub fn clear(&self) {
        self.waiting.lock().clear();
    }

    /// Tells whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Waits until something may be there.
    pub async fn ready(&self) {
        if self.is_empty() {
            self.ready.notified().await;
        }
    }
}

//! What the client has to tell the servers: the last word on each allocation, and nothing twice.

use std::collections::BTreeMap;

use model::AllocId;
use parking_lot::Mutex;
use protocol::session::AllocUpdate;
use tokio::sync::Notify;

/// Changes that wait to be handed in, and what no server has acknowledged. Holds at most one of each for each
/// allocation of the node, however long no server can be reached.
#[derive(Debug, Default)]
pub struct Outbox {
    words: Mutex<Words>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Words {
    waiting: BTreeMap<AllocId, AllocUpdate>,
    /// The number of the last word on each allocation of which no server has said that it is committed.
    unsettled: BTreeMap<AllocId, u64>,
    count: u64,
}

/// Names the last words that were said together, to settle them.
#[derive(Debug, Default)]
pub struct Said(Vec<(AllocId, u64)>);

impl Words {
    fn unsettle(&mut self, id: AllocId) {
        self.count += 1;
        self.unsettled.insert(id, self.count);
    }
}

impl Outbox {
    /// Puts in the last word on an allocation, over what was waiting.
    pub fn put(&self, update: AllocUpdate) {
        let mut words = self.words.lock();
        words.unsettle(update.id);
        let is_lost = mutants::on!("client-loses-a-word") && update.client_status.is_terminal();
        if !is_lost {
            words.waiting.insert(update.id, update);
        }
        drop(words);
        self.ready.notify_one();
    }

    /// Notes that no server may know how an allocation is: it was taken up from an earlier agent.
    pub fn unsettle(&self, id: AllocId) {
        self.words.lock().unsettle(id);
    }

    /// Takes up to `max` changes out; empty when there are none.
    pub fn take(&self, max: usize) -> (Vec<AllocUpdate>, Said) {
        let mut words = self.words.lock();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some((_, update)) = words.waiting.pop_first()
        {
            taken.push(update);
        }
        let number = |update: &AllocUpdate| Some((update.id, *words.unsettled.get(&update.id)?));
        let said = taken.iter().filter_map(number).collect();
        (taken, Said(said))
    }

    /// Drops what waits: a session that begins hands in all there is anyway. The answer to it settles what had been said
    /// by then; later words wait again.
    pub fn begin(&self) -> Said {
        let mut words = self.words.lock();
        words.waiting.clear();
        Said(words.unsettled.iter().map(|(id, number)| (*id, *number)).collect())
    }

    /// A server has committed what was said; words that came later stay unsettled.
    pub fn settle(&self, said: Said) {
        let mut words = self.words.lock();
        for (id, number) in said.0 {
            if words.unsettled.get(&id) == Some(&number) {
                words.unsettled.remove(&id);
            }
        }
    }

    /// Tells whether the servers know the last word on an allocation.
    pub fn is_settled(&self, id: AllocId) -> bool {
        !self.words.lock().unsettled.contains_key(&id)
    }

    /// Forgets an allocation that is gone.
    pub fn forget(&self, id: AllocId) {
        self.words.lock().unsettled.remove(&id);
    }

    /// Tells whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.words.lock().waiting.is_empty()
    }

    /// Waits until something may be there.
    pub async fn ready(&self) {
        if self.is_empty() {
            self.ready.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{ClientStatus, NodeId};

    use super::*;

    fn word(id: u128, client_status: ClientStatus) -> AllocUpdate {
        AllocUpdate {
            id: AllocId::from_random(id),
            node_id: NodeId::from_random(1),
            client_status,
            client_description: "".into(),
            task_states: Arc::new([]),
            health: None,
            network: None,
        }
    }

    #[test]
    fn only_the_last_word_waits_and_it_is_settled_once_committed() {
        let outbox = Outbox::default();
        let id = AllocId::from_random(1);
        outbox.put(word(1, ClientStatus::Pending));
        outbox.put(word(1, ClientStatus::Running));
        let (updates, said) = outbox.take(10);
        assert_eq!(updates, [word(1, ClientStatus::Running)]);
        assert!(!outbox.is_settled(id));
        outbox.settle(said);
        assert!(outbox.is_settled(id));
    }

    #[test]
    fn a_word_said_while_another_is_under_way_stays_unsettled() {
        let outbox = Outbox::default();
        outbox.put(word(1, ClientStatus::Running));
        let (_, said) = outbox.take(10);
        outbox.put(word(1, ClientStatus::Complete));
        outbox.settle(said);
        assert!(!outbox.is_settled(AllocId::from_random(1)));
        let hello = outbox.begin();
        assert!(outbox.is_empty());
        outbox.settle(hello);
        assert!(outbox.is_settled(AllocId::from_random(1)));
    }
}

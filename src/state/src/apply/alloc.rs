use std::sync::Arc;

use model::{AllocHealth, AllocId, Allocation, ClientStatus, DesiredTransition, Timestamp};
use protocol::session::AllocUpdate;

use super::{Writer, writer::Spot};

impl Writer<'_> {
    /// Writes down what clients say; returns the allocations that are not there or not that node's.
    pub(super) fn update_allocs(&mut self, updates: &[AllocUpdate], now: Timestamp) -> Vec<AllocId> {
        let mut dropped = Vec::new();
        for update in updates {
            let position = self.state.allocs.position(update.id);
            let row = position.map(|position| (position, self.state.allocs.at(position).clone()));
            match row.filter(|(_, row)| row.node_id == update.node_id) {
                Some((position, row)) => self.update_alloc(position, &row, update, now),
                None => dropped.push(update.id),
            }
        }
        dropped
    }

    /// Writes down what a client says of one allocation. What the servers want of it stays as it is.
    fn update_alloc(&mut self, position: u64, row: &Arc<Allocation>, update: &AllocUpdate, now: Timestamp) {
        let mut alloc = Allocation::clone(row);
        let mut changed = false;
        if let Some(status) = next_status(row.client_status, update.client_status) {
            changed |= row.client_status != status || row.client_description != update.client_description;
            if row.client_status == ClientStatus::Unknown && status != ClientStatus::Unknown {
                alloc.extra_mut().states.push((status, now));
            }
            alloc.client_status = status;
            alloc.client_description = update.client_description.clone();
        }
        if alloc.task_states != update.task_states && !update.task_states.is_empty() {
            alloc.task_states = update.task_states.clone();
            changed = true;
        }
        if update.network.is_some() && alloc.extra().network != update.network {
            changed = true;
            alloc.extra_mut().network = update.network.clone();
        }
        // One that was told to stop, or was given up, proves nothing to its deployment: its client may have slept through that.
        let proves = |healthy: bool| !(healthy && row.server_terminal());
        let health = update.health.filter(|health| health.healthy.is_some_and(proves));
        if let Some(health) =
            health.filter(|health| alloc.extra().health.and_then(|h| h.healthy) != health.healthy)
        {
            return self.put_alloc_with_health(position, alloc, health, now);
        }
        if changed {
            alloc.modify_time = now;
            self.put_alloc(alloc, Spot::At(position));
        }
    }

    /// Puts in an allocation whose health became known, and counts it for its deployment.
    pub(super) fn put_alloc_with_health(
        &mut self,
        position: u64,
        mut alloc: Allocation,
        health: AllocHealth,
        now: Timestamp,
    ) {
        let (before, index) = (alloc.extra().health, self.index);
        let canary = before.is_some_and(|before| before.canary);
        let timestamp = if health.timestamp.is_zero() { now } else { health.timestamp };
        alloc.extra_mut().health =
            Some(AllocHealth { healthy: health.healthy, timestamp, canary, modify_index: index });
        alloc.modify_time = now;
        let deployment = alloc.extra().deployment;
        let group = alloc.task_group().name.clone();
        self.put_alloc(alloc, Spot::At(position));
        if let Some(id) = deployment {
            self.count_health(id, &group, before.and_then(|before| before.healthy), health.healthy, now);
        }
    }

    pub(super) fn update_transitions(&mut self, asked: &[(AllocId, DesiredTransition)], now: Timestamp) {
        asked.iter().for_each(|(id, transition)| self.update_transition(*id, *transition, now));
    }

    fn update_transition(&mut self, id: AllocId, transition: DesiredTransition, now: Timestamp) {
        self.edit_alloc(id, now, |alloc| {
            let mut merged = alloc.extra().transition;
            merged.merge(transition);
            if merged != alloc.extra().transition {
                alloc.extra_mut().transition = merged;
            }
        });
    }
}

/// Decides what a client's word makes of an allocation's status; none when it changes nothing.
///
/// What is over stays over: its resources are given to others. A client that comes back with an allocation that was
/// counted as lost is told to stop it, and its last word on how it ended is taken.
fn next_status(known: ClientStatus, said: ClientStatus) -> Option<ClientStatus> {
    match known {
        ClientStatus::Pending | ClientStatus::Running | ClientStatus::Unknown => Some(said),
        ClientStatus::Lost => said.is_terminal().then_some(said),
        ClientStatus::Complete | ClientStatus::Failed => None,
    }
}

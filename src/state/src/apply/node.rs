use std::{collections::BTreeMap, sync::Arc};

use model::{DrainRecord, DrainStrategy, Node, NodeEvent, NodeId, NodePool, NodeStatus, Text, Timestamp};
use protocol::NodeStatusUpdate;

use super::Writer;
use crate::{ChangedRow, Refusal};

/// Events that are kept of a node.
const NODE_EVENTS_MAX: usize = 10;

/// What the end of a drain leaves behind.
pub(super) struct DrainEnd {
    pub(super) mark_eligible: bool,
    pub(super) completed: bool,
}

impl Writer<'_> {
    /// Puts in a node as its client describes it; what the servers decide about a known one stays.
    pub(super) fn upsert_node(&mut self, described: &Node, now: Timestamp) {
        let mut node = described.clone();
        self.ensure_node_pool(&node.node_pool);
        match self.state.node(node.id).cloned() {
            None => {
                node.create_index = self.index;
                node.status_updated_at = now;
                node.events = vec![cluster_event("Node registered", now)];
            }
            Some(known) => {
                keep_what_servers_decide(&mut node, &known);
                if known.status == NodeStatus::Down {
                    push_event(
                        &mut node,
                        NodeEvent { create_index: self.index, ..cluster_event("Node re-registered", now) },
                    );
                }
                node.modify_index = known.modify_index;
                if node == *known {
                    return;
                }
            }
        }
        self.put_node(node);
    }

    fn ensure_node_pool(&mut self, name: &Text) {
        if name.is_empty() || self.state.node_pools.contains_key(name) {
            return;
        }
        let (create_index, modify_index) = (self.index, self.index);
        let pool =
            Arc::new(NodePool { name: name.clone(), create_index, modify_index, ..NodePool::default() });
        self.state.node_pools.insert(name.clone(), pool.clone());
        self.note(ChangedRow::NodePool { name: name.clone(), after: Some(pool) });
    }

    pub(super) fn update_node_status(&mut self, update: &NodeStatusUpdate, now: Timestamp) {
        // A node that was forgotten meanwhile has no status.
        let Some(known) = self.state.node(update.node_id) else { return };
        if known.status == update.status && update.event.is_none() {
            return;
        }
        let mut node = Node::clone(known);
        if node.status != update.status {
            node.status = update.status;
            node.status_updated_at = now;
            node.last_missed_heartbeat_index = match update.status {
                NodeStatus::Down | NodeStatus::Disconnected => self.index,
                NodeStatus::Ready | NodeStatus::Initializing => 0,
            };
        }
        if let Some(event) = &update.event {
            self.push_noted_event(&mut node, event);
        }
        self.put_node(node);
    }

    pub(super) fn update_node_eligibility(
        &mut self,
        id: NodeId,
        eligible: bool,
        event: Option<&NodeEvent>,
    ) -> Result<(), Refusal> {
        let known = self.state.node(id).ok_or(Refusal::NodeNotFound)?;
        if eligible && known.drain.is_some() {
            return Err(Refusal::NodeDrains);
        }
        let mut node = Node::clone(known);
        node.eligible = eligible;
        if let Some(event) = event {
            self.push_noted_event(&mut node, event);
        }
        if node != **known {
            self.put_node(node);
        }
        Ok(())
    }

    pub(super) fn drain_node(
        &mut self,
        id: NodeId,
        drain: Option<DrainStrategy>,
        end: DrainEnd,
        meta: &[(Text, Text)],
        event: Option<&NodeEvent>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let known = self.state.node(id).ok_or(Refusal::NodeNotFound)?;
        let mut node = Node::clone(known);
        let meta: BTreeMap<_, _> = meta.iter().cloned().collect();
        match drain {
            Some(_) => {
                let started_at = match (&known.drain, &known.last_drain) {
                    (Some(_), Some(last)) => last.started_at,
                    _ => now,
                };
                node.last_drain = Some(DrainRecord {
                    started_at,
                    updated_at: now,
                    status: "draining".into(),
                    meta,
                    ..DrainRecord::default()
                });
                node.eligible = false;
            }
            None => {
                if let Some(last) = node.last_drain.as_mut().filter(|_| known.drain.is_some()) {
                    last.status = if end.completed { "complete".into() } else { "canceled".into() };
                    last.updated_at = now;
                    last.meta.extend(meta);
                }
                if end.mark_eligible {
                    node.eligible = true;
                }
            }
        }
        node.drain = drain;
        if let Some(event) = event {
            self.push_noted_event(&mut node, event);
        }
        self.put_node(node);
        Ok(())
    }

    pub(super) fn remove_node(&mut self, id: NodeId) {
        self.take_node(id);
    }

    pub(super) fn note_node_events(&mut self, events: &[(NodeId, NodeEvent)]) {
        events.iter().for_each(|(id, event)| self.note_node_event(*id, event));
    }

    fn note_node_event(&mut self, id: NodeId, event: &NodeEvent) {
        if let Some(known) = self.state.node(id) {
            let mut node = Node::clone(known);
            self.push_noted_event(&mut node, event);
            self.put_node(node);
        }
    }

    fn push_noted_event(&self, node: &mut Node, event: &NodeEvent) {
        push_event(node, NodeEvent { create_index: self.index, ..event.clone() });
    }
}

fn keep_what_servers_decide(node: &mut Node, known: &Node) {
    node.status = known.status;
    node.status_description = known.status_description.clone();
    node.status_updated_at = known.status_updated_at;
    node.eligible = known.eligible;
    node.drain = known.drain;
    node.last_drain = known.last_drain.clone();
    node.events = known.events.clone();
    node.last_alloc_update_index = known.last_alloc_update_index;
    node.last_missed_heartbeat_index = known.last_missed_heartbeat_index;
    node.create_index = known.create_index;
}

fn push_event(node: &mut Node, event: NodeEvent) {
    if node.events.len() >= NODE_EVENTS_MAX {
        let surplus = node.events.len() + 1 - NODE_EVENTS_MAX;
        node.events.drain(..surplus);
    }
    node.events.push(event);
}

fn cluster_event(message: &str, timestamp: Timestamp) -> NodeEvent {
    NodeEvent { message: message.into(), subsystem: "Cluster".into(), timestamp, ..NodeEvent::default() }
}

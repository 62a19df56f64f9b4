//! A node's record: how it comes about when its client opens a session, and which evaluations that makes necessary.

use std::collections::BTreeMap;

use model::{
    EvalId, EvalTrigger, Evaluation, Job, JobKey, JobType, Node, NodeEvent, NodeId, NodeStatus, Text,
    Timestamp,
};
use protocol::{Command, Named, NodeStatusUpdate, encode};
use runtime::Env;
use state::Snapshot;

use crate::server::{Inner, SubmitError};

/// Why a node was not registered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    /// It is not the node that it says it is.
    #[error("{0}")]
    Denied(&'static str),
    /// It was lost on its way.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// Registers a node where something about it changed, and marks it as ready. Only the leader can: its state is the one
/// that tells what is news.
pub(crate) async fn register(inner: &Inner, mut node: Node) -> Result<(), RegisterError> {
    node.computed_class = node.class_of_facts();
    let (node_id, now) = (node.id, Timestamp(inner.env.wall()));
    let snapshot = inner.hub.snapshot();
    let known = snapshot.node(node_id);
    if known.is_some_and(|known| known.secret_id != node.secret_id) {
        return Err(RegisterError::Denied("node secret ID does not match. Not registering node."));
    }
    if known.is_none_or(|known| !same_facts(known, &node)) {
        let evals = evals_for_node(&snapshot, node_id, now, &inner.env);
        let node = Named(Box::new(node));
        inner.propose(encode(&Command::UpsertNode { node, evals, now })).await?;
    }
    let snapshot = inner.hub.snapshot();
    let status = snapshot.node(node_id).map(|node| node.status);
    if status != Some(NodeStatus::Ready) {
        let message = match status {
            Some(NodeStatus::Down | NodeStatus::Disconnected) => Some("Node reregistered by heartbeat"),
            Some(NodeStatus::Initializing | NodeStatus::Ready) | None => None,
        };
        let event = message.map(|message| NodeEvent {
            message: Text::new_static(message),
            subsystem: Text::new_static("Cluster"),
            timestamp: now,
            ..NodeEvent::default()
        });
        let update = NodeStatusUpdate { node_id, status: NodeStatus::Ready, event };
        let evals = evals_for_node(&snapshot, node_id, now, &inner.env);
        inner.propose(encode(&Command::UpdateNodeStatus { updates: vec![update], evals, now })).await?;
    }
    Ok(())
}

/// Makes an evaluation for each job with an allocation on the node, and for each system job that may want one there.
pub fn evals_for_node(snapshot: &Snapshot, node_id: NodeId, now: Timestamp, env: &Env) -> Vec<Evaluation> {
    let mut jobs: BTreeMap<&JobKey, &Job> = BTreeMap::new();
    for alloc in snapshot.allocs_by_node(node_id) {
        if !alloc.terminal()
            && let Some(job) = snapshot.job(&alloc.job.key)
        {
            jobs.insert(&job.key, job);
        }
    }
    for job in snapshot.all_jobs() {
        let system = matches!(job.spec.kind, JobType::System | JobType::Sysbatch);
        if system && !job.stop && !job.is_template() {
            jobs.insert(&job.key, job);
        }
    }
    let modify_index = snapshot.node(node_id).map_or(0, |node| node.modify_index);
    jobs.into_values()
        .map(|job| {
            let id = EvalId::from_random(env.random_u128());
            let trigger = EvalTrigger::NodeUpdate;
            let mut eval =
                Evaluation::pending(id, job.key.clone(), job.spec.kind, job.spec.priority, trigger, now);
            eval.node_id = Some(node_id);
            eval.node_modify_index = modify_index;
            eval.job_modify_index = job.modify_index;
            eval
        })
        .collect()
}

/// Tells whether a client describes its node as the state has it, but for what only servers set.
fn same_facts(known: &Node, told: &Node) -> bool {
    let mut told = told.clone();
    told.status = known.status;
    told.status_description = known.status_description.clone();
    told.status_updated_at = known.status_updated_at;
    told.eligible = known.eligible;
    told.drain = known.drain;
    told.last_drain = known.last_drain.clone();
    told.events = known.events.clone();
    told.last_alloc_update_index = known.last_alloc_update_index;
    told.last_missed_heartbeat_index = known.last_missed_heartbeat_index;
    told.create_index = known.create_index;
    told.modify_index = known.modify_index;
    // Facts are compared without the time at which they were looked at.
    for (name, driver) in &mut told.drivers {
        if let Some(known) = known.drivers.get(name) {
            driver.update_time = known.update_time;
        }
    }
    told == *known
}

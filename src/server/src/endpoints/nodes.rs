//! Nodes that someone empties, sets aside, or forgets.

use std::{sync::Arc, time::Duration};

use control::for_node;
use model::{DrainStrategy, EvalId, EvalTrigger, Evaluation, Node, NodeEvent, NodeId, Text, Timestamp};
use protocol::Command;

use super::RequestError;
use crate::Server;

/// What a change of a node came to.
#[derive(Clone, Debug, Default)]
pub struct NodeChanged {
    /// The evaluations that it caused; all were made at [`Self::index`].
    pub eval_ids: Vec<EvalId>,
    /// At which index.
    pub index: u64,
}

/// How a node is to be emptied.
#[derive(Clone, Copy, Debug)]
pub struct DrainWish {
    /// Time that allocations have.
    pub deadline: DrainDeadline,
    /// Leave system jobs alone.
    pub ignore_system_jobs: bool,
}

/// Time that allocations have to leave a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DrainDeadline {
    /// As long as they need.
    Never,
    /// None at all.
    AtOnce,
    /// This long.
    After(Duration),
}

impl Server {
    /// Lets a node take new allocations, or not.
    ///
    /// # Errors
    ///
    /// When there is no such node, or it drains and can not be made eligible.
    pub async fn set_node_eligibility(
        &self,
        node_id: NodeId,
        eligible: bool,
    ) -> Result<NodeChanged, RequestError> {
        let node = self.known_node(node_id).await?;
        let now = self.now();
        let changes = node.eligible != eligible;
        let evals = if eligible && changes { self.node_evals(&node) } else { Vec::new() };
        let message = if eligible {
            "Node marked as eligible for scheduling"
        } else {
            "Node marked as ineligible for scheduling"
        };
        let event = changes.then(|| note(message, "Cluster", now));
        let ids = ids(&evals);
        self.change_node(Command::UpdateNodeEligibility { node_id, eligible, event, evals, now }, ids).await
    }

    /// Begins to empty a node, or stops doing so.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub async fn drain_node(
        &self,
        node_id: NodeId,
        wish: Option<DrainWish>,
        mark_eligible: bool,
        meta: Vec<(Text, Text)>,
    ) -> Result<NodeChanged, RequestError> {
        let node = self.known_node(node_id).await?;
        let now = self.now();
        let drain = wish.map(|wish| strategy(wish, node.drain.as_ref(), now));
        let message = match (&node.drain, &drain) {
            (None, Some(_)) => Some("Node drain strategy set"),
            (Some(_), Some(_)) => Some("Node drain strategy updated"),
            (Some(_), None) => Some("Node drain disabled"),
            (None, None) => None,
        };
        let event = message.map(|message| note(message, "Drain", now));
        // A node that may be used again can take what waits and what belongs on every node.
        let evals = if drain.is_none() && mark_eligible { self.node_evals(&node) } else { Vec::new() };
        let ids = ids(&evals);
        let command =
            Command::DrainNode { node_id, drain, mark_eligible, completed: false, meta, event, evals, now };
        self.change_node(command, ids).await
    }

    /// Looks at all jobs of a node again.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub async fn evaluate_node(&self, node_id: NodeId) -> Result<NodeChanged, RequestError> {
        let node = self.known_node(node_id).await?;
        let evals = self.node_evals(&node);
        if evals.is_empty() {
            return Ok(NodeChanged { eval_ids: Vec::new(), index: self.snapshot().index() });
        }
        let ids = ids(&evals);
        self.change_node(Command::UpsertEvals { evals }, ids).await
    }

    /// Forgets a node. What it runs counts as lost; a client that comes back registers anew.
    ///
    /// # Errors
    ///
    /// When there is no such node.
    pub async fn deregister_node(&self, node_id: NodeId) -> Result<NodeChanged, RequestError> {
        let node = self.known_node(node_id).await?;
        let (evals, now) = (self.node_evals(&node), self.now());
        let ids = ids(&evals);
        self.change_node(Command::DeregisterNodes { node_ids: vec![node_id], evals, now }, ids).await
    }

    async fn known_node(&self, id: NodeId) -> Result<Arc<Node>, RequestError> {
        self.catch_up().await?;
        self.snapshot().node(id).cloned().ok_or_else(|| RequestError::failed("node not found"))
    }

    fn node_evals(&self, node: &Node) -> Vec<Evaluation> {
        let snapshot = self.snapshot();
        self.with_moment(|moment| for_node(&snapshot, node, EvalTrigger::NodeUpdate, moment))
    }

    async fn change_node(
        &self,
        command: Command,
        eval_ids: Vec<EvalId>,
    ) -> Result<NodeChanged, RequestError> {
        let submitted = self.submit(&command).await?;
        Ok(NodeChanged { eval_ids, index: submitted.index })
    }
}

fn ids(evals: &[Evaluation]) -> Vec<EvalId> {
    evals.iter().map(|eval| eval.id).collect()
}

/// A drain that is only adjusted counts from its own beginning.
fn strategy(wish: DrainWish, running: Option<&DrainStrategy>, now: Timestamp) -> DrainStrategy {
    let started_at = running.map_or(now, |running| running.started_at);
    let (deadline, force) = match wish.deadline {
        DrainDeadline::Never => (Duration::ZERO, false),
        DrainDeadline::AtOnce => (Duration::ZERO, true),
        DrainDeadline::After(deadline) => (deadline, false),
    };
    let force_deadline = if deadline.is_zero() { Timestamp::ZERO } else { now.after(deadline) };
    DrainStrategy { deadline, force, ignore_system_jobs: wish.ignore_system_jobs, started_at, force_deadline }
}

fn note(message: &'static str, subsystem: &'static str, timestamp: Timestamp) -> NodeEvent {
    NodeEvent {
        message: Text::new_static(message),
        subsystem: Text::new_static(subsystem),
        timestamp,
        ..NodeEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_is_adjusted_keeps_its_beginning() {
        let now = Timestamp(5_000_000_000);
        let wish = |deadline| DrainWish { deadline, ignore_system_jobs: false };
        let first = strategy(wish(DrainDeadline::After(Duration::from_secs(60))), None, now);
        assert_eq!((first.started_at, first.force_deadline), (now, Timestamp(65_000_000_000)));
        let later = strategy(wish(DrainDeadline::AtOnce), Some(&first), Timestamp(9_000_000_000));
        assert_eq!((later.started_at, later.force, later.force_deadline), (now, true, Timestamp::ZERO));
        assert!(!strategy(wish(DrainDeadline::Never), None, now).force);
    }
}

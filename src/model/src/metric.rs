use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{NodeId, Text};

/// How a placement came about, or why there was none. Shared between siblings that one pass placed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AllocMetric {
    /// Nodes that were looked at.
    pub nodes_evaluated: u32,
    /// Nodes that some condition ruled out.
    pub nodes_filtered: u32,
    /// Nodes in the pool.
    pub nodes_in_pool: u32,
    /// The pool.
    pub node_pool: Text,
    /// Ready nodes by datacenter.
    pub nodes_available: BTreeMap<Text, u32>,
    /// Nodes ruled out, by node class.
    pub class_filtered: BTreeMap<Text, u32>,
    /// Nodes ruled out, by the condition that did it.
    pub constraint_filtered: BTreeMap<Text, u32>,
    /// Nodes without room.
    pub nodes_exhausted: u32,
    /// Nodes without room, by node class.
    pub class_exhausted: BTreeMap<Text, u32>,
    /// Nodes without room, by what was short.
    pub dimension_exhausted: BTreeMap<Text, u32>,
    /// The smallest amount by which a node missed, by what was short; ours, beside Nomad's fields.
    pub nearest_miss: BTreeMap<Text, u64>,
    /// The best nodes with the parts of their scores, best first, at most 5.
    pub scores: Vec<NodeScore>,
    /// Time spent.
    pub allocation_time: Duration,
    /// Further placements of the group that failed the same way.
    pub coalesced_failures: u32,
}

/// One node's score and its parts.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NodeScore {
    /// The node.
    pub node_id: NodeId,
    /// `binpack`, `job-anti-affinity`, ... with each part's value.
    pub parts: Vec<(Text, f64)>,
    /// The mean of the parts that contributed.
    pub normalised: f64,
}

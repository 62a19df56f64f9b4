use std::collections::BTreeMap;

use crate::shape::{nanos, or_null};

shape! {
    /// How a placement came about, or why there was none.
    AllocMetric {
        allocation_time "AllocationTime": i64,
        #[serde(serialize_with = "or_null")]
        class_exhausted "ClassExhausted": BTreeMap<String, u64>,
        #[serde(serialize_with = "or_null")]
        class_filtered "ClassFiltered": BTreeMap<String, u64>,
        coalesced_failures "CoalescedFailures": u64,
        #[serde(serialize_with = "or_null")]
        constraint_filtered "ConstraintFiltered": BTreeMap<String, u64>,
        #[serde(serialize_with = "or_null")]
        dimension_exhausted "DimensionExhausted": BTreeMap<String, u64>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        nearest_miss "NearestMiss": BTreeMap<String, u64>,
        node_pool "NodePool": String,
        nodes_available "NodesAvailable": BTreeMap<String, u64>,
        nodes_evaluated "NodesEvaluated": u64,
        nodes_exhausted "NodesExhausted": u64,
        nodes_filtered "NodesFiltered": u64,
        nodes_in_pool "NodesInPool": u64,
        #[serde(serialize_with = "or_null")]
        quota_exhausted "QuotaExhausted": Vec<String>,
        #[serde(serialize_with = "or_null")]
        resources_exhausted "ResourcesExhausted": BTreeMap<String, crate::Resources>,
        #[serde(serialize_with = "or_null")]
        score_meta_data "ScoreMetaData": Vec<NodeScore>,
        #[serde(serialize_with = "or_null")]
        scores "Scores": BTreeMap<String, f64>,
    }
    /// One node's score and its parts.
    NodeScore {
        node_id "NodeID": String,
        norm_score "NormScore": f64,
        #[serde(serialize_with = "or_null")]
        scores "Scores": BTreeMap<String, f64>,
    }
}

fn counts(counts: &BTreeMap<model::Text, u32>) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, count)| (name.to_string(), u64::from(*count))).collect()
}

impl AllocMetric {
    /// Makes the shape of a placement's account.
    pub fn of(metric: &model::AllocMetric) -> Self {
        Self {
            allocation_time: nanos(metric.allocation_time),
            class_exhausted: counts(&metric.class_exhausted),
            class_filtered: counts(&metric.class_filtered),
            coalesced_failures: metric.coalesced_failures.into(),
            constraint_filtered: counts(&metric.constraint_filtered),
            dimension_exhausted: counts(&metric.dimension_exhausted),
            nearest_miss: metric.nearest_miss.iter().map(|(name, by)| (name.to_string(), *by)).collect(),
            node_pool: metric.node_pool.to_string(),
            nodes_available: counts(&metric.nodes_available),
            nodes_evaluated: metric.nodes_evaluated.into(),
            nodes_exhausted: metric.nodes_exhausted.into(),
            nodes_filtered: metric.nodes_filtered.into(),
            nodes_in_pool: metric.nodes_in_pool.into(),
            quota_exhausted: Vec::new(),
            resources_exhausted: BTreeMap::new(),
            score_meta_data: metric.scores.iter().map(NodeScore::of).collect(),
            scores: BTreeMap::new(),
        }
    }
}

impl NodeScore {
    fn of(score: &model::NodeScore) -> Self {
        Self {
            node_id: score.node_id.to_string(),
            norm_score: score.normalised,
            scores: score.parts.iter().map(|(name, value)| (name.to_string(), *value)).collect(),
        }
    }
}

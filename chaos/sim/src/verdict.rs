use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// Something that should not have been.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Finding {
    /// Which property.
    pub property: String,
    /// When it was seen.
    pub at: Duration,
    /// What was seen.
    pub what: String,
}

/// What came of a run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Verdict {
    /// The seed.
    pub seed: u64,
    /// Hash of every message and every note, in order.
    pub trace_hash: u64,
    /// How much time was simulated.
    pub simulated: Duration,
    /// Messages sent.
    pub messages: u64,
    /// Faults that were injected, by kind.
    pub injected: BTreeMap<String, u64>,
    /// How often each property was looked at.
    pub checks: BTreeMap<String, u64>,
    /// What users did, by outcome.
    pub operations: BTreeMap<String, u64>,
    /// How long the region needed to heal.
    pub healed_after: Option<Duration>,
    /// What should not have been; nothing, when all is well.
    pub findings: Vec<Finding>,
}

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{JobKey, Text, Timestamp, named::named_enum};

named_enum! {
    /// How nodes with room are ranked.
    SchedulerAlgorithm {
        /// Fill nodes up.
        Binpack = "binpack",
        /// Use many nodes.
        Spread = "spread",
    }
}

/// Settings of the schedulers that operators change while they run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SchedulerConfig {
    /// How nodes are ranked.
    pub algorithm: SchedulerAlgorithm,
    /// Whether tasks may use more memory than they reserved.
    pub memory_oversubscription: bool,
    /// Refuse new jobs.
    pub reject_job_registration: bool,
    /// Look at no evaluation.
    pub pause_eval_broker: bool,
    /// Accepted for compatibility: every feasible node is scored.
    pub node_limit: u32,
    /// Preemption for service jobs.
    pub preempt_service: bool,
    /// Preemption for batch jobs.
    pub preempt_batch: bool,
    /// Preemption for system jobs.
    pub preempt_system: bool,
    /// Preemption for sysbatch jobs.
    pub preempt_sysbatch: bool,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            algorithm: SchedulerAlgorithm::Binpack,
            memory_oversubscription: false,
            reject_job_registration: false,
            pause_eval_broker: false,
            node_limit: 0,
            preempt_service: false,
            preempt_batch: false,
            preempt_system: true,
            preempt_sysbatch: false,
            create_index: 0,
            modify_index: 0,
        }
    }
}

/// Settings of how the region's servers are kept: who gets a vote, who is removed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AutopilotConfig {
    /// Remove servers that failed when the others can stand in for them.
    pub cleanup_dead_servers: bool,
    /// Silence of the leader after which a server does not count as healthy.
    pub last_contact_threshold: Duration,
    /// Entries that a healthy server may be behind.
    pub max_trailing_logs: u64,
    /// Voters that must stay, whoever fails.
    pub min_quorum: u32,
    /// How long a new server must have been healthy before it gets a vote.
    pub server_stabilization_time: Duration,
    /// Accepted for compatibility: servers are not spread over zones.
    pub enable_redundancy_zones: bool,
    /// Accepted for compatibility.
    pub disable_upgrade_migration: bool,
    /// Accepted for compatibility.
    pub enable_custom_upgrades: bool,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

impl Default for AutopilotConfig {
    fn default() -> Self {
        Self {
            cleanup_dead_servers: true,
            last_contact_threshold: Duration::from_millis(200),
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_time: Duration::from_secs(10),
            enable_redundancy_zones: false,
            disable_upgrade_migration: false,
            enable_custom_upgrades: false,
            create_index: 0,
            modify_index: 0,
        }
    }
}

/// A room for names: jobs of different namespaces do not see each other.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Namespace {
    /// Its name.
    pub name: Text,
    /// Free text.
    pub description: String,
    /// Free key-value pairs.
    pub meta: BTreeMap<Text, String>,
    /// Drivers that its jobs may use; all when empty.
    pub enabled_drivers: Vec<Text>,
    /// Drivers that its jobs may not use.
    pub disabled_drivers: Vec<Text>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// A named set of nodes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodePool {
    /// Its name.
    pub name: Text,
    /// Free text.
    pub description: String,
    /// Free key-value pairs.
    pub meta: BTreeMap<Text, String>,
    /// How its jobs are scheduled, where that differs from the region's settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<PoolScheduler>,
    /// How long identities of its nodes are good for; the region's default when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_ttl: Option<std::time::Duration>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// Settings of the schedulers for the jobs of one node pool.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct PoolScheduler {
    /// How nodes are ranked; as in the region when none.
    pub algorithm: Option<SchedulerAlgorithm>,
    /// Whether tasks may use more memory than they reserved; as in the region when none.
    pub memory_oversubscription: Option<bool>,
}

/// How many of a group's allocations are in which state.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct GroupSummary {
    /// Could not be placed yet.
    pub queued: u32,
    /// Ended well.
    pub complete: u32,
    /// Ended badly.
    pub failed: u32,
    /// Run.
    pub running: u32,
    /// Placed and not running yet.
    pub starting: u32,
    /// Their node is gone.
    pub lost: u32,
    /// Their node is out of reach.
    pub unknown: u32,
}

/// How many of a job's allocations are in which state, by group.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct JobSummary {
    /// The job.
    pub job: JobKey,
    /// By group.
    pub groups: BTreeMap<Text, GroupSummary>,
    /// Children by status: pending, running, dead.
    pub children: (u32, u32, u32),
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// A change of a group's count that someone asked for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ScalingEvent {
    /// When.
    pub time: Timestamp,
    /// The new count, if it changed.
    pub count: Option<i64>,
    /// The count before.
    pub previous_count: i64,
    /// Why.
    pub message: String,
    /// It reports an error.
    pub error: bool,
    /// More about it, as JSON text.
    pub meta: String,
    /// The evaluation that it caused.
    pub eval_id: Option<crate::EvalId>,
    /// Index of its creation.
    pub create_index: u64,
}

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{AllocId, DeploymentId, JobKey, Text, Timestamp, named::named_enum};

named_enum! {
    /// How far a deployment is.
    DeploymentStatus {
        /// Goes on.
        Running = "running",
        /// Stopped for now by a user.
        Paused = "paused",
        /// Given up.
        Failed = "failed",
        /// Done.
        Successful = "successful",
        /// A later version took over.
        Cancelled = "cancelled",
        /// Waits for its turn among regions.
        Pending = "pending",
        /// Held back by another region.
        Blocked = "blocked",
        /// Being released.
        Unblocking = "unblocking",
        /// Being set up.
        Initializing = "initializing",
    }
}

impl DeploymentStatus {
    /// Tells whether the deployment may still move.
    pub fn is_active(self) -> bool {
        match self {
            Self::Running
            | Self::Paused
            | Self::Pending
            | Self::Blocked
            | Self::Unblocking
            | Self::Initializing => true,
            Self::Failed | Self::Successful | Self::Cancelled => false,
        }
    }
}

/// The progress of one job version across its allocations.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// The job.
    pub job: JobKey,
    /// The version that is rolled out.
    pub job_version: u64,
    /// The job's modify index.
    pub job_modify_index: u64,
    /// The index of the specification.
    pub job_spec_modify_index: u64,
    /// The job's create index.
    pub job_create_index: u64,
    /// Priority of its evaluations.
    pub eval_priority: i32,
    /// Progress by group.
    pub groups: BTreeMap<Text, DeploymentGroup>,
    /// How far it is.
    pub status: DeploymentStatus,
    /// Why it is so.
    pub status_description: Text,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
    /// Time of its creation.
    pub create_time: Timestamp,
    /// Time of its last change.
    pub modify_time: Timestamp,
}

/// The progress of one group of a deployment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DeploymentGroup {
    /// Go back to the last stable version on failure.
    pub auto_revert: bool,
    /// Promote healthy canaries without asking.
    pub auto_promote: bool,
    /// Time in which there must be progress.
    pub progress_deadline: Duration,
    /// The point in time by which there must be progress.
    pub require_progress_by: Timestamp,
    /// Canaries were taken over.
    pub promoted: bool,
    /// Canaries placed.
    pub placed_canaries: Vec<AllocId>,
    /// Canaries wanted.
    pub desired_canaries: u32,
    /// Allocations wanted.
    pub desired_total: u32,
    /// Allocations placed.
    pub placed: u32,
    /// Allocations known to be healthy.
    pub healthy: u32,
    /// Allocations known to be unhealthy.
    pub unhealthy: u32,
}

impl Deployment {
    /// Tells whether canaries wait to be taken over.
    pub fn requires_promotion(&self) -> bool {
        self.groups.values().any(|group| group.desired_canaries > 0 && !group.promoted)
    }
}

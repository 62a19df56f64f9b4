use std::sync::Arc;

use model::{
    AllocId, AllocMetric, AllocatedResources, ClientStatus, Deployment, DeploymentId, DeploymentStatus,
    DesiredStatus, EvalId, Evaluation, JobKey, NodeId, RescheduleEvent, Text,
};
use serde::{Deserialize, Serialize};

/// What one evaluation changes. Whoever applies it has nothing left to choose, and applying it twice is harmless.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// The evaluation as it is afterwards: complete, failed, or blocked.
    pub eval: Evaluation,
    /// The job that was looked at; none when it does not exist.
    pub job: Option<PlannedJob>,
    /// Stops come before placements: a replacement may need what the stopped one holds.
    pub stops: Vec<Stop>,
    /// Allocations that stay and move to another version of their job.
    pub updates: Vec<InPlaceUpdate>,
    /// New allocations.
    pub placements: Vec<Placement>,
    /// What placements hold; they refer to it by position, so that siblings share.
    pub resources: Vec<Arc<AllocatedResources>>,
    /// How placements came about; they refer to it by position.
    pub metrics: Vec<Arc<AllocMetric>>,
    /// A deployment that begins, or goes on with other counts.
    pub deployment: Option<Deployment>,
    /// Deployments whose status changes.
    pub deployment_updates: Vec<DeploymentUpdate>,
    /// Evaluations that follow: blocked ones, delayed ones, those of preempted jobs.
    pub new_evals: Vec<Evaluation>,
}

/// The version of a job that a plan places.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PlannedJob {
    /// The job.
    pub key: JobKey,
    /// Tells it apart from an earlier one of the same key.
    pub create_index: u64,
    /// Its version.
    pub version: u64,
}

/// One new allocation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Placement {
    /// Its id.
    pub id: AllocId,
    /// Where.
    pub node_id: NodeId,
    /// Index of the group in the planned job.
    pub group: u16,
    /// The number in its name.
    pub index: u32,
    /// Position in the plan's resources.
    pub resources: u32,
    /// Position in the plan's metrics.
    pub metrics: u32,
    /// Links; none for most.
    pub links: Option<Box<PlacementLinks>>,
}

/// Where a placement comes from.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PlacementLinks {
    /// The one that it replaces.
    pub previous: Option<AllocId>,
    /// The deployment that it belongs to.
    pub deployment: Option<DeploymentId>,
    /// Whether it is a canary.
    pub canary: bool,
    /// Earlier replacements on its line.
    pub reschedules: Vec<RescheduleEvent>,
    /// Those that make room for it.
    pub preempted: Vec<AllocId>,
    /// A job version other than the planned one: a replacement of an older one while canaries wait.
    pub job_version: Option<u64>,
}

/// An allocation that is to stop, or counts as lost or unknown.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Stop {
    /// Which.
    pub id: AllocId,
    /// `run` leaves it wanted (unknown ones, and failed ones that wait for their replacement).
    pub desired: DesiredStatus,
    /// Why.
    pub description: Text,
    /// What the servers say in the client's place, when it can not.
    pub client_status: Option<ClientStatus>,
    /// The delayed evaluation that will replace it.
    pub followup_eval: Option<EvalId>,
    /// The one that it makes room for.
    pub preempted_by: Option<AllocId>,
    /// Why it could not be rescheduled.
    pub last_reschedule: Text,
}

/// An allocation that stays and moves to another version of its job.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct InPlaceUpdate {
    /// Which.
    pub id: AllocId,
    /// Index of its group in the planned job.
    pub group: u16,
    /// Position in the plan's resources; the same host ports as before.
    pub resources: u32,
    /// Position in the plan's metrics.
    pub metrics: u32,
    /// The deployment that it belongs to from then on.
    pub deployment: Option<DeploymentId>,
    /// The evaluation that updates it.
    pub eval_id: EvalId,
}

/// A deployment's new status.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct DeploymentUpdate {
    /// Which.
    pub id: DeploymentId,
    /// Its status.
    pub status: DeploymentStatus,
    /// Why.
    pub description: Text,
}

impl Plan {
    /// Makes a plan that only ends its evaluation.
    pub fn of(eval: Evaluation) -> Self {
        Self {
            eval,
            job: None,
            stops: Vec::new(),
            updates: Vec::new(),
            placements: Vec::new(),
            resources: Vec::new(),
            metrics: Vec::new(),
            deployment: None,
            deployment_updates: Vec::new(),
            new_evals: Vec::new(),
        }
    }

    /// Tells whether nothing but evaluations changes.
    pub fn is_quiet(&self) -> bool {
        self.stops.is_empty()
            && self.updates.is_empty()
            && self.placements.is_empty()
            && self.deployment.is_none()
            && self.deployment_updates.is_empty()
    }
}

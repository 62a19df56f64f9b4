use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{AllocMetric, DeploymentId, EvalId, JobKey, JobType, NodeId, Text, Timestamp, named::named_enum};

named_enum! {
    /// How far an evaluation is.
    EvalStatus {
        /// Waits for room.
        Blocked = "blocked",
        /// Waits to be looked at, or for its time.
        Pending = "pending",
        /// Done.
        Complete = "complete",
        /// Given up.
        Failed = "failed",
        /// A later one made it needless.
        Canceled = "canceled",
    }
}

impl EvalStatus {
    /// Tells whether nothing more comes of it.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Complete | Self::Failed | Self::Canceled => true,
            Self::Blocked | Self::Pending => false,
        }
    }
}

named_enum! {
    /// What made an evaluation necessary.
    EvalTrigger {
        /// A job was registered.
        JobRegister = "job-register",
        /// A job was stopped.
        JobDeregister = "job-deregister",
        /// A periodic job's time came.
        PeriodicJob = "periodic-job",
        /// A node drains.
        NodeDrain = "node-drain",
        /// A node changed.
        NodeUpdate = "node-update",
        /// A user stopped an allocation.
        AllocStop = "alloc-stop",
        /// Its scheduler's own time came.
        Scheduled = "scheduled",
        /// A rolling update goes on.
        RollingUpdate = "rolling-update",
        /// A deployment moved.
        DeploymentWatcher = "deployment-watcher",
        /// An earlier one failed.
        FailedFollowUp = "failed-follow-up",
        /// An earlier one lost too many races.
        MaxPlanAttempts = "max-plan-attempts",
        /// An allocation failed.
        RetryFailedAlloc = "alloc-failure",
        /// Something could not be placed.
        QueuedAllocs = "queued-allocs",
        /// An allocation made room.
        Preemption = "preemption",
        /// A user scaled a job.
        JobScaling = "job-scaling",
        /// A disconnected allocation's time is over.
        MaxDisconnectTimeout = "max-disconnect-timeout",
        /// A node came back.
        Reconnect = "reconnect",
        /// A user asked for it.
        AllocReschedule = "alloc-reschedule",
    }
}

/// "Look at this job again."
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Evaluation {
    /// Its id.
    pub id: EvalId,
    /// The job that is to be looked at.
    pub job: JobKey,
    /// Which scheduler looks.
    pub kind: JobType,
    /// Higher is served first.
    pub priority: i32,
    /// What made it necessary.
    pub trigger: EvalTrigger,
    /// How far it is.
    pub status: EvalStatus,
    /// Why it is so, when that is worth saying.
    pub status_description: Text,
    /// The job's modify index when it was made; 0 when unknown.
    pub job_modify_index: u64,
    /// The node whose change made it, if one did.
    pub node_id: Option<NodeId>,
    /// That node's index.
    pub node_modify_index: u64,
    /// The deployment that it belongs to.
    pub deployment_id: Option<DeploymentId>,
    /// Not before this time.
    pub wait_until: Timestamp,
    /// The one that follows it.
    pub next_eval: Option<EvalId>,
    /// The one that it follows.
    pub previous_eval: Option<EvalId>,
    /// The one that waits for what this one could not place.
    pub blocked_eval: Option<EvalId>,
    /// Evaluations that are about the same things.
    pub related: Vec<EvalId>,
    /// For each group that could not be placed, why.
    pub failed_groups: BTreeMap<Text, AllocMetric>,
    /// For a blocked one: node classes that were looked at, and whether each would do.
    pub class_eligibility: BTreeMap<Text, bool>,
    /// For a blocked one: some condition looked at single nodes, so any change may help.
    pub escaped_class: bool,
    /// For each group, how many are still to be placed.
    pub queued: BTreeMap<Text, u32>,
    /// What its plan did, by group.
    pub annotations: Option<Box<PlanAnnotations>>,
    /// The index of the state that it was decided on.
    pub snapshot_index: u64,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
    /// Time of its creation.
    pub create_time: Timestamp,
    /// Time of its last change.
    pub modify_time: Timestamp,
}

/// What a plan does, by group.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PlanAnnotations {
    /// Counts by group.
    pub groups: BTreeMap<Text, DesiredUpdates>,
}

/// What a plan does to one group.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DesiredUpdates {
    /// Left as they are.
    pub ignore: u64,
    /// Placed.
    pub place: u64,
    /// Moved.
    pub migrate: u64,
    /// Stopped.
    pub stop: u64,
    /// Updated where they are.
    pub in_place_update: u64,
    /// Replaced by an update.
    pub destructive_update: u64,
    /// Placed as canaries.
    pub canary: u64,
    /// Stopped to make room.
    pub preemptions: u64,
    /// Marked as out of reach.
    pub disconnect: u64,
    /// Taken back.
    pub reconnect: u64,
    /// Rescheduled at once.
    pub reschedule_now: u64,
    /// To be rescheduled later.
    pub reschedule_later: u64,
}

impl Evaluation {
    /// Makes a pending evaluation of a job.
    pub fn pending(
        id: EvalId,
        job: JobKey,
        kind: JobType,
        priority: i32,
        trigger: EvalTrigger,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            job,
            kind,
            priority,
            trigger,
            status: EvalStatus::Pending,
            status_description: Text::default(),
            job_modify_index: 0,
            node_id: None,
            node_modify_index: 0,
            deployment_id: None,
            wait_until: Timestamp::ZERO,
            next_eval: None,
            previous_eval: None,
            blocked_eval: None,
            related: Vec::new(),
            failed_groups: BTreeMap::new(),
            class_eligibility: BTreeMap::new(),
            escaped_class: false,
            queued: BTreeMap::new(),
            annotations: None,
            snapshot_index: 0,
            create_index: 0,
            modify_index: 0,
            create_time: now,
            modify_time: now,
        }
    }
}

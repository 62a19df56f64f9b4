use std::{collections::BTreeSet, sync::Arc};

use model::{
    AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, Job, JobKey, JoinRole, Node, NodeId,
    NodePool, Text,
};
use protocol::Command;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Hash, Misfit, Table};

/// What applying a command came to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What whoever proposed the command wants to know.
    pub outcome: Outcome,
    /// What the command touched.
    pub changes: Changes,
    /// The hash of everything up to and including the command.
    pub hash: Hash,
}

/// What whoever proposed a command wants to know.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub enum Outcome {
    /// Nothing beside that it happened.
    #[default]
    Done,
    /// A job was registered or stopped.
    Job {
        /// The job's modify index as enforced by later registrations.
        job_modify_index: u64,
        /// The job's version.
        version: u64,
    },
    /// Plans were applied; those that were not, and why. Their evaluations are as they were.
    Plans {
        /// By position in the command.
        rejected: Vec<(usize, PlanRejection)>,
    },
    /// Client updates were applied, beside those of allocations that are not there or not that node's.
    AllocUpdates {
        /// The allocations whose updates were dropped.
        dropped: Vec<AllocId>,
    },
    /// The cluster had an id already, and keeps it.
    ClusterId(Uuid),
}

/// Why a plan can not be applied: the state moved on since it was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum PlanRejection {
    /// The job is gone, or that version of it.
    #[error("job {key} at version {version} does not exist")]
    NoSuchJob {
        /// The job.
        key: JobKey,
        /// The version.
        version: u64,
    },
    /// The group is not in the job.
    #[error("job {key} has no task group number {group}")]
    NoSuchGroup {
        /// The job.
        key: JobKey,
        /// Position of the group.
        group: u16,
    },
    /// The plan names a resource or metric that it does not bring.
    #[error("plan for job {key} refers to what it does not hold")]
    Malformed {
        /// The job.
        key: JobKey,
    },
    /// An allocation that was to be updated is gone or over.
    #[error("allocation {id} can not be updated")]
    AllocGone {
        /// The allocation.
        id: AllocId,
    },
    /// The node is gone, not ready, or not eligible.
    #[error("node {id} is not ready for placements")]
    NodeNotReady {
        /// The node.
        id: NodeId,
    },
    /// The node has no room.
    #[error("node {id} has no room: {misfit}")]
    NodeFull {
        /// The node.
        id: NodeId,
        /// What is short.
        misfit: Misfit,
    },
}

/// A command can not be applied, and nothing changed. The texts are those that programs match on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum Refusal {
    /// The job must not exist, and does.
    #[error("Enforcing job modify index 0: job already exists")]
    JobExists,
    /// The job must exist, and does not.
    #[error("Enforcing job modify index {enforced}: job does not exist")]
    JobDoesNotExist {
        /// The index that was enforced.
        enforced: u64,
    },
    /// The job changed.
    #[error("Enforcing job modify index {enforced}: job exists with conflicting job modify index: {found}")]
    JobChanged {
        /// The index that was enforced.
        enforced: u64,
        /// The index that the job has.
        found: u64,
    },
    /// The parent has a child of this token already; the proposer answers with that one.
    #[error("job {child} was dispatched with this idempotency token")]
    DispatchRepeated {
        /// The child that is there.
        child: JobKey,
    },
    /// There is no such job.
    #[error("job not found")]
    JobNotFound,
    /// There is no such version of the job.
    #[error("job {id:?} version {version} not found")]
    JobVersionNotFound {
        /// The job's id.
        id: Text,
        /// The version.
        version: u64,
    },
    /// The tag is taken.
    #[error("tag {name:?} already exists on a different version of job {id:?}")]
    TagTaken {
        /// The tag.
        name: Text,
        /// The job's id.
        id: Text,
    },
    /// There is no such tag.
    #[error("tag {name:?} not found on job {id:?}")]
    TagNotFound {
        /// The tag.
        name: Text,
        /// The job's id.
        id: Text,
    },
    /// The namespace of a job is not there.
    #[error("nonexistent namespace {name:?}")]
    NoSuchNamespace {
        /// The namespace.
        name: Text,
    },
    /// The node pool of a job is not there.
    #[error("nonexistent node pool {name:?}")]
    NoSuchNodePool {
        /// The pool.
        name: Text,
    },
    /// There is no such node.
    #[error("node not found")]
    NodeNotFound,
    /// A draining node can not be made eligible.
    #[error("can not set node's scheduling eligibility to eligible while it is draining")]
    NodeDrains,
    /// There is no such deployment.
    #[error("deployment not found")]
    DeploymentNotFound,
    /// The deployment is over.
    #[error("can't {verb} terminal deployment")]
    DeploymentOver {
        /// What was asked for: `promote`, `fail`, `set health of allocations for`, ...
        verb: Text,
    },
    /// Not enough canaries are healthy; one line a group.
    #[error("{lines}")]
    CanariesNotHealthy {
        /// What is missing, by group.
        lines: String,
    },
    /// There is nothing to promote.
    #[error("no canaries to promote")]
    NothingToPromote,
    /// The allocation is not of that deployment.
    #[error("allocation {id} is not part of the deployment")]
    NotOfDeployment {
        /// The allocation.
        id: AllocId,
    },
    /// The settings of the schedulers changed.
    #[error("scheduler configuration has modify index {found}, not {enforced}")]
    SchedulerConfigChanged {
        /// The index that was enforced.
        enforced: u64,
        /// The index that the settings have.
        found: u64,
    },
    /// No join token has this secret: it was never made, was revoked, or is gone since it expired.
    #[error("join token is not known: make another with 'wayfarer server token create'")]
    JoinTokenUnknown,
    /// The join token has expired.
    #[error("join token {accessor} has expired: make another with 'wayfarer server token create'")]
    JoinTokenExpired {
        /// The token.
        accessor: Uuid,
    },
    /// The join token was used by another agent, or by this one with another key.
    #[error("join token {accessor} was used already: make another with 'wayfarer server token create'")]
    JoinTokenUsed {
        /// The token.
        accessor: Uuid,
    },
    /// The join token is for something else.
    #[error("join token {accessor} is for a {role}, not for a {asked}: make one with '-role {asked}'")]
    JoinTokenRole {
        /// The token.
        accessor: Uuid,
        /// What it is for.
        role: JoinRole,
        /// What was asked.
        asked: JoinRole,
    },
    /// A join token with this accessor or this secret is there.
    #[error("join token {accessor} exists already")]
    JoinTokenExists {
        /// The token.
        accessor: Uuid,
    },
    /// There are as many join tokens as there may be.
    #[error("there are {max} join tokens, no more are kept: revoke those that are not needed")]
    JoinTokensFull {
        /// How many.
        max: usize,
    },
    /// There is no such region.
    #[error("region {name:?} is not trusted")]
    RegionNotFound {
        /// The region.
        name: Text,
    },
    /// The settings of autopilot changed.
    #[error("autopilot configuration has modify index {found}, not {enforced}")]
    AutopilotConfigChanged {
        /// The index that was enforced.
        enforced: u64,
        /// The index that the settings have.
        found: u64,
    },
    /// The namespace is built in.
    #[error("can not delete default namespace")]
    DefaultNamespace,
    /// There is no such namespace.
    #[error("namespace not found")]
    NamespaceNotFound,
    /// Something lives in the namespace.
    #[error("namespace {name:?} has {what}")]
    NamespaceInUse {
        /// The namespace.
        name: Text,
        /// `non-terminal jobs` or `non-terminal allocations`; one line a kind, if both.
        what: String,
    },
    /// A built-in pool can not be changed.
    #[error("modifying node pool {name:?} is not allowed")]
    BuiltInPoolChanged {
        /// The pool.
        name: Text,
    },
    /// A built-in pool can not be removed.
    #[error("deleting node pool {name:?} is not allowed")]
    BuiltInPoolDeleted {
        /// The pool.
        name: Text,
    },
    /// There is no such pool.
    #[error("node pool {name} not found")]
    NodePoolNotFound {
        /// The pool.
        name: Text,
    },
    /// There is no such key.
    #[error("root key not found")]
    RootKeyNotFound,
    /// The key in use can not go.
    #[error("active root key cannot be deleted - call rotate first")]
    RootKeyActive,
    /// Another restore began meanwhile, or a part is missing.
    #[error("the parts of this restore are not there any more: another restore began, or it was given up")]
    RestoreGone,
    /// The parts are no copy that this build can read.
    #[error("the copy can not be restored: {reason}")]
    RestoreUnreadable {
        /// What is wrong with it.
        reason: String,
    },
    /// Something uses the pool.
    #[error("node pool {name:?} has {what}")]
    NodePoolInUse {
        /// The pool.
        name: Text,
        /// `nodes` or `non-terminal jobs`.
        what: Text,
    },
}

/// What one command touched, in the order in which it did.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The command's index.
    pub index: u64,
    /// What the event stream calls it; none when it is not told.
    pub kind: Option<EventKind>,
    /// The rows, each as it was and as it is. A row that was touched twice appears once, with its first and last form.
    pub rows: Vec<ChangedRow>,
}

/// A row that a command touched.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum ChangedRow {
    /// The cluster got its id.
    Cluster,
    /// A node; no `before` for a new one, no `after` for one that is gone. The same for the others.
    Node { before: Option<Arc<Node>>, after: Option<Arc<Node>> },
    /// A job's latest version.
    Job { before: Option<Arc<Job>>, after: Option<Arc<Job>> },
    /// An older version of a job: its tag or whether it is stable.
    JobVersion { key: JobKey, version: u64 },
    /// An allocation.
    Alloc { before: Option<Arc<Allocation>>, after: Option<Arc<Allocation>> },
    /// An evaluation.
    Eval { before: Option<Arc<Evaluation>>, after: Option<Arc<Evaluation>> },
    /// A deployment.
    Deployment { before: Option<Arc<Deployment>>, after: Option<Arc<Deployment>> },
    /// Counts of a job's allocations.
    Summary(JobKey),
    /// The text of a job version.
    Submission(JobKey, u64),
    /// The last launch of a periodic job.
    PeriodicLaunch(JobKey),
    /// A job's scaling events.
    ScalingEvents(JobKey),
    /// A namespace.
    Namespace(Text),
    /// A node pool.
    NodePool { name: Text, after: Option<Arc<NodePool>> },
    /// Settings of the schedulers.
    SchedulerConfig,
    /// A join token.
    JoinToken(Uuid),
    /// Demands of whoever joins.
    JoinSettings,
    /// Another region that is trusted.
    Region(Text),
    /// What restoring leaves behind, or the whole state with it.
    Restore { installed: bool },
    /// Settings of how servers are kept.
    AutopilotConfig,
    /// A key of the keyring.
    RootKey(Uuid),
}

impl ChangedRow {
    /// Returns the table that the row is in.
    pub fn table(&self) -> Table {
        match self {
            Self::Cluster => Table::Cluster,
            Self::Node { .. } => Table::Nodes,
            Self::Job { .. } | Self::JobVersion { .. } => Table::Jobs,
            Self::Alloc { .. } => Table::Allocs,
            Self::Eval { .. } => Table::Evals,
            Self::Deployment { .. } => Table::Deployments,
            Self::Summary(_) => Table::Summaries,
            Self::Submission(..) => Table::Submissions,
            Self::PeriodicLaunch(_) => Table::PeriodicLaunches,
            Self::ScalingEvents(_) => Table::ScalingEvents,
            Self::Namespace(_) => Table::Namespaces,
            Self::NodePool { .. } => Table::NodePools,
            Self::SchedulerConfig => Table::SchedulerConfig,
            Self::JoinToken(_) => Table::JoinTokens,
            Self::JoinSettings => Table::JoinSettings,
            Self::Region(_) => Table::Regions,
            Self::Restore { .. } => Table::Restore,
            Self::AutopilotConfig => Table::AutopilotConfig,
            Self::RootKey(_) => Table::RootKeys,
        }
    }
}

impl Changes {
    /// Says that everything may have changed, e.g. because a server was given the state by another.
    pub fn everything(index: u64) -> Self {
        Self { index, kind: None, rows: vec![ChangedRow::Restore { installed: true }] }
    }

    /// Tells whether the state was replaced as a whole: whoever follows it starts from the state.
    pub fn replaced(&self) -> bool {
        self.rows.iter().any(|row| matches!(row, ChangedRow::Restore { installed: true }))
    }

    /// Returns the tables that were touched.
    pub fn tables(&self) -> BTreeSet<Table> {
        self.rows.iter().map(ChangedRow::table).collect()
    }

    /// Lists allocations that changed: before and after.
    pub fn allocs(&self) -> impl Iterator<Item = (Option<&Arc<Allocation>>, Option<&Arc<Allocation>>)> {
        self.rows.iter().filter_map(|row| match row {
            ChangedRow::Alloc { before, after } => Some((before.as_ref(), after.as_ref())),
            _ => None,
        })
    }

    /// Lists nodes that changed: before and after.
    pub fn nodes(&self) -> impl Iterator<Item = (Option<&Arc<Node>>, Option<&Arc<Node>>)> {
        self.rows.iter().filter_map(|row| match row {
            ChangedRow::Node { before, after } => Some((before.as_ref(), after.as_ref())),
            _ => None,
        })
    }

    /// Lists jobs that changed: before and after.
    pub fn jobs(&self) -> impl Iterator<Item = (Option<&Arc<Job>>, Option<&Arc<Job>>)> {
        self.rows.iter().filter_map(|row| match row {
            ChangedRow::Job { before, after } => Some((before.as_ref(), after.as_ref())),
            _ => None,
        })
    }

    /// Lists evaluations that are there and changed.
    pub fn evals(&self) -> impl Iterator<Item = &Arc<Evaluation>> {
        self.rows.iter().filter_map(|row| match row {
            ChangedRow::Eval { after, .. } => after.as_ref(),
            _ => None,
        })
    }

    /// Lists evaluations that are gone.
    pub fn removed_evals(&self) -> impl Iterator<Item = EvalId> {
        self.rows.iter().filter_map(|row| match row {
            ChangedRow::Eval { before: Some(before), after: None } => Some(before.id),
            _ => None,
        })
    }

    /// Lists deployments that are there and changed.
    pub fn deployments(&self) -> impl Iterator<Item = &Arc<Deployment>> {
        self.rows.iter().filter_map(|row| match row {
            ChangedRow::Deployment { after, .. } => after.as_ref(),
            _ => None,
        })
    }

    /// Lists deployments that are gone.
    pub fn removed_deployments(&self) -> impl Iterator<Item = DeploymentId> {
        self.rows.iter().filter_map(|row| match row {
            ChangedRow::Deployment { before: Some(before), after: None } => Some(before.id),
            _ => None,
        })
    }
}

/// What the event stream calls a change; it follows from the command, not from the row.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[allow(missing_docs)]
pub enum EventKind {
    NodeRegistration,
    NodeDeregistration,
    NodeStreamEvent,
    NodeEligibility,
    NodeDrain,
    JobRegistered,
    JobDeregistered,
    JobBatchDeregistered,
    EvaluationUpdated,
    PlanResult,
    AllocationUpdated,
    AllocationUpdateDesiredStatus,
    DeploymentStatusUpdate,
    DeploymentPromotion,
    DeploymentAllocHealth,
    NodePoolUpserted,
    NodePoolDeleted,
}

impl EventKind {
    /// Returns what the event stream calls the changes of a command; none when it does not tell them.
    pub fn of(command: &Command) -> Option<Self> {
        Some(match command {
            Command::UpsertNode { .. } => Self::NodeRegistration,
            Command::UpdateNodeStatus { .. } | Command::NoteNodeEvents { .. } => Self::NodeStreamEvent,
            Command::UpdateNodeEligibility { .. } => Self::NodeEligibility,
            Command::DrainNode { .. } => Self::NodeDrain,
            Command::DeregisterNodes { .. } => Self::NodeDeregistration,
            Command::RegisterJob { .. } => Self::JobRegistered,
            Command::DeregisterJob { .. } => Self::JobDeregistered,
            Command::UpsertEvals { .. } => Self::EvaluationUpdated,
            Command::ApplyPlans { .. } => Self::PlanResult,
            Command::UpdateAllocs { .. } => Self::AllocationUpdated,
            Command::UpdateTransitions { .. } => Self::AllocationUpdateDesiredStatus,
            Command::UpdateDeployment { .. } => Self::DeploymentStatusUpdate,
            Command::PromoteDeployment { .. } => Self::DeploymentPromotion,
            Command::SetAllocHealth { .. } => Self::DeploymentAllocHealth,
            Command::UpsertNodePools { .. } => Self::NodePoolUpserted,
            Command::DeleteNodePools { .. } => Self::NodePoolDeleted,
            Command::Collect { jobs, nodes, .. } => match (jobs.is_empty(), nodes.is_empty()) {
                (false, _) => Self::JobBatchDeregistered,
                (true, false) => Self::NodeDeregistration,
                (true, true) => return None,
            },
            Command::InitCluster { .. }
            | Command::MarkJobStable { .. }
            | Command::TagJobVersion { .. }
            | Command::SetSchedulerConfig { .. }
            | Command::UpsertNamespaces { .. }
            | Command::DeleteNamespaces { .. }
            | Command::NotePeriodicLaunch { .. }
            | Command::ReconcileSummaries
            | Command::CreateJoinToken { .. }
            | Command::UseJoinToken { .. }
            | Command::RevokeJoinTokens { .. }
            | Command::SetJoinSettings { .. }
            | Command::TrustRegion { .. }
            | Command::ForgetRegion { .. }
            | Command::Restore(_)
            | Command::SetAutopilotConfig { .. }
            | Command::AddRootKey { .. }
            | Command::DeleteRootKey { .. } => return None,
        })
    }

    /// Returns the name that the event stream uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeRegistration => "NodeRegistration",
            Self::NodeDeregistration => "NodeDeregistration",
            Self::NodeStreamEvent => "NodeStreamEvent",
            Self::NodeEligibility => "NodeEligibility",
            Self::NodeDrain => "NodeDrain",
            Self::JobRegistered => "JobRegistered",
            Self::JobDeregistered => "JobDeregistered",
            Self::JobBatchDeregistered => "JobBatchDeregistered",
            Self::EvaluationUpdated => "EvaluationUpdated",
            Self::PlanResult => "PlanResult",
            Self::AllocationUpdated => "AllocationUpdated",
            Self::AllocationUpdateDesiredStatus => "AllocationUpdateDesiredStatus",
            Self::DeploymentStatusUpdate => "DeploymentStatusUpdate",
            Self::DeploymentPromotion => "DeploymentPromotion",
            Self::DeploymentAllocHealth => "DeploymentAllocHealth",
            Self::NodePoolUpserted => "NodePoolUpserted",
            Self::NodePoolDeleted => "NodePoolDeleted",
        }
    }
}

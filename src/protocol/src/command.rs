use bytes::Bytes;
use model::{
    AllocId, AutopilotConfig, DeploymentId, DesiredTransition, DrainStrategy, EvalId, Evaluation, Job,
    JobKey, JobSubmission, JoinRole, JoinToken, JoinTokenUse, Namespace, Node, NodeEvent, NodeId, NodePool,
    NodeStatus, RootKey, ScalingEvent, SchedulerConfig, Text, Timestamp, TrustedRegion,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{DeploymentUpdate, Named, Plan, session::AllocUpdate};

/// Everything that changes the state of a region. One command is one commit: it happens wholly or not at all.
///
/// Ids, times and random choices are inside: applying a command reads no clock and draws no number. Evaluations that a
/// change makes necessary travel with the change.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// The first command of a region: gives it its id.
    InitCluster {
        /// Random; two clusters never merge.
        cluster_id: Uuid,
        /// When.
        now: Timestamp,
    },
    /// A client registered, or its facts changed. Status, eligibility and drain of a known node stay.
    UpsertNode {
        /// The node as its client describes it.
        node: Named<Box<Node>>,
        /// For jobs that the change may help.
        evals: Vec<Evaluation>,
        /// When.
        now: Timestamp,
    },
    /// Nodes became ready, down or disconnected.
    UpdateNodeStatus {
        /// Which, and how.
        updates: Vec<NodeStatusUpdate>,
        /// For the jobs on them.
        evals: Vec<Evaluation>,
        /// When.
        now: Timestamp,
    },
    /// A node may be used for new allocations, or not.
    UpdateNodeEligibility {
        /// Which.
        node_id: NodeId,
        /// Whether it may.
        eligible: bool,
        /// What is noted on the node.
        event: Option<NodeEvent>,
        /// For system jobs and those that wait.
        evals: Vec<Evaluation>,
        /// When.
        now: Timestamp,
    },
    /// A node is to be emptied, or not any more.
    DrainNode {
        /// Which.
        node_id: NodeId,
        /// How; none ends the drain.
        drain: Option<DrainStrategy>,
        /// When a drain ends: whether the node may be used again.
        mark_eligible: bool,
        /// When a drain ends: whether the node is empty; otherwise someone called it off.
        completed: bool,
        /// What whoever asked said, and who they are.
        meta: Vec<(Text, Text)>,
        /// What is noted on the node.
        event: Option<NodeEvent>,
        /// For the jobs on it.
        evals: Vec<Evaluation>,
        /// When.
        now: Timestamp,
    },
    /// Nodes are forgotten.
    DeregisterNodes {
        /// Which.
        node_ids: Vec<NodeId>,
        /// For the jobs on them.
        evals: Vec<Evaluation>,
        /// When.
        now: Timestamp,
    },
    /// Things that happened to nodes.
    NoteNodeEvents {
        /// What happened to which.
        events: Vec<(NodeId, NodeEvent)>,
    },
    /// A job is registered, anew or in another version.
    RegisterJob {
        /// The job; version, indexes and status are set when applied.
        job: Box<Job>,
        /// The text that it came from.
        submission: Option<Box<JobSubmission>>,
        /// Refuse unless the job has this modify index; 0 for "must not exist".
        enforce_index: Option<u64>,
        /// None for jobs that only launch children.
        eval: Option<Box<Evaluation>>,
        /// A count that someone scaled.
        scaling: Option<Box<(Text, ScalingEvent)>>,
        /// When.
        now: Timestamp,
    },
    /// A job is stopped, and forgotten if purged.
    DeregisterJob {
        /// Which.
        key: JobKey,
        /// Forget it.
        purge: bool,
        /// Its tasks stop at once.
        no_shutdown_delay: bool,
        /// None for jobs that only launch children.
        eval: Option<Box<Evaluation>>,
        /// When.
        now: Timestamp,
    },
    /// A version is known to work, or not.
    MarkJobStable {
        /// The job.
        key: JobKey,
        /// The version.
        version: u64,
        /// Whether it works.
        stable: bool,
    },
    /// A version gets a name, or loses it.
    TagJobVersion {
        /// The job.
        key: JobKey,
        /// The version; the latest when none.
        version: Option<u64>,
        /// The name.
        name: Text,
        /// Its description; none takes the name away.
        description: Option<String>,
        /// When.
        now: Timestamp,
    },
    /// Evaluations are made or change.
    UpsertEvals {
        /// The evaluations.
        evals: Vec<Evaluation>,
    },
    /// What a round of the scheduler decided.
    ApplyPlans {
        /// In order; a later one counts with the earlier ones.
        plans: Vec<Plan>,
        /// When.
        now: Timestamp,
    },
    /// Clients say how their allocations are.
    UpdateAllocs {
        /// What they say.
        updates: Vec<AllocUpdate>,
        /// For jobs whose allocations ended.
        evals: Vec<Evaluation>,
        /// When.
        now: Timestamp,
    },
    /// Someone asks something of allocations.
    UpdateTransitions {
        /// What is asked of which.
        transitions: Vec<(AllocId, DesiredTransition)>,
        /// For their jobs.
        evals: Vec<Evaluation>,
        /// When.
        now: Timestamp,
    },
    /// A deployment's status changes.
    UpdateDeployment {
        /// Which, and how.
        update: DeploymentUpdate,
        /// A job that it goes back to.
        job: Option<Box<Job>>,
        /// For its job.
        eval: Option<Box<Evaluation>>,
        /// When.
        now: Timestamp,
    },
    /// Canaries are taken over.
    PromoteDeployment {
        /// Which.
        id: DeploymentId,
        /// The groups; all when none.
        groups: Option<Vec<Text>>,
        /// For its job.
        eval: Option<Box<Evaluation>>,
        /// When.
        now: Timestamp,
    },
    /// Health of allocations in a deployment, told by a user.
    SetAllocHealth {
        /// The deployment.
        id: DeploymentId,
        /// Those that are healthy.
        healthy: Vec<AllocId>,
        /// Those that are not.
        unhealthy: Vec<AllocId>,
        /// What follows for the deployment.
        update: Option<DeploymentUpdate>,
        /// A job that it goes back to.
        job: Option<Box<Job>>,
        /// For its job.
        eval: Option<Box<Evaluation>>,
        /// When.
        now: Timestamp,
    },
    /// Settings of the schedulers.
    SetSchedulerConfig {
        /// The settings.
        config: Named<SchedulerConfig>,
        /// Refuse unless the settings have this modify index.
        cas: Option<u64>,
    },
    /// Namespaces are made or change.
    UpsertNamespaces {
        /// The namespaces.
        namespaces: Vec<Named<Namespace>>,
    },
    /// Namespaces are removed; refused while something lives in one.
    DeleteNamespaces {
        /// Their names.
        names: Vec<Text>,
    },
    /// Node pools are made or change.
    UpsertNodePools {
        /// The pools.
        pools: Vec<Named<NodePool>>,
    },
    /// Node pools are removed; refused while something uses one.
    DeleteNodePools {
        /// Their names.
        names: Vec<Text>,
    },
    /// Old records are removed.
    Collect {
        /// Evaluations.
        evals: Vec<EvalId>,
        /// Allocations.
        allocs: Vec<AllocId>,
        /// Jobs, with all their versions.
        jobs: Vec<JobKey>,
        /// Deployments.
        deployments: Vec<DeploymentId>,
        /// Nodes.
        nodes: Vec<NodeId>,
    },
    /// A periodic job was launched.
    NotePeriodicLaunch {
        /// The periodic job.
        key: JobKey,
        /// When its launch was due.
        launch: Timestamp,
    },
    /// Counts of jobs' allocations are made anew.
    ReconcileSummaries,
    /// A join token is made.
    CreateJoinToken {
        /// The token; its indexes are set when applied.
        token: Named<JoinToken>,
    },
    /// An agent uses a join token: once, in time, for its role. The same agent with the same key may say so again.
    UseJoinToken {
        /// SHA-256 of the secret that it showed.
        secret_hash: [u8; 32],
        /// What it wants to become.
        role: JoinRole,
        /// Who, with which key, and when.
        used: JoinTokenUse,
    },
    /// Join tokens are forgotten; those that are not there are no error.
    RevokeJoinTokens {
        /// Their accessors.
        accessors: Vec<Uuid>,
    },
    /// Demands of whoever joins.
    SetJoinSettings {
        /// Neither the gossip key nor trust is enough.
        require_token: bool,
    },
    /// Another region is trusted, for its name only.
    TrustRegion {
        /// The region; its indexes are set when applied.
        region: Named<TrustedRegion>,
    },
    /// Another region is trusted no longer.
    ForgetRegion {
        /// Its name.
        name: Text,
    },
    /// A part of replacing the state by a copy.
    Restore(RestoreStep),
    /// Settings of how servers are kept.
    SetAutopilotConfig {
        /// The settings.
        config: Named<AutopilotConfig>,
        /// Refuse unless the settings have this modify index.
        cas: Option<u64>,
    },
    /// A key becomes the one in use; what was in use before stays, for what was made with it.
    AddRootKey {
        /// The key; its indexes are set when applied.
        key: Named<RootKey>,
        /// Only when there is none yet.
        first: bool,
    },
    /// A key that is not in use is removed.
    DeleteRootKey {
        /// Which.
        id: Uuid,
    },
}

/// Replacing the state by a copy takes many commands, since a copy is larger than an entry of the log may be. Nothing of
/// what a region runs changes before the last of them.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum RestoreStep {
    /// Parts of a copy will come. What an earlier restore left behind is dropped: there is one at a time.
    Begin {
        /// Random; later steps name it.
        id: Uuid,
    },
    /// The next part.
    Part {
        /// Which restore.
        id: Uuid,
        /// Counts from 0.
        number: u32,
        /// Of the compressed copy.
        bytes: Bytes,
    },
    /// All parts are there: they become the state.
    Install {
        /// Which restore.
        id: Uuid,
        /// How many parts there are.
        parts: u32,
    },
    /// The parts are dropped; nothing changes.
    Abort {
        /// Which restore.
        id: Uuid,
    },
}

/// A node's new status.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct NodeStatusUpdate {
    /// Which.
    pub node_id: NodeId,
    /// Its status.
    pub status: NodeStatus,
    /// What is noted on the node.
    pub event: Option<NodeEvent>,
}

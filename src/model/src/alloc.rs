use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    AllocId, AllocMetric, AllocatedResources, DeploymentId, EvalId, Job, JobKey, NodeId, TaskEvent,
    TaskGroup, Text, Timestamp, named::named_enum,
};

named_enum! {
    /// What the servers want of an allocation.
    DesiredStatus {
        /// It should run.
        Run = "run",
        /// It should stop.
        Stop = "stop",
        /// It should stop, for a job of higher priority.
        Evict = "evict",
    }
}

named_enum! {
    /// What the client says of an allocation.
    ClientStatus {
        /// Not started yet.
        Pending = "pending",
        /// At least one task runs.
        Running = "running",
        /// Ended, and well.
        Complete = "complete",
        /// Ended, and not well.
        Failed = "failed",
        /// Its node is gone.
        Lost = "lost",
        /// Its node can not be reached.
        Unknown = "unknown",
    }
}

impl ClientStatus {
    /// Tells whether nothing of the allocation runs or will run.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Complete | Self::Failed | Self::Lost => true,
            Self::Pending | Self::Running | Self::Unknown => false,
        }
    }
}

named_enum! {
    /// Where a task is in its life.
    TaskRunState {
        /// Not started yet, or waiting for a restart.
        Pending = "pending",
        /// Runs.
        Running = "running",
        /// Over for good.
        Dead = "dead",
    }
}

/// One task group placed on one node: a row of the state, and small, since there are millions.
///
/// What is the same for siblings is shared (`job`, `resources` without ports, `metrics`); what most never have is boxed.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Its id.
    pub id: AllocId,
    /// The evaluation that placed it.
    pub eval_id: EvalId,
    /// Where it is.
    pub node_id: NodeId,
    /// The job version that it was placed with.
    pub job: Arc<Job>,
    /// Index of its group in the job's groups.
    pub group: u16,
    /// The number in its name, `job.group[index]`.
    pub index: u32,
    /// What the servers want.
    pub desired: DesiredStatus,
    /// What the client says.
    pub client_status: ClientStatus,
    /// Why the servers want it.
    pub desired_description: Text,
    /// The client's words.
    pub client_description: Text,
    /// What it holds on its node.
    pub resources: Arc<AllocatedResources>,
    /// How its placement came about.
    pub metrics: Option<Arc<AllocMetric>>,
    /// Its tasks, in the order of the group's tasks; empty until the client has spoken.
    pub task_states: Arc<[TaskState]>,
    /// Links and rare facts.
    pub extra: Option<Box<AllocExtra>>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
    /// Index of its last change by a server.
    pub alloc_modify_index: u64,
    /// Time of its creation.
    pub create_time: Timestamp,
    /// Time of its last change.
    pub modify_time: Timestamp,
}

/// What most allocations never have.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AllocExtra {
    /// The one that this one replaced.
    pub previous: Option<AllocId>,
    /// The one that replaced this one.
    pub next: Option<AllocId>,
    /// The delayed evaluation that will replace it.
    pub followup_eval: Option<EvalId>,
    /// The one that this one made room for.
    pub preempted_by: Option<AllocId>,
    /// Those that made room for this one.
    pub preempted: Vec<AllocId>,
    /// The deployment that it belongs to.
    pub deployment: Option<DeploymentId>,
    /// Its health in that deployment.
    pub health: Option<AllocHealth>,
    /// Earlier replacements on its line.
    pub reschedules: Vec<RescheduleEvent>,
    /// Why the last reschedule did not place.
    pub last_reschedule: Text,
    /// What someone asked of it.
    pub transition: DesiredTransition,
    /// How it is reached, as the client says.
    pub network: Option<NetworkStatus>,
    /// When its client status became `unknown`, and back: (status, time).
    pub states: Vec<(ClientStatus, Timestamp)>,
}

/// What someone asked of an allocation; the scheduler acts on it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DesiredTransition {
    /// Move it elsewhere.
    pub migrate: Option<bool>,
    /// Reschedule it.
    pub reschedule: Option<bool>,
    /// Reschedule it whatever its policy says.
    pub force_reschedule: Option<bool>,
    /// Stop it without its shutdown delay.
    pub no_shutdown_delay: Option<bool>,
    /// Move it without a replacement.
    pub migrate_disable_placement: Option<bool>,
}

impl DesiredTransition {
    /// Takes what `other` says over what this says.
    pub fn merge(&mut self, other: Self) {
        self.migrate = other.migrate.or(self.migrate);
        self.reschedule = other.reschedule.or(self.reschedule);
        self.force_reschedule = other.force_reschedule.or(self.force_reschedule);
        self.no_shutdown_delay = other.no_shutdown_delay.or(self.no_shutdown_delay);
        self.migrate_disable_placement = other.migrate_disable_placement.or(self.migrate_disable_placement);
    }
}

/// An allocation's health in its deployment.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AllocHealth {
    /// None until it is known.
    pub healthy: Option<bool>,
    /// When it became known.
    pub timestamp: Timestamp,
    /// Whether it is a canary.
    pub canary: bool,
    /// The index at which it became known.
    pub modify_index: u64,
}

/// One replacement on an allocation's line.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RescheduleEvent {
    /// When.
    pub time: Timestamp,
    /// The one that failed.
    pub previous: AllocId,
    /// Where that was.
    pub previous_node: NodeId,
    /// The wait before, in nanoseconds.
    pub delay_ns: i64,
}

/// How an allocation is reached.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct NetworkStatus {
    /// Interface inside the allocation's network.
    pub interface: Text,
    /// IPv4 address.
    pub address: Text,
    /// IPv6 address.
    pub address_ipv6: Text,
}

/// A task's life so far, as its client tells it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TaskState {
    /// The task.
    pub name: Text,
    /// Where it is in its life.
    pub state: TaskRunState,
    /// Whether it ended badly.
    pub failed: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// When it was last started again.
    pub last_restart: Timestamp,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended for good.
    pub finished_at: Timestamp,
    /// The last events, oldest first, at most 10.
    pub events: Box<[TaskEvent]>,
}

impl TaskState {
    /// Tells whether the task is over, and well.
    pub fn successful(&self) -> bool {
        self.state == TaskRunState::Dead && !self.failed
    }
}

/// An allocation as it is stored and sent: the job is named, not carried.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AllocRecord {
    /// Its id.
    pub id: AllocId,
    /// The evaluation that placed it.
    pub eval_id: EvalId,
    /// Where it is.
    pub node_id: NodeId,
    /// The job.
    pub job: JobKey,
    /// The job's create index: it tells two jobs of one key apart, when one was purged.
    pub job_create_index: u64,
    /// The job's version.
    pub job_version: u64,
    /// Index of its group.
    pub group: u16,
    /// The number in its name.
    pub index: u32,
    /// What the servers want.
    pub desired: DesiredStatus,
    /// What the client says.
    pub client_status: ClientStatus,
    /// Why the servers want it.
    pub desired_description: Text,
    /// The client's words.
    pub client_description: Text,
    /// What it holds on its node.
    pub resources: Arc<AllocatedResources>,
    /// How its placement came about.
    pub metrics: Option<Arc<AllocMetric>>,
    /// Its tasks.
    pub task_states: Arc<[TaskState]>,
    /// Links and rare facts.
    pub extra: Option<Box<AllocExtra>>,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
    /// Index of its last change by a server.
    pub alloc_modify_index: u64,
    /// Time of its creation.
    pub create_time: Timestamp,
    /// Time of its last change.
    pub modify_time: Timestamp,
}

impl Allocation {
    /// Returns its name, `job.group[index]`.
    pub fn name(&self) -> String {
        format!("{}.{}[{}]", self.job.key.id, self.task_group().name, self.index)
    }

    /// Returns its task group.
    pub fn task_group(&self) -> &TaskGroup {
        &self.job.spec.groups[usize::from(self.group)]
    }

    /// Tells whether the servers want it gone.
    pub fn server_terminal(&self) -> bool {
        match self.desired {
            DesiredStatus::Stop | DesiredStatus::Evict => true,
            DesiredStatus::Run => false,
        }
    }

    /// Tells whether the servers want it gone, or it is.
    pub fn terminal(&self) -> bool {
        self.server_terminal() || self.client_status.is_terminal()
    }

    /// Tells whether it holds its resources: until its client says that it is over.
    pub fn occupies(&self) -> bool {
        !self.client_status.is_terminal()
    }

    /// Returns the rare facts, or an empty set of them.
    pub fn extra(&self) -> &AllocExtra {
        static NONE: AllocExtra = AllocExtra::EMPTY;
        self.extra.as_deref().unwrap_or(&NONE)
    }

    /// Returns the rare facts to write to.
    pub fn extra_mut(&mut self) -> &mut AllocExtra {
        self.extra.get_or_insert_default()
    }

    /// Finds a task's state.
    pub fn task_state(&self, task: &str) -> Option<&TaskState> {
        self.task_states.iter().find(|state| state.name == task)
    }

    /// Returns the form that is stored and sent.
    pub fn to_record(&self) -> AllocRecord {
        AllocRecord {
            id: self.id,
            eval_id: self.eval_id,
            node_id: self.node_id,
            job: self.job.key.clone(),
            job_create_index: self.job.create_index,
            job_version: self.job.version,
            group: self.group,
            index: self.index,
            desired: self.desired,
            client_status: self.client_status,
            desired_description: self.desired_description.clone(),
            client_description: self.client_description.clone(),
            resources: self.resources.clone(),
            metrics: self.metrics.clone(),
            task_states: self.task_states.clone(),
            extra: self.extra.clone(),
            create_index: self.create_index,
            modify_index: self.modify_index,
            alloc_modify_index: self.alloc_modify_index,
            create_time: self.create_time,
            modify_time: self.modify_time,
        }
    }
}

impl AllocRecord {
    /// Puts the job that the record names back in its place.
    pub fn with_job(self, job: Arc<Job>) -> Allocation {
        Allocation {
            id: self.id,
            eval_id: self.eval_id,
            node_id: self.node_id,
            job,
            group: self.group,
            index: self.index,
            desired: self.desired,
            client_status: self.client_status,
            desired_description: self.desired_description,
            client_description: self.client_description,
            resources: self.resources,
            metrics: self.metrics,
            task_states: self.task_states,
            extra: self.extra,
            create_index: self.create_index,
            modify_index: self.modify_index,
            alloc_modify_index: self.alloc_modify_index,
            create_time: self.create_time,
            modify_time: self.modify_time,
        }
    }
}

impl AllocExtra {
    /// No facts at all.
    pub const EMPTY: Self = Self {
        previous: None,
        next: None,
        followup_eval: None,
        preempted_by: None,
        preempted: Vec::new(),
        deployment: None,
        health: None,
        reschedules: Vec::new(),
        last_reschedule: Text::new_static(""),
        transition: DesiredTransition {
            migrate: None,
            reschedule: None,
            force_reschedule: None,
            no_shutdown_delay: None,
            migrate_disable_placement: None,
        },
        network: None,
        states: Vec::new(),
    };
}

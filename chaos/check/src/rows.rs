use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use model::{
    AllocId, AllocatedResources, AllocatedTask, Allocation, ClientStatus, Deployment, DeploymentGroup,
    DeploymentId, DeploymentStatus, DesiredStatus, DrainStrategy, EvalId, EvalStatus, Evaluation, Job,
    JobKey, JobType, LifecycleHook, Node, NodeId, NodeStatus, TaskGroup, Text, Timestamp,
};
use state::State;

/// The rows of a server's state that properties look at, at one index.
///
/// They are made either from the state itself ([`Rows::of`]) or from what the API shows; what a row holds on its node is
/// added up here, apart from the product's own sums.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Up to which index.
    pub index: u64,
    /// Nodes by id.
    pub nodes: BTreeMap<NodeId, NodeRow>,
    /// Jobs by key, in their latest version.
    pub jobs: BTreeMap<JobKey, JobRow>,
    /// Allocations by id.
    pub allocs: BTreeMap<AllocId, AllocRow>,
    /// Evaluations by id.
    pub evals: BTreeMap<EvalId, EvalRow>,
    /// Deployments by id.
    pub deployments: BTreeMap<DeploymentId, Arc<Deployment>>,
}

/// A node.
#[derive(Clone, Debug)]
pub struct NodeRow {
    /// Whether it can be used.
    pub status: NodeStatus,
    /// New allocations may be placed on it.
    pub schedulable: bool,
    /// MHz for allocations.
    pub cpu: u64,
    /// MiB of memory for allocations.
    pub memory_mb: u64,
    /// MiB of disk for allocations.
    pub disk_mb: u64,
    /// Cores that may be given away.
    pub cores: BTreeSet<u16>,
    /// Device instances: `vendor/type/name/id`.
    pub devices: BTreeSet<Text>,
    /// Its record's index: what it has may have changed there.
    pub modify_index: u64,
    /// How it is being emptied, when it is.
    pub drain: Option<DrainStrategy>,
    /// The last time that it was emptied came to its end.
    pub drained: bool,
    /// What is known of it, by the names that constraints use without `${attr.}`.
    pub attributes: BTreeMap<Text, Text>,
    /// The first and the last port that may be given away without being asked for.
    pub dynamic_ports: (u16, u16),
}

/// A job.
#[derive(Clone, Debug)]
pub struct JobRow {
    /// Which scheduler places it.
    pub kind: JobType,
    /// It was stopped.
    pub stopped: bool,
    /// It only launches others.
    pub template: bool,
    /// Its version.
    pub version: u64,
    /// Index of its creation: another one when it was purged and came back.
    pub create_index: u64,
    /// The index of its specification.
    pub job_index: u64,
    /// The deployment of its version failed: what that has not placed yet waits for a person.
    pub rollout_failed: bool,
    /// Its groups.
    pub groups: BTreeMap<Text, GroupRow>,
    /// All of it, when it can be seen.
    pub spec: Option<Arc<Job>>,
}

/// A group of a job.
#[derive(Clone, Debug, Default)]
pub struct GroupRow {
    /// How many are wanted.
    pub count: u32,
    /// How many more may be there while a change is tried.
    pub canaries: u32,
}

/// An allocation.
#[derive(Clone, Debug)]
pub struct AllocRow {
    /// Where it is.
    pub node: NodeId,
    /// Whose.
    pub job: JobKey,
    /// Of which version.
    pub version: u64,
    /// How its job is placed.
    pub kind: JobType,
    /// Its group.
    pub group: Text,
    /// The number in its name.
    pub number: u32,
    /// What the servers want.
    pub desired: DesiredStatus,
    /// What the client says.
    pub client: ClientStatus,
    /// It tries a change.
    pub canary: bool,
    /// Its node could not be reached at some time, so it may have been replaced and come back.
    pub was_unknown: bool,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
    /// Those that it takes the place of: it starts when they are gone, if they are on its node.
    pub takes_over: Vec<AllocId>,
    /// How often each task was started again.
    pub restarts: BTreeMap<Text, u32>,
    /// What it holds on its node.
    pub holds: Holding,
    /// What came before and what became of it, as far as it can be seen.
    pub story: Story,
    /// Its job as it was placed or last changed with, when that can be seen.
    pub spec: Option<Arc<Job>>,
}

/// What came before an allocation and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// The one that it was placed for.
    pub previous: Option<AllocId>,
    /// The one that was placed for it.
    pub next: Option<AllocId>,
    /// The deployment that it is part of.
    pub deployment: Option<DeploymentId>,
    /// What its deployment or its `migrate` block knows of its health.
    pub healthy: Option<bool>,
    /// When that became known, by its client's clock; zero when it did not.
    pub healthy_at: Timestamp,
    /// It was asked to leave its node.
    pub migrates: bool,
    /// It was asked to be placed anew whatever its policy says.
    pub forced: bool,
    /// Why the servers want of it what they want.
    pub why: Text,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When the last of its tasks ended; zero when none did.
    pub ended_at: Timestamp,
}

/// What an allocation holds on its node.
#[derive(Clone, Debug, Default)]
pub struct Holding {
    /// MHz.
    pub cpu: u64,
    /// MiB of memory.
    pub memory_mb: u64,
    /// MiB of disk.
    pub disk_mb: u64,
    /// Cores for itself alone.
    pub cores: Vec<u16>,
    /// Ports of the host.
    pub ports: Vec<OwnedPort>,
    /// Device instances: `vendor/type/name/id`.
    pub devices: Vec<Text>,
}

/// A port of a host.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct OwnedPort {
    /// The host's address.
    pub address: Text,
    /// Its number.
    pub port: u16,
    /// Two owners are fine.
    pub shared: bool,
}

/// An evaluation.
#[derive(Clone, Debug)]
pub struct EvalRow {
    /// Of which job.
    pub job: JobKey,
    /// How far it is.
    pub status: EvalStatus,
    /// It waits for its time, in wall time; zero for not.
    pub wait_until: Timestamp,
    /// Index of its last change.
    pub modify_index: u64,
    /// What its job still wants and did not get.
    pub queued: u32,
    /// What nodes had too little of for it, and how many nodes had.
    pub lacks: BTreeMap<Text, u32>,
}

impl Rows {
    /// Takes the rows of a state. Takes time in proportion to it.
    pub fn of(state: &State) -> Self {
        Self {
            index: state.index(),
            nodes: state.nodes().map(|node| (node.id, NodeRow::of(node))).collect(),
            jobs: state.all_jobs().map(|job| (job.key.clone(), JobRow::of(state, job))).collect(),
            allocs: state.allocs().map(|alloc| (alloc.id, AllocRow::of(alloc))).collect(),
            evals: state.evals().map(|eval| (eval.id, EvalRow::of(eval))).collect(),
            deployments: state.deployments().map(|rollout| (rollout.id, rollout.clone())).collect(),
        }
    }

    /// Tells whether something of a job is to be decided at once.
    pub fn undecided(&self, key: &JobKey) -> bool {
        let open = |eval: &EvalRow| eval.status == EvalStatus::Pending && eval.wait_until.is_zero();
        self.evals.values().any(|eval| open(eval) && eval.job == *key)
    }

    /// Tells whether something of a job waits for room or for its time.
    pub fn waits(&self, key: &JobKey) -> bool {
        let open = |eval: &EvalRow| !eval.status.is_terminal();
        self.evals.values().any(|eval| open(eval) && eval.job == *key)
    }

    /// Finds the deployment of a job's version whose canaries of a group were not taken over yet, and that group's progress.
    pub fn canaries(&self, key: &JobKey, group: &str) -> Option<(DeploymentId, &DeploymentGroup)> {
        let version = self.jobs.get(key)?.version;
        let of_version = self.deployments.values().filter(|deployment| {
            deployment.job == *key && deployment.job_version == version && deployment.status.is_active()
        });
        let mut waiting = of_version.filter_map(|deployment| {
            let progress = deployment.groups.get(group)?;
            (progress.desired_canaries > 0 && !progress.promoted).then_some((deployment.id, progress))
        });
        waiting.next()
    }

    /// Lists the allocations that hold what they hold on a node: those whose client does not say that they are over.
    pub fn holding_on(&self, node: NodeId) -> BTreeMap<AllocId, &AllocRow> {
        let held = self.allocs.iter().filter(|(_, row)| row.node == node && !row.client.is_terminal());
        held.map(|(id, row)| (*id, row)).collect()
    }
}

impl NodeRow {
    fn of(node: &Node) -> Self {
        let (all, kept) = (&node.resources.capacity, &node.reserved);
        let devices = node.resources.devices.iter().flat_map(|device| {
            let name = move |id: &Text| device_name(&device.vendor, &device.kind, &device.name, id);
            device.instances.iter().map(move |(id, _)| name(id))
        });
        Self {
            status: node.status,
            schedulable: node.schedulable(),
            cpu: all.cpu_shares.saturating_sub(kept.cpu_shares),
            memory_mb: all.memory_mb.saturating_sub(kept.memory_mb),
            disk_mb: all.disk_mb.saturating_sub(kept.disk_mb),
            cores: all.cores.iter().copied().filter(|core| !kept.cores.contains(core)).collect(),
            devices: devices.collect(),
            modify_index: node.modify_index,
            drain: node.drain,
            drained: node.last_drain.as_ref().is_some_and(|last| last.status == "complete"),
            attributes: node.attributes.clone(),
            dynamic_ports: (node.resources.min_dynamic_port, node.resources.max_dynamic_port),
        }
    }
}

impl JobRow {
    fn of(state: &State, job: &Arc<Job>) -> Self {
        let rollout = state.latest_deployment(&job.key);
        let group = |group: &model::TaskGroup| {
            let canaries = group.update.as_ref().map_or(0, |update| update.canary);
            (group.name.clone(), GroupRow { count: group.count, canaries })
        };
        Self {
            kind: job.spec.kind,
            stopped: job.stop,
            template: job.is_template(),
            version: job.version,
            create_index: job.create_index,
            job_index: job.job_modify_index,
            rollout_failed: rollout.is_some_and(|rollout| {
                rollout.status == DeploymentStatus::Failed && rollout.job_version == job.version
            }),
            groups: job.spec.groups.iter().map(group).collect(),
            spec: Some(job.clone()),
        }
    }
}

impl AllocRow {
    fn of(alloc: &Allocation) -> Self {
        let extra = alloc.extra();
        Self {
            node: alloc.node_id,
            job: alloc.job.key.clone(),
            version: alloc.job.version,
            kind: alloc.job.spec.kind,
            group: alloc.task_group().name.clone(),
            number: alloc.index,
            desired: alloc.desired,
            client: alloc.client_status,
            canary: extra.health.is_some_and(|health| health.canary),
            was_unknown: !extra.states.is_empty() || alloc.client_status == ClientStatus::Unknown,
            create_index: alloc.create_index,
            modify_index: alloc.modify_index,
            takes_over: extra.previous.iter().chain(&extra.preempted).copied().collect(),
            restarts: alloc.task_states.iter().map(|task| (task.name.clone(), task.restarts)).collect(),
            holds: Holding::of(&alloc.resources),
            story: Story::of(alloc),
            spec: Some(alloc.job.clone()),
        }
    }

    /// Returns its group as it was placed or last changed with, when that can be seen.
    pub fn terms(&self) -> Option<&TaskGroup> {
        let job = self.spec.as_ref()?;
        job.group(&self.group).map(|(_, group)| group)
    }

    /// Tells whether it should run and nothing says that it does not.
    pub fn wanted(&self) -> bool {
        self.desired == DesiredStatus::Run && !self.client.is_terminal()
    }
}

impl Story {
    fn of(alloc: &Allocation) -> Self {
        let extra = alloc.extra();
        Self {
            previous: extra.previous,
            next: extra.next,
            deployment: extra.deployment,
            healthy: extra.health.and_then(|health| health.healthy),
            healthy_at: extra.health.map(|health| health.timestamp).unwrap_or_default(),
            migrates: extra.transition.migrate == Some(true),
            forced: extra.transition.force_reschedule == Some(true),
            why: alloc.desired_description.clone(),
            placed_at: alloc.create_time,
            ended_at: alloc.task_states.iter().map(|task| task.finished_at).max().unwrap_or_default(),
        }
    }
}

impl Holding {
    /// Adds up what tasks hold while they are most: tasks of different phases do not run together, sidecars run beside
    /// all of them.
    pub fn of(resources: &AllocatedResources) -> Self {
        let phases: [fn(&AllocatedTask) -> bool; 3] = [
            |task| in_phase(task, LifecycleHook::Prestart),
            |task| task.lifecycle.is_none() || in_phase(task, LifecycleHook::Poststart),
            |task| in_phase(task, LifecycleHook::Poststop),
        ];
        let tasks = &resources.tasks;
        let beside = |task: &&AllocatedTask| task.lifecycle.is_some_and(|lifecycle| lifecycle.sidecar);
        let most = |amount: fn(&AllocatedTask) -> u64| {
            let always: u64 = tasks.iter().filter(beside).map(amount).sum();
            let phase = |phase: &fn(&AllocatedTask) -> bool| {
                tasks.iter().filter(|task| !beside(task) && phase(task)).map(amount).sum::<u64>()
            };
            always + phases.iter().map(phase).max().unwrap_or(0)
        };
        let port = |port: &model::AssignedPort| OwnedPort {
            address: port.host_ip.clone(),
            port: port.value,
            shared: port.ignore_collision,
        };
        let devices = tasks.iter().flat_map(|task| &task.devices).flat_map(|device| {
            let name = move |id: &Text| device_name(&device.vendor, &device.kind, &device.name, id);
            device.ids.iter().map(name)
        });
        Self {
            cpu: most(|task| task.cpu_shares),
            memory_mb: most(|task| task.memory_mb),
            disk_mb: resources.disk_mb,
            cores: tasks.iter().flat_map(|task| task.cores.iter().copied()).collect(),
            ports: resources.ports.iter().map(port).collect(),
            devices: devices.collect(),
        }
    }
}

impl EvalRow {
    fn of(eval: &Evaluation) -> Self {
        Self {
            job: eval.job.clone(),
            status: eval.status,
            wait_until: eval.wait_until,
            modify_index: eval.modify_index,
            lacks: eval
                .failed_groups
                .values()
                .flat_map(|failed| failed.dimension_exhausted.iter())
                .map(|(what, nodes)| (what.clone(), *nodes))
                .collect(),
            // One that nobody has looked at since it was made only says which groups found no room.
            queued: eval
                .queued
                .values()
                .sum::<u32>()
                .max(eval.failed_groups.len().try_into().unwrap_or(u32::MAX)),
        }
    }
}

/// Tells whether enough canaries of a group are healthy, and nobody but a person takes them over.
pub(crate) fn waits_for_a_person(progress: &DeploymentGroup) -> bool {
    let canaries = progress.desired_canaries > 0 && !progress.promoted && !progress.auto_promote;
    canaries && progress.healthy >= progress.desired_canaries
}

fn in_phase(task: &AllocatedTask, hook: LifecycleHook) -> bool {
    task.lifecycle.is_some_and(|lifecycle| lifecycle.hook == hook)
}

fn device_name(vendor: &str, kind: &str, name: &str, id: &str) -> Text {
    format!("{vendor}/{kind}/{name}/{id}").into()
}

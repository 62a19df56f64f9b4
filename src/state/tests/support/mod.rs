//! A store with nodes and jobs in it, for tests.
#![allow(dead_code)]

use std::sync::Arc;

use model::*;
use protocol::{Command, Named, Placement, PlacementLinks, Plan, PlannedJob, Stop, session::AllocUpdate};
use serde_json::{Value, json};
use state::{Applied, Refusal, State, Store};

/// A store and the commands that made it.
#[derive(Clone, Default)]
pub struct Region {
    pub store: Store,
    pub log: Vec<Command>,
    ids: u128,
}

pub fn now() -> Timestamp {
    Timestamp(1_800_000_000_000_000_000)
}

pub fn key(id: &str) -> JobKey {
    JobKey::new("default", id)
}

pub fn document(id: &str, count: u32, update: bool) -> Value {
    let update =
        update.then(|| json!({"MaxParallel": 1, "ProgressDeadline": 600_000_000_000_u64, "Canary": 1}));
    json!({
        "ID": id, "Name": id, "Type": "service", "Priority": 50, "Region": "global", "Datacenters": ["*"],
        "NodePool": "default",
        "TaskGroups": [{
            "Name": "web", "Count": count, "Update": update, "EphemeralDisk": {"SizeMB": 10},
            "Tasks": [{"Name": "server", "Driver": "mock", "Config": {"run_for": "10s"},
                "Resources": {"CPU": 100, "MemoryMB": 64}}],
        }],
    })
}

pub fn job(id: &str, count: u32) -> Job {
    job_from(id, &document(id, count, false))
}

pub fn job_from(id: &str, document: &Value) -> Job {
    Job {
        key: key(id),
        spec: Arc::new(JobSpec::from_document(document).expect("the document is a job")),
        version: 0,
        stop: false,
        stable: false,
        status: JobStatus::Pending,
        status_description: Text::default(),
        submit_time: now(),
        create_index: 0,
        modify_index: 0,
        job_modify_index: 0,
        version_tag: None,
        parent: None,
    }
}

pub fn node(id: NodeId) -> Node {
    let capacity = Capacity { cpu_shares: 1000, cores: vec![], memory_mb: 1000, disk_mb: 1000 };
    let address =
        NodeAddress { alias: "default".into(), address: "10.0.0.1".into(), ..NodeAddress::default() };
    let network = NodeNetwork { mode: "host".into(), addresses: vec![address], ..NodeNetwork::default() };
    Node {
        id,
        secret_id: id.0,
        name: format!("node-{}", id.short()).into(),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        node_class: Text::default(),
        http_addr: "127.0.0.1:4646".into(),
        attributes: [("kernel.name".into(), "linux".into())].into(),
        meta: Default::default(),
        links: Default::default(),
        drivers: [("mock".into(), DriverState { detected: true, healthy: true, ..DriverState::default() })]
            .into(),
        resources: NodeResources { capacity, networks: vec![network], ..NodeResources::default() },
        reserved: Capacity::default(),
        reserved_ports: "22".into(),
        host_volumes: Default::default(),
        host_networks: Default::default(),
        cgroup_parent: Text::default(),
        max_allocs: 0,
        computed_class: "v1:1".into(),
        status: NodeStatus::Ready,
        status_description: Text::default(),
        status_updated_at: Timestamp::ZERO,
        eligible: true,
        drain: None,
        last_drain: None,
        events: vec![],
        tls_enabled: false,
        last_alloc_update_index: 0,
        last_missed_heartbeat_index: 0,
        create_index: 0,
        modify_index: 0,
    }
}

pub fn resources(port: Option<u16>) -> AllocatedResources {
    let task =
        AllocatedTask { name: "server".into(), cpu_shares: 100, memory_mb: 64, ..AllocatedTask::default() };
    let port = port.map(|value| AssignedPort {
        label: "http".into(),
        value,
        host_ip: "10.0.0.1".into(),
        host_network: "default".into(),
        ..AssignedPort::default()
    });
    AllocatedResources { tasks: vec![task], disk_mb: 10, ports: port.into_iter().collect(), network: None }
}

pub fn update_of(alloc: &Allocation, status: ClientStatus) -> AllocUpdate {
    let state = match status {
        ClientStatus::Pending => TaskRunState::Pending,
        ClientStatus::Running | ClientStatus::Unknown => TaskRunState::Running,
        ClientStatus::Complete | ClientStatus::Failed | ClientStatus::Lost => TaskRunState::Dead,
    };
    let events = [TaskEventKind::Received, TaskEventKind::TaskSetup, TaskEventKind::Started];
    let task = TaskState {
        name: "server".into(),
        state,
        failed: status == ClientStatus::Failed,
        restarts: 0,
        last_restart: Timestamp::ZERO,
        started_at: now(),
        finished_at: Timestamp::ZERO,
        events: events.map(|kind| TaskEvent::new(kind, now())).into(),
    };
    AllocUpdate {
        id: alloc.id,
        node_id: alloc.node_id,
        client_status: status,
        client_description: "Tasks are running".into(),
        task_states: Arc::new([task]),
        health: None,
        network: None,
    }
}

impl Region {
    pub fn with_nodes(count: u128) -> Self {
        let mut region = Self::default();
        for n in 1..=count {
            region.apply(upsert_node(node(NodeId::from_random(n << 64))));
        }
        region
    }

    pub fn state(&self) -> &State {
        self.store.state()
    }

    pub fn next_id(&mut self) -> u128 {
        self.ids += 1;
        // Spread over the whole range, so that the order of ids is not that of their making.
        self.ids.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }

    pub fn try_apply(&mut self, command: Command) -> Result<Applied, Refusal> {
        self.log.push(command.clone());
        let next = self.store.index() + 1 - self.state().index_offset();
        self.store.apply(next, &command)
    }

    pub fn apply(&mut self, command: Command) -> Applied {
        self.try_apply(command).expect("the command is fine")
    }

    pub fn eval(&mut self, job: &JobKey) -> Evaluation {
        let id = EvalId::from_random(self.next_id());
        Evaluation::pending(id, job.clone(), JobType::Service, 50, EvalTrigger::JobRegister, now())
    }

    pub fn register(&mut self, job: Job) -> Applied {
        let eval = self.eval(&job.key);
        self.apply(register(job, Some(eval)))
    }

    /// Makes a plan that places `count` of a job on a node.
    pub fn plan(&mut self, job: &JobKey, node: NodeId, count: u32, port: Option<u16>) -> Plan {
        let eval = self.eval(job);
        let mut plan = Plan::of(Evaluation { status: EvalStatus::Complete, ..eval });
        plan.job = self.state().job(job).map(|job| PlannedJob {
            key: job.key.clone(),
            create_index: job.create_index,
            version: job.version,
        });
        plan.resources.push(Arc::new(resources(port)));
        plan.metrics.push(Arc::new(AllocMetric { nodes_evaluated: 3, ..AllocMetric::default() }));
        plan.placements = (0..count)
            .map(|index| Placement {
                id: AllocId::from_random(self.next_id()),
                node_id: node,
                group: 0,
                index,
                resources: 0,
                metrics: 0,
                links: None,
            })
            .collect();
        plan
    }

    pub fn place(&mut self, job: &JobKey, node: NodeId, count: u32) -> Applied {
        let plan = self.plan(job, node, count, None);
        self.apply(apply_plan(plan))
    }

    pub fn deployment(&self, key: &JobKey, id: DeploymentId) -> Deployment {
        let job = self.state().job(key).expect("it was registered");
        let group = DeploymentGroup {
            progress_deadline: std::time::Duration::from_secs(600),
            desired_canaries: 1,
            desired_total: 1,
            ..DeploymentGroup::default()
        };
        Deployment {
            id,
            job: job.key.clone(),
            job_version: job.version,
            job_modify_index: job.job_modify_index,
            job_spec_modify_index: job.job_modify_index,
            job_create_index: job.create_index,
            eval_priority: 50,
            groups: [("web".into(), group)].into(),
            status: DeploymentStatus::Running,
            status_description: "Deployment is running but requires manual promotion".into(),
            create_index: 0,
            modify_index: 0,
            create_time: now(),
            modify_time: now(),
        }
    }

    pub fn node_id(&self, at: usize) -> NodeId {
        self.state().nodes().nth(at).expect("the region has that many nodes").id
    }

    pub fn alloc_id(&self, at: usize) -> AllocId {
        self.state().allocs().nth(at).expect("the region has that many allocations").id
    }
}

pub fn links(previous: AllocId) -> Option<Box<PlacementLinks>> {
    Some(Box::new(PlacementLinks { previous: Some(previous), ..PlacementLinks::default() }))
}

pub fn stop(id: AllocId) -> Stop {
    Stop {
        id,
        desired: DesiredStatus::Stop,
        description: "alloc not needed due to job update".into(),
        client_status: None,
        followup_eval: None,
        preempted_by: None,
        last_reschedule: Text::default(),
    }
}

pub fn upsert_node(node: Node) -> Command {
    Command::UpsertNode { node: Named(Box::new(node)), evals: vec![], now: now() }
}

pub fn register(job: Job, eval: Option<Evaluation>) -> Command {
    Command::RegisterJob {
        job: Box::new(job),
        submission: Some(Box::new(JobSubmission { source: "job {}".into(), ..JobSubmission::default() })),
        enforce_index: None,
        eval: eval.map(Box::new),
        scaling: None,
        now: now(),
    }
}

pub fn apply_plan(plan: Plan) -> Command {
    Command::ApplyPlans { plans: vec![plan], now: now() }
}

pub fn client_update(updates: Vec<AllocUpdate>) -> Command {
    Command::UpdateAllocs { updates, evals: vec![], now: now() }
}

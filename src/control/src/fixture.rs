//! A region and a clock, for tests.

use std::{sync::Arc, time::Duration};

use model::*;
use protocol::{
    Command, Named, NodeStatusUpdate, Placement, PlacementLinks, Plan, PlannedJob, Stop, session::AllocUpdate,
};
use serde_json::{Value, json};
use state::{Changes, State, Store};

use crate::Moment;

const START: Timestamp = Timestamp(1_800_000_000_000_000_000);

/// A clock that moves when it is told to, and counts for dice.
#[derive(Default)]
pub(crate) struct Clock {
    elapsed: Duration,
    draws: u128,
    draw: Option<Box<dyn FnMut() -> u128>>,
}

impl Clock {
    pub(crate) fn moment(&mut self) -> Moment<'_> {
        let mut draws = self.draws;
        self.draws += 1 << 32;
        let draw = self.draw.insert(Box::new(move || {
            draws += 1;
            draws.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
        }));
        Moment { elapsed: self.elapsed, wall: START.after(self.elapsed), draw }
    }

    pub(crate) fn wall(&self) -> Timestamp {
        START.after(self.elapsed)
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.elapsed += time;
    }
}

/// A store and what its last command touched.
pub(crate) struct Region {
    store: Store,
    last: Option<Changes>,
    ids: u128,
}

pub(crate) fn key(id: &str) -> JobKey {
    JobKey::new("default", id)
}

pub(crate) fn document(id: &str, kind: &str, priority: i32) -> Value {
    json!({
        "ID": id, "Name": id, "Type": kind, "Priority": priority, "Datacenters": ["*"], "NodePool": "default",
        "TaskGroups": [{
            "Name": "web", "Count": 2, "Migrate": {"MaxParallel": 1}, "ReschedulePolicy": {"Unlimited": true},
            "Tasks": [{"Name": "server", "Driver": "mock", "Resources": {"CPU": 100, "MemoryMB": 64}}],
        }],
    })
}

pub(crate) fn job_from(id: &str, document: &Value) -> Job {
    Job {
        key: key(id),
        spec: Arc::new(JobSpec::from_document(document).expect("the document is a job")),
        version: 0,
        stop: false,
        stable: false,
        status: JobStatus::Pending,
        status_description: Text::default(),
        submit_time: START,
        create_index: 0,
        modify_index: 0,
        job_modify_index: 0,
        version_tag: None,
        parent: None,
    }
}

pub(crate) fn job(id: &str, kind: &str, priority: i32) -> Job {
    job_from(id, &document(id, kind, priority))
}

fn node(id: NodeId) -> Node {
    let capacity = Capacity { cpu_shares: 10_000, cores: vec![], memory_mb: 10_000, disk_mb: 10_000 };
    Node {
        id,
        secret_id: id.0,
        name: id.short().into(),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        node_class: Text::default(),
        http_addr: Text::default(),
        attributes: Default::default(),
        meta: Default::default(),
        links: Default::default(),
        drivers: Default::default(),
        resources: NodeResources { capacity, ..NodeResources::default() },
        reserved: Capacity::default(),
        reserved_ports: Text::default(),
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

impl Region {
    pub(crate) fn with_nodes(count: u128) -> Self {
        let mut region = Self { store: Store::new(), last: None, ids: 0 };
        for n in 1..=count {
            region.upsert_node(node(NodeId::from_random(n << 64)));
        }
        region
    }

    pub(crate) fn state(&self) -> &State {
        self.store.state()
    }

    pub(crate) fn last_changes(&self) -> &Changes {
        self.last.as_ref().expect("a command was applied")
    }

    pub(crate) fn apply(&mut self, command: Command) -> Changes {
        let applied = self.store.apply(self.store.index() + 1, &command).expect("the command is fine");
        if let state::Outcome::Plans { rejected } = &applied.outcome {
            assert!(rejected.is_empty(), "{rejected:?}");
        }
        self.last = Some(applied.changes.clone());
        applied.changes
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    fn upsert_node(&mut self, node: Node) {
        self.apply(Command::UpsertNode { node: Named(Box::new(node)), evals: vec![], now: START });
    }

    pub(crate) fn node_id(&self, at: usize) -> NodeId {
        self.state().nodes().nth(at).expect("the region has that many nodes").id
    }

    pub(crate) fn set_class(&mut self, at: usize, class: &str) {
        let mut node = Node::clone(self.state().node(self.node_id(at)).expect("it is there"));
        node.computed_class = class.into();
        self.upsert_node(node);
    }

    pub(crate) fn touch_node(&mut self, at: usize) {
        let id = self.node_id(at);
        self.apply(Command::NoteNodeEvents { events: vec![(id, NodeEvent::default())] });
    }

    pub(crate) fn set_node_status(&mut self, at: usize, status: NodeStatus) {
        let updates = vec![NodeStatusUpdate { node_id: self.node_id(at), status, event: None }];
        self.apply(Command::UpdateNodeStatus { updates, evals: vec![], now: START });
    }

    pub(crate) fn register(&mut self, job: Job) {
        let id = EvalId::from_random(self.id());
        let eval = (!job.is_template()).then(|| {
            Box::new(Evaluation::pending(
                id,
                job.key.clone(),
                job.spec.kind,
                job.spec.priority,
                EvalTrigger::JobRegister,
                START,
            ))
        });
        let (submission, enforce_index, scaling) = (None, None, None);
        self.apply(Command::RegisterJob {
            job: Box::new(job),
            submission,
            enforce_index,
            eval,
            scaling,
            now: START,
        });
    }

    pub(crate) fn deregister(&mut self, id: &str, purge: bool) {
        self.apply(Command::DeregisterJob {
            key: key(id),
            purge,
            no_shutdown_delay: false,
            eval: None,
            now: START,
        });
    }

    fn eval(&mut self, job: &str) -> Evaluation {
        let id = EvalId::from_random(self.id());
        let (kind, priority) = self
            .state()
            .job(&key(job))
            .map_or((JobType::Service, 50), |job| (job.spec.kind, job.spec.priority));
        Evaluation::pending(id, key(job), kind, priority, EvalTrigger::JobRegister, START)
    }

    fn put_eval(&mut self, eval: Evaluation) -> EvalId {
        let id = eval.id;
        self.apply(Command::UpsertEvals { evals: vec![eval] });
        id
    }

    pub(crate) fn add_eval(&mut self, job: &str) -> EvalId {
        let eval = self.eval(job);
        self.put_eval(eval)
    }

    pub(crate) fn add_delayed_eval(&mut self, job: &str, wait_until: Timestamp) -> EvalId {
        let eval = Evaluation { wait_until, ..self.eval(job) };
        self.put_eval(eval)
    }

    pub(crate) fn add_blocked_eval(&mut self, job: &str, classes: &[(&str, bool)]) -> EvalId {
        let index = self.store.index();
        self.add_blocked_eval_decided_at(job, classes, index)
    }

    pub(crate) fn add_blocked_eval_decided_at(
        &mut self,
        job: &str,
        classes: &[(&str, bool)],
        index: u64,
    ) -> EvalId {
        let mut eval = self.eval(job);
        eval.status = EvalStatus::Blocked;
        eval.snapshot_index = index;
        eval.class_eligibility = classes.iter().map(|(class, good)| (Text::from(*class), *good)).collect();
        self.put_eval(eval)
    }

    pub(crate) fn settle(&mut self, eval: &Evaluation) -> Changes {
        let mut eval = eval.clone();
        eval.status = EvalStatus::Complete;
        // Something is left over, so what is blocked stays so.
        eval.failed_groups.insert("web".into(), AllocMetric::default());
        self.apply(Command::UpsertEvals { evals: vec![eval] })
    }

    pub(crate) fn settle_all(&mut self) {
        let open: Vec<_> =
            self.state().evals().filter(|eval| eval.status == EvalStatus::Pending).cloned().collect();
        open.iter().for_each(|eval| drop(self.settle(eval)));
    }

    pub(crate) fn plan(&mut self, job: &str, node: usize, count: u32) -> Plan {
        let mut plan = Plan::of(Evaluation { status: EvalStatus::Complete, ..self.eval(job) });
        let row = self.state().job(&key(job)).expect("it was registered").clone();
        plan.job =
            Some(PlannedJob { key: row.key.clone(), create_index: row.create_index, version: row.version });
        let task = AllocatedTask {
            name: "server".into(),
            cpu_shares: 100,
            memory_mb: 64,
            ..AllocatedTask::default()
        };
        plan.resources
            .push(Arc::new(AllocatedResources { tasks: vec![task], ..AllocatedResources::default() }));
        plan.metrics.push(Arc::new(AllocMetric::default()));
        for index in 0..count {
            let (id, node_id) = (AllocId::from_random(self.id()), self.node_id(node));
            plan.placements.push(Placement {
                id,
                node_id,
                group: 0,
                index,
                resources: 0,
                metrics: 0,
                links: None,
            });
        }
        plan
    }

    pub(crate) fn apply_plan(&mut self, plan: Plan) {
        self.apply(Command::ApplyPlans { plans: vec![plan], now: START });
    }

    pub(crate) fn place(&mut self, job: &str, node: usize, count: u32) {
        let plan = self.plan(job, node, count);
        self.apply_plan(plan);
    }

    pub(crate) fn stop_all(&mut self, job: &str) {
        let ids: Vec<_> = self.state().allocs_by_job(&key(job)).map(|alloc| alloc.id).collect();
        let mut plan = self.plan_without_job(job);
        plan.stops = ids.into_iter().map(stop).collect();
        self.apply_plan(plan);
    }

    fn plan_without_job(&mut self, job: &str) -> Plan {
        Plan::of(Evaluation { status: EvalStatus::Complete, ..self.eval(job) })
    }

    pub(crate) fn client_says(&mut self, at: usize, status: ClientStatus) {
        self.client_says_health(at, status, None);
    }

    pub(crate) fn client_says_health(&mut self, at: usize, status: ClientStatus, healthy: Option<bool>) {
        let alloc = self.state().allocs().nth(at).expect("the region has that many allocations").clone();
        let update = AllocUpdate {
            id: alloc.id,
            node_id: alloc.node_id,
            client_status: status,
            client_description: Text::default(),
            task_states: Arc::new([]),
            health: healthy.map(|healthy| AllocHealth { healthy: Some(healthy), ..AllocHealth::default() }),
            network: None,
        };
        self.apply(Command::UpdateAllocs { updates: vec![update], evals: vec![], now: START });
    }

    /// Starts a deployment of a job's latest version and places one allocation in it.
    pub(crate) fn deploy(&mut self, job: &str, group: DeploymentGroup, canary: bool) -> DeploymentId {
        let mut plan = self.plan(job, 0, 1);
        let row = self.state().job(&key(job)).expect("it was registered").clone();
        let id = DeploymentId::from_random(self.id());
        plan.deployment = Some(Deployment {
            id,
            job: row.key.clone(),
            job_version: row.version,
            job_modify_index: row.job_modify_index,
            job_spec_modify_index: row.job_modify_index,
            job_create_index: row.create_index,
            eval_priority: 50,
            groups: [("web".into(), group)].into(),
            status: DeploymentStatus::Running,
            status_description: "Deployment is running".into(),
            create_index: 0,
            modify_index: 0,
            create_time: START,
            modify_time: START,
        });
        plan.placements[0].links =
            Some(Box::new(PlacementLinks { deployment: Some(id), canary, ..PlacementLinks::default() }));
        self.apply_plan(plan);
        id
    }

    pub(crate) fn drain(&mut self, at: usize, drain: DrainStrategy) -> Changes {
        self.apply(Command::DrainNode {
            node_id: self.node_id(at),
            drain: Some(drain),
            mark_eligible: false,
            completed: false,
            meta: vec![],
            event: None,
            evals: vec![],
            now: START,
        })
    }
}

fn stop(id: AllocId) -> Stop {
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

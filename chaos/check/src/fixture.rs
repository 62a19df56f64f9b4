//! A small cluster as it should be, for the tests of properties to break.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{
    AllocId, ClientStatus, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus, DesiredStatus,
    EvalId, EvalStatus, Job, JobKey, JobSpec, JobStatus, JobType, NodeId, NodeStatus, Text, Timestamp,
};
use serde_json::{Value, json};

use crate::{
    AgentView, AllocRow, EvalRow, GroupRow, History, Holding, JobRow, LogPoint, NodeRow, NodeView,
    Observation, Phase, Property, RaftView, Role, Rows, RunningTask, ServerView, Story,
    property::{LookedAt, ask},
};

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn key() -> JobKey {
    JobKey::new("default", "web")
}

pub(crate) fn node_id(number: u128) -> NodeId {
    NodeId::from_random(number)
}

pub(crate) fn alloc_id(number: u128) -> AllocId {
    AllocId::from_random(number)
}

pub(crate) fn eval_id(number: u128) -> EvalId {
    EvalId::from_random(number)
}

/// A server with this part in Raft.
pub(crate) fn server(id: u64, raft: RaftView) -> ServerView {
    ServerView { id, agent: format!("server-{id}").into(), raft: Some(raft), ..ServerView::default() }
}

/// A log of one term from index 1, whose entries say what their index says.
pub(crate) fn log(term: u64, length: u64) -> Vec<(LogPoint, u64)> {
    (1..=length).map(|index| (LogPoint { term, index }, index * 100)).collect()
}

/// Server 1 leads term 2, 2 and 3 follow; all have five entries, four of them committed.
pub(crate) fn three_servers() -> Observation {
    let view = |role, committed| RaftView {
        role,
        term: 2,
        committed: Some(LogPoint { term: 2, index: committed }),
        applied: Some(LogPoint { term: 2, index: committed }),
        log: log(2, 5),
        voters: vec![[1, 2, 3].into()],
        ..RaftView::default()
    };
    let servers = vec![
        server(1, view(Role::Leader, 4)),
        server(2, view(Role::Follower, 4)),
        server(3, view(Role::Follower, 3)),
    ];
    Observation { servers, ..Observation::default() }
}

/// A job of three on two nodes: allocation 1 and 2 on node 1, allocation 3 on node 2.
pub(crate) fn rows() -> Rows {
    let group = GroupRow { count: 3, canaries: 0 };
    let job = JobRow {
        kind: JobType::Service,
        stopped: false,
        template: false,
        version: 0,
        create_index: 10,
        job_index: 10,
        rollout_failed: false,
        groups: BTreeMap::from([("web".into(), group)]),
        spec: None,
    };
    let eval = EvalRow {
        job: key(),
        status: EvalStatus::Complete,
        wait_until: Timestamp::ZERO,
        modify_index: 11,
        queued: 0,
        lacks: BTreeMap::new(),
    };
    let nodes = [(node_id(1), node()), (node_id(2), node())];
    let allocs = [(alloc_id(1), alloc(1, 0)), (alloc_id(2), alloc(1, 1)), (alloc_id(3), alloc(2, 2))];
    Rows {
        index: 20,
        nodes: nodes.into(),
        jobs: BTreeMap::from([(key(), job)]),
        allocs: allocs.into(),
        evals: BTreeMap::from([(eval_id(1), eval)]),
        deployments: BTreeMap::new(),
    }
}

pub(crate) fn node() -> NodeRow {
    NodeRow {
        status: NodeStatus::Ready,
        schedulable: true,
        cpu: 1_000,
        memory_mb: 1_000,
        disk_mb: 1_000,
        cores: (0..4).collect(),
        devices: ["nvidia/gpu/x/a".into()].into(),
        modify_index: 5,
        drain: None,
        drained: false,
        attributes: BTreeMap::new(),
        dynamic_ports: (20_000, 20_003),
    }
}

/// A running allocation of the job on a node.
pub(crate) fn alloc(node: u128, number: u32) -> AllocRow {
    AllocRow {
        node: node_id(node),
        job: key(),
        version: 0,
        kind: JobType::Service,
        group: "web".into(),
        number,
        desired: DesiredStatus::Run,
        client: ClientStatus::Running,
        canary: false,
        was_unknown: false,
        create_index: 11,
        modify_index: 15,
        takes_over: Vec::new(),
        restarts: BTreeMap::from([("main".into(), 0)]),
        holds: Holding { cpu: 300, memory_mb: 300, disk_mb: 300, ..Holding::default() },
        story: Story { healthy: Some(true), placed_at: at(11), ..Story::default() },
        spec: None,
    }
}

/// A point in wall time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

/// The job of the rows with these fields in its one group.
pub(crate) fn job_with(group: &Value) -> Arc<Job> {
    let mut whole = json!({"Name": "web", "Count": 3, "Tasks": [{"Name": "main", "Driver": "mock_driver",
        "Resources": {"CPU": 300, "MemoryMB": 300}}]});
    let fields = group.as_object().expect("the fields of a group");
    fields.iter().for_each(|(name, value)| whole[name] = value.clone());
    let document = json!({"ID": "web", "Name": "web", "Type": "service", "TaskGroups": [whole]});
    Arc::new(Job {
        key: key(),
        spec: Arc::new(JobSpec::from_document(&document).expect("the document is a job")),
        version: 0,
        stop: false,
        stable: false,
        status: JobStatus::Running,
        status_description: Text::default(),
        submit_time: Timestamp::ZERO,
        create_index: 10,
        modify_index: 10,
        job_modify_index: 10,
        version_tag: None,
        parent: None,
    })
}

/// The rows with a job of these fields in its one group.
pub(crate) fn rows_of(group: &Value) -> Rows {
    let (mut rows, job) = (rows(), job_with(group));
    rows.allocs.values_mut().for_each(|row| row.spec = Some(job.clone()));
    rows.jobs.values_mut().for_each(|row| row.spec = Some(job.clone()));
    rows
}

/// The deployment of the job's next version with this progress of its one group.
pub(crate) fn deployment(group: DeploymentGroup) -> Deployment {
    Deployment {
        id: DeploymentId::from_random(9),
        job: key(),
        job_version: 1,
        job_modify_index: 16,
        job_spec_modify_index: 16,
        job_create_index: 10,
        eval_priority: 50,
        groups: BTreeMap::from([("web".into(), group)]),
        status: DeploymentStatus::Running,
        status_description: Text::default(),
        create_index: 17,
        modify_index: 17,
        create_time: Timestamp::ZERO,
        modify_time: Timestamp::ZERO,
    }
}

pub(crate) fn task(alloc: u128, launch: &str) -> RunningTask {
    RunningTask { alloc: alloc_id(alloc), task: "main".into(), launch: launch.into() }
}

/// The whole of it: a server that serves the rows, two nodes that run what the rows say, long after the last fault.
pub(crate) fn calm(rows: Rows) -> Observation {
    let agent = |name: &str| AgentView { name: name.into(), running: true, left: false, reachable: true };
    let machine = |number: u128, tasks| NodeView {
        id: node_id(number),
        agent: format!("client-{number}").into(),
        tasks,
        ..NodeView::default()
    };
    let mut one = server(1, RaftView::default());
    one.rows = Some(Arc::new(rows));
    Observation {
        at: seconds(1_000),
        phase: Phase::Healing { since: seconds(500) },
        agents: ["server-1", "client-1", "client-2"].map(agent).into(),
        servers: vec![one],
        nodes: vec![machine(1, vec![task(1, "a"), task(2, "b")]), machine(2, vec![task(3, "c")])],
        ..Observation::default()
    }
}

/// Changes the rows that the one server serves.
pub(crate) fn change(seen: &mut Observation, change: impl FnOnce(&mut Rows)) {
    let rows = seen.servers[0].rows.as_mut().expect("the server serves rows");
    change(Arc::make_mut(rows));
}

/// Steps a property through observations, all of which it has to accept.
pub(crate) fn holds<P: Property + Default>(seen: &[Observation]) -> P {
    hold(seen).0
}

fn hold<P: Property + Default>(seen: &[Observation]) -> (P, LookedAt) {
    let (mut property, mut looked_at) = (P::default(), LookedAt::default());
    for each in seen {
        assert_eq!(ask(&mut property, each, looked_at.news(each)), Ok(()));
    }
    (property, looked_at)
}

/// Steps a property through observations of which it has to accept all but the last. Returns what it says of that one.
pub(crate) fn breaks<P: Property + Default>(seen: &[Observation]) -> String {
    let (last, before) = seen.split_last().expect("there is something to look at");
    let (mut property, mut looked_at) = hold::<P>(before);
    ask(&mut property, last, looked_at.news(last)).expect_err("the last observation is broken")
}

pub(crate) fn end<P: Property + Default>(seen: &Observation) -> Result<(), String> {
    holds::<P>(std::slice::from_ref(seen)).end(seen, &History::default())
}

pub(crate) fn names<const N: usize>(names: [&str; N]) -> std::collections::BTreeSet<Text> {
    names.map(Text::from).into()
}

//! What older builds wrote must keep its meaning: each fixture is decoded, and encoded again to the same bytes.
//!
//! `WAYFARER_WRITE_FIXTURES=1 cargo test -p protocol --test fixtures` writes the fixtures of a version that is made;
//! those of a version that was released are never written again.

use std::{fmt::Debug, fs, path::PathBuf, sync::Arc};

use model::*;
use protocol::{
    Command, DeploymentUpdate, InPlaceUpdate, Named, NodeStatusUpdate, Placement, PlacementLinks, Plan,
    PlannedJob, RestoreStep, Stop, decode, encode,
    session::{AllocUpdate, Assignments, ClientMessage, ServerMessage},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

#[test]
fn commands_of_the_first_version_keep_their_meaning() {
    let commands = commands();
    let numbers: Vec<_> = commands.iter().map(number).collect();
    assert_eq!(
        numbers,
        (0..commands.len()).collect::<Vec<_>>(),
        "one of each, in the order of their numbers"
    );
    check("commands-1.txt", &commands);
    check("restore-steps-1.txt", &restore_steps());
}

#[test]
fn messages_of_the_first_version_keep_their_meaning() {
    check("client-messages-1.txt", &client_messages());
    check("server-messages-1.txt", &server_messages());
}

/// How well jobs are compressed may change; what can be read may not, and the text that they are compressed against neither.
#[test]
fn packed_jobs_of_an_earlier_build_can_be_read() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/packed-1.txt");
    let message = ServerMessage::Packed(assignments().into());
    if std::env::var_os("WAYFARER_WRITE_FIXTURES").is_some() {
        fs::write(&path, hex(&encode(&message)) + "\n").expect("the fixture can be written");
    }
    let written = fs::read_to_string(&path).expect("the fixture is there");
    let decoded: ServerMessage = decode(&unhex(written.trim())).expect("an earlier build wrote it");
    assert_eq!(decoded, message);
}

/// Compares messages with what an earlier build wrote, one a line in hexadecimal.
fn check<T: Serialize + DeserializeOwned + Debug + PartialEq>(name: &str, messages: &[T]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let lines: Vec<String> = messages.iter().map(|message| hex(&encode(message))).collect();
    if std::env::var_os("WAYFARER_WRITE_FIXTURES").is_some() {
        fs::write(&path, lines.join("\n") + "\n").expect("the fixtures can be written");
    }
    let written = fs::read_to_string(&path).expect("the fixture is there");
    assert_eq!(written.lines().count(), messages.len());
    for (line, message) in written.lines().zip(messages) {
        let decoded: T = decode(&unhex(line)).expect("an earlier build wrote it");
        assert_eq!(decoded, *message);
        assert_eq!(hex(&encode(&decoded)), line, "{message:?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// A variant that is not listed here does not compile, one without a sample fails.
fn number(command: &Command) -> usize {
    match command {
        Command::InitCluster { .. } => 0,
        Command::UpsertNode { .. } => 1,
        Command::UpdateNodeStatus { .. } => 2,
        Command::UpdateNodeEligibility { .. } => 3,
        Command::DrainNode { .. } => 4,
        Command::DeregisterNodes { .. } => 5,
        Command::NoteNodeEvents { .. } => 6,
        Command::RegisterJob { .. } => 7,
        Command::DeregisterJob { .. } => 8,
        Command::MarkJobStable { .. } => 9,
        Command::TagJobVersion { .. } => 10,
        Command::UpsertEvals { .. } => 11,
        Command::ApplyPlans { .. } => 12,
        Command::UpdateAllocs { .. } => 13,
        Command::UpdateTransitions { .. } => 14,
        Command::UpdateDeployment { .. } => 15,
        Command::PromoteDeployment { .. } => 16,
        Command::SetAllocHealth { .. } => 17,
        Command::SetSchedulerConfig { .. } => 18,
        Command::UpsertNamespaces { .. } => 19,
        Command::DeleteNamespaces { .. } => 20,
        Command::UpsertNodePools { .. } => 21,
        Command::DeleteNodePools { .. } => 22,
        Command::Collect { .. } => 23,
        Command::NotePeriodicLaunch { .. } => 24,
        Command::ReconcileSummaries => 25,
        Command::CreateJoinToken { .. } => 26,
        Command::UseJoinToken { .. } => 27,
        Command::RevokeJoinTokens { .. } => 28,
        Command::SetJoinSettings { .. } => 29,
        Command::TrustRegion { .. } => 30,
        Command::ForgetRegion { .. } => 31,
        Command::Restore(_) => 32,
        Command::SetAutopilotConfig { .. } => 33,
        Command::AddRootKey { .. } => 34,
        Command::DeleteRootKey { .. } => 35,
    }
}

fn commands() -> Vec<Command> {
    let mut commands = node_commands();
    commands.extend(job_commands());
    commands.extend(scheduling_commands());
    commands.extend(deployment_commands());
    commands.extend(named_commands());
    commands.extend(join_commands());
    commands.push(Command::Restore(restore_steps()[1].clone()));
    commands.push(Command::SetAutopilotConfig { config: Named(AutopilotConfig::default()), cas: None });
    let key = RootKey {
        id: Uuid::from_u128(8),
        secret: RootSecret([9; 32]),
        active: true,
        create_time: NOW,
        create_index: 0,
        modify_index: 0,
    };
    commands.push(Command::AddRootKey { key: Named(key), first: true });
    commands.push(Command::DeleteRootKey { id: Uuid::from_u128(8) });
    commands
}

fn node_commands() -> Vec<Command> {
    vec![
        Command::InitCluster { cluster_id: Uuid::from_u128(1), now: NOW },
        Command::UpsertNode { node: Named(Box::new(node())), evals: vec![eval()], now: NOW },
        Command::UpdateNodeStatus {
            updates: vec![NodeStatusUpdate {
                node_id: node_id(),
                status: NodeStatus::Down,
                event: Some(event()),
            }],
            evals: vec![],
            now: NOW,
        },
        Command::UpdateNodeEligibility {
            node_id: node_id(),
            eligible: true,
            event: Some(event()),
            evals: vec![],
            now: NOW,
        },
        Command::DrainNode {
            node_id: node_id(),
            drain: Some(DrainStrategy { started_at: NOW, ..DrainStrategy::default() }),
            mark_eligible: true,
            completed: false,
            meta: vec![("message".into(), "repair".into())],
            event: None,
            evals: vec![],
            now: NOW,
        },
        Command::DeregisterNodes { node_ids: vec![node_id()], evals: vec![], now: NOW },
        Command::NoteNodeEvents { events: vec![(node_id(), event())] },
    ]
}

fn job_commands() -> Vec<Command> {
    let scaling = ScalingEvent {
        time: NOW,
        count: Some(3),
        previous_count: 1,
        message: "more".into(),
        error: false,
        meta: "{}".into(),
        eval_id: None,
        create_index: 0,
    };
    vec![
        Command::RegisterJob {
            job: Box::new(job()),
            submission: Some(Box::new(JobSubmission { source: "job {}".into(), ..JobSubmission::default() })),
            enforce_index: Some(7),
            eval: Some(Box::new(eval())),
            scaling: Some(Box::new(("web".into(), scaling))),
            now: NOW,
        },
        Command::DeregisterJob { key: key(), purge: true, no_shutdown_delay: false, eval: None, now: NOW },
        Command::MarkJobStable { key: key(), version: 2, stable: true },
        Command::TagJobVersion {
            key: key(),
            version: Some(2),
            name: "gold".into(),
            description: Some("good".into()),
            now: NOW,
        },
    ]
}

fn scheduling_commands() -> Vec<Command> {
    vec![
        Command::UpsertEvals { evals: vec![eval()] },
        Command::ApplyPlans { plans: vec![plan()], now: NOW },
        Command::UpdateAllocs { updates: vec![update()], evals: vec![], now: NOW },
        Command::UpdateTransitions {
            transitions: vec![(
                alloc_id(),
                DesiredTransition { migrate: Some(true), ..DesiredTransition::default() },
            )],
            evals: vec![],
            now: NOW,
        },
    ]
}

fn deployment_commands() -> Vec<Command> {
    let (id, update) = (deployment_id(), deployment_update());
    vec![
        Command::UpdateDeployment {
            update: update.clone(),
            job: Some(Box::new(job())),
            eval: None,
            now: NOW,
        },
        Command::PromoteDeployment { id, groups: Some(vec!["web".into()]), eval: None, now: NOW },
        Command::SetAllocHealth {
            id,
            healthy: vec![alloc_id()],
            unhealthy: vec![],
            update: Some(update),
            job: None,
            eval: None,
            now: NOW,
        },
    ]
}

fn named_commands() -> Vec<Command> {
    let namespace = Namespace { name: "team".into(), ..Namespace::default() };
    let pool = NodePool { name: "gpu".into(), ..NodePool::default() };
    vec![
        // What was written then, whatever the default is.
        Command::SetSchedulerConfig {
            config: Named(SchedulerConfig { node_limit: 100, ..SchedulerConfig::default() }),
            cas: Some(1),
        },
        Command::UpsertNamespaces { namespaces: vec![Named(namespace)] },
        Command::DeleteNamespaces { names: vec!["team".into()] },
        Command::UpsertNodePools { pools: vec![Named(pool)] },
        Command::DeleteNodePools { names: vec!["gpu".into()] },
        Command::Collect {
            evals: vec![eval().id],
            allocs: vec![alloc_id()],
            jobs: vec![key()],
            deployments: vec![deployment_id()],
            nodes: vec![node_id()],
        },
        Command::NotePeriodicLaunch { key: key(), launch: NOW },
        Command::ReconcileSummaries,
    ]
}

fn join_commands() -> Vec<Command> {
    let token = JoinToken {
        accessor: Uuid::from_u128(6),
        secret_hash: [7; 32],
        role: JoinRole::Server,
        description: "for the third server".into(),
        create_time: NOW,
        expires: Timestamp(NOW.0 + 1),
        used: None,
        create_index: 0,
        modify_index: 0,
    };
    let region = TrustedRegion {
        name: "eu".into(),
        authorities: "-----BEGIN CERTIFICATE-----".into(),
        servers: Vec::new(),
        create_index: 0,
        modify_index: 0,
    };
    let used = JoinTokenUse { node: Uuid::from_u128(8), key_hash: [9; 32], time: NOW };
    vec![
        Command::CreateJoinToken { token: Named(token) },
        Command::UseJoinToken { secret_hash: [7; 32], role: JoinRole::Server, used },
        Command::RevokeJoinTokens { accessors: vec![Uuid::from_u128(6)] },
        Command::SetJoinSettings { require_token: true },
        Command::TrustRegion { region: Named(region) },
        Command::ForgetRegion { name: "eu".into() },
    ]
}

fn restore_steps() -> Vec<RestoreStep> {
    let id = Uuid::from_u128(10);
    vec![
        RestoreStep::Begin { id },
        RestoreStep::Part { id, number: 1, bytes: vec![1, 2, 3].into() },
        RestoreStep::Install { id, parts: 2 },
        RestoreStep::Abort { id },
    ]
}

fn client_messages() -> Vec<ClientMessage> {
    vec![
        ClientMessage::Hello { node: Named(Box::new(node())), allocs: vec![update()] },
        ClientMessage::NodeChanged { node: Named(Box::new(node())) },
        ClientMessage::Updates { seq: 3, updates: vec![update()] },
        ClientMessage::Event { event: event() },
        ClientMessage::Leaving,
    ]
}

fn assignments() -> Assignments {
    Assignments {
        index: 9,
        complete: true,
        jobs: vec![Arc::new(job())],
        allocs: vec![],
        kept: vec![],
        removed: vec![alloc_id()],
    }
}

fn server_messages() -> Vec<ServerMessage> {
    vec![
        ServerMessage::Welcome { cluster_id: Uuid::from_u128(1), index: 9 },
        ServerMessage::Allocs(assignments()),
        ServerMessage::Ack { seq: 3, index: 10 },
        ServerMessage::Refused { reason: "not the leader's cluster".into() },
    ]
}

fn key() -> JobKey {
    JobKey::new("default", "web")
}

fn node_id() -> NodeId {
    NodeId::from_random(2)
}

fn alloc_id() -> AllocId {
    AllocId::from_random(3)
}

fn deployment_id() -> DeploymentId {
    DeploymentId::from_random(4)
}

fn event() -> NodeEvent {
    NodeEvent {
        message: "Node heartbeat missed".into(),
        subsystem: "Cluster".into(),
        timestamp: NOW,
        ..NodeEvent::default()
    }
}

fn eval() -> Evaluation {
    Evaluation::pending(EvalId::from_random(5), key(), JobType::Service, 50, EvalTrigger::JobRegister, NOW)
}

fn job() -> Job {
    let document = json!({
        "ID": "web", "Name": "web", "Type": "service", "Priority": 50,
        "TaskGroups": [{"Name": "web", "Count": 1, "Tasks": [{"Name": "server", "Driver": "mock"}]}],
    });
    Job {
        key: key(),
        spec: Arc::new(JobSpec::from_document(&document).expect("the document is a job")),
        version: 2,
        stop: false,
        stable: true,
        status: JobStatus::Running,
        status_description: Text::default(),
        submit_time: NOW,
        create_index: 4,
        modify_index: 6,
        job_modify_index: 5,
        version_tag: Some(Box::new(VersionTag {
            name: "gold".into(),
            description: "good".into(),
            tagged_time: NOW,
        })),
        parent: None,
    }
}

fn node() -> Node {
    Node {
        id: node_id(),
        secret_id: Uuid::from_u128(6),
        name: "node".into(),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        node_class: Text::default(),
        http_addr: "127.0.0.1:4646".into(),
        attributes: [("kernel.name".into(), "linux".into())].into(),
        meta: Default::default(),
        links: Default::default(),
        drivers: [("mock".into(), DriverState { detected: true, healthy: true, ..DriverState::default() })]
            .into(),
        resources: NodeResources::default(),
        reserved: Capacity::default(),
        reserved_ports: "22".into(),
        host_volumes: Default::default(),
        host_networks: Default::default(),
        cgroup_parent: Text::default(),
        max_allocs: 0,
        computed_class: "v1:1".into(),
        status: NodeStatus::Ready,
        status_description: Text::default(),
        status_updated_at: NOW,
        eligible: true,
        drain: None,
        last_drain: None,
        events: vec![event()],
        tls_enabled: false,
        last_alloc_update_index: 0,
        last_missed_heartbeat_index: 0,
        create_index: 0,
        modify_index: 0,
    }
}

fn plan() -> Plan {
    let mut plan = Plan::of(eval());
    plan.job = Some(PlannedJob { key: key(), create_index: 4, version: 2 });
    plan.stops.push(Stop {
        id: alloc_id(),
        desired: DesiredStatus::Stop,
        description: "alloc is being migrated".into(),
        client_status: Some(ClientStatus::Lost),
        followup_eval: None,
        preempted_by: None,
        last_reschedule: Text::default(),
    });
    plan.updates.push(InPlaceUpdate {
        id: alloc_id(),
        group: 0,
        resources: 0,
        metrics: 0,
        deployment: Some(deployment_id()),
        eval_id: eval().id,
    });
    let links = PlacementLinks { previous: Some(alloc_id()), canary: true, ..PlacementLinks::default() };
    plan.placements.push(Placement {
        id: AllocId::from_random(7),
        node_id: node_id(),
        group: 0,
        index: 1,
        resources: 0,
        metrics: 0,
        links: Some(Box::new(links)),
    });
    let task =
        AllocatedTask { name: "server".into(), cpu_shares: 100, memory_mb: 64, ..AllocatedTask::default() };
    plan.resources.push(Arc::new(AllocatedResources { tasks: vec![task], ..AllocatedResources::default() }));
    plan.metrics.push(Arc::new(AllocMetric { nodes_evaluated: 3, ..AllocMetric::default() }));
    plan.deployment_updates.push(deployment_update());
    plan.new_evals.push(eval());
    plan
}

fn deployment_update() -> DeploymentUpdate {
    DeploymentUpdate {
        id: deployment_id(),
        status: DeploymentStatus::Failed,
        description: "Deployment marked as failed".into(),
    }
}

fn update() -> AllocUpdate {
    let started = TaskEvent::new(TaskEventKind::Started, NOW);
    let ended = TaskEvent::new(TaskEventKind::Terminated, NOW).with("exit_code", "1").failing();
    let task = TaskState {
        name: "server".into(),
        state: TaskRunState::Running,
        failed: false,
        restarts: 1,
        last_restart: NOW,
        started_at: NOW,
        finished_at: Timestamp::ZERO,
        events: [started, ended].into(),
    };
    AllocUpdate {
        id: alloc_id(),
        node_id: node_id(),
        client_status: ClientStatus::Running,
        client_description: "Tasks are running".into(),
        task_states: Arc::new([task]),
        health: Some(AllocHealth { healthy: Some(true), timestamp: NOW, ..AllocHealth::default() }),
        network: None,
    }
}

//! A client and scripted servers on a network in memory, on paused time.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use client::{Client, Config, Contact, ServerAddr, Servers, Session, fingerprint};
use model::{
    AllocId, AllocRecord, Capacity, ClientStatus, DesiredStatus, Job, JobKey, NodeId, TaskEventKind,
    Timestamp,
};
use parking_lot::Mutex;
use protocol::{
    decode, encode,
    session::{AllocUpdate, Assignments, ClientMessage, SESSION_HEADER, ServerMessage},
};
use runtime::{Env, Instant, Shutdown, Skew, WallClock};
use tempfile::TempDir;
use tokio::sync::{Notify, mpsc, watch};
use transport::{
    Acceptor, Boot, EndpointSecret, Host, Identity, Incoming, Opened, RawConfig, Region, Role, TokioHost,
    framed::{FrameReader, FrameWriter},
    memory::{Agent, Network, Switchboard},
};
use uuid::Uuid;

const MESSAGE_MAX: usize = 1 << 20;
const ALLOC: u128 = 77;
/// Wall time when a test begins; it runs with the time that is paused.
const EPOCH: i64 = 1_700_000_000_000_000_000;

/// Waits for a condition, and names its line when it never holds.
macro_rules! until {
    ($holds:expr) => {
        wait_until(line!(), $holds)
    };
}

/// What a scripted server does, and what it saw.
#[derive(Debug, Default)]
struct Script {
    /// Ends every session after its first message, with these words.
    refuses: Mutex<Option<&'static str>>,
    /// What it assigns to the node.
    assigned: Mutex<Option<Assignments>>,
    /// What it assigns in the middle of a session, once it is woken.
    assigned_later: Mutex<Option<Assignments>>,
    later: Notify,
    /// What it answers to "are you there"; nothing when it may not answer at all.
    ping_answer: Mutex<Option<&'static [u8]>>,
    hellos: Mutex<Vec<Vec<AllocUpdate>>>,
    updates: Mutex<Vec<AllocUpdate>>,
    sessions: AtomicUsize,
    left: AtomicUsize,
}

impl Script {
    fn heard(&self) -> usize {
        self.hellos.lock().len()
    }
}

struct World {
    links: Arc<Switchboard>,
    network: Network,
    shutdown: Shutdown,
    dir: TempDir,
}

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 4647))
}

impl World {
    fn new() -> Self {
        let links = Arc::new(Switchboard::new(Duration::from_millis(1)));
        let network = Network::new(links.clone(), Arc::new(TokioHost));
        Self { links, network, shutdown: Shutdown::new(), dir: tempfile::tempdir().unwrap() }
    }

    fn agent(&self, number: u8, role: Role, boot: u64) -> Agent {
        let region = Region::new("global").unwrap();
        let node_id = transport::NodeId([number; 16]);
        let identity = Identity { role, region, node_id, name: number.to_string() };
        let secret = EndpointSecret::from_bytes([number; 32]);
        let config = transport::Config::check(addr(number), secret, &RawConfig::default()).unwrap();
        Agent { identity, authority: "ours".into(), boot: Boot(boot), config }
    }

    fn server(&self, number: u8) -> Arc<Script> {
        let script = Arc::new(Script::default());
        *script.ping_answer.lock() = Some(b"\x01");
        self.start(number, 1, &script);
        script
    }

    fn start(&self, number: u8, boot: u64, script: &Arc<Script>) {
        let bound = self.network.attach(self.agent(number, Role::Server, boot));
        TokioHost.spawn("server", Box::pin(serve(bound.acceptor, script.clone())));
    }

    fn client(&self, servers: &[u8]) -> Node {
        let env = Env::with(WallClock::simulated(EPOCH, Skew::default()), 7, self.shutdown.clone());
        let bound = self.network.attach(self.agent(9, Role::Client, 1));
        let config = Config {
            region: "global".into(),
            alloc_dir: self.dir.path().join("alloc"),
            state_dir: None,
            max_kill_timeout: Duration::from_secs(30),
            gc_interval: Duration::from_secs(60),
            gc_max_allocs: 0,
            host_env: BTreeMap::new(),
        };
        std::fs::create_dir_all(&config.alloc_dir).unwrap();
        let mock = driver_mock::Config::from_value(&serde_json::json!({})).unwrap();
        let mock = driver_mock::MockDriver::new(env.clone(), mock, driver_mock::World::default());
        let node = fingerprint::describe(&self.settings());
        let client = Client::start(&env, config, node, vec![Arc::new(mock)]).unwrap();
        let list = watch::Sender::new(Servers::named(servers.iter().copied().map(addr)));
        let (streams, _) = mpsc::channel(8);
        let current = watch::Sender::new(None);
        let session = Session {
            client: client.clone(),
            transport: bound.transport,
            servers: list.subscribe(),
            streams,
            current: current.clone(),
        };
        TokioHost.spawn("session", Box::pin(session.run()));
        Node { client, list, current: current.subscribe() }
    }

    fn settings(&self) -> fingerprint::Settings {
        fingerprint::Settings {
            id: NodeId::from_random(9),
            secret_id: Uuid::from_u128(9),
            name: "n".into(),
            datacenter: "dc1".into(),
            node_pool: "default".into(),
            node_class: String::new(),
            meta: BTreeMap::new(),
            http_addr: "127.0.0.1:4646".into(),
            version: "1".into(),
            network_interface: None,
            network_speed: None,
            cpu_total_compute: Some(1_000),
            memory_total_mb: Some(1_000),
            disk_total_mb: Some(1_000),
            disk_free_mb: Some(1_000),
            reservable_cores: None,
            reserved: Capacity::default(),
            reserved_ports: String::new(),
            dynamic_ports: (20_000, 32_000),
            host_volumes: BTreeMap::new(),
            host_networks: BTreeMap::new(),
            cgroup_parent: "nomad.slice".into(),
            max_allocs: 0,
            default_ineligible: false,
            alloc_dir: self.dir.path().join("alloc"),
            denied: Vec::new(),
        }
    }
}

struct Node {
    client: Client,
    list: watch::Sender<Servers>,
    current: watch::Receiver<Option<(SocketAddr, transport::Connection)>>,
}

impl Node {
    fn server(&self) -> Option<u8> {
        let current = self.current.borrow();
        current.as_ref().map(|(addr, _)| match addr {
            SocketAddr::V4(addr) => addr.ip().octets()[3],
            SocketAddr::V6(_) => 0,
        })
    }

    /// Waits until a session with a server other than `than` is open, and returns that server.
    async fn server_other_than(&mut self, than: Option<u8>) -> u8 {
        loop {
            match self.server() {
                Some(server) if Some(server) != than => return server,
                _ => self.current.changed().await.unwrap(),
            }
        }
    }

    fn word(&self) -> Option<AllocUpdate> {
        self.client.told().into_iter().next()
    }

    fn starts(&self) -> usize {
        let word = self.word().unwrap();
        let events = &word.task_states[0].events;
        events.iter().filter(|event| event.kind == model::TaskEventKind::Started).count()
    }
}

async fn wait_until(line: u32, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !holds() {
        assert!(Instant::now() < deadline, "the condition in line {line} never held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn serve(mut acceptor: Acceptor, script: Arc<Script>) {
    while let Some(opened) = acceptor.accept().await {
        TokioHost.spawn("session", Box::pin(serve_session(opened, script.clone())));
    }
}

async fn serve_session(opened: Opened, script: Arc<Script>) {
    let Opened { connection, mut inbound } = opened;
    script.sessions.fetch_add(1, Ordering::Relaxed);
    let stream = loop {
        match inbound.next().await {
            Some(Incoming::Stream(stream)) if &**stream.header() == SESSION_HEADER => break stream,
            Some(_) => {}
            None => return,
        }
    };
    let pings = script.clone();
    TokioHost.spawn(
        "pings",
        Box::pin(async move {
            while let Some(incoming) = inbound.next().await {
                let answer = *pings.ping_answer.lock();
                match (incoming, answer) {
                    (Incoming::Request(request), Some(answer)) => {
                        drop(request.reply.send(Bytes::from_static(answer)).await);
                    }
                    (Incoming::Request(request), None) => {
                        // It hangs, like a server that is stopped.
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        drop(request);
                    }
                    _ => {}
                }
            }
        }),
    );
    let (reader, writer) = stream.into_split();
    let mut reader = FrameReader::new(reader, MESSAGE_MAX);
    let mut writer = FrameWriter::new(writer, MESSAGE_MAX);
    loop {
        let frame = tokio::select! {
            Ok(Some(frame)) = reader.next() => frame,
            () = script.later.notified() => {
                let assigned = script.assigned_later.lock().take().unwrap();
                drop(writer.send(encode(&ServerMessage::Allocs(assigned))).await);
                continue;
            }
            else => break,
        };
        match decode(&frame).unwrap() {
            ClientMessage::Hello { allocs, .. } => {
                script.hellos.lock().push(allocs);
                let refuses = *script.refuses.lock();
                if let Some(reason) = refuses {
                    drop(writer.send(encode(&ServerMessage::Refused { reason: reason.into() })).await);
                    return;
                }
                drop(writer.send(encode(&welcome())).await);
                let assigned = script.assigned.lock().clone();
                if let Some(assigned) = assigned {
                    drop(writer.send(encode(&ServerMessage::Allocs(assigned))).await);
                }
            }
            ClientMessage::Updates { seq, updates } => {
                script.updates.lock().extend(updates);
                drop(writer.send(encode(&ServerMessage::Ack { seq, index: 1 })).await);
            }
            ClientMessage::Leaving => {
                script.left.fetch_add(1, Ordering::Relaxed);
                return;
            }
            ClientMessage::NodeChanged { .. } | ClientMessage::Event { .. } => {}
        }
    }
    drop(connection);
}

fn welcome() -> ServerMessage {
    ServerMessage::Welcome { cluster_id: Uuid::from_u128(1), index: 1 }
}

/// One allocation of a job whose task runs for `run_for`.
fn work(run_for: &str, stop_on_client_after: Option<Duration>) -> Assignments {
    let disconnect = stop_on_client_after
        .map(|after| serde_json::json!({"StopOnClientAfter": u64::try_from(after.as_nanos()).unwrap()}));
    work_of(&serde_json::json!({
        "Name": "g",
        "Disconnect": disconnect,
        "Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": {"run_for": run_for}}],
    }))
}

/// One allocation of a batch job with this group.
fn work_of(group: &serde_json::Value) -> Assignments {
    let document = serde_json::json!({"ID": "j", "Type": "batch", "TaskGroups": [group]});
    let job = Job {
        key: JobKey::new("default", "j"),
        spec: Arc::new(model::JobSpec::from_document(&document).unwrap()),
        version: 0,
        stop: false,
        stable: false,
        status: model::JobStatus::Pending,
        status_description: "".into(),
        submit_time: Timestamp(1),
        create_index: 3,
        modify_index: 3,
        job_modify_index: 3,
        version_tag: None,
        parent: None,
    };
    let alloc = AllocRecord {
        id: AllocId::from_random(ALLOC),
        eval_id: model::EvalId::from_random(8),
        node_id: NodeId::from_random(9),
        job: job.key.clone(),
        job_create_index: 3,
        job_version: 0,
        group: 0,
        index: 0,
        desired: DesiredStatus::Run,
        client_status: ClientStatus::Pending,
        desired_description: "".into(),
        client_description: "".into(),
        resources: Arc::default(),
        metrics: None,
        task_states: Arc::new([]),
        extra: None,
        create_index: 4,
        modify_index: 4,
        alloc_modify_index: 4,
        create_time: Timestamp(1),
        modify_time: Timestamp(1),
    };
    let (jobs, allocs) = (vec![Arc::new(job)], vec![alloc]);
    Assignments { index: 5, complete: true, jobs, allocs, ..Assignments::default() }
}

/// As many allocations, each of a job of its own.
fn many(count: u128) -> Assignments {
    let mut assigned = work("1s", None);
    let (job, alloc) = (assigned.jobs.remove(0), assigned.allocs.remove(0));
    for number in 0..count {
        let key = JobKey::new("default", format!("j{number}"));
        assigned.jobs.push(Arc::new(Job { key: key.clone(), ..(*job).clone() }));
        let id = AllocId::from_random(ALLOC + number);
        assigned.allocs.push(AllocRecord { id, job: key, ..alloc.clone() });
    }
    assigned
}

fn is(node: &Node, status: ClientStatus) -> bool {
    node.word().is_some_and(|word| word.client_status == status)
}

#[tokio::test(start_paused = true)]
async fn a_client_is_with_another_server_well_within_a_second_and_its_task_runs_on() {
    let world = World::new();
    let servers = [1, 2, 3].map(|number| world.server(number));
    servers.iter().for_each(|server| *server.assigned.lock() = Some(work("1h", None)));
    let mut node = world.client(&[1, 2, 3]);
    let first = node.server_other_than(None).await;
    until!(|| is(&node, ClientStatus::Running)).await;
    let killed = Instant::now();
    world.network.crash(addr(first));
    let second = node.server_other_than(Some(first)).await;
    assert!(killed.elapsed() < Duration::from_millis(900), "{:?}", killed.elapsed());
    until!(|| servers[usize::from(second) - 1].heard() == 1).await;
    let told = servers[usize::from(second) - 1].hellos.lock()[0].clone();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].client_status, ClientStatus::Running);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.starts(), 1);
    assert_eq!(node.server(), Some(second));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_loses_its_clients_only_to_one_that_answers() {
    let world = World::new();
    let servers = [1, 2].map(|number| world.server(number));
    let mut node = world.client(&[1, 2]);
    let first = node.server_other_than(None).await;
    *servers[usize::from(first) - 1].ping_answer.lock() = None;
    let hung = Instant::now();
    let second = node.server_other_than(Some(first)).await;
    assert!(hung.elapsed() < Duration::from_secs(1), "{:?}", hung.elapsed());
    // Nobody else answers: it stays, for as long as the connection holds.
    world.network.crash(addr(first));
    *servers[usize::from(second) - 1].ping_answer.lock() = None;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(node.server(), Some(second));
    assert_eq!(servers[usize::from(second) - 1].heard(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_region_calls_failed_is_left_for_another() {
    let world = World::new();
    let _servers = [1, 2].map(|number| world.server(number));
    let mut node = world.client(&[1, 2]);
    let first = node.server_other_than(None).await;
    let other = 3 - first;
    let member =
        |number: u8| ServerAddr { addr: addr(number), node_id: Some(transport::NodeId([number; 16])) };
    node.list.send_replace(Servers { list: vec![member(other)], members: 3 });
    assert_eq!(node.server_other_than(Some(first)).await, other);
    // A list of servers of which none answers is no reason to leave the one that does.
    node.list.send_replace(Servers { list: vec![member(7)], members: 3 });
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(node.server(), Some(other));
}

#[tokio::test(start_paused = true)]
async fn servers_that_refuse_are_not_asked_in_a_loop() {
    let world = World::new();
    let servers = [1, 2].map(|number| world.server(number));
    servers.iter().for_each(|server| *server.refuses.lock() = Some("no leader"));
    let mut node = world.client(&[1, 2]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked: usize = servers.iter().map(|server| server.heard()).sum();
    assert!((10..100).contains(&asked), "{asked} tries in a minute");
    assert!(servers.iter().all(|server| server.heard() > 2));
    *servers[1].refuses.lock() = None;
    until!(|| node.server() == Some(2)).await;
    node.server_other_than(None).await;
}

#[tokio::test(start_paused = true)]
async fn what_ends_while_no_server_is_there_is_kept_and_handed_in() {
    let world = World::new();
    let server = world.server(1);
    *server.assigned.lock() = Some(work("5m", None));
    let node = world.client(&[1]);
    until!(|| is(&node, ClientStatus::Running)).await;
    world.network.crash(addr(1));
    until!(|| is(&node, ClientStatus::Complete)).await;
    // An hour of collections: the allocation is over, and nobody has heard of it.
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(node.client.alloc_ids(), [AllocId::from_random(ALLOC)]);
    *server.assigned.lock() = None;
    world.start(1, 2, &server);
    until!(|| server.heard() == 2).await;
    let told = server.hellos.lock()[1].clone();
    assert_eq!(told[0].client_status, ClientStatus::Complete);
    until!(|| node.client.alloc_ids().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_for_too_long_is_stopped_and_complete() {
    let world = World::new();
    let server = world.server(1);
    let config = serde_json::json!({"run_for": "5m"});
    *server.assigned.lock() = Some(work_of(&serde_json::json!({
        "Name": "g",
        "MaxRunDuration": 20_000_000_000_u64,
        "Tasks": [
            {"Name": "main", "Driver": "mock_driver", "Config": config},
            {"Name": "last", "Driver": "mock_driver", "Config": config, "Lifecycle": {"Hook": "poststop"}},
        ],
    })));
    let node = world.client(&[1]);
    until!(|| is(&node, ClientStatus::Running)).await;
    until!(|| is(&node, ClientStatus::Complete)).await;
    let word = node.word().unwrap();
    assert_eq!(word.client_description, "allocation exceeded max_run_duration");
    let kinds = |at: usize| word.task_states[at].events.iter().map(|event| event.kind).collect::<Vec<_>>();
    let [.., ran_too_long, killing, _, _] = &kinds(0)[..] else { panic!("{:?}", kinds(0)) };
    assert_eq!((*ran_too_long, *killing), (TaskEventKind::MaxRunDuration, TaskEventKind::Killing));
    assert!(!kinds(1).contains(&TaskEventKind::Started), "there is no time left for it");
}

/// The second takes over from the first, and the third from the second, which never begins.
#[tokio::test(start_paused = true)]
async fn what_never_began_is_over_no_sooner_than_what_it_was_to_take_over_from() {
    for second_is_known in [true, false] {
        let world = World::new();
        let server = world.server(1);
        let config = serde_json::json!({"run_for": "1h", "kill_after": "3s"});
        let assigned = work_of(&serde_json::json!({
            "Name": "g", "Tasks": [{"Name": "t", "Driver": "mock_driver", "Config": config}],
        }));
        let id = |number: u128| AllocId::from_random(ALLOC + number);
        let alloc = |number: u128, desired: DesiredStatus, index: u64| AllocRecord {
            id: id(number),
            desired,
            extra: (number > 0).then(|| {
                Box::new(model::AllocExtra { previous: Some(id(number - 1)), ..model::AllocExtra::EMPTY })
            }),
            create_index: 4 + u64::try_from(number).unwrap(),
            alloc_modify_index: index,
            ..assigned.allocs[0].clone()
        };
        let mut first = vec![alloc(0, DesiredStatus::Run, 4)];
        first.extend(second_is_known.then(|| alloc(1, DesiredStatus::Run, 5)));
        *server.assigned.lock() = Some(Assignments { allocs: first, ..assigned.clone() });
        let node = world.client(&[1]);
        until!(|| is(&node, ClientStatus::Running)).await;
        let stop = |number: u128| alloc(number, DesiredStatus::Stop, 8);
        let later = vec![stop(0), stop(1), alloc(2, DesiredStatus::Run, 8)];
        *server.assigned_later.lock() =
            Some(Assignments { index: 9, allocs: later, ..Assignments::default() });
        server.later.notify_one();
        let said = |number: u128, status: ClientStatus| {
            let is = |word: &AllocUpdate| word.id == id(number) && word.client_status == status;
            server.updates.lock().iter().position(is)
        };
        until!(|| said(2, ClientStatus::Running).is_some()).await;
        let (first, second) = (said(0, ClientStatus::Complete), said(1, ClientStatus::Complete));
        assert!(first.is_some() && first < second, "known: {second_is_known}: {first:?} {second:?}");
        assert!(second < said(2, ClientStatus::Running));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_out_of_reach_notes_once_that_it_came_back() {
    let world = World::new();
    let server = world.server(1);
    let assigned = work("24h", None);
    *server.assigned.lock() = Some(assigned.clone());
    let node = world.client(&[1]);
    until!(|| is(&node, ClientStatus::Running)).await;
    let notes = || {
        let word = node.word().unwrap();
        let kinds = word.task_states[0].events.iter().map(|event| event.kind);
        kinds.filter(|kind| *kind == TaskEventKind::Reconnected).count()
    };
    let states = vec![(ClientStatus::Unknown, Timestamp(5)), (ClientStatus::Running, Timestamp(6))];
    let extra = Some(Box::new(model::AllocExtra { states, ..model::AllocExtra::default() }));
    let back = AllocRecord { alloc_modify_index: 8, extra, ..assigned.allocs[0].clone() };
    let tell = |alloc: &AllocRecord| {
        let (index, allocs) = (alloc.alloc_modify_index, vec![alloc.clone()]);
        *server.assigned_later.lock() = Some(Assignments { index, allocs, ..Assignments::default() });
        server.later.notify_one();
    };
    tell(&back);
    until!(|| notes() == 1).await;
    tell(&AllocRecord { alloc_modify_index: 9, desired: DesiredStatus::Stop, ..back.clone() });
    until!(|| is(&node, ClientStatus::Complete)).await;
    assert_eq!(notes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_sent_once_is_known_as_long_as_the_session_lives() {
    let world = World::new();
    let server = world.server(1);
    let jobs = many(40);
    *server.assigned.lock() = Some(jobs.clone());
    let node = world.client(&[1]);
    // All have run, were handed in and are collected.
    until!(|| server.updates.lock().iter().filter(|word| word.client_status.is_terminal()).count() >= 40)
        .await;
    until!(|| node.client.alloc_ids().is_empty()).await;
    let id = AllocId::from_random(1_000);
    let again = AllocRecord { id, ..jobs.allocs[3].clone() };
    *server.assigned_later.lock() =
        Some(Assignments { index: 9, allocs: vec![again], ..Assignments::default() });
    server.later.notify_one();
    until!(|| {
        let words = server.updates.lock();
        words.iter().any(|word| word.id == id && word.client_status == ClientStatus::Complete)
    })
    .await;
    assert_eq!(server.heard(), 1, "one session did it all");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_not_sent_is_had_by_a_new_session() {
    let world = World::new();
    let server = world.server(1);
    *server.assigned.lock() = Some(Assignments { jobs: Vec::new(), ..work("5m", None) });
    let node = world.client(&[1]);
    until!(|| server.heard() == 2).await;
    *server.assigned.lock() = Some(work("5m", None));
    until!(|| is(&node, ClientStatus::Running)).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_may_not_run_alone_is_stopped_and_says_why() {
    let world = World::new();
    let server = world.server(1);
    *server.assigned.lock() = Some(work("24h", Some(Duration::from_secs(300))));
    let node = world.client(&[1]);
    until!(|| is(&node, ClientStatus::Running)).await;
    world.network.crash(addr(1));
    // A connection with a dead server counts until it is lost.
    tokio::time::sleep(Duration::from_secs(299)).await;
    assert!(is(&node, ClientStatus::Running));
    tokio::time::sleep(Duration::from_secs(30)).await;
    until!(|| is(&node, ClientStatus::Complete)).await;
    let word = node.word().unwrap();
    let events: Vec<String> =
        word.task_states[0].events.iter().map(|event| event.display().to_owned()).collect();
    assert!(events.iter().any(|text| text.contains("No server was reachable for 5m")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_leader_does_not_count_as_contact() {
    let world = World::new();
    let server = world.server(1);
    *server.assigned.lock() = Some(work("24h", Some(Duration::from_secs(60))));
    let node = world.client(&[1]);
    until!(|| is(&node, ClientStatus::Running)).await;
    *server.ping_answer.lock() = Some(b"\x00");
    tokio::time::sleep(Duration::from_secs(30)).await;
    *server.ping_answer.lock() = Some(b"\x01");
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert!(is(&node, ClientStatus::Running));
    *server.ping_answer.lock() = Some(b"\x00");
    tokio::time::sleep(Duration::from_secs(70)).await;
    until!(|| is(&node, ClientStatus::Complete)).await;
    assert_eq!(node.server(), Some(1));
}

#[tokio::test(start_paused = true)]
async fn links_that_are_cut_one_way_are_found_out_and_heal() {
    let world = World::new();
    let servers = [1, 2].map(|number| world.server(number));
    let mut node = world.client(&[1, 2]);
    let first = node.server_other_than(None).await;
    until!(|| *node.client.contact().borrow() == Contact::Held).await;
    world.links.cut(addr(first), addr(9));
    let cut = Instant::now();
    let second = node.server_other_than(Some(first)).await;
    assert!(cut.elapsed() < Duration::from_secs(1), "{:?}", cut.elapsed());
    world.links.cut(addr(9), addr(second));
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.links.heal();
    until!(|| servers.iter().map(|server| server.heard()).sum::<usize>() >= 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_says_so_and_comes_back_no_more() {
    let world = World::new();
    let server = world.server(1);
    let mut node = world.client(&[1]);
    node.server_other_than(None).await;
    node.client.leave();
    until!(|| server.left.load(Ordering::Relaxed) == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(server.sessions.load(Ordering::Relaxed), 1);
    assert_eq!(node.server(), None);
}

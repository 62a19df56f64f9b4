//! Starts an agent on its machine: the same parts in the same order as the binary, without HTTP and without joining.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use client::{Client, Servers, Session, fingerprint};
use driver_mock::MockDriver;
use futures_util::future::BoxFuture;
use gossip_core::{Digest, Incarnation, Me, MemberId, Role};
use gossip_driver::{
    Config, Driver, GossipKey, Handle, Host, KeyRing, Located, PAYLOAD_MAX, Pool, PoolKind, Store, SyncBy,
};
use model::{AutopilotConfig, Capacity, NodeId, NodeResources, Text, Timestamp};
use parking_lot::Mutex;
use raft::{IoMode, MemoryDisk, RawConfig, Storage};
use runtime::Env;
use server::{Heartbeats, Life, Replica, Server, StartError};
use tokio::sync::{mpsc, watch};
use transport::{
    Acceptor, Boot, EndpointSecret, Identity, Incoming, Plane, Region, TokioHost, Transport, memory,
};
use uuid::Uuid;

use crate::{
    faults::Agent,
    feed::{Feed, RAFT_TAG},
    network::Conditions,
    plan::Work,
    sockets::Sockets,
};

/// The version that agents tell each other.
const VERSION: &str = "2.0.6";
/// Ports of connections and of gossip.
const RPC_PORT: u16 = 4_647;
const GOSSIP_PORT: u16 = 4_648;
/// Time between two looks at the drivers, as in the binary.
const DRIVER_PERIOD: Duration = Duration::from_secs(30);
/// Streams that nobody here serves: users of the simulation read no files.
const STREAMS_MAX: usize = 16;

/// Everything between the machines.
#[derive(Clone, Debug)]
pub struct Nets {
    /// What happens to messages.
    pub conditions: Conditions,
    /// Connections.
    pub connections: memory::Network,
    /// Gossip.
    pub sockets: Sockets,
}

impl Nets {
    /// Makes a network that behaves as `conditions` say.
    pub fn new(conditions: Conditions) -> Self {
        let connections = memory::Network::new(Arc::new(conditions.clone()), Arc::new(TokioHost));
        let sockets = Sockets::new(conditions.clone());
        Self { conditions, connections, sockets }
    }

    /// Takes an agent off the network without a word.
    pub fn cut_off(&self, agent: Agent) {
        self.connections.crash(rpc_addr(agent));
        self.sockets.close(gossip_addr(agent));
    }
}

/// Where an agent's connections arrive.
pub fn rpc_addr(agent: Agent) -> SocketAddr {
    SocketAddr::new(agent.ip(), RPC_PORT)
}

/// Where its gossip arrives.
pub fn gossip_addr(agent: Agent) -> SocketAddr {
    SocketAddr::new(agent.ip(), GOSSIP_PORT)
}

/// What an agent is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which agent.
    pub agent: Agent,
    /// The network.
    pub nets: Nets,
    /// What users will do.
    pub work: Work,
    /// Which run of it this is.
    pub boot: u32,
    /// All servers, as its configuration names them.
    pub servers: Vec<Agent>,
    /// Its last life in gossip.
    pub incarnation: Arc<Mutex<Incarnation>>,
}

/// What a server is started with besides.
#[derive(Clone)]
pub struct ServerSettings {
    /// Its disk.
    pub disk: MemoryDisk,
    /// Its life.
    pub life: Life,
    /// Entries between two snapshots; half as many are kept behind one.
    pub snapshot_every: u64,
}

/// What a client is started with besides.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Its directory, on a real disk in memory.
    pub dir: PathBuf,
    /// Where its tasks live.
    pub tasks: driver_mock::World,
}

/// The parts of an agent that runs.
#[derive(Clone)]
pub struct Parts {
    /// Its gossip.
    pub gossip: Handle,
    /// Its server.
    pub server: Option<Server>,
    /// Its client.
    pub client: Option<Client>,
}

/// A server's part in Raft.
pub fn replica(agent: Agent, life: Life) -> Replica {
    Replica {
        node_id: transport::NodeId(agent.node_id()),
        life,
        name: format!("{agent}.global"),
        rpc_addr: rpc_addr(agent),
    }
}

/// Starts a server. Everything of it belongs to the process of `env`, in which this has to run.
///
/// # Errors
///
/// When its log can not be used.
pub async fn start_server(env: Env, settings: Settings, own: ServerSettings) -> Result<Parts, StartError> {
    let (transport, acceptor) = settings.attach(transport::Role::Server);
    let raw = RawConfig {
        snapshot_threshold: Some(own.snapshot_every),
        snapshot_interval: Some(Duration::from_secs(2)),
        trailing_logs: Some(own.snapshot_every / 2),
        ..RawConfig::default()
    };
    let config = raft::Config::check(&raw, Storage::Memory(own.disk), IoMode::Task)
        .expect("the standard times fit each other");
    let me = replica(settings.agent, own.life);
    let server = Server::start(&env, server_config(settings.agent), config, me, transport).await?;
    env.spawn("sim-accept", accept(env.clone(), server.clone(), acceptor));
    let gossip = settings.gossip(&env, Some(server.replica().raft_id()));
    let servers = watch::Sender::new(Servers::default());
    settings.feed(&env, gossip.clone(), Some(server.clone()), servers);
    Ok(Parts { gossip, server: Some(server), client: None })
}

fn server_config(agent: Agent) -> server::Config {
    server::Config {
        region: "global".to_owned(),
        name: agent.to_string(),
        datacenter: "dc1".to_owned(),
        heartbeats: Heartbeats::default(),
        bootstrap_expect: 3,
        autopilot: AutopilotConfig::default(),
        thresholds: control::collection::Thresholds::STANDARD,
        gc_interval: Duration::from_secs(300),
        event_buffer: 100,
    }
}

/// Starts a client. Everything of it belongs to the process of `env`, in which this has to run.
pub async fn start_client(env: Env, settings: Settings, own: ClientSettings) -> Result<Parts, String> {
    let (transport, _acceptor) = settings.attach(transport::Role::Client);
    let drivers = MockDriver::new(
        env.clone(),
        driver_mock::Config::from_value(&serde_json::json!({})).expect("an empty block is fine"),
        own.tasks,
    );
    let drivers: Vec<Arc<dyn driver::Driver>> = vec![Arc::new(drivers)];
    let (alloc_dir, state_dir) = (own.dir.join("alloc"), own.dir.join("client"));
    for dir in [&alloc_dir, &state_dir] {
        std::fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    }
    let mut node = describe(settings.agent, &alloc_dir, settings.work);
    fingerprint::add_drivers(&mut node, &drivers, Timestamp(env.wall())).await;
    let config = client::Config {
        region: "global".to_owned(),
        alloc_dir,
        state_dir: Some(state_dir),
        max_kill_timeout: Duration::from_secs(30),
        gc_interval: Duration::from_secs(60),
        gc_max_allocs: 50,
        host_env: BTreeMap::new(),
    };
    let client = Client::start(&env, config, node, drivers).map_err(|error| error.to_string())?;
    client.sweep().await;
    let servers = watch::Sender::new(Servers::named(settings.servers.iter().copied().map(rpc_addr)));
    let (streams, _) = mpsc::channel(STREAMS_MAX);
    let session = Session {
        client: client.clone(),
        transport,
        servers: servers.subscribe(),
        streams,
        current: watch::Sender::new(None),
    };
    env.spawn("sim-session", session.run());
    env.spawn("sim-drivers", watch_drivers(env.clone(), client.clone()));
    let gossip = settings.gossip(&env, None);
    settings.feed(&env, gossip.clone(), None, servers);
    Ok(Parts { gossip, server: None, client: Some(client) })
}

async fn watch_drivers(env: Env, client: Client) {
    let drivers = client.drivers();
    loop {
        env.sleep(DRIVER_PERIOD).await;
        let mut node = (*client.node()).clone();
        if fingerprint::add_drivers(&mut node, &drivers, Timestamp(env.wall())).await {
            client.set_node(node);
        }
    }
}

/// Describes a machine that is the same on every machine.
fn describe(agent: Agent, alloc_dir: &std::path::Path, work: Work) -> model::Node {
    let (cpu, last_port) = match work {
        Work::Usual => (4_000, 20_200),
        // Little enough for jobs to wait for room now and then; and as many ports as are in use together, with some that
        // stop: one that is never given back is missed.
        Work::Demanding => (1_500, 20_023),
    };
    let id = Uuid::from_bytes(agent.node_id());
    let settings = fingerprint::Settings {
        id: NodeId(id),
        secret_id: Uuid::from_u128(!id.as_u128()),
        name: agent.to_string(),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        node_class: String::new(),
        meta: BTreeMap::new(),
        http_addr: SocketAddr::new(agent.ip(), 4_646).to_string(),
        version: VERSION.into(),
        network_interface: None,
        network_speed: None,
        cpu_total_compute: Some(cpu),
        memory_total_mb: Some(4_096),
        disk_total_mb: Some(20_000),
        disk_free_mb: Some(20_000),
        reservable_cores: Some(Vec::new()),
        reserved: Capacity::default(),
        reserved_ports: String::new(),
        dynamic_ports: (20_000, last_port),
        host_volumes: BTreeMap::new(),
        host_networks: BTreeMap::new(),
        cgroup_parent: "nomad.slice".into(),
        max_allocs: 0,
        default_ineligible: false,
        alloc_dir: alloc_dir.to_owned(),
        denied: Vec::new(),
    };
    let address = model::NodeAddress {
        alias: "default".into(),
        address: agent.ip().to_string().into(),
        family: "ipv4".into(),
        ..model::NodeAddress::default()
    };
    let network = model::NodeNetwork {
        mode: "host".into(),
        device: "eth0".into(),
        addresses: vec![address],
        ..model::NodeNetwork::default()
    };
    let found = fingerprint::describe(&settings);
    let facts = [("kernel.name", "linux"), ("cpu.arch", "amd64"), ("nomad.version", VERSION)];
    let mut attributes: BTreeMap<Text, Text> =
        facts.iter().map(|(name, fact)| (Text::from(*name), Text::from(*fact))).collect();
    if work == Work::Demanding {
        attributes.insert("sim.version".into(), sim_version(agent).into());
    }
    model::Node {
        attributes,
        resources: NodeResources {
            capacity: Capacity { cpu_shares: cpu, cores: Vec::new(), memory_mb: 4_096, disk_mb: 20_000 },
            total_cores: 4,
            core_mhz: 1_000,
            networks: vec![network],
            devices: Vec::new(),
            ..found.resources
        },
        ..found
    }
}

/// What a picky job looks at. The first two machines are outside of what it wants, one on either side.
fn sim_version(agent: Agent) -> &'static str {
    match agent {
        Agent::Client(1) => "1.1.9",
        Agent::Client(2) => "1.10.0",
        Agent::Client(3) => "1.2",
        Agent::Client(_) | Agent::Server(_) => "1.9.3",
    }
}

async fn accept(env: Env, server: Server, mut acceptor: Acceptor) {
    while let Some(opened) = acceptor.accept().await {
        let server = server.clone();
        match opened.connection.plane() {
            Plane::Raft => drop(env.spawn("sim-raft", async move { server.serve_raft(opened).await })),
            Plane::Node => {
                let (streams, _) = mpsc::channel(STREAMS_MAX);
                env.spawn("sim-node", async move { server.serve_node(opened, streams).await });
            }
            Plane::Rpc => {
                let tasks = env.clone();
                env.spawn("sim-rpc", async move {
                    let mut inbound = opened.inbound;
                    let peer = opened.connection.peer().clone();
                    while let Some(incoming) = inbound.next().await {
                        let Incoming::Request(request) = incoming else { continue };
                        let (server, peer) = (server.clone(), peer.clone());
                        tasks.spawn("sim-answer", async move {
                            drop(server.serve_rpc_request(&peer, request).await);
                        });
                    }
                });
            }
            Plane::Federation | Plane::Join => {}
        }
    }
}

impl Settings {
    fn attach(&self, role: transport::Role) -> (Arc<dyn Transport>, Acceptor) {
        let region = Region::new("global").expect("a name");
        let node_id = transport::NodeId(self.agent.node_id());
        let identity = Identity { role, region, node_id, name: self.agent.to_string() };
        let secret = EndpointSecret::from_bytes([7; 32]);
        let raw = transport::RawConfig::default();
        let config = transport::Config::check(rpc_addr(self.agent), secret, &raw).expect("defaults fit");
        let boot = Boot(u64::from(self.boot));
        let agent = memory::Agent { identity, authority: "ours".to_owned(), boot, config };
        let bound = self.nets.connections.attach(agent).erase();
        (bound.transport, bound.acceptor)
    }

    fn gossip(&self, env: &Env, raft_id: Option<u64>) -> Handle {
        let role = if raft_id.is_some() { Role::Server } else { Role::Client };
        let digest = Digest {
            name: self.agent.to_string(),
            role,
            region: "global".to_owned(),
            datacenter: "dc1".to_owned(),
            version: VERSION.to_owned(),
            rpc_addr: Some(rpc_addr(self.agent)),
            http_addr: Some(SocketAddr::new(self.agent.ip(), 4_646)),
            tags: raft_id.map(|id| (RAFT_TAG.to_owned(), id.to_string())).into_iter().collect(),
            ..Digest::default()
        };
        let addr = gossip_addr(self.agent);
        let persisted = *self.incarnation.lock();
        let me = Me { id: MemberId(self.agent.node_id()), addr, persisted, digest };
        let pool = Pool {
            kind: PoolKind::Region,
            config: gossip_core::Config::local(1, PAYLOAD_MAX, env.random_u64()),
            me,
            ring: KeyRing::new(GossipKey::from_bytes(&[3; 32]).expect("a key has 32 bytes")),
            cluster: None,
            store: Arc::new(Lives(self.incarnation.clone())),
        };
        let located = Located { rpc_port: RPC_PORT, role, region: "global".to_owned() };
        let config = Config { located: Some(located), sync: SyncBy::Packets };
        let socket = self.nets.sockets.bind(addr);
        Driver::start(Arc::new(EnvHost(env.clone())), config, socket, vec![pool])
            .expect("these settings are fine")
    }

    fn feed(&self, env: &Env, gossip: Handle, server: Option<Server>, servers: watch::Sender<Servers>) {
        let seeds = self.servers.iter().filter(|agent| **agent != self.agent);
        let seeds = seeds.copied().map(gossip_addr).collect();
        let feed = Feed { env: env.clone(), gossip, server, servers, seeds };
        env.spawn("sim-feed", feed.run());
    }
}

/// Keeps a member's incarnation on its machine.
#[derive(Debug)]
struct Lives(Arc<Mutex<Incarnation>>);

impl Store for Lives {
    fn persist(&self, incarnation: Incarnation) -> BoxFuture<'static, io::Result<()>> {
        *self.0.lock() = incarnation;
        Box::pin(async { Ok(()) })
    }
}

/// Lends an agent's tasks, clock and chance to gossip.
#[derive(Debug)]
struct EnvHost(Env);

impl Host for EnvHost {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        // The task ends when the driver is stopped.
        drop(self.0.spawn(name, task));
    }

    fn unix_time(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.wall()).unwrap_or(0))
    }

    fn random(&self) -> u64 {
        self.0.random_u64()
    }
}

//! Simulated nodes: thousands of sessions in one process, each with its own port, certificate and outbox.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use client::{Servers, Session};
use model::{Capacity, DriverState, Node, NodeId, NodeResources, NodeStatus, Text, Timestamp};
use runtime::Env;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};
use transport::{
    Boot, Credentials, EndpointSecret, Identity, RawConfig, Region, Role, TokioHost, ca::Authority,
    quic::Quic,
};
use uuid::Uuid;

use crate::{
    options::{Kind, NodesWanted},
    pretender::{Jobs, Pretender},
};

/// What a server calls the files of its region's authority.
const AUTHORITY: [&str; 2] = ["authority.pem", "authority-key.pem"];

/// The region of everything here.
const REGION: &str = "global";

/// How long certificates are valid: longer than any scenario.
const LIFETIME: Duration = Duration::from_secs(7 * 86_400);

/// Racks over which nodes are dealt out.
const RACKS: usize = 25;

/// Nodes that may be on their way to a session at once. Real ones have processors of their own; here more would only have
/// all of them wait for so long that they try elsewhere.
const BEGINNING_MAX: usize = 32;

/// How long a node may keep others from beginning; one that was welcomed elsewhere meanwhile does not matter.
const BEGIN_WAIT_MAX: Duration = Duration::from_secs(5);

/// CPU and memory of the machines of the packing scenario.
pub const SHAPES: [(u64, u64); 5] =
    [(8_000, 16_384), (16_000, 32_768), (16_000, 65_536), (32_000, 65_536), (32_000, 131_072)];

/// CPU and memory of the machines of all others: room for some 400 small tasks.
const USUAL: (u64, u64) = (4_000, 4_096);

/// Streams that a server opens to a node; nothing is behind them here.
const STREAMS_MAX: usize = 1;

/// Is simulated nodes until the process is ended.
///
/// # Errors
///
/// When the authority can not be read or a port can not be had.
pub async fn run(env: &Env, wanted: NodesWanted) -> anyhow::Result<()> {
    let authority = authority(&wanted.dir)?;
    let servers = watch::Sender::new(Servers::named(wanted.servers.iter().copied()));
    // As in a region of so many, so that nodes ask their servers as seldom as real ones would.
    servers.send_modify(|servers| servers.members = wanted.count);
    let http = open_port(env, wanted.bind).await?;
    let jobs = Arc::new(Jobs::default());
    let beginning = Arc::new(Semaphore::new(BEGINNING_MAX));
    for number in wanted.first..wanted.first + wanted.count {
        let permit = beginning.clone().acquire_owned().await.context("the semaphore is never closed")?;
        let node = begin(env, &wanted, &authority, number, http, &jobs)?;
        let (mut welcomed, waiter) = (node.1.welcomed(), env.clone());
        env.spawn("node-begins", async move {
            tokio::select! {
                // The pretender lives as long as this process.
                _ = welcomed.wait_for(|welcomed| *welcomed) => {}
                () = waiter.sleep(BEGIN_WAIT_MAX) => {}
            }
            drop(permit);
        });
        let (streams, mut opened) = mpsc::channel(STREAMS_MAX);
        env.spawn("no-streams", async move { while opened.recv().await.is_some() {} });
        let session = Session {
            client: node.1,
            transport: node.0,
            servers: servers.subscribe(),
            streams,
            current: watch::Sender::new(None),
        };
        env.spawn("node", session.run());
    }
    env.shutdown().wait().await;
    Ok(())
}

/// Opens a port for all nodes to name as that of their HTTP API. Nobody is answered there, but a server that wonders whether an
/// agent is there or only short of time looks whether its port is open.
async fn open_port(env: &Env, bind: IpAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((bind, 0)).await.context("no port for the nodes' HTTP API")?;
    let addr = listener.local_addr()?;
    env.spawn("nodes-http", async move {
        // Whoever connects sees that somebody is there, and that is all.
        while listener.accept().await.is_ok() {}
    });
    Ok(addr)
}

fn begin(
    env: &Env,
    wanted: &NodesWanted,
    authority: &Authority,
    number: usize,
    http: SocketAddr,
    jobs: &Arc<Jobs>,
) -> anyhow::Result<(Arc<Quic>, Pretender)> {
    let id = Uuid::from_u128(env.random_u128());
    let node = Node { http_addr: http.to_string().into(), ..node(number, wanted.kind == Kind::Mixed, id) };
    let identity = Identity {
        role: Role::Client,
        region: Region::new(REGION)?,
        node_id: transport::NodeId(*id.as_bytes()),
        name: node.name.to_string(),
    };
    let credentials = Credentials::issued_by(authority, identity, LIFETIME, &TokioHost)?;
    let bind = SocketAddr::new(wanted.bind, 0);
    let config = transport::Config::check(bind, EndpointSecret::generate(), &RawConfig::default())?;
    let bound = Quic::bind(config, &credentials, Boot(env.random_u64()), Arc::new(TokioHost))
        .with_context(|| format!("no port for node {number}; look at the limit of open files"))?;
    Ok((bound.transport, Pretender::new(env, node, wanted.kind == Kind::Healthy, jobs.clone())))
}

fn authority(dir: &Path) -> anyhow::Result<Authority> {
    let [certificate, key] = AUTHORITY.map(|name| {
        let path = dir.join(name);
        fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))
    });
    let now = transport::Host::unix_time(&TokioHost);
    Ok(Authority::load(Region::new(REGION)?, &certificate?, &key?, now)?)
}

/// Makes the record of a node.
pub fn node(number: usize, mixed: bool, id: Uuid) -> Node {
    let (cpu_shares, memory_mb) = if mixed { SHAPES[number % SHAPES.len()] } else { USUAL };
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<Text, Text> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let rack = format!("r{}", number % RACKS);
    let driver = DriverState {
        detected: true,
        healthy: true,
        health_description: "Healthy".into(),
        attributes: pairs(&[("driver.mock_driver", "1")]),
        update_time: Timestamp::ZERO,
    };
    Node {
        id: NodeId(id),
        secret_id: id,
        name: format!("sim-{number}").into(),
        datacenter: "dc1".into(),
        node_pool: "default".into(),
        node_class: Text::default(),
        http_addr: Text::default(),
        attributes: pairs(&[
            ("kernel.name", "linux"),
            ("cpu.arch", "amd64"),
            ("os.name", "debian"),
            ("nomad.version", "2.0.6"),
            ("driver.mock_driver", "1"),
        ]),
        // Every second machine is of the generation that picky jobs want.
        meta: pairs(&[
            ("rack", rack.as_str()),
            ("generation", if number.is_multiple_of(2) { "2" } else { "1" }),
        ]),
        links: BTreeMap::new(),
        drivers: BTreeMap::from([("mock_driver".into(), driver)]),
        resources: NodeResources {
            capacity: Capacity { cpu_shares, cores: Vec::new(), memory_mb, disk_mb: 1_000_000 },
            total_cores: 4,
            core_mhz: 1_000,
            min_dynamic_port: 20_000,
            max_dynamic_port: 32_000,
            networks: Vec::new(),
            devices: Vec::new(),
        },
        reserved: Capacity::default(),
        reserved_ports: Text::default(),
        host_volumes: BTreeMap::new(),
        host_networks: BTreeMap::new(),
        cgroup_parent: Text::default(),
        max_allocs: 0,
        computed_class: Text::default(),
        status: NodeStatus::Initializing,
        status_description: Text::default(),
        status_updated_at: Timestamp::ZERO,
        eligible: true,
        drain: None,
        last_drain: None,
        events: Vec::new(),
        tls_enabled: false,
        last_alloc_update_index: 0,
        last_missed_heartbeat_index: 0,
        create_index: 0,
        modify_index: 0,
    }
}

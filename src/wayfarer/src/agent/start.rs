use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use api::Api;
use client::{Client, Servers, Session};
use driver::Driver;
use model::{NodeId, Timestamp};
use runtime::Env;
use server::{Life, Replica, Server};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use transport::{
    Acceptor, Boot, Connection, Credentials, EndpointSecret, Identity, Opened, Plane, Region, Role, Stream,
    Transport, ca::Authority, quic::Quic,
};
use uuid::Uuid;

use super::{drivers, host::EnvHost, identity};
use crate::{
    config::{ClientOptions, Options, ServerOptions},
    log::Monitor,
};

/// The version of Nomad whose API this is, as constraints and programs compare it.
pub const NOMAD_VERSION: &str = "2.0.6";

/// How long the region's authority and an agent's certificate are good for.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Streams that other agents opened and that wait to be served.
const STREAMS_MAX: usize = 256;

/// Time between two looks at the drivers.
const DRIVER_PERIOD: Duration = Duration::from_secs(30);

/// A running agent.
pub struct Agent {
    env: Env,
    dev: bool,
    temp_dir: Option<PathBuf>,
    transport: Arc<dyn Transport>,
    /// The server, where the agent is one.
    pub server: Option<Server>,
    /// The client, where the agent is one.
    pub client: Option<Client>,
    /// Where its HTTP API is.
    pub http_addr: SocketAddr,
}

/// Starts every part of an agent; returns once its API answers.
///
/// # Errors
///
/// Names the part that could not start, and why.
pub async fn start(env: &Env, options: Options, monitor: Monitor) -> anyhow::Result<Agent> {
    let listeners = bind_http(&options).await?;
    let http_addr = listeners.first().context("no HTTP address to listen on")?.local_addr()?;
    let dirs = Dirs::of(&options)?;
    let ids = Ids::keep(env, &dirs)?;
    let (transport, acceptor) = open_transport(env, &options, &dirs, &ids)?;
    let server = match &options.server {
        Some(wanted) => Some(start_server(env, &options, wanted, &dirs, &ids, transport.clone()).await?),
        None => None,
    };
    let upstream = watch::Sender::new(None);
    let (streams, incoming) = mpsc::channel(STREAMS_MAX);
    let client = match &options.client {
        Some(wanted) => {
            let parts = ClientParts { wanted, dirs: &dirs, ids: &ids, http_addr };
            Some(start_client(env, &options, parts).await?)
        }
        None => None,
    };
    let api = make_api(env, &options, monitor, &server, &client, upstream.subscribe(), http_addr);
    for listener in listeners {
        let (api, shutdown) = (api.clone(), env.shutdown().clone());
        env.spawn("http-listener", async move {
            if let Err(error) = api::serve_listener(api, listener).await {
                tracing::error!(%error, "HTTP API is gone; stopping the agent");
                shutdown.fire();
            }
        });
    }
    env.spawn("agent-streams", serve_streams(env.clone(), api.clone(), incoming));
    if let Some(server) = &server {
        env.spawn("agent-accept", accept_all(env.clone(), server.clone(), acceptor, streams.clone()));
    }
    if let (Some(client), Some(wanted)) = (&client, &options.client) {
        let own = options.server.is_some().then(|| transport.local_addr());
        let servers = watch::Sender::new(Servers::named(server_addrs(wanted, own)?));
        let session = Session {
            client: client.clone(),
            transport: transport.clone(),
            servers: servers.subscribe(),
            streams,
            current: upstream,
        };
        env.spawn("node-session", session.run());
        env.spawn("node-drivers", watch_drivers(env.clone(), client.clone()));
    }
    let temp_dir = dirs.temporary.then(|| dirs.root.clone());
    Ok(Agent { env: env.clone(), dev: options.dev, temp_dir, transport, server, client, http_addr })
}

impl Agent {
    /// Waits until a part can not go on, and says why. For ever, when all is well.
    pub async fn fault(&self) -> String {
        let Some(server) = &self.server else { return std::future::pending().await };
        let mut fault = server.raft().fault();
        loop {
            if let Some(fault) = &*fault.borrow_and_update() {
                return fault.to_string();
            }
            if fault.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// The exit code that tells why the agent ended: 0, or that of the part that could not go on.
    pub fn exit_code(&self) -> i32 {
        let fault = self.server.as_ref().and_then(|server| server.raft().fault().borrow().clone());
        fault.map_or(0, |fault| i32::from(fault.exit_code()))
    }

    /// Stops the agent. Tasks go on without it, but for a dev agent's: those stop, and everything of them is removed.
    pub async fn stop(self, timeout: Duration) {
        if self.dev
            && let Some(client) = &self.client
            && tokio::time::timeout(timeout, client.stop_all()).await.is_err()
        {
            tracing::warn!("tasks did not stop in time; some may be left");
        }
        self.env.shutdown().fire();
        self.transport.close().await;
        if let Some(server) = &self.server {
            server.stop().await;
        }
        if let Some(dir) = &self.temp_dir {
            // A task that would not die may hold on to it; then it is left, under the system's temporary directory.
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

/// Directories of an agent.
struct Dirs {
    root: PathBuf,
    temporary: bool,
}

impl Dirs {
    fn of(options: &Options) -> anyhow::Result<Self> {
        match &options.data_dir {
            Some(root) => {
                identity::make_private_dir(root)?;
                Ok(Self { root: root.clone(), temporary: false })
            }
            None => {
                let client = options.client.as_ref();
                let root = client.and_then(|client| client.alloc_dir.parent()).map(Path::to_owned);
                let root = root.unwrap_or_else(std::env::temp_dir);
                identity::make_private_dir(&root)?;
                Ok(Self { root, temporary: client.is_some() })
            }
        }
    }

    fn lasting(&self, path: &str) -> Option<PathBuf> {
        (!self.temporary).then(|| self.root.join(path))
    }
}

/// What an agent is known by.
struct Ids {
    node: Uuid,
    secret: Uuid,
    endpoint: EndpointSecret,
}

impl Ids {
    fn keep(env: &Env, dirs: &Dirs) -> anyhow::Result<Self> {
        let id = |path: &str| match dirs.lasting(path) {
            Some(path) => identity::keep_id(env, &path),
            None => Ok(Uuid::from_u128(env.random_u128())),
        };
        let endpoint = match dirs.lasting("endpoint-secret") {
            Some(path) => identity::keep_endpoint_secret(&path)?,
            None => EndpointSecret::generate(),
        };
        Ok(Self { node: id("client/client-id")?, secret: id("client/secret-id")?, endpoint })
    }
}

async fn bind_http(options: &Options) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for addr in &options.http {
        let bound = TcpListener::bind(addr).await;
        listeners.push(bound.with_context(|| {
            format!("could not listen for HTTP on {addr}: is another agent running? Choose another port with ports {{ http = ... }}")
        })?);
    }
    Ok(listeners)
}

fn open_transport(
    env: &Env,
    options: &Options,
    dirs: &Dirs,
    ids: &Ids,
) -> anyhow::Result<(Arc<dyn Transport>, Acceptor)> {
    let host = Arc::new(EnvHost(env.clone()));
    let role = if options.server.is_some() { Role::Server } else { Role::Client };
    let region = Region::new(&options.region)?;
    let identity = Identity {
        role,
        region: region.clone(),
        node_id: transport::NodeId(*ids.node.as_bytes()),
        name: options.name.clone(),
    };
    let credentials = match dirs.lasting("tls") {
        Some(dir) if options.server.is_some() => {
            let authority = keep_authority(&dir, region, &host)?;
            Credentials::issued_by(&authority, identity, CERTIFICATE_LIFETIME, &*host)?
        }
        _ => Credentials::ephemeral(identity, &*host)?,
    };
    let config =
        transport::Config::check(options.rpc, ids.endpoint.clone(), &transport::RawConfig::default())?;
    let boot = Boot(env.random_u64());
    let bound = Quic::bind(config, &credentials, boot, host)
        .with_context(|| format!("could not listen for agents on UDP {}", options.rpc))?
        .erase();
    Ok((bound.transport, bound.acceptor))
}

/// Reads the region's authority, or makes it: the first server of a region does.
fn keep_authority(dir: &Path, region: Region, host: &EnvHost) -> anyhow::Result<Authority> {
    use transport::Host;
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca-key.pem"));
    if !certificate.exists() {
        let made = Authority::make(region.clone(), AUTHORITY_LIFETIME, host.unix_time())?;
        // The key first: a certificate without its key would be taken for a whole authority.
        identity::keep(&key, || made.expose_key_pem())?;
        identity::keep(&certificate, || made.certificate_pem().to_owned())?;
    }
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
    };
    Ok(Authority::load(region, &read(&certificate)?, &read(&key)?, host.unix_time())?)
}

async fn start_server(
    env: &Env,
    options: &Options,
    wanted: &ServerOptions,
    dirs: &Dirs,
    ids: &Ids,
    transport: Arc<dyn Transport>,
) -> anyhow::Result<Server> {
    if wanted.bootstrap_expect > 1 || !wanted.join.is_empty() {
        return Err(anyhow!(
            "a region of several servers is not supported yet: set server {{ bootstrap_expect = 1 }} and no server to join"
        ));
    }
    let raw = raft::RawConfig {
        snapshot_threshold: wanted.snapshot_threshold,
        snapshot_interval: wanted.snapshot_interval,
        trailing_logs: wanted.trailing_logs,
        ..raft::RawConfig::default()
    };
    let storage = match dirs.lasting("server/raft") {
        Some(dir) => raft::Storage::Directory(dir),
        None => raft::Storage::Memory(raft::MemoryDisk::default()),
    };
    let raft_config = raft::Config::check(&raw, storage, raft::IoMode::Thread)?;
    let life = match dirs.lasting("server/life") {
        Some(path) => Life::keep(&path)?,
        None => Life::FIRST,
    };
    let name = format!("{}.{}", options.name, options.region);
    let node_id = transport::NodeId(*ids.node.as_bytes());
    let me = Replica { node_id, life, name, rpc_addr: options.advertise.rpc };
    let config = server::Config {
        region: options.region.clone(),
        name: options.name.clone(),
        datacenter: options.datacenter.clone(),
        heartbeats: wanted.heartbeats,
        bootstrap_expect: wanted.bootstrap_expect as usize,
        autopilot: model::AutopilotConfig::default(),
        thresholds: wanted.thresholds,
        gc_interval: wanted.gc_interval,
        event_buffer: wanted.event_buffer,
    };
    let server = Server::start(env, config, raft_config, me.clone(), transport).await?;
    if !server.has_state() {
        server.found(&[me], raft::ClusterMarker(env.random_u128())).await?;
    }
    Ok(server)
}

/// What a client is started with.
struct ClientParts<'a> {
    wanted: &'a ClientOptions,
    dirs: &'a Dirs,
    ids: &'a Ids,
    http_addr: SocketAddr,
}

async fn start_client(env: &Env, options: &Options, parts: ClientParts<'_>) -> anyhow::Result<Client> {
    let ClientParts { wanted, dirs, ids, http_addr } = parts;
    std::fs::create_dir_all(&wanted.alloc_dir)
        .with_context(|| format!("could not make the allocation directory {}", wanted.alloc_dir.display()))?;
    identity::make_private_dir(&wanted.state_dir)?;
    let drivers = drivers::make(env, options, &wanted.state_dir, &NodeId(ids.node).to_string())?;
    let mut settings = wanted.node.clone();
    settings.id = NodeId(ids.node);
    settings.secret_id = ids.secret;
    settings.http_addr = if options.advertise.http.port() == 0 {
        http_addr.to_string()
    } else {
        options.advertise.http.to_string()
    };
    settings.version = NOMAD_VERSION.to_owned();
    let mut node = client::fingerprint::describe(&settings);
    client::fingerprint::add_drivers(&mut node, &drivers, Timestamp(env.wall())).await;
    let config = client::Config {
        region: options.region.clone(),
        alloc_dir: wanted.alloc_dir.clone(),
        state_dir: (!dirs.temporary).then(|| wanted.state_dir.clone()),
        max_kill_timeout: wanted.max_kill_timeout,
        gc_interval: wanted.gc_interval,
        gc_max_allocs: wanted.gc_max_allocs,
        host_env: std::env::vars().collect::<BTreeMap<_, _>>(),
    };
    let client = Client::start(env, config, node, drivers)?;
    client.sweep().await;
    Ok(client)
}

fn server_addrs(wanted: &ClientOptions, own: Option<SocketAddr>) -> anyhow::Result<Vec<SocketAddr>> {
    if let Some(own) = own {
        // A socket that listens everywhere is reached on this machine's own address.
        let own =
            if own.ip().is_unspecified() { SocketAddr::new([127, 0, 0, 1].into(), own.port()) } else { own };
        return Ok(vec![own]);
    }
    let mut addrs = Vec::new();
    for server in &wanted.servers {
        let text = if server.contains(':') { server.clone() } else { format!("{server}:4647") };
        let found = std::net::ToSocketAddrs::to_socket_addrs(&text);
        addrs.extend(found.with_context(|| format!("client.servers: {server:?} is no address"))?);
    }
    Ok(addrs)
}

fn make_api(
    env: &Env,
    options: &Options,
    monitor: Monitor,
    server: &Option<Server>,
    client: &Option<Client>,
    upstream: watch::Receiver<Option<(SocketAddr, Connection)>>,
    http_addr: SocketAddr,
) -> Api {
    let agent = api::Agent {
        env: env.clone(),
        name: options.name.clone(),
        region: options.region.clone(),
        datacenter: options.datacenter.clone(),
        version: NOMAD_VERSION.to_owned(),
        config: options.shown.clone(),
        dev: options.dev,
        http_addr,
        rpc_addr: options.advertise.rpc,
        serf_addr: options.advertise.serf,
        response_headers: options.response_headers.clone(),
        enable_debug: options.enable_debug,
        monitor: Arc::new(monitor),
        reload: Box::new(|| Ok(())),
    };
    Api::new(agent, server.clone(), client.clone(), upstream)
}

/// Serves what other agents open: sessions of nodes, requests that they pass on.
async fn accept_all(env: Env, server: Server, mut acceptor: Acceptor, streams: mpsc::Sender<Stream>) {
    while let Some(opened) = acceptor.accept().await {
        match opened.connection.plane() {
            Plane::Node => {
                let (server, streams) = (server.clone(), streams.clone());
                env.spawn("node-session-server", async move { server.serve_node(opened, streams).await });
            }
            Plane::Rpc => {
                env.spawn("agent-requests", forward_streams(opened, streams.clone()));
            }
            Plane::Raft => {
                let server = server.clone();
                env.spawn("raft-connection", async move { server.serve_raft(opened).await });
            }
            Plane::Federation | Plane::Join => {
                tracing::warn!(peer = %opened.connection.peer(), plane = %opened.connection.plane(), "plane is not served yet");
            }
        }
    }
}

async fn forward_streams(opened: Opened, streams: mpsc::Sender<Stream>) {
    let Opened { connection, mut inbound } = opened;
    while let Some(incoming) = inbound.next().await {
        if let transport::Incoming::Stream(stream) = incoming
            && streams.send(stream).await.is_err()
        {
            return;
        }
    }
    drop(connection);
}

/// Serves HTTP on the streams that other agents open.
async fn serve_streams(env: Env, api: Api, mut incoming: mpsc::Receiver<Stream>) {
    while let Some(stream) = incoming.recv().await {
        if &**stream.header() == api::HTTP_STREAM_HEADER {
            env.spawn("http-stream", api::serve_stream(api.clone(), stream));
        }
    }
}

/// Looks at the drivers now and then, and tells the servers what changed.
async fn watch_drivers(env: Env, client: Client) {
    let drivers: Vec<Arc<dyn Driver>> = client.drivers();
    loop {
        tokio::select! {
            biased;
            () = env.shutdown().wait() => return,
            () = env.sleep(DRIVER_PERIOD) => {}
        }
        let mut node = (*client.node()).clone();
        if client::fingerprint::add_drivers(&mut node, &drivers, Timestamp(env.wall())).await {
            client.set_node(node);
        }
    }
}

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use api::Api;
use client::{Client, Session};
use gossip_driver::{Departure, PoolKind};
use join::{Kept, Service};
use runtime::Env;
use server::Server;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use transport::{Connection, Credentials, Transport};

use super::{
    endpoint::{self, Endpoint},
    gossip,
    host::EnvHost,
    identity::{Dirs, Ids},
    joining,
    membership::View,
    parts::{self, ClientParts},
    planes,
    probe::Machines,
    region::{Parts, Region},
};
use crate::{config::Options, log::Monitor};

/// The version of Nomad whose API this is, as constraints and programs compare it.
pub const NOMAD_VERSION: &str = "2.0.6";

/// Streams that other agents opened and that wait to be served.
const STREAMS_MAX: usize = 256;

/// Connections to other servers that are kept, for requests: those of the region and some of others.
const PEERS_MAX: usize = 64;

/// A server that could not be reached is not dialled again for so long.
const REDIAL_PAUSE: Duration = Duration::from_millis(250);

/// Time for a server that is told to be its region alone to found it.
const ALONE_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for others to hear that this agent leaves, as Nomad gives.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A running agent.
pub struct Agent {
    env: Env,
    dev: bool,
    temp_dir: Option<PathBuf>,
    region: Arc<Region>,
    /// The server, where the agent is one.
    pub server: Option<Server>,
    /// The client, where the agent is one.
    pub client: Option<Client>,
    /// Where its HTTP API is.
    pub http_addr: SocketAddr,
}

/// Starts every part of an agent; returns once its API answers. The agent may join its region later.
///
/// # Errors
///
/// Names the part that could not start, and why.
pub async fn start(env: &Env, options: Options, monitor: Monitor) -> anyhow::Result<Agent> {
    let options = Arc::new(options);
    let https = open_https(&options)?;
    let listeners = bind_http(&options).await?;
    let http_addr = listeners.first().context("no HTTP address to listen on")?.local_addr()?;
    let dirs = Dirs::of(&options, env)?;
    let ids = Ids::keep(env, &dirs)?;
    let Endpoint { transport, acceptor, files, own, kept } = endpoint::open(env, &options, &dirs, &ids)?;
    let gossip = gossip::open(env, &options)?;
    let server = match &options.server {
        Some(wanted) => {
            let parts = parts::ServerParts { wanted, dirs: &dirs, ids: &ids, transport: transport.clone() };
            Some(parts::start_server(env, &options, parts).await?)
        }
        None => None,
    };
    let life = server.as_ref().map_or(0, |server| server.replica().life.number());
    let config = endpoint::join_config(&options, endpoint::identity(&options, &ids)?, life)?;
    let config = Arc::new(config);
    let (own_files, own) = own.unzip();
    let region = Region::new(Parts {
        env: env.clone(),
        options: options.clone(),
        dirs: dirs.clone(),
        config: config.clone(),
        transport: transport.clone(),
        peers: peers(env, &transport),
        service: Service::new(env.clone(), config),
        files,
        own: own_files,
        gossip,
        server: server.clone(),
        https,
    });
    if let Some(server) = &server {
        server.set_host_probe(Arc::new(Machines(region.clone())));
    }
    let client = match &options.client {
        Some(wanted) => {
            let parts = ClientParts { wanted, dirs: &dirs, ids: &ids, http_addr };
            Some(parts::start_client(env, &options, parts).await?)
        }
        None => None,
    };
    let upstream = watch::Sender::new(None);
    let api = make_api(&region, monitor, &client, upstream.subscribe(), http_addr);
    let (streams, incoming) = mpsc::channel(STREAMS_MAX);
    env.spawn("agent-streams", planes::serve_streams(env.clone(), api.clone(), incoming));
    env.spawn("agent-accept", planes::serve_all(region.clone(), acceptor, streams.clone()));
    become_part(&region, kept, own).await?;
    serve_http(&region, &api, listeners);
    if let Some(client) = &client {
        let session = Session {
            client: client.clone(),
            transport: transport.clone(),
            servers: region.servers.subscribe(),
            streams,
            current: upstream,
        };
        env.spawn("node-session", session.run());
        env.spawn("node-drivers", parts::watch_drivers(env.clone(), client.clone()));
    }
    let temp_dir = dirs.temporary.then(|| dirs.root.clone());
    Ok(Agent { env: env.clone(), dev: options.dev, temp_dir, region, server, client, http_addr })
}

impl Agent {
    /// Waits until a part can not go on, and says why. For ever, when all is well.
    pub async fn fault(&self) -> String {
        let of_server = async {
            let Some(server) = &self.server else { return std::future::pending().await };
            let mut fault = server.fault();
            match fault.wait_for(Option::is_some).await {
                Ok(fault) => fault.as_ref().map(ToString::to_string).unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        let mut fault = self.region.fault.subscribe();
        let of_region = async {
            match fault.wait_for(Option::is_some).await {
                Ok(fault) => fault.clone().unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            fault = of_server => fault,
            fault = of_region => fault,
        }
    }

    /// Remembers for the next start what it has to do about the reason for which this run ended.
    pub fn note_fault(&self) {
        let fault = self.server.as_ref().and_then(|server| server.fault().borrow().clone());
        if let Some(fault) = fault {
            parts::note_fault(&self.env, &self.region.options, &self.region.dirs, &fault);
        }
    }

    /// The exit code that tells why the agent ended: 0, or that of the part that could not go on.
    pub fn exit_code(&self) -> i32 {
        let fault = self.server.as_ref().and_then(|server| server.fault().borrow().clone());
        let of_region = i32::from(self.region.fault.borrow().is_some());
        fault.map_or(of_region, |fault| i32::from(fault.exit_code()))
    }

    /// Tells the region that this agent leaves on purpose: servers stop to count it. Its tasks go on.
    pub async fn leave(&self) {
        if let Some(client) = &self.client {
            client.leave();
        }
        if self.region.within().is_none() {
            return;
        }
        // The group counts without this server before it goes, so that it keeps its quorum.
        if let Some(server) = &self.server
            && let Err(error) = server.leave().await
        {
            tracing::warn!(%error, "the other servers still count this one");
        }
        let kinds = PoolKind::ALL.into_iter().filter(|kind| !self.region.gossip.members(*kind).is_empty());
        for kind in kinds {
            match self.region.gossip.leave(kind, LEAVE_TIMEOUT).await {
                Ok(Departure::Spread) => tracing::info!(%kind, "left"),
                Ok(Departure::Unconfirmed) => tracing::warn!(%kind, "left, and nobody confirmed it"),
                Err(error) => tracing::warn!(%kind, %error, "could not leave"),
            }
        }
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
        self.region.gossip.stop().await;
        self.region.transport.close().await;
        if let Some(server) = &self.server {
            server.stop().await;
        }
        if let Some(dir) = &self.temp_dir {
            // A task that would not die may hold on to it; then it is left, under the system's temporary directory.
            let _ = std::fs::remove_dir_all(dir);
        }
    }

    /// Reads the certificates of the `tls` block again. Open connections stay.
    ///
    /// # Errors
    ///
    /// When they can not be used; those before stay in use.
    pub fn reload(&self) -> Result<(), String> {
        reload(&self.region)
    }
}

fn reload(region: &Region) -> Result<(), String> {
    if let Some(https) = &region.https {
        https.reload().map_err(|error| error.to_string())?;
    }
    let Some(own) = &region.own else { return Ok(()) };
    let regions = region.within().map(|within| within.regions.clone()).unwrap_or_default();
    let now = endpoint::unix_time(&region.env);
    let reloaded = join::reload_files(&*region.transport, own, &regions, now);
    reloaded.map_err(|error| format!("{:#}", anyhow!(error)))
}

/// Reads the certificates of the API, where it speaks TLS.
fn open_https(options: &Options) -> anyhow::Result<Option<tls::Acceptor>> {
    let tls = &options.tls;
    if !tls.http {
        return Ok(None);
    }
    let files = tls::ServerFiles {
        ca: tls.ca.clone(),
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        verify_client: tls.verify_https_client,
    };
    tls::Acceptor::open(files).map(Some).context("the tls block can not be used for HTTP")
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

fn peers(env: &Env, transport: &Arc<dyn Transport>) -> transport::Peers {
    let config = transport::peers::Config { connections_max: PEERS_MAX, redial_pause: REDIAL_PAUSE };
    // Servers ask on connections that they have dialled themselves.
    let unused = Arc::new(|_: &Connection, _| {});
    transport::Peers::new(transport.clone(), Arc::new(EnvHost(env.clone())), config, unused)
}

/// Joins in the background; a server that is its region alone is there at once, and its API answers as one that leads.
async fn become_part(
    region: &Arc<Region>,
    kept: Option<Kept>,
    own: Option<Credentials>,
) -> anyhow::Result<()> {
    let env = &region.env;
    let alone = region.config.expect == 1 && region.options.join.addresses.is_empty();
    env.spawn("region-join", joining::run(region.clone(), kept, own));
    env.spawn("region-follow-keys", region.clone().follow_keys());
    if !alone {
        return Ok(());
    }
    let (mut within, mut fault) = (region.follow(), region.fault.subscribe());
    tokio::select! {
        biased;
        _ = fault.wait_for(Option::is_some) => {
            let fault = region.fault.borrow().clone().unwrap_or_default();
            Err(anyhow!(fault))
        }
        _ = within.wait_for(Option::is_some) => Ok(()),
        () = env.sleep(ALONE_TIMEOUT) => Err(anyhow!("the region could not be founded within {ALONE_TIMEOUT:?}")),
    }
}

fn serve_http(region: &Region, api: &Api, listeners: Vec<TcpListener>) {
    let env = &region.env;
    for listener in listeners {
        let (api, tls, shutdown) = (api.clone(), region.https.clone(), env.shutdown().clone());
        env.spawn("http-listener", async move {
            if let Err(error) = api::serve_listener(api, listener, tls).await {
                tracing::error!(%error, "HTTP API is gone; stopping the agent");
                shutdown.fire();
            }
        });
    }
}

fn make_api(
    region: &Arc<Region>,
    monitor: Monitor,
    client: &Option<Client>,
    upstream: watch::Receiver<Option<(SocketAddr, Connection)>>,
    http_addr: SocketAddr,
) -> Api {
    let options = &region.options;
    let reloaded = region.clone();
    let agent = api::Agent {
        env: region.env.clone(),
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
        reload: Box::new(move || reload(&reloaded)),
    };
    let api = Api::new(agent, region.server.clone(), client.clone(), upstream);
    let view = Arc::new(View(region.clone()));
    api.set_membership(view.clone());
    api.set_peers(view);
    api
}

//! The two things that an agent can be: a server and a client.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use client::Client;
use driver::Driver;
use model::{NodeId, Timestamp};
use raft::{Fault, IoMode, MemoryDisk, Storage};
use runtime::Env;
use server::{Differences, Life, Remedy, Replica, Server, StartError};
use transport::Transport;

use super::{
    drivers,
    identity::{self, Dirs, Ids},
    start::NOMAD_VERSION,
};
use crate::config::{ClientOptions, Options, ServerOptions};

/// Time between two looks at the drivers.
const DRIVER_PERIOD: Duration = Duration::from_secs(30);

/// What a server is started with.
pub struct ServerParts<'a> {
    pub wanted: &'a ServerOptions,
    pub dirs: &'a Dirs,
    pub ids: &'a Ids,
    pub transport: Arc<dyn Transport>,
}

/// Opens the log and restores the state. An empty server waits to be founded, or to be made a member.
///
/// # Errors
///
/// When the log can not be used.
pub async fn start_server(env: &Env, options: &Options, parts: ServerParts<'_>) -> anyhow::Result<Server> {
    let ServerParts { wanted, dirs, ids, transport } = parts;
    let root = server_root(wanted, dirs);
    let storage = match &root {
        Some(root) => Storage::Directory(root.join("raft")),
        None => Storage::Memory(MemoryDisk::default()),
    };
    let raw = raft::RawConfig {
        snapshot_threshold: wanted.snapshot_threshold,
        snapshot_interval: wanted.snapshot_interval,
        trailing_logs: wanted.trailing_logs,
        ..raft::RawConfig::default()
    }
    .with_multiplier(wanted.raft_multiplier);
    let raft_config = raft::Config::check(&raw, storage, IoMode::Thread)?;
    let mut life = match &root {
        Some(root) => {
            help_itself(root, Timestamp(env.wall()))?;
            Life::keep(&root.join("life"), &root.join("raft"))?
        }
        None => Life::FIRST,
    };
    loop {
        let me = Replica {
            node_id: ids.node_id(),
            life,
            name: format!("{}.{}", options.name, options.region),
            rpc_addr: options.advertise.rpc,
        };
        let config = server::Config {
            region: options.region.clone(),
            name: options.name.clone(),
            datacenter: options.datacenter.clone(),
            heartbeats: wanted.heartbeats,
            bootstrap_expect: wanted.bootstrap_expect as usize,
            autopilot: options.autopilot.over(model::AutopilotConfig::default()),
            thresholds: wanted.thresholds,
            gc_interval: wanted.gc_interval,
            event_buffer: wanted.event_buffer,
        };
        let started = Server::start(env, config, raft_config.clone(), me, transport.clone()).await;
        match (started, &root) {
            (Ok(server), _) => return Ok(server),
            (Err(StartError::Open(error)), Some(root)) if error.must_rejoin() => {
                tracing::error!(%error, "the log of this server is damaged; it begins anew and fetches everything from the others");
                life = Life::begin_anew(&root.join("life"), &root.join("raft"))?;
            }
            (Err(error), _) => return Err(error.into()),
        }
    }
}

/// The file that remembers when the server's state was not the leader's.
const DIFFERENCES: &str = "differences";

/// Does what is to be done about a state that was not the leader's, which is why the server ended.
fn help_itself(root: &Path, now: Timestamp) -> anyhow::Result<()> {
    let file = root.join(DIFFERENCES);
    match Differences::decide(&file, now)? {
        Remedy::None => {}
        Remedy::Replay => tracing::warn!(
            "this server's state was not the leader's; it is made anew from its own snapshot and log"
        ),
        Remedy::BeginAnew => {
            tracing::error!(
                "this server's state was not the leader's again; it begins anew and fetches everything from the others"
            );
            Life::begin_anew(&root.join("life"), &root.join("raft"))?;
        }
        Remedy::GiveUp => anyhow::bail!(
            "this server's state was not the leader's three times within a day: look at its memory, its disk and its build, \
             then remove {} to let it start",
            file.display()
        ),
    }
    Ok(())
}

/// Remembers for the next start that the server ended because its state was not the leader's.
pub fn note_fault(env: &Env, options: &Options, dirs: &Dirs, fault: &Fault) {
    let Fault::Diverged { .. } = fault else { return };
    let Some(root) = options.server.as_ref().and_then(|wanted| server_root(wanted, dirs)) else { return };
    if let Err(error) = Differences::note(&root.join(DIFFERENCES), Timestamp(env.wall())) {
        tracing::error!(%error, "could not note that the state differs");
    }
}

fn server_root(wanted: &ServerOptions, dirs: &Dirs) -> Option<PathBuf> {
    wanted.data_dir.clone().or_else(|| dirs.lasting("server")).filter(|_| !dirs.temporary)
}

/// What a client is started with.
pub struct ClientParts<'a> {
    pub wanted: &'a ClientOptions,
    pub dirs: &'a Dirs,
    pub ids: &'a Ids,
    pub http_addr: SocketAddr,
}

/// Makes the node and takes up what an earlier agent left.
///
/// # Errors
///
/// Names the directory or the driver that can not be used.
pub async fn start_client(env: &Env, options: &Options, parts: ClientParts<'_>) -> anyhow::Result<Client> {
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
    node.tls_enabled = options.tls.http;
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

/// Looks at the drivers now and then, and tells the servers what changed.
pub async fn watch_drivers(env: Env, client: Client) {
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

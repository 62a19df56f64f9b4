//! How a server begins.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use raft::{Network, NetworkError, Peer, Raft, RpcKind, SnapshotStream};
use runtime::Env;
use tokio::sync::mpsc;
use transport::{Opened, Stream};

use crate::{
    allocs::{self, Updates},
    events::EventRing,
    hub::Hub,
    leader,
    machine::Machine,
    server::{Config, Inner, Server},
    sessions::{self, Sessions},
};

/// Inputs waiting for the leader's loop: a session opened or closed, or a user's wish.
const INPUTS_MAX: usize = 4_096;

/// Why a server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log or the snapshots can not be used.
    #[error(transparent)]
    Open(#[from] raft::OpenError),
    /// The region could not be founded.
    #[error(transparent)]
    Bootstrap(#[from] raft::BootstrapError),
}

/// A network without peers: a region of one server.
#[derive(Debug)]
pub struct NoPeers;

impl Network for NoPeers {
    async fn call(&self, target: &Peer, _: RpcKind, _: Bytes, _: Duration) -> Result<Bytes, NetworkError> {
        Err(NetworkError::Unreachable(format!("this region has one server; {} is not known", target.addr)))
    }

    async fn send_snapshot(&self, target: &Peer, _: Bytes, _: SnapshotStream) -> Result<Bytes, NetworkError> {
        Err(NetworkError::Unreachable(format!("this region has one server; {} is not known", target.addr)))
    }
}

impl Server {
    /// Opens the log, restores the state, and begins to take part. With `found`, an empty server founds a region of one.
    ///
    /// # Errors
    ///
    /// When the log can not be used, or the region could not be founded.
    pub async fn start<N: Network>(
        env: &Env,
        config: Config,
        raft_config: raft::Config,
        me: Peer,
        network: Arc<N>,
        found: Option<raft::ClusterMarker>,
    ) -> Result<Self, StartError> {
        let hub = Arc::new(Hub::default());
        let events = Arc::new(EventRing::new(config.event_buffer));
        let sessions = Sessions::default();
        env.spawn("event-ring", events.clone().fill(hub.clone()));
        env.spawn("session-dispatch", sessions.clone().dispatch(hub.follow()));
        let raft = Raft::open(raft_config, me.clone(), Machine::new(hub.clone()), network, env).await?;
        if let Some(marker) = found
            && !raft.has_state()
        {
            raft.bootstrap(&[me], marker).await?;
        }
        let (updates, batches) = Updates::new();
        let (leader, inputs) = mpsc::channel(INPUTS_MAX);
        let inner = Inner { env: env.clone(), config, raft, hub, events, sessions, updates, leader };
        let inner = Arc::new(inner);
        env.spawn("alloc-updates", allocs::run(inner.clone(), batches));
        env.spawn("leader", leader::run(inner.clone(), inputs));
        Ok(Self { inner })
    }

    /// Serves the connection of a node until it ends. Streams that the node opens go to `streams`.
    pub async fn serve_node(&self, opened: Opened, streams: mpsc::Sender<Stream>) {
        sessions::serve(self.inner.clone(), opened, streams).await;
    }

    /// Removes old records: all that is over, or what is older than the thresholds.
    ///
    /// # Errors
    ///
    /// When this server does not lead.
    pub async fn collect(&self, all: bool) -> Result<(), crate::SubmitError> {
        let (done, over) = tokio::sync::oneshot::channel();
        self.ask_leader(leader::LeaderInput::Collect { all, done }).await?;
        let stopping = |_| crate::SubmitError::Unavailable("server is stopping".to_owned());
        over.await.map_err(stopping)?
    }

    /// Returns how many evaluations the leader holds; nothing on other servers.
    pub async fn counts(&self) -> Option<crate::Counts> {
        let (reply, counts) = tokio::sync::oneshot::channel();
        self.ask_leader(leader::LeaderInput::Counts(reply)).await.ok()?;
        counts.await.ok()
    }

    /// Ends cleanly: what was acknowledged is on the disk.
    pub async fn stop(&self) {
        self.inner.raft.shutdown().await;
    }
}

//! How a server begins, and how a region does.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use raft::{ClusterMarker, Fault, Peer, Raft};
use runtime::Env;
use tokio::sync::{mpsc, watch};
use transport::{ClusterId, Opened, Stream, Transport};

use crate::{
    Replica,
    allocs::{self, Updates},
    events::EventRing,
    hub::Hub,
    leader, lookout,
    machine::Machine,
    members::Gossip,
    peers::{self, Peers},
    region, report,
    server::{Config, Inner, Server},
    sessions::{self, Sessions},
};

/// Inputs waiting for the leader's loop: a session opened or closed, or a user's wish.
const INPUTS_MAX: usize = 4_096;

/// Why a server could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log or the snapshots can not be used. See [`raft::OpenError::must_rejoin`] and [`crate::Life::begin_anew`].
    #[error(transparent)]
    Open(#[from] raft::OpenError),
}

impl Server {
    /// Opens the log, restores the state, and begins to take part. An empty server waits: for [`Server::found`], or for
    /// the leader of a region that makes it a member.
    ///
    /// # Errors
    ///
    /// When the log can not be used.
    pub async fn start(
        env: &Env,
        config: Config,
        raft_config: raft::Config,
        me: Replica,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        let hub = Arc::new(Hub::default());
        let events = Arc::new(EventRing::new(config.event_buffer));
        let sessions = Sessions::new(env);
        let gossip = Gossip::default();
        let peers = Peers::new(env, transport, gossip.follow());
        env.spawn("event-ring", events.clone().fill(hub.clone()));
        env.spawn("session-dispatch", sessions.clone().dispatch(env.clone(), hub.follow()));
        let machine = Machine::new(hub.clone());
        let heartbeat = raft_config.heartbeat;
        let raft = Raft::open(raft_config, me.to_peer(), machine, Arc::new(peers.clone()), env).await?;
        let (updates, batches) = Updates::new();
        let (handed_in, handed_in_batches) = Updates::new();
        let (leader, inputs) = mpsc::channel(INPUTS_MAX);
        let inner = Inner {
            env: env.clone(),
            config,
            raft,
            hub,
            events,
            sessions,
            updates,
            handed_in,
            leader,
            me,
            heartbeat,
            gossip,
            peers,
            heard: Mutex::default(),
            health: Mutex::default(),
            host_probe: OnceLock::new(),
        };
        let inner = Arc::new(inner);
        env.spawn("alloc-updates", allocs::run(inner.clone(), batches));
        env.spawn("alloc-updates-handed-in", allocs::relay(inner.clone(), handed_in_batches));
        env.spawn("leader", leader::run(inner.clone(), inputs));
        env.spawn("lookout", lookout::run(inner.clone()));
        env.spawn("region", region::run(inner.clone()));
        env.spawn("session-report", report::run(inner.clone()));
        Ok(Self { inner })
    }

    /// Founds the region with these servers as voters, this one among them. Only a server that never held anything can,
    /// and only one server of a region may: who, is agreed on before (`docs/region.md`).
    ///
    /// # Errors
    ///
    /// When this server has ever held anything, or the members are not such.
    pub async fn found(
        &self,
        founders: &[Replica],
        marker: ClusterMarker,
    ) -> Result<(), raft::BootstrapError> {
        let peers: Vec<Peer> = founders.iter().map(Replica::to_peer).collect();
        self.inner.raft.bootstrap(&peers, marker).await?;
        tracing::info!(founders = founders.len(), "region is founded");
        region::take_membership(&self.inner);
        Ok(())
    }

    /// Tells whether this server has ever held anything: a log, a vote, or the name of a cluster.
    pub fn has_state(&self) -> bool {
        self.inner.raft.has_state() || self.inner.raft.cluster().is_some()
    }

    /// Names the cluster that this server belongs to, once it does.
    pub fn cluster(&self) -> Option<ClusterMarker> {
        self.inner.raft.cluster()
    }

    /// This server's part in Raft.
    pub fn replica(&self) -> &Replica {
        &self.inner.me
    }

    /// Follows the reason why this server can not go on, should there ever be one. The process must then end, with
    /// [`Fault::exit_code`].
    pub fn fault(&self) -> watch::Receiver<Option<Fault>> {
        self.inner.raft.fault()
    }

    /// Serves a connection of the Raft plane until it ends.
    pub async fn serve_raft(&self, opened: Opened) {
        peers::serve(self.inner.clone(), opened).await;
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

/// Writes the marker of a cluster as the transport names it in greetings.
pub fn cluster_id(marker: ClusterMarker) -> ClusterId {
    ClusterId(marker.0.to_be_bytes())
}

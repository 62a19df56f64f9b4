//! What gossip says of the region's agents, as the server hears it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use parking_lot::Mutex;
use runtime::Instant;
use tokio::sync::watch;
use transport::NodeId;

use crate::{Replica, leader::LeaderInput, probe, server::Server};

/// A server of this region as gossip shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServerMember {
    /// Its part in Raft: who it is, in which life, and where the other servers reach it.
    pub replica: Replica,
    /// Where its HTTP API is.
    pub http_addr: SocketAddr,
    /// The version that it runs.
    pub version: String,
    /// Whether it is there.
    pub status: MemberStatus,
    /// Since when it has had this status, on this agent's clock.
    pub since: Instant,
}

/// Whether gossip believes that a server is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemberStatus {
    /// It answers.
    Alive,
    /// It stopped answering.
    Failed,
    /// It said that it leaves.
    Left,
}

/// What gossip says of a node, as a hint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GossipWord {
    /// It answers.
    Alive,
    /// It has not answered some members; worth a look at its session.
    Suspect,
    /// It has stopped answering, or it left.
    Dead,
}

/// The servers by node.
pub(crate) type Servers = Arc<BTreeMap<NodeId, ServerMember>>;

/// The last that gossip said.
#[derive(Debug, Default)]
pub(crate) struct Gossip {
    servers: watch::Sender<Servers>,
    /// Nodes that gossip calls dead, for a server that becomes leader. Holds no more than gossip remembers: a node that
    /// is forgotten there is said to be alive or is told of no more.
    dead: Mutex<BTreeSet<model::NodeId>>,
}

/// Dead nodes that are remembered; a region has fewer clients. Beyond it the long grace decides.
const DEAD_MAX: usize = 65_536;

impl Gossip {
    pub fn follow(&self) -> watch::Receiver<Servers> {
        self.servers.subscribe()
    }

    pub fn servers(&self) -> Servers {
        self.servers.borrow().clone()
    }

    pub fn dead(&self) -> Vec<model::NodeId> {
        self.dead.lock().iter().copied().collect()
    }
}

impl Server {
    /// Takes in the servers that gossip knows, all of them. The leader makes members of those that are alive, and removes
    /// those that left.
    pub fn set_servers(&self, servers: impl IntoIterator<Item = ServerMember>) {
        let servers: BTreeMap<_, _> =
            servers.into_iter().map(|server| (server.replica.node_id, server)).collect();
        let servers = Arc::new(servers);
        self.inner.gossip.servers.send_if_modified(|known| {
            let changed = *known != servers;
            *known = servers;
            changed
        });
    }

    /// The servers that gossip knows.
    pub fn servers(&self) -> Vec<ServerMember> {
        self.inner.gossip.servers().values().cloned().collect()
    }

    /// Takes in what gossip says of a node. Waits while the leader's loop is behind.
    pub async fn hear_gossip(&self, node: model::NodeId, word: GossipWord) {
        {
            let mut dead = self.inner.gossip.dead.lock();
            match word {
                GossipWord::Alive => dead.remove(&node),
                GossipWord::Suspect => false,
                GossipWord::Dead => dead.len() < DEAD_MAX && dead.insert(node),
            };
        }
        if word != GossipWord::Alive && self.inner.sessions.connection(node).is_some() {
            self.inner.env.spawn("session-probe", probe::verify(self.inner.clone(), node));
        }
        // The leader's loop is gone only when the server stops.
        let _ = self.inner.leader.send(LeaderInput::Gossip(node, word)).await;
    }
}

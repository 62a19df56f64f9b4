use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use client::Client;
use futures_util::future::BoxFuture;
use runtime::Env;
use serde_json::Value;
use server::Server;
use tokio::sync::{Semaphore, watch};
use transport::Connection;

use crate::{Membership, figures::Figures, relay::LARGE_BODIES_MAX, routes::SchedulerPool};

/// What an agent knows about itself, for the API.
pub struct Agent {
    /// Time, chance and tasks.
    pub env: Env,
    /// The agent's name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The version of Nomad whose API this is, as programs compare it, e.g. `2.0.6`.
    pub version: String,
    /// The whole configuration as `/v1/agent/self` shows it, without secrets.
    pub config: Value,
    /// Whether it runs in dev mode.
    pub dev: bool,
    /// Where its HTTP API is.
    pub http_addr: SocketAddr,
    /// Where its servers' RPC address is, as members show it.
    pub rpc_addr: SocketAddr,
    /// Where its gossip address is, as members show it.
    pub serf_addr: SocketAddr,
    /// Headers that every answer gets.
    pub response_headers: Vec<(String, String)>,
    /// Whether the expensive and revealing endpoints are served.
    pub enable_debug: bool,
    /// Log lines for `/v1/agent/monitor`: subscribes at a level.
    pub monitor: Arc<dyn Monitor>,
    /// Re-reads the configuration.
    pub reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// Where log lines come from.
pub trait Monitor: Send + Sync {
    /// Follows log lines of this level (`trace` to `error`) and above, as text or as JSON. Lines are lost when the
    /// reader is slow.
    fn subscribe(&self, level: &str, json: bool) -> Result<tokio::sync::mpsc::Receiver<String>, String>;
}

/// The way to the other servers of the region.
pub trait Peers: Send + Sync {
    /// Connects to a server, or takes the connection that there is.
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, Result<Connection, String>>;
}

/// The HTTP API of one agent. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub agent: Agent,
    pub server: Option<Server>,
    pub client: Option<Client>,
    /// The server that holds this client's session, on agents that are not servers.
    pub upstream: watch::Receiver<Option<(SocketAddr, Connection)>>,
    /// The other servers; never set where there are none.
    peers: OnceLock<Arc<dyn Peers>>,
    /// Who else is there; never set where an agent is alone.
    membership: OnceLock<Arc<dyn Membership>>,
    /// Requests with large bodies take turns.
    pub large_bodies: Arc<Semaphore>,
    /// Counts and durations, for the metrics.
    pub figures: Figures,
    /// What someone asked of this server's schedulers; none until then.
    pub schedulers: parking_lot::Mutex<Option<SchedulerPool>>,
    /// When the agent began to serve, in nanoseconds since the epoch.
    pub started_at: i64,
}

impl Api {
    /// Makes the API of an agent that is a server, a client, or both.
    pub fn new(
        agent: Agent,
        server: Option<Server>,
        client: Option<Client>,
        upstream: watch::Receiver<Option<(SocketAddr, Connection)>>,
    ) -> Self {
        let started_at = agent.env.wall();
        Self {
            inner: Arc::new(Inner {
                agent,
                server,
                client,
                upstream,
                peers: OnceLock::new(),
                membership: OnceLock::new(),
                large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
                figures: Figures::default(),
                schedulers: parking_lot::Mutex::default(),
                started_at,
            }),
        }
    }

    /// Names the way to the other servers, so that what only the leader can answer is passed on to it. Once named it
    /// stays.
    pub fn set_peers(&self, peers: Arc<dyn Peers>) {
        // A second way to the same servers is no better than the first.
        let _ = self.inner.peers.set(peers);
    }

    /// Names who else is there: gossip, joining, the key ring, other regions. Once named it stays. Where it is never
    /// named, this agent is its region.
    pub fn set_membership(&self, membership: Arc<dyn Membership>) {
        // A second view of the same members is no better than the first.
        let _ = self.inner.membership.set(membership);
    }

    /// Who else is there.
    pub(crate) fn membership(&self) -> Option<&Arc<dyn Membership>> {
        self.inner.membership.get()
    }

    /// The way to the other servers.
    pub(crate) fn peers(&self) -> Option<&Arc<dyn Peers>> {
        self.inner.peers.get()
    }

    /// The agent.
    pub fn agent(&self) -> &Agent {
        &self.inner.agent
    }

    /// The server, where this agent is one.
    pub fn server(&self) -> Option<&Server> {
        self.inner.server.as_ref()
    }

    /// The client, where this agent is one.
    pub fn client(&self) -> Option<&Client> {
        self.inner.client.as_ref()
    }

    /// The server; for routes that are answered only where there is one, since all others are passed on.
    pub(crate) fn require_server(&self) -> Result<&Server, crate::HttpError> {
        self.server().ok_or_else(|| crate::HttpError::new(501, "this endpoint is answered by servers only"))
    }
}

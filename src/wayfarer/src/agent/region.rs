//! Being part of a region: what an agent knows of it, and who asks for it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use gossip_driver::{Handle, PoolKind};
use join::{
    Abroad, AuthMode, Files, HandedKeys, Kept, Occupant, OwnFiles, Registry, Service, Settings, TokenUsage,
    TrustRegionError, TrustWish, UseTokenError,
};
use model::{NodeStatus, TrustedRegion};
use parking_lot::Mutex;
use protocol::{Command, Named};
use runtime::Env;
use server::{Replica, Server, SubmitError};
use tokio::sync::watch;
use transport::{ClusterId, NodeId, Transport, ca::Authority};
use uuid::Uuid;

use super::{identity::Dirs, wide::Neighbours};
use crate::config::Options;

/// What the parts of an agent share that make it one of a region.
pub struct Region {
    /// Time, chance and tasks.
    pub env: Env,
    /// What the agent is told.
    pub options: Arc<Options>,
    /// Where it keeps things.
    pub dirs: Dirs,
    /// What it brings when it joins.
    pub config: Arc<join::Config>,
    /// The way to peers.
    pub transport: Arc<dyn Transport>,
    /// Connections to other servers, for requests.
    pub peers: transport::Peers,
    /// Answers joiners.
    pub service: Service,
    /// What is kept of being part of a region.
    pub files: Files,
    /// The user's own certificates, where there are such.
    pub own: Option<OwnFiles>,
    /// Gossip.
    pub gossip: Handle,
    /// The server, where the agent is one.
    pub server: Option<Server>,
    /// The servers that this agent's session may be with.
    pub servers: watch::Sender<client::Servers>,
    /// Addresses of agents to join; a user may add some.
    pub addresses: watch::Sender<Vec<String>>,
    /// Why this agent can not go on, if it can not.
    pub fault: watch::Sender<Option<String>>,
    within: watch::Sender<Option<Arc<Within>>>,
    /// Changes of keys follow each other.
    pub keyring: tokio::sync::Mutex<()>,
    /// What is known of other regions.
    pub neighbours: Neighbours,
    /// The API's certificates, where it speaks TLS.
    pub https: Option<tls::Acceptor>,
}

/// What an agent knows of the region that it is part of. Replaced as a whole when something of it changes.
#[derive(Clone, Debug)]
pub struct Within {
    /// The region's id.
    pub cluster: ClusterId,
    /// What issues certificates; on servers, unless the user makes them.
    pub authority: Option<Arc<Authority>>,
    /// How the agent joined.
    pub auth: AuthMode,
    /// The keys.
    pub keys: HandedKeys,
    /// Other regions that are trusted, as they were when the certificate was last issued.
    pub regions: Vec<(transport::Region, String)>,
    /// The servers that were known at that time.
    pub servers: Vec<join::Server>,
}

/// The parts that a region is made of at the start.
pub struct Parts {
    pub env: Env,
    pub options: Arc<Options>,
    pub dirs: Dirs,
    pub config: Arc<join::Config>,
    pub transport: Arc<dyn Transport>,
    pub peers: transport::Peers,
    pub service: Service,
    pub files: Files,
    pub own: Option<OwnFiles>,
    pub gossip: Handle,
    pub server: Option<Server>,
    pub https: Option<tls::Acceptor>,
}

impl Region {
    /// Puts the parts together. The agent is part of no region yet.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            env,
            options,
            dirs,
            config,
            transport,
            peers,
            service,
            files,
            own,
            gossip,
            server,
            https,
        } = parts;
        let addresses = watch::Sender::new(options.join.addresses.clone());
        Arc::new(Self {
            env,
            options,
            dirs,
            config,
            transport,
            peers,
            service,
            files,
            own,
            gossip,
            server,
            servers: watch::Sender::default(),
            addresses,
            fault: watch::Sender::new(None),
            within: watch::Sender::new(None),
            keyring: tokio::sync::Mutex::default(),
            neighbours: Neighbours::default(),
            https,
        })
    }

    /// What is known of the region; nothing before the agent is part of one.
    pub fn within(&self) -> Option<Arc<Within>> {
        self.within.borrow().clone()
    }

    /// Follows what is known of the region.
    pub fn follow(&self) -> watch::Receiver<Option<Arc<Within>>> {
        self.within.subscribe()
    }

    /// Takes in what the agent was given.
    pub fn take(&self, kept: &Kept) {
        let within = Within {
            cluster: kept.cluster,
            authority: kept.authority.clone(),
            auth: kept.auth,
            keys: kept.keys.clone(),
            regions: kept.regions.clone(),
            servers: kept.servers.clone(),
        };
        self.within.send_replace(Some(Arc::new(within)));
    }

    /// Replaces the keys.
    pub fn take_keys(&self, keys: HandedKeys) {
        self.within.send_if_modified(|within| match within {
            Some(known) if known.keys != keys => {
                *within = Some(Arc::new(Within { keys, ..(**known).clone() }));
                true
            }
            Some(_) | None => false,
        });
    }

    /// The agents of the region that gossip remembers, but for this one.
    pub fn others(&self) -> Vec<gossip_core::Member> {
        let me = self.config.identity.node_id.0;
        let members = self.gossip.members(PoolKind::Region);
        members.iter().filter(|member| member.id.0 != me).cloned().collect()
    }

    fn known(&self) -> Arc<Within> {
        self.within().expect("the registry is opened once the agent is part of a region")
    }

    /// This agent as a server of the region.
    fn own_server(&self) -> join::Server {
        let identity = &self.config.identity;
        let (rpc, gossip) = (self.config.rpc, self.config.gossip);
        join::Server { node_id: identity.node_id, name: identity.name.clone(), rpc, gossip }
    }
}

/// Reads a member of gossip as a server of the region; none when it is a client, or has not said what it is.
pub fn server_of(member: &gossip_core::Member) -> Option<join::Server> {
    let digest = member.digest.as_ref().filter(|digest| digest.role == gossip_core::Role::Server)?;
    Some(join::Server {
        node_id: NodeId(member.id.0),
        name: digest.name.clone(),
        rpc: digest.rpc_addr?,
        gossip: member.addr,
    })
}

/// Lends the region to those who answer joiners.
pub struct Known(pub Arc<Region>);

impl Registry for Known {
    fn cluster(&self) -> ClusterId {
        self.0.known().cluster
    }

    fn settings(&self) -> Settings {
        let state = self.0.server.as_ref().map(|server| server.snapshot().join_settings());
        let of_region = state.is_some_and(|settings| settings.require_token);
        Settings { require_token: of_region || self.0.config.require_token }
    }

    fn authority(&self) -> Option<Arc<Authority>> {
        self.0.known().authority.clone()
    }

    fn keys(&self) -> HandedKeys {
        self.0.known().keys.clone()
    }

    fn servers(&self) -> Vec<join::Server> {
        let region = &self.0;
        let alive = region.others();
        let alive = alive.iter().filter(|member| member.status.is_active()).filter_map(server_of);
        let mut servers: Vec<join::Server> = alive.collect();
        if region.server.is_some() {
            servers.push(region.own_server());
        }
        if servers.is_empty() {
            // Gossip may not have begun.
            servers.clone_from(&region.known().servers);
        }
        servers
    }

    fn regions(&self) -> Vec<(transport::Region, String)> {
        let Some(server) = &self.0.server else { return self.0.known().regions.clone() };
        let snapshot = server.snapshot();
        let region = |row: &Arc<TrustedRegion>| {
            Some((transport::Region::new(row.name.as_str()).ok()?, row.authorities.clone()))
        };
        let certified = |row: &&Arc<TrustedRegion>| !row.authorities.is_empty();
        snapshot.trusted_regions().filter(certified).filter_map(region).collect()
    }

    fn occupant(&self, node: NodeId) -> Occupant {
        let members = self.0.gossip.members(PoolKind::Region);
        if let Some(member) = members.iter().find(|member| member.id.0 == node.0) {
            return if member.status.is_active() { Occupant::Alive } else { Occupant::Gone };
        }
        let Some(server) = &self.0.server else { return Occupant::Nobody };
        let snapshot = server.snapshot();
        match snapshot.node(model::NodeId(Uuid::from_bytes(node.0))).map(|node| node.status) {
            Some(NodeStatus::Ready | NodeStatus::Initializing) => return Occupant::Alive,
            Some(NodeStatus::Down | NodeStatus::Disconnected) => return Occupant::Gone,
            None => {}
        }
        let peers = server.raft().status().members.peers;
        let replicas = peers.values().filter_map(Replica::from_peer);
        if replicas.into_iter().any(|replica| replica.node_id == node) {
            Occupant::Gone
        } else {
            Occupant::Nobody
        }
    }

    fn use_token(&self, usage: TokenUsage) -> BoxFuture<'_, Result<(), UseTokenError>> {
        Box::pin(async move {
            let TokenUsage { secret_hash, role, used } = usage;
            let unavailable = |reason: String| UseTokenError::Unavailable { reason };
            let server = self.0.server.as_ref();
            let server = server.ok_or_else(|| unavailable("this agent is no server".to_owned()))?;
            match server.submit(&Command::UseJoinToken { secret_hash, role, used }).await {
                Ok(_) => Ok(()),
                Err(SubmitError::Refused(refusal)) => {
                    Err(UseTokenError::Refused { reason: refusal.to_string() })
                }
                Err(error) => Err(unavailable(error.to_string())),
            }
        })
    }

    fn meet(&self, abroad: Abroad) {
        let region = self.0.clone();
        self.0.env.spawn("region-meet", async move { region.meet(abroad).await });
    }

    fn trust_region(&self, wish: TrustWish) -> BoxFuture<'_, Result<(), TrustRegionError>> {
        Box::pin(async move {
            let TrustWish { region, authority_pem, servers } = wish;
            let failed = |reason: String| TrustRegionError { region: region.clone(), reason };
            let server =
                self.0.server.as_ref().ok_or_else(|| failed("this agent is no server".to_owned()))?;
            let row = TrustedRegion {
                name: region.as_str().into(),
                authorities: authority_pem.unwrap_or_default(),
                servers,
                create_index: 0,
                modify_index: 0,
            };
            let trust = Command::TrustRegion { region: Named(row) };
            server.submit(&trust).await.map_err(|error| failed(error.to_string()))?;
            Ok(())
        })
    }
}

/// A last value and a lock around it, for what is told once.
#[derive(Debug, Default)]
pub struct Told<T>(Mutex<T>);

impl<T: Clone + PartialEq> Told<T> {
    /// Puts in a value, and tells whether it is another one.
    pub fn set(&self, value: &T) -> bool {
        let mut told = self.0.lock();
        let changed = *told != *value;
        if changed {
            told.clone_from(value);
        }
        changed
    }
}

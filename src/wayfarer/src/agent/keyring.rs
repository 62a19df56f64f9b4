//! The key ring of a region: every server has it, every client has what it needs of it.
//!
//! A change is asked of one server, which makes it at home and tells the others, one after another. Clients fetch the keys
//! from a server when they hear of a change, or when a packet comes that none of their keys opens.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use api::{KeyringChange, KeyringReport, MembershipError};
use bytes::Bytes;
use join::{HandedKeys, KeyRing, RegionKey, fetch_keys};
use serde::{Deserialize, Serialize};
use server::Replica;
use transport::{Connection, Expect, NodeId, Plane, Request, Role};

use super::region::{Known, Region, server_of};

/// First bytes of a question about keys: what it is, and its version.
const MAGIC: &[u8] = b"wfk\x01";

/// Time for a server to change its ring.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// What one server asks of another.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Change {
    List,
    Install(String),
    Use(String),
    Remove(String),
}

/// Another server that has the ring.
struct Holder {
    node_id: NodeId,
    name: String,
    rpc: SocketAddr,
}

/// What a server answers: its keys, the one that seals first, or what is wrong.
type Answer = Result<Vec<String>, String>;

impl From<KeyringChange> for Change {
    fn from(change: KeyringChange) -> Self {
        match change {
            KeyringChange::List => Self::List,
            KeyringChange::Install(key) => Self::Install(key),
            KeyringChange::Use(key) => Self::Use(key),
            KeyringChange::Remove(key) => Self::Remove(key),
        }
    }
}

/// Tells whether a request is about keys.
pub fn takes(body: &[u8]) -> bool {
    body.starts_with(MAGIC)
}

/// Answers a server that asks about keys. Keys are for servers of this region alone.
pub async fn answer(region: &Arc<Region>, connection: &Connection, request: Request) {
    let identity = connection.peer().identity();
    let ours = |identity: &transport::Identity| {
        identity.role == Role::Server && identity.region == region.config.identity.region
    };
    let answer: Answer = if identity.is_some_and(ours) {
        match serde_json::from_slice::<Change>(&request.body[MAGIC.len()..]) {
            Ok(change) => region.change_own_keys(change).await,
            Err(error) => Err(format!("this version does not know the change: {error}")),
        }
    } else {
        tracing::warn!(peer = %connection.peer(), "an agent that is no server of this region asked for keys");
        Err("keys are for servers of this region".to_owned())
    };
    let answer = serde_json::to_vec(&answer).expect("texts can be written");
    // Whoever asked may be gone.
    let _ = request.reply.send(answer.into()).await;
}

impl Region {
    /// Changes the ring here and on every other server, and says what each has.
    pub(super) async fn change_keys(
        self: &Arc<Self>,
        change: KeyringChange,
    ) -> Result<KeyringReport, MembershipError> {
        let change = Change::from(change);
        let own = self.change_own_keys(change.clone()).await.map_err(MembershipError::Wrong)?;
        let mut report = KeyringReport { members: 1, ..KeyringReport::default() };
        count(&mut report, &own);
        for server in self.holders_of_keys() {
            report.members += 1;
            match self.ask_for_change(&server, &change).await {
                Ok(keys) => count(&mut report, &keys),
                Err(error) => drop(report.messages.insert(server.name, error)),
            }
        }
        Ok(report)
    }

    /// The other servers that a change has to reach: those that gossip knows to be there, and of those that take part in
    /// Raft the ones of which it has not heard yet, as just after a start. One that failed fetches the keys when it is back.
    fn holders_of_keys(&self) -> Vec<Holder> {
        let members = self.others();
        let gone: BTreeSet<_> =
            members.iter().filter(|one| !one.status.is_active()).map(|one| NodeId(one.id.0)).collect();
        let active = members.iter().filter(|one| one.status.is_active()).filter_map(server_of);
        let heard_of = active.map(|join::Server { node_id, name, rpc, .. }| Holder { node_id, name, rpc });
        let mut servers: BTreeMap<_, _> = heard_of.map(|server| (server.node_id, server)).collect();
        let peers = self.server.as_ref().map(|server| server.raft().members().peers).unwrap_or_default();
        for Replica { node_id, name, rpc_addr, .. } in peers.values().filter_map(Replica::from_peer) {
            if node_id != self.config.identity.node_id && !gone.contains(&node_id) {
                servers.entry(node_id).or_insert(Holder { node_id, name, rpc: rpc_addr });
            }
        }
        servers.into_values().collect()
    }

    async fn ask_for_change(&self, server: &Holder, change: &Change) -> Answer {
        let mut body = MAGIC.to_vec();
        serde_json::to_writer(&mut body, change).expect("texts can be written");
        let deadline = self.env.now() + ASK_TIMEOUT;
        let expect = Expect::Node(server.node_id);
        let answer = self.peers.request(server.rpc, Plane::Rpc, expect, Bytes::from(body), deadline).await;
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| format!("its answer can not be read: {error}"))?
    }

    async fn change_own_keys(self: &Arc<Self>, change: Change) -> Answer {
        let _one_at_a_time = self.keyring.lock().await;
        let within = self.within().ok_or("this agent is part of no region yet")?;
        let ring = within.keys.ring().ok_or("only servers have the key ring")?;
        let mut keys = ring.keys().to_vec();
        let read = |text: &str| RegionKey::from_base64(text).map_err(|error| error.to_string());
        match &change {
            Change::List => return Ok(keys.iter().map(RegionKey::expose_base64).collect()),
            Change::Install(text) => {
                let key = read(text)?;
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            Change::Use(text) => {
                let key = read(text)?;
                let at = keys.iter().position(|known| *known == key);
                let at = at.ok_or("requested key is not in the keyring")?;
                keys[..=at].rotate_right(1);
            }
            Change::Remove(text) => {
                let key = read(text)?;
                match keys.iter().position(|known| *known == key) {
                    Some(0) => return Err("removing the primary key is not allowed".to_owned()),
                    Some(at) => drop(keys.remove(at)),
                    None => {}
                }
            }
        }
        let listed = keys.iter().map(RegionKey::expose_base64).collect();
        let origin = match &change {
            // A key that a user put in is one that users have.
            Change::Use(_) => join::KeyOrigin::Configured,
            Change::List | Change::Install(_) | Change::Remove(_) => ring.origin,
        };
        let ring = KeyRing::new(keys, origin).map_err(|error| error.to_string())?;
        self.keep_keys(HandedKeys::Server(ring)).await?;
        tracing::info!("gossip keys changed");
        Ok(listed)
    }

    /// Writes keys down and puts them in place.
    async fn keep_keys(&self, keys: HandedKeys) -> Result<(), String> {
        let (files, written) = (self.files.clone(), keys.clone());
        let written = self.env.spawn_blocking(move || files.keep_keys(&written)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        self.replace_gossip_keys(&keys).await;
        self.take_keys(keys);
        // Other regions hear of it before anything is sealed with a key that is only installed yet.
        self.neighbours.wake(self.env.now());
        Ok(())
    }

    /// Asks a server for the keys, because they were changed.
    pub(super) async fn fetch_keys(self: &Arc<Self>) {
        let registry = Known(self.clone());
        let keys = match fetch_keys(&self.env, &*self.transport, &registry).await {
            Ok(keys) => keys,
            Err(error) => return tracing::warn!(%error, "no server gave the gossip keys"),
        };
        if self.within().is_some_and(|within| within.keys == keys) {
            return;
        }
        match self.keep_keys(keys).await {
            Ok(()) => tracing::info!("gossip keys were changed meanwhile; this agent has them too"),
            Err(error) => tracing::warn!(error, "gossip keys are not kept"),
        }
    }

    /// Puts keys in place that came with a certificate.
    pub(super) async fn follow_keys(self: Arc<Self>) {
        let mut within = self.follow();
        let env = self.env.clone();
        loop {
            tokio::select! {
                biased;
                () = env.shutdown().wait() => return,
                changed = within.changed() => if changed.is_err() { return },
            }
            let keys = within.borrow_and_update().as_ref().map(|within| within.keys.clone());
            if let Some(keys) = keys {
                self.replace_gossip_keys(&keys).await;
            }
        }
    }
}

fn count(report: &mut KeyringReport, keys: &[String]) {
    let add = |map: &mut BTreeMap<String, usize>, key: &String| *map.entry(key.clone()).or_default() += 1;
    keys.iter().for_each(|key| add(&mut report.keys, key));
    if let Some(primary) = keys.first() {
        add(&mut report.primary_keys, primary);
    }
}

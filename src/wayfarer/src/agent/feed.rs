//! Takes what gossip says to whom it concerns: the server, the client's session, the disk.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{ServerAddr, Servers};
use gossip_core::{Event as Change, Member, Status};
use gossip_driver::{Event, PoolKind};
use model::NodeId;
use runtime::Instant;
use server::{GossipWord, MemberStatus, Replica, Server, ServerMember};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{
    gossip::tag,
    region::{Region, Told, server_of},
};

/// Time between two looks at everything, for what was missed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Changes that are taken in before the lists are made again.
const BATCH_MAX: usize = 256;

/// Time between two questions for keys, when packets come that none of ours opens.
const KEYS_EVERY: Duration = Duration::from_secs(5);

/// Follows gossip until the agent stops.
pub async fn run(region: Arc<Region>) {
    let mut events = region.gossip.subscribe();
    let mut feed =
        Feed { region: region.clone(), since: BTreeMap::new(), kept: Told::default(), keys_asked: None };
    feed.say_everything().await;
    let env = region.env.clone();
    loop {
        let event = tokio::select! {
            biased;
            () = env.shutdown().wait() => return,
            event = events.recv() => event,
            () = env.sleep(LOOK_EVERY) => Err(broadcast::error::RecvError::Lagged(0)),
        };
        match event {
            Ok(event) => {
                let mut all = vec![event];
                while all.len() < BATCH_MAX
                    && let Ok(event) = events.try_recv()
                {
                    all.push(event);
                }
                feed.say_lists().await;
                for event in all {
                    feed.take(event).await;
                }
            }
            Err(broadcast::error::RecvError::Lagged(_)) => feed.say_everything().await,
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

struct Feed {
    region: Arc<Region>,
    /// Since when each server has the status that it has.
    since: BTreeMap<[u8; 16], (MemberStatus, Instant)>,
    /// The servers that are written down.
    kept: Told<Vec<join::Server>>,
    keys_asked: Option<Instant>,
}

impl Feed {
    async fn say_everything(&mut self) {
        self.say_lists().await;
        let Some(server) = &self.region.server else { return };
        for member in &self.region.others() {
            hear(server, member, word_of(member.status)).await;
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Member { pool: PoolKind::Region, change } => self.heard(change).await,
            Event::Member { pool: PoolKind::Wide, change } => log(PoolKind::Wide, &change),
            Event::UnknownKey { pool, from } => self.ask_for_keys(pool, from).await,
            Event::Sync { .. } | Event::Departed { .. } => {}
        }
    }

    async fn heard(&self, change: Change) {
        log(PoolKind::Region, &change);
        let (member, word) = match &change {
            Change::Joined(member) | Change::Updated(member) | Change::Returned(member) => {
                (member, GossipWord::Alive)
            }
            Change::Suspected(member) => (member, GossipWord::Suspect),
            Change::Failed(member) | Change::Left(member) | Change::Forgotten(member) => {
                (member, GossipWord::Dead)
            }
            Change::Doubled { .. } => return,
        };
        if let Some(server) = &self.region.server {
            hear(server, member, word).await;
        }
    }

    /// Makes the lists of servers again, for the server, the session and the disk.
    async fn say_lists(&mut self) {
        let members = self.region.gossip.members(PoolKind::Region);
        if let Some(server) = self.region.server.clone() {
            let now = self.region.env.now();
            let servers: Vec<ServerMember> =
                members.iter().filter_map(|member| self.server_member(member, now)).collect();
            server.set_servers(servers);
        }
        self.tell_session(&members);
        let alive = members.iter().filter(|member| member.status.is_active()).filter_map(server_of);
        let mut alive: Vec<join::Server> = alive.collect();
        alive.sort_by_key(|server| server.node_id);
        if !alive.is_empty() && self.kept.set(&alive) {
            let files = self.region.files.clone();
            let written = self.region.env.spawn_blocking(move || files.keep_servers(&alive)).await;
            if let Ok(Err(error)) = written {
                tracing::warn!(%error, "known servers are not written down");
            }
        }
    }

    fn server_member(&mut self, member: &Member, now: Instant) -> Option<ServerMember> {
        let known = server_of(member)?;
        let digest = member.digest.as_ref()?;
        let status = match member.status {
            Status::Alive | Status::Suspect => MemberStatus::Alive,
            Status::Failed => MemberStatus::Failed,
            Status::Left => MemberStatus::Left,
        };
        let since = self.since.entry(member.id.0).or_insert((status, now));
        if since.0 != status {
            *since = (status, now);
        }
        let peer = raft::Peer {
            id: digest.tags.get(tag::RAFT)?.parse().ok()?,
            addr: format!("{}@{}", known.node_id, known.rpc),
            name: format!("{}.{}", known.name, digest.region),
        };
        Some(ServerMember {
            replica: Replica::from_peer(&peer)?,
            http_addr: digest.http_addr?,
            version: digest.version.clone(),
            status,
            since: since.1,
        })
    }

    /// Names the servers that a client's session may be with. A server that runs tasks speaks with itself.
    fn tell_session(&self, members: &[Member]) {
        let region = &self.region;
        let addr = |server: join::Server| ServerAddr { addr: server.rpc, node_id: Some(server.node_id) };
        let list = if region.server.is_some() {
            let own = region.transport.local_addr();
            // A socket that listens everywhere is reached on this machine's own address.
            let ip = if own.ip().is_unspecified() { [127, 0, 0, 1].into() } else { own.ip() };
            let addr = std::net::SocketAddr::new(ip, own.port());
            vec![ServerAddr { addr, node_id: Some(region.config.identity.node_id) }]
        } else {
            let of = |alive: bool| {
                let members = members.iter().filter(|member| member.status.is_active() || !alive);
                members.filter_map(server_of).map(addr).collect::<Vec<_>>()
            };
            let mut list = of(true);
            if list.is_empty() {
                list = of(false);
            }
            if list.is_empty() {
                list = region.within().iter().flat_map(|within| within.servers.clone()).map(addr).collect();
            }
            list.sort_by_key(|server| server.addr);
            list
        };
        let servers = Servers { list, members: members.len() };
        region.servers.send_if_modified(|known| {
            let changed = known.list != servers.list;
            *known = servers;
            changed
        });
    }

    /// The keys were changed while this agent was away.
    async fn ask_for_keys(&mut self, pool: PoolKind, from: std::net::SocketAddr) {
        let now = self.region.env.now();
        if pool == PoolKind::Wide {
            // It is another region's, or this one's that was changed meanwhile.
            self.region.neighbours.wake(now);
        }
        if self.keys_asked.is_some_and(|asked| now.saturating_duration_since(asked) < KEYS_EVERY) {
            return;
        }
        self.keys_asked = Some(now);
        tracing::info!(%pool, %from, "a member seals with a key that this agent does not have; asking for the keys");
        let region = self.region.clone();
        self.region.env.spawn("region-keys", async move { region.fetch_keys().await });
    }
}

async fn hear(server: &Server, member: &Member, word: GossipWord) {
    server.hear_gossip(NodeId(Uuid::from_bytes(member.id.0)), word).await;
}

fn word_of(status: Status) -> GossipWord {
    match status {
        Status::Alive => GossipWord::Alive,
        Status::Suspect => GossipWord::Suspect,
        Status::Failed | Status::Left => GossipWord::Dead,
    }
}

fn log(pool: PoolKind, change: &Change) {
    let name =
        |member: &Member| member.digest.as_ref().map_or_else(String::new, |digest| digest.name.clone());
    match change {
        Change::Joined(member) => {
            tracing::debug!(%pool, name = name(member), addr = %member.addr, "member joined");
        }
        Change::Returned(member) => tracing::info!(%pool, name = name(member), "member is there after all"),
        Change::Failed(member) => {
            tracing::warn!(%pool, name = name(member), addr = %member.addr, "member failed")
        }
        Change::Left(member) => tracing::info!(%pool, name = name(member), "member left"),
        Change::Suspected(member) => tracing::debug!(%pool, name = name(member), "member is not heard"),
        Change::Updated(member) => tracing::debug!(%pool, name = name(member), "member says something else"),
        Change::Forgotten(member) => tracing::debug!(%pool, name = name(member), "member is forgotten"),
        Change::Doubled { addr } => {
            tracing::error!(%addr, "another agent has this agent's id: two agents share one data directory");
        }
    }
}

//! Takes what gossip says to whom it concerns, as the agent of the binary does.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use client::{ServerAddr, Servers};
use gossip_core::{Event as Change, Member, Role, Status};
use gossip_driver::{Event, Handle, PoolKind};
use model::NodeId;
use runtime::{Env, Instant};
use server::{GossipWord, MemberStatus, Replica, Server, ServerMember};
use tokio::sync::{broadcast::error::RecvError, watch};
use uuid::Uuid;

/// The tag of a digest with a server's number in Raft.
pub const RAFT_TAG: &str = "r";

/// Time between two looks at everything, for what was missed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What one agent does with gossip.
pub struct Feed {
    /// Its tasks.
    pub env: Env,
    /// Its gossip.
    pub gossip: Handle,
    /// Its server, when it is one.
    pub server: Option<Server>,
    /// The servers that its client may turn to.
    pub servers: watch::Sender<Servers>,
    /// Where others may be, until gossip knows somebody.
    pub seeds: Vec<SocketAddr>,
}

impl Feed {
    /// Follows gossip for as long as the agent lives.
    pub async fn run(self) {
        let mut events = self.gossip.subscribe();
        let mut since = BTreeMap::new();
        self.say_everything(&mut since).await;
        loop {
            let event = tokio::select! {
                biased;
                event = events.recv() => event,
                () = self.env.sleep(LOOK_EVERY) => Err(RecvError::Lagged(0)),
            };
            match event {
                Ok(Event::Member { change, .. }) => {
                    self.say_lists(&mut since);
                    self.hear(change).await;
                }
                Ok(Event::Sync { .. } | Event::UnknownKey { .. } | Event::Departed { .. }) => {}
                Err(RecvError::Lagged(_)) => self.say_everything(&mut since).await,
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn say_everything(&self, since: &mut BTreeMap<[u8; 16], (MemberStatus, Instant)>) {
        self.say_lists(since);
        let members = self.gossip.members(PoolKind::Region);
        if members.iter().filter(|member| member.status.is_active()).count() < 2 {
            // Nobody to be told means that the driver is gone.
            let _ = self.gossip.join(PoolKind::Region, self.seeds.clone()).await;
        }
        let Some(server) = &self.server else { return };
        for member in members.iter() {
            let word = match member.status {
                Status::Alive => GossipWord::Alive,
                Status::Suspect => GossipWord::Suspect,
                Status::Failed | Status::Left => GossipWord::Dead,
            };
            server.hear_gossip(node_id(member), word).await;
        }
    }

    fn say_lists(&self, since: &mut BTreeMap<[u8; 16], (MemberStatus, Instant)>) {
        let members = self.gossip.members(PoolKind::Region);
        if let Some(server) = &self.server {
            let now = self.env.now();
            server.set_servers(members.iter().filter_map(|member| server_member(member, since, now)));
        }
        let addr = |member: &&Member| {
            let rpc = member.digest.as_ref().filter(|digest| digest.role == Role::Server)?.rpc_addr?;
            Some(ServerAddr { addr: rpc, node_id: Some(transport::NodeId(member.id.0)) })
        };
        let active = members.iter().filter(|member| member.status.is_active());
        let mut list: Vec<ServerAddr> = active.filter_map(|member| addr(&member)).collect();
        if list.is_empty() {
            list = members.iter().filter_map(|member| addr(&member)).collect();
        }
        list.sort_by_key(|server| server.addr);
        let servers = Servers { list, members: members.len() };
        self.servers.send_if_modified(|known| {
            let changed = known.list != servers.list;
            *known = servers;
            changed
        });
    }

    async fn hear(&self, change: Change) {
        let Some(server) = &self.server else { return };
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
        server.hear_gossip(node_id(member), word).await;
    }
}

fn node_id(member: &Member) -> NodeId {
    NodeId(Uuid::from_bytes(member.id.0))
}

fn server_member(
    member: &Member,
    since: &mut BTreeMap<[u8; 16], (MemberStatus, Instant)>,
    now: Instant,
) -> Option<ServerMember> {
    let digest = member.digest.as_ref().filter(|digest| digest.role == Role::Server)?;
    let status = match member.status {
        Status::Alive | Status::Suspect => MemberStatus::Alive,
        Status::Failed => MemberStatus::Failed,
        Status::Left => MemberStatus::Left,
    };
    let since = since.entry(member.id.0).or_insert((status, now));
    if since.0 != status {
        *since = (status, now);
    }
    let peer = raft::Peer {
        id: digest.tags.get(RAFT_TAG)?.parse().ok()?,
        addr: format!("{}@{}", transport::NodeId(member.id.0), digest.rpc_addr?),
        name: format!("{}.{}", digest.name, digest.region),
    };
    Some(ServerMember {
        replica: Replica::from_peer(&peer)?,
        http_addr: digest.http_addr?,
        version: digest.version.clone(),
        status,
        since: since.1,
    })
}

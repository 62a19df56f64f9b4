//! What the API sees of gossip, joining and the key ring.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use api::{
    JoinToken, Joined, JoinedBy, KeyringChange, KeyringReport, Member, MemberRole, MemberStatus, Membership,
    MembershipError, NewToken, TokenRole, TokenState, TokenWish, Trust, TrustedAuthority,
};
use futures_util::future::BoxFuture;
use gossip_core::{LeavePrune, Status};
use gossip_driver::{PoolKind, Whom};
use join::{AskError, AuthMode, KeyOrigin, Refusal, Token};
use model::{JoinRole, NodeId, Timestamp};
use protocol::{Command, Named};
use transport::{Connection, Expect, Plane, ca::Fingerprint};
use uuid::Uuid;

use super::{
    gossip::tag,
    joining::resolve,
    region::{Known, Region},
    start::NOMAD_VERSION,
};

/// Time for a gossip port to answer whoever wants to join.
const LOCATE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Time for an agent that was joined to show as a member.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two looks whether it does.
const JOIN_PERIOD: Duration = Duration::from_millis(50);

/// Time for another server to take a connection. Beyond it another one is tried, or the user is told.
const REGION_TIMEOUT: Duration = Duration::from_secs(3);

/// Addresses that a user may add to those that an agent without a region tries.
const ADDRESSES_MAX: usize = 256;

/// Lends the region to the API.
pub struct View(pub Arc<Region>);

impl View {
    fn member(&self, member: &gossip_core::Member) -> Option<Member> {
        let digest = member.digest.as_ref()?;
        let mut more = digest.tags.clone();
        let mut taken = |name: &str| more.remove(name);
        let raft_id = taken(tag::RAFT).and_then(|text| text.parse().ok());
        let expect = taken(tag::EXPECT).and_then(|text| text.parse().ok()).unwrap_or(0);
        let joined_by = taken(tag::AUTH).and_then(|text| joined_by(&text));
        let role = match (digest.role, taken(tag::CLIENT).is_some()) {
            (gossip_core::Role::Server, true) => MemberRole::Both,
            (gossip_core::Role::Server, false) => MemberRole::Server,
            (gossip_core::Role::Client, _) => MemberRole::Client,
        };
        if let Some(build) = taken(tag::BUILD) {
            more.insert("wayfarer".to_owned(), build);
        }
        Some(Member {
            name: digest.name.clone(),
            addr: member.addr.ip(),
            port: member.addr.port(),
            rpc_addr: digest.rpc_addr.unwrap_or(member.addr),
            status: match member.status {
                Status::Alive | Status::Suspect if digest.flags.leaving => MemberStatus::Leaving,
                Status::Alive | Status::Suspect => MemberStatus::Alive,
                Status::Failed => MemberStatus::Failed,
                Status::Left => MemberStatus::Left,
            },
            role,
            node_id: NodeId(Uuid::from_bytes(member.id.0)),
            raft_id,
            region: digest.region.clone(),
            datacenter: digest.datacenter.clone(),
            build: digest.version.clone(),
            bootstrap_expect: expect,
            joined_by,
            more,
        })
    }

    fn server(&self) -> Result<&server::Server, MembershipError> {
        let no_server = || MembershipError::Failed("this agent is no server".to_owned());
        self.0.server.as_ref().ok_or_else(no_server)
    }

    async fn submit(&self, command: &Command) -> Result<(), MembershipError> {
        let submitted = self.server()?.submit(command).await;
        submitted.map(drop).map_err(|error| MembershipError::Failed(error.to_string()))
    }

    async fn join_one(&self, address: &str) -> Result<(), String> {
        let region = &self.0;
        let addrs = resolve(address).await;
        if addrs.is_empty() {
            return Err(format!("{address} is not found"));
        }
        if region.within().is_none() {
            region.addresses.send_modify(|known| {
                if known.len() < ADDRESSES_MAX && !known.iter().any(|known| known == address) {
                    known.push(address.to_owned());
                }
            });
            let mut within = region.follow();
            let joined = tokio::time::timeout(JOIN_TIMEOUT, within.wait_for(Option::is_some)).await;
            return match joined {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(format!("{address}: not joined yet; this agent goes on trying")),
            };
        }
        let mut last = String::new();
        for addr in addrs {
            match self.join_addr(addr).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(format!("{address}: {last}"))
    }

    /// Asks a server that waits for a region to join this one. Whoever does not wait is met by gossip, or not at all.
    async fn invite(&self, rpc: SocketAddr) -> Result<(), String> {
        let region = &self.0;
        if region.server.is_none() {
            return Ok(());
        }
        let registry = Known(region.clone());
        let deadline = region.env.now() + JOIN_TIMEOUT;
        match join::invite(&*region.transport, rpc, &region.config, &registry, deadline).await {
            Ok(()) => Ok(()),
            Err(
                error @ (AskError::Unproven
                | AskError::Refused(
                    Refusal::KeyWrong | Refusal::KeyRequired | Refusal::TokenRequired | Refusal::TooMany,
                )),
            ) => Err(error.to_string()),
            Err(error) => {
                tracing::debug!(addr = %rpc, %error, "not invited");
                Ok(())
            }
        }
    }

    /// Joins an agent of this region, or a server of another one.
    async fn join_addr(&self, addr: SocketAddr) -> Result<(), String> {
        let region = &self.0;
        let located = region.gossip.locate(addr, LOCATE_TIMEOUT).await.map_err(|error| error.to_string())?;
        if located.region != region.options.region {
            return region.join_region(SocketAddr::new(addr.ip(), located.rpc_port)).await;
        }
        let known = |region: &Region| {
            let members = region.gossip.members(PoolKind::Region);
            members.iter().any(|member| member.addr == addr && member.status.is_active())
        };
        if known(region) {
            return Ok(());
        }
        self.invite(SocketAddr::new(addr.ip(), located.rpc_port)).await?;
        region.seek(PoolKind::Region, vec![addr]).await;
        let deadline = region.env.now() + JOIN_TIMEOUT;
        while !known(region) {
            if region.env.now() > deadline {
                return Err("it did not become a member; does it belong to another cluster?".to_owned());
            }
            region.env.sleep(JOIN_PERIOD).await;
        }
        Ok(())
    }
}

fn joined_by(text: &str) -> Option<JoinedBy> {
    Some(match text {
        "founder" => JoinedBy::Founder,
        "tls" => JoinedBy::Certificate,
        "token" => JoinedBy::Token,
        "key" => JoinedBy::GossipKey,
        "trust" => JoinedBy::Trust,
        _ => return None,
    })
}

fn joined_as(auth: AuthMode) -> JoinedBy {
    match auth {
        AuthMode::Founder => JoinedBy::Founder,
        AuthMode::Tls => JoinedBy::Certificate,
        AuthMode::Token => JoinedBy::Token,
        AuthMode::Key => JoinedBy::GossipKey,
        AuthMode::Trust => JoinedBy::Trust,
    }
}

fn token_row(row: &model::JoinToken, now: Timestamp) -> JoinToken {
    JoinToken {
        id: row.accessor.to_string(),
        role: match row.role {
            JoinRole::Server => TokenRole::Server,
            JoinRole::Client => TokenRole::Client,
            JoinRole::Region => TokenRole::Region,
        },
        created: row.create_time,
        expires: row.expires,
        state: match &row.used {
            Some(used) => TokenState::Used { by: NodeId(used.node) },
            None if row.expires <= now => TokenState::Expired,
            None => TokenState::Open,
        },
    }
}

impl Membership for View {
    fn me(&self) -> Member {
        let region = &self.0;
        let options = &region.options;
        let role = match (options.server.is_some(), options.client.is_some()) {
            (true, true) => MemberRole::Both,
            (true, false) => MemberRole::Server,
            (false, _) => MemberRole::Client,
        };
        Member {
            name: options.name.clone(),
            addr: options.advertise.serf.ip(),
            port: options.advertise.serf.port(),
            rpc_addr: options.advertise.rpc,
            status: MemberStatus::Alive,
            role,
            node_id: NodeId(Uuid::from_bytes(region.config.identity.node_id.0)),
            raft_id: region.server.as_ref().map(|server| server.replica().raft_id()),
            region: options.region.clone(),
            datacenter: options.datacenter.clone(),
            build: NOMAD_VERSION.to_owned(),
            bootstrap_expect: region.config.expect,
            joined_by: region.within().map(|within| joined_as(within.auth)),
            more: BTreeMap::from([("wayfarer".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        }
    }

    fn members(&self) -> Vec<Member> {
        let region = &self.0;
        let mut members = vec![self.me()];
        members.extend(region.others().iter().filter_map(|member| self.member(member)));
        let wide = region.gossip.members(PoolKind::Wide);
        let wide = wide.iter().filter_map(|member| self.member(member));
        members.extend(wide.filter(|member| member.region != region.options.region));
        members
    }

    fn join(&self, addresses: Vec<String>) -> BoxFuture<'_, Joined> {
        Box::pin(async move {
            let mut joined = Joined::default();
            for address in addresses {
                match self.join_one(&address).await {
                    Ok(()) => joined.count += 1,
                    Err(error) => joined.errors.push(error),
                }
            }
            joined
        })
    }

    fn force_leave(&self, name: String, prune: bool) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(async move {
            let prune = if prune { LeavePrune::Prune } else { LeavePrune::Keep };
            let mut failed = None;
            for kind in PoolKind::ALL {
                if self.0.gossip.members(kind).is_empty() {
                    continue;
                }
                let left = self.0.gossip.force_leave(kind, Whom::Name(name.clone()), prune).await;
                failed = failed.or(left.err());
            }
            failed.map_or(Ok(()), |error| Err(MembershipError::Failed(error.to_string())))
        })
    }

    fn keyring(&self, change: KeyringChange) -> BoxFuture<'_, Result<KeyringReport, MembershipError>> {
        Box::pin(self.0.change_keys(change))
    }

    fn servers(&self) -> Vec<SocketAddr> {
        self.0.servers.borrow().list.iter().map(|server| server.addr).collect()
    }

    fn set_servers(&self, servers: Vec<SocketAddr>) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(async move {
            if servers.is_empty() {
                return Err(MembershipError::Wrong("missing server address".to_owned()));
            }
            let members = self.0.servers.borrow().members;
            let named = client::Servers { members, ..client::Servers::named(servers) };
            self.0.servers.send_replace(named);
            Ok(())
        })
    }

    fn regions(&self) -> Vec<String> {
        let region = &self.0;
        let mut regions = BTreeSet::from([region.options.region.clone()]);
        let wide = region.gossip.members(PoolKind::Wide);
        // As there, a region of which no server is left is none that can be asked.
        let alive = wide.iter().filter(|member| member.status.is_active());
        regions.extend(alive.filter_map(|member| Some(member.digest.as_ref()?.region.clone())));
        regions.into_iter().collect()
    }

    fn to_region(&self, region: String, attempt: u32) -> BoxFuture<'_, Result<Connection, MembershipError>> {
        Box::pin(async move {
            let wide = self.0.gossip.members(PoolKind::Wide);
            let there = |member: &&gossip_core::Member| {
                member.digest.as_ref().is_some_and(|digest| digest.region == region)
            };
            let mut servers: Vec<_> = wide.iter().filter(there).collect();
            servers.sort_by_key(|member| (!member.status.is_active(), member.id));
            let unknown = || MembershipError::NotFound(format!("No path to region {region:?}"));
            let alive = servers.iter().filter(|member| member.status.is_active()).count();
            let among = if alive > 0 { alive } else { servers.len() };
            let at = attempt as usize % among.max(1);
            let server = servers.get(at).ok_or_else(unknown)?;
            let rpc = server.digest.as_ref().and_then(|digest| digest.rpc_addr).ok_or_else(unknown)?;
            let expect = Expect::Node(transport::NodeId(server.id.0));
            let deadline = self.0.env.now() + REGION_TIMEOUT;
            let connection = self.0.peers.connect(rpc, Plane::Federation, expect, deadline).await;
            connection.map_err(|error| MembershipError::Failed(error.to_string()))
        })
    }

    fn create_token(&self, wish: TokenWish) -> BoxFuture<'_, Result<NewToken, MembershipError>> {
        Box::pin(async move {
            let region = &self.0;
            let no_authority = || {
                MembershipError::Failed(
                    "this region's certificates are the user's own (tls block): no token can stand for its authority"
                        .to_owned(),
                )
            };
            let within = region.within();
            let authority = within.as_ref().and_then(|within| within.authority.as_ref());
            let authority = authority.ok_or_else(no_authority)?;
            let wrong = |error: String| MembershipError::Failed(error);
            let fingerprint =
                Fingerprint::of_pem(authority.certificate_pem()).map_err(|error| wrong(error.to_string()))?;
            let new = join::NewToken {
                authority: fingerprint,
                role: match wish.role {
                    TokenRole::Server => JoinRole::Server,
                    TokenRole::Client => JoinRole::Client,
                    TokenRole::Region => JoinRole::Region,
                },
                region: region.config.identity.region.clone(),
                description: String::new(),
                lifetime: wish.ttl,
                now: Timestamp(region.env.wall()),
                accessor: Uuid::from_u128(region.env.random_u128()),
            };
            let (token, row): (Token, model::JoinToken) =
                Token::create(new).map_err(|error| MembershipError::Wrong(error.to_string()))?;
            self.submit(&Command::CreateJoinToken { token: Named(row.clone()) }).await?;
            let now = Timestamp(region.env.wall());
            Ok(NewToken { row: token_row(&row, now), secret: token.expose() })
        })
    }

    fn tokens(&self) -> BoxFuture<'_, Result<Vec<JoinToken>, MembershipError>> {
        Box::pin(async move {
            let now = Timestamp(self.0.env.wall());
            let snapshot = self.server()?.snapshot();
            Ok(snapshot.join_tokens().map(|row| token_row(row, now)).collect())
        })
    }

    fn revoke_token(&self, id: String) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(async move {
            let snapshot = self.server()?.snapshot();
            let mut found = snapshot.join_tokens().filter(|row| row.accessor.to_string().starts_with(&id));
            let (Some(row), None) = (found.next(), found.next()) else {
                return Err(MembershipError::NotFound(format!("no join token, or several, with id {id:?}")));
            };
            self.submit(&Command::RevokeJoinTokens { accessors: vec![row.accessor] }).await
        })
    }

    fn require_token(&self, required: bool) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(async move { self.submit(&Command::SetJoinSettings { require_token: required }).await })
    }

    fn trust(&self) -> Trust {
        let region = &self.0;
        let within = region.within();
        let ring = within.as_ref().and_then(|within| within.keys.ring().cloned());
        let encrypted = match ring {
            Some(ring) => ring.origin == KeyOrigin::Configured,
            None => region.config.key.is_some(),
        };
        let fingerprint =
            |pem: &str| Fingerprint::of_pem(pem).ok().map(|fingerprint| fingerprint.to_string());
        let own = within.as_ref().and_then(|within| within.authority.as_ref());
        let own = own.and_then(|authority| fingerprint(authority.certificate_pem()));
        let own =
            own.map(|fingerprint| TrustedAuthority { region: region.options.region.clone(), fingerprint });
        let registry = Known(region.clone());
        let others = within.as_ref().map_or_else(Vec::new, |_| join::Registry::regions(&registry));
        let others = others.iter().filter_map(|(region, pem)| {
            Some(TrustedAuthority { region: region.to_string(), fingerprint: fingerprint(pem)? })
        });
        Trust {
            token_required: join::Registry::settings(&registry).require_token,
            encrypted,
            authorities: own.into_iter().chain(others).collect(),
        }
    }
}

/// The way to the other servers, for requests that the leader answers.
impl api::Peers for View {
    fn connect<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, Result<Connection, String>> {
        Box::pin(async move {
            let wrong = || format!("{addr} is no address of a server");
            let (node_id, rpc) = addr.split_once('@').ok_or_else(wrong)?;
            let node_id: transport::NodeId = node_id.parse().map_err(|_| wrong())?;
            let rpc: SocketAddr = rpc.parse().map_err(|_| wrong())?;
            let deadline = self.0.env.now() + REGION_TIMEOUT;
            let connection = self.0.peers.connect(rpc, Plane::Rpc, Expect::Node(node_id), deadline).await;
            connection.map_err(|error| error.to_string())
        })
    }
}

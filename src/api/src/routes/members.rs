//! `/v1/agent/members`, `join`, `force-leave`, `servers`, and `/v1/regions`: who else is there.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, ToSocketAddrs},
};

use api_types::{AgentMember, JoinResponse, Members};
use model::NodeId;
use raft::Peer;
use server::Server;

use crate::{Api, Call, HttpError, Member, MemberStatus, Reply};

/// Port of the gossip of other servers, where they do not say.
const GOSSIP_PORT: u16 = 4648;

/// Port of the transport, where an address does not say.
const RPC_PORT: u16 = 4647;

/// Addresses in one request; more is a mistake.
const ADDRESSES_MAX: usize = 256;

/// A member's name ends with its region.
pub(crate) fn member_name(api: &Api, name: &str) -> String {
    name_in(name, &api.agent().region)
}

fn name_in(name: &str, region: &str) -> String {
    let suffix = format!(".{region}");
    if name.ends_with(&suffix) { name.to_owned() } else { format!("{name}{suffix}") }
}

/// A server's address as Nomad's tools know it: without what else a record of Raft says.
pub(crate) fn rpc_addr(peer: &Peer) -> &str {
    peer.addr.rsplit_once('@').map_or(&peer.addr, |(_, addr)| addr)
}

/// A server's id as Nomad's tools know it: they expect the form of a UUID. It is the node's, where the record of Raft
/// has it.
pub(crate) fn server_id(peer: &Peer) -> String {
    let node = peer.addr.rsplit_once('@').and_then(|(node, _)| node.parse::<NodeId>().ok());
    node.map_or_else(|| raft_number(peer.id), |node| node.to_string())
}

/// A number of Raft in the form of a UUID.
pub(crate) fn raft_number(id: u64) -> String {
    NodeId::from_random(u128::from(id)).to_string()
}

/// Lists the servers, or with `?all` every agent.
pub(crate) fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let all = call.query.switch("all")?.unwrap_or(false);
    let mut members: Vec<AgentMember> = match api.membership() {
        Some(membership) => {
            let known = membership.members().into_iter();
            known.filter(|member| all || member.role.is_server()).map(|member| shape(&member, all)).collect()
        }
        None => alone(api.require_server()?, api),
    };
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Reply::json(&Members {
        members,
        server_dc: api.agent().datacenter.clone(),
        server_name: api.agent().name.clone(),
        server_region: api.agent().region.clone(),
    })
}

/// This agent as the others see it; nothing on clients, as there.
pub(crate) fn itself(api: &Api) -> AgentMember {
    let Some(server) = api.server() else {
        return AgentMember { status: "none".to_owned(), ..AgentMember::default() };
    };
    match api.membership() {
        Some(membership) => shape(&membership.me(), false),
        None => of_peer(api, server, server.raft().me()),
    }
}

fn alone(server: &Server, api: &Api) -> Vec<AgentMember> {
    server.raft().members().peers.values().map(|peer| of_peer(api, server, peer)).collect()
}

fn of_peer(api: &Api, server: &Server, peer: &Peer) -> AgentMember {
    let (host, port) = rpc_addr(peer).rsplit_once(':').unwrap_or((rpc_addr(peer), "4647"));
    let host = host.trim_matches(['[', ']']).to_owned();
    let expect = server.raft().members().voter_ids().len();
    let tags = Tags {
        build: &api.agent().version,
        datacenter: &api.agent().datacenter,
        expect: u32::try_from(expect).unwrap_or(u32::MAX),
        id: server_id(peer),
        region: &api.agent().region,
        rpc_host: host.clone(),
        rpc_port: port.to_owned(),
    };
    let port = if peer.id == server.raft().me().id { api.agent().serf_addr.port() } else { GOSSIP_PORT };
    member(member_name(api, &peer.name), host, port, MemberStatus::Alive, tags.map())
}

fn shape(found: &Member, all: bool) -> AgentMember {
    let mut tags = BTreeMap::new();
    if found.role.is_server() {
        tags = Tags {
            build: &found.build,
            datacenter: &found.datacenter,
            expect: found.bootstrap_expect,
            id: found.node_id.to_string(),
            region: &found.region,
            rpc_host: found.rpc_addr.ip().to_string(),
            rpc_port: found.rpc_addr.port().to_string(),
        }
        .map();
    }
    if all {
        // Nomad lists no clients, so nothing expects these.
        tags.extend(found.more.clone());
        for (name, value) in [
            ("build", found.build.clone()),
            ("dc", found.datacenter.clone()),
            ("id", found.node_id.to_string()),
            ("joined", found.joined_by.map(|how| how.word().to_owned()).unwrap_or_default()),
            ("region", found.region.clone()),
            ("role", found.role.word().to_owned()),
            ("rpc_addr", found.rpc_addr.ip().to_string()),
            ("port", found.rpc_addr.port().to_string()),
        ] {
            tags.insert(name.to_owned(), value);
        }
    }
    member(name_in(&found.name, &found.region), found.addr.to_string(), found.port, found.status, tags)
}

fn member(
    name: String,
    addr: String,
    port: u16,
    status: MemberStatus,
    tags: BTreeMap<String, String>,
) -> AgentMember {
    AgentMember {
        addr,
        delegate_cur: 4,
        delegate_max: 5,
        delegate_min: 2,
        name,
        port,
        protocol_cur: 2,
        protocol_max: 5,
        protocol_min: 1,
        status: status.word().to_owned(),
        tags,
    }
}

/// What Nomad's servers say of themselves.
struct Tags<'a> {
    build: &'a str,
    datacenter: &'a str,
    expect: u32,
    id: String,
    region: &'a str,
    rpc_host: String,
    rpc_port: String,
}

impl Tags<'_> {
    fn map(self) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::from([
            ("build", self.build.to_owned()),
            ("dc", self.datacenter.to_owned()),
            ("expect", self.expect.to_string()),
            ("id", self.id),
            ("port", self.rpc_port),
            ("raft_vsn", "3".to_owned()),
            ("region", self.region.to_owned()),
            ("revision", String::new()),
            ("role", "nomad".to_owned()),
            ("rpc_addr", self.rpc_host),
            ("vsn", "1".to_owned()),
        ]);
        if self.expect == 1 {
            tags.insert("bootstrap", "1".to_owned());
        }
        tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Answers `/v1/regions`.
pub(crate) fn regions(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_read()?;
    match api.membership() {
        Some(membership) => Reply::json(&membership.regions()),
        None => Reply::json(&[&api.agent().region]),
    }
}

fn addresses(call: &Call) -> Vec<String> {
    let given = call.query.all("address").filter(|address| !address.is_empty());
    given.take(ADDRESSES_MAX).map(str::to_owned).collect()
}

/// Answers `PUT /v1/agent/join`.
pub(crate) async fn join(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    if api.server().is_none() && api.membership().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    let addresses = addresses(call);
    if addresses.is_empty() {
        return Err(HttpError::bad_request("missing address to join"));
    }
    let (count, errors): (usize, Vec<String>) = match api.membership() {
        Some(membership) => {
            let joined = membership.join(addresses).await;
            let text = |error| format!("failed to join {error}");
            (joined.count, joined.errors.into_iter().map(text).collect())
        }
        None => {
            let own = [api.agent().serf_addr.to_string(), api.agent().serf_addr.ip().to_string()];
            let strangers: Vec<_> = addresses.iter().filter(|address| !own.contains(address)).collect();
            let text = |address| format!("failed to join {address}: this agent is a region of one server");
            (addresses.len() - strangers.len(), strangers.into_iter().map(text).collect())
        }
    };
    // Nomad answers with an error only when nobody was reached at all.
    let error = if count == 0 { list_of_errors(&errors) } else { String::new() };
    Reply::json(&JoinResponse { error, num_joined: count as u64, warning: String::new() })
}

/// Writes errors as a list, the way Nomad's tools know it.
fn list_of_errors(errors: &[String]) -> String {
    let lines: String = errors.iter().map(|error| format!("\t* {error}\n")).collect();
    match errors.len() {
        0 => String::new(),
        1 => format!("1 error occurred:\n{lines}\n"),
        count => format!("{count} errors occurred:\n{lines}\n"),
    }
}

/// Answers `PUT /v1/agent/force-leave`.
pub(crate) async fn force_leave(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    if api.server().is_none() && api.membership().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    let name =
        call.query.text("node").ok_or_else(|| HttpError::bad_request("missing node to force leave"))?;
    let prune = call.query.get("prune").is_some_and(|value| !matches!(value, "0" | "false"));
    if let Some(membership) = api.membership() {
        let is_it = |member: &Member| member.name == name || name_in(&member.name, &member.region) == name;
        // A member that nobody knows has left, and one that answers says so again at once: neither is an error, as there.
        let found = membership.members().into_iter().find(is_it);
        let gone = found.filter(|member| matches!(member.status, MemberStatus::Failed | MemberStatus::Left));
        if let Some(member) = gone {
            membership.force_leave(member.name, prune).await?;
        }
        return Ok(Reply::empty());
    }
    let server = api.require_server()?;
    let me = member_name(api, &server.raft().me().name);
    if name == me || name == api.agent().name {
        return Err(HttpError::internal(format!("{name} is this server: stop its agent to make it leave")));
    }
    // A member that nobody knows has left.
    Ok(Reply::empty())
}

/// The addresses of the servers that this agent knows.
pub(crate) fn known_servers(api: &Api) -> Vec<String> {
    if let Some(membership) = api.membership() {
        return membership.servers().iter().map(SocketAddr::to_string).collect();
    }
    if let Some(server) = api.server() {
        return vec![rpc_addr(server.raft().me()).to_owned()];
    }
    let upstream = api.inner.upstream.borrow();
    upstream.iter().map(|(addr, _)| addr.to_string()).collect()
}

/// Answers `GET /v1/agent/servers`.
pub(crate) fn servers(api: &Api) -> Result<Reply, HttpError> {
    if api.client().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    Reply::json(&known_servers(api))
}

/// Answers `PUT /v1/agent/servers`.
pub(crate) async fn change_servers(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    if api.client().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    let addresses = addresses(call);
    if addresses.is_empty() {
        return Err(HttpError::bad_request("missing server address"));
    }
    let env = &api.agent().env;
    // Looking up names may take as long as the resolver waits.
    let found =
        env.spawn_blocking(move || addresses.iter().map(|text| resolve(text)).collect::<Vec<_>>()).await;
    let found = found.map_err(|error| HttpError::internal(error.to_string()))?;
    let errors: Vec<String> = found.iter().filter_map(|found| found.clone().err()).collect();
    let servers: Vec<SocketAddr> = found.into_iter().flatten().collect();
    if servers.is_empty() {
        return Err(HttpError::bad_request(list_of_errors(&errors)));
    }
    match api.membership() {
        Some(membership) => membership.set_servers(servers).await?,
        None => {
            let known = known_servers(api);
            if !servers.iter().all(|server| known.contains(&server.to_string())) {
                return Err(HttpError::internal(
                    "this agent is its own server and has no others to change to",
                ));
            }
        }
    }
    Ok(Reply::empty())
}

/// Finds the address that a text means: a name or an address, with or without a port.
fn resolve(text: &str) -> Result<SocketAddr, String> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let has_port = text.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if has_port => {
            let number = port.parse::<u16>().map_err(|_| format!("lookup tcp/{port}: unknown port"))?;
            (host, number)
        }
        _ => (text, RPC_PORT),
    };
    let host = host.trim_matches(['[', ']']);
    let found = (host, port).to_socket_addrs().map_err(|error| format!("lookup {host}: {error}"))?;
    found.into_iter().next().ok_or_else(|| format!("lookup {host}: no such host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_by_addresses_with_or_without_a_port() {
        assert_eq!(resolve("10.0.0.1:4700"), Ok("10.0.0.1:4700".parse().expect("an address")));
        assert_eq!(resolve("10.0.0.1"), Ok("10.0.0.1:4647".parse().expect("an address")));
        assert_eq!(resolve("[::1]"), Ok("[::1]:4647".parse().expect("an address")));
        assert_eq!(resolve("::1"), Ok("[::1]:4647".parse().expect("an address")));
        assert_eq!(resolve("nope:x"), Err("lookup tcp/x: unknown port".to_owned()));
    }

    #[test]
    fn the_record_of_a_server_gives_its_address_and_its_node() {
        let node = "9048d907-480e-d8c7-3c87-6631f0f3e18f";
        let peer = Peer { id: 7, addr: format!("{node}@10.0.0.1:4647"), name: "s1.global".to_owned() };
        assert_eq!((rpc_addr(&peer), server_id(&peer)), ("10.0.0.1:4647", node.to_owned()));
        let plain = Peer { addr: "10.0.0.1:4647".to_owned(), ..peer };
        assert_eq!((rpc_addr(&plain), server_id(&plain)), ("10.0.0.1:4647", raft_number(7)));
    }

    #[test]
    fn errors_are_listed_as_tools_know_them() {
        assert_eq!(list_of_errors(&["x".to_owned()]), "1 error occurred:\n\t* x\n\n");
        assert_eq!(list_of_errors(&["x".to_owned(), "y".to_owned()]), "2 errors occurred:\n\t* x\n\t* y\n\n");
    }
}

//! Who answers: client agents pass on to a server, followers to the leader, what is about a node goes to that node, and
//! what names another region goes there.

use std::time::Duration;

use model::{AllocId, NodeId, NodeStatus};
use raft::{Leadership, Peer};
use server::Server;
use transport::Connection;

use super::members::{member_name, server_id};
use crate::{Api, HttpError, MembershipError, Query, listen::Origin};

/// Agents that a request may pass: from a client to a server, to another region, to its leader, to another node, and two
/// to spare while leaders change.
const HOPS_MAX: u32 = 6;

/// Time to wait for a leader, or for a server, before giving up: an election takes less.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// What is looked at to find out who answers.
pub(crate) struct Asking<'a> {
    /// The path without `/v1`.
    pub path: &'a str,
    /// The query.
    pub query: &'a Query,
    /// Whether it only reads.
    pub is_read: bool,
    /// Where it comes from.
    pub origin: Origin,
    /// Agents that it passed.
    pub hops: u32,
    /// How often it was asked before.
    pub attempt: u32,
    /// Whether this server shall answer itself or say that it does not hold the node's session.
    pub is_final: bool,
}

/// Who answers.
#[derive(Debug)]
pub(crate) enum Route {
    /// This agent, from what it has.
    Here,
    /// This agent, as the leader of its region.
    HereAsLeader,
    /// The agent at the other end.
    To(Connection),
    /// A server that may hold the session of the node that it is about.
    ToHolder(Connection),
}

/// What a request is about.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Subject {
    /// The agent that got it, or what it knows by itself.
    Agent,
    /// An allocation on some node.
    Alloc(AllocId),
    /// A node.
    Node(NodeId),
    /// A server of the region, by name or id, or `leader`.
    Server(String),
    /// The region, as any server knows it.
    AnyServer,
    /// The state of the region.
    Region,
}

/// Decides whether another agent has to answer, and finds the way to it.
///
/// # Errors
///
/// 500 when there is no way to who could answer.
pub(crate) async fn elsewhere(api: &Api, asking: &Asking<'_>) -> Result<Route, HttpError> {
    let subject = subject(asking.path, asking.query, api.server().is_some());
    let region = asking.query.text("region").unwrap_or(&api.agent().region);
    // An agent speaks for itself, whatever region the caller works with.
    let abroad = region != api.agent().region && !asking.path.starts_with("/agent/");
    if subject == Subject::Agent && !abroad {
        return Ok(Route::Here);
    }
    if asking.hops >= HOPS_MAX {
        return Err(HttpError::internal("No cluster leader: agents disagree about who answers; try again"));
    }
    if abroad {
        return to_region(api, region, asking).await;
    }
    match subject {
        Subject::Agent => Ok(Route::Here),
        Subject::Alloc(id) if api.client().is_some_and(|client| client.alloc(id).is_some()) => {
            Ok(Route::Here)
        }
        Subject::Alloc(id) => match api.server() {
            Some(server) => match server.snapshot().alloc(id).map(|alloc| alloc.node_id) {
                // An allocation of this very node that its client has collected: nobody else knows more.
                Some(node) => to_holder(api, node, asking).await,
                None => Ok(Route::Here),
            },
            None => route(upstream(api, asking.origin).await?),
        },
        Subject::Node(id) => to_holder(api, id, asking).await,
        Subject::Server(name) => to_server(api, &name, asking.origin).await,
        Subject::AnyServer if api.server().is_some() => Ok(Route::Here),
        Subject::AnyServer => route(upstream(api, asking.origin).await?),
        Subject::Region => to_leader(api, asking).await,
    }
}

fn route(connection: Option<Connection>) -> Result<Route, HttpError> {
    Ok(connection.map_or(Route::Here, Route::To))
}

/// Finds the way to a node; none when this agent is the node, or knows no way.
pub(crate) async fn to_node(api: &Api, id: NodeId, origin: Origin) -> Result<Option<Connection>, HttpError> {
    if api.client().is_some_and(|client| client.node_id() == id) {
        return Ok(None);
    }
    let Some(server) = api.server() else { return upstream(api, origin).await };
    Ok(server.sessions().connection(id))
}

/// Finds the way to a node over whichever server holds its session. Each knows its own alone, so the others are asked in
/// turn, one with each attempt.
async fn to_holder(api: &Api, id: NodeId, asking: &Asking<'_>) -> Result<Route, HttpError> {
    if let Some(connection) = to_node(api, id, asking.origin).await? {
        return Ok(Route::To(connection));
    }
    let is_here = api.client().is_some_and(|client| client.node_id() == id);
    let Some(server) = api.server().filter(|_| !is_here) else { return Ok(Route::Here) };
    if asking.is_final {
        return Err(HttpError::not_found(format!("No path to node {id}")).not_run());
    }
    let me = server.raft().me().id;
    let others: Vec<Peer> =
        server.raft().members().peers.into_values().filter(|peer| peer.id != me).collect();
    let may_be_held = server.snapshot().node(id).is_some_and(|node| node.status != NodeStatus::Down);
    // A node changes servers in less time than all of them are asked twice.
    let rounds = asking.attempt as usize / others.len().max(1);
    if others.is_empty() || !may_be_held || rounds > 1 {
        // The route says that there is no way to the node.
        return Ok(Route::Here);
    }
    match dial(api, &others[asking.attempt as usize % others.len()]).await? {
        Route::To(connection) => Ok(Route::ToHolder(connection)),
        route => Ok(route),
    }
}

/// Finds the way to another region: over this region's servers, which alone know those of others.
async fn to_region(api: &Api, region: &str, asking: &Asking<'_>) -> Result<Route, HttpError> {
    let no_path = || HttpError::internal("No path to region");
    if api.server().is_none() {
        return route(upstream(api, asking.origin).await?);
    }
    let members = api.membership().ok_or_else(no_path)?;
    if !members.regions().iter().any(|known| known == region) {
        return Err(no_path());
    }
    match members.to_region(region.to_owned(), asking.attempt).await {
        Ok(connection) => Ok(Route::To(connection)),
        Err(MembershipError::NotFound(_) | MembershipError::Wrong(_)) => Err(no_path()),
        Err(MembershipError::Failed(why)) => {
            Err(HttpError::internal(format!("No path to region: {why}")).not_run())
        }
    }
}

/// Finds the way to one server.
async fn to_server(api: &Api, name: &str, origin: Origin) -> Result<Route, HttpError> {
    let Some(server) = api.server() else { return route(upstream(api, origin).await?) };
    let raft = server.raft();
    let peer = if name == "leader" {
        Some(raft.leader().ok_or_else(HttpError::no_leader)?)
    } else {
        let members = raft.members();
        let is_it = |peer: &&Peer| {
            server_id(peer) == name || peer.name == name || member_name(api, &peer.name) == name
        };
        members.peers.values().find(is_it).cloned()
    };
    let peer = peer.ok_or_else(|| HttpError::new(400, format!("unknown Nomad server {name}")))?;
    if peer.id == raft.me().id { Ok(Route::Here) } else { dial(api, &peer).await }
}

async fn to_leader(api: &Api, asking: &Asking<'_>) -> Result<Route, HttpError> {
    let Some(server) = api.server() else { return route(upstream(api, asking.origin).await?) };
    if asking.is_read && asking.query.is_stale() {
        return Ok(Route::Here);
    }
    match leadership(server).await {
        Some(Leadership::Leader { .. }) => Ok(Route::HereAsLeader),
        Some(Leadership::Follower { leader, .. }) => dial(api, &leader).await,
        Some(Leadership::Unknown { .. } | Leadership::Stopped) | None => Err(HttpError::no_leader()),
    }
}

/// Waits until it is known who leads.
async fn leadership(server: &Server) -> Option<Leadership> {
    let mut leadership = server.raft().leadership();
    let known = leadership.wait_for(|leadership| !matches!(leadership, Leadership::Unknown { .. }));
    tokio::select! {
        biased;
        known = known => known.ok().map(|known| known.clone()),
        () = server.env().sleep(LEADER_WAIT) => None,
    }
}

async fn dial(api: &Api, peer: &Peer) -> Result<Route, HttpError> {
    let peers = api.peers().ok_or_else(HttpError::no_leader)?;
    peers.connect(&peer.addr).await.map(Route::To).map_err(|error| {
        HttpError::internal(format!("No cluster leader: {} can not be reached: {error}", peer.name)).not_run()
    })
}

/// The server that holds this client's session.
async fn upstream(api: &Api, origin: Origin) -> Result<Option<Connection>, HttpError> {
    if origin == Origin::Agent {
        // A server passed it here, so this is where it belongs.
        return Ok(None);
    }
    let mut upstream = api.inner.upstream.clone();
    let known = upstream.wait_for(Option::is_some);
    let known = tokio::select! {
        biased;
        known = known => known.ok().and_then(|known| known.as_ref().map(|(_, connection)| connection.clone())),
        () = api.agent().env.sleep(LEADER_WAIT) => None,
    };
    known.map(Some).ok_or_else(|| HttpError::internal("No known servers").not_run())
}

/// Reads what a path under `/v1` is about. A malformed id counts as this agent's: its route says what is wrong.
fn subject(path: &str, query: &Query, is_server: bool) -> Subject {
    let node = || query.text("node_id").and_then(|id| id.parse().ok()).map_or(Subject::Agent, Subject::Node);
    if let Some(rest) = path.strip_prefix("/client/") {
        let mut words = rest.split('/');
        let id = match (words.next(), words.next(), words.next()) {
            (Some("fs"), Some(_), Some(id)) | (Some("allocation"), Some(id), _) => id,
            _ => return node(),
        };
        return id.parse().map_or(Subject::Agent, Subject::Alloc);
    }
    match path {
        // Every agent knows all others; servers alone is what Nomad's tools expect, and a server says it.
        "/agent/members" if query.text("all").is_some() => Subject::Agent,
        "/agent/members" | "/regions" if !is_server => Subject::AnyServer,
        "/status/leader" | "/status/peers" | "/event/stream" => Subject::AnyServer,
        "/agent/monitor" | "/agent/host" => match query.text("server_id") {
            Some(name) => Subject::Server(name.to_owned()),
            None => node(),
        },
        // A server speaks of its own state, which is what it is asked for.
        "/operator/raft/hashes" => match query.text("server_id") {
            Some(name) => Subject::Server(name.to_owned()),
            None => Subject::AnyServer,
        },
        "/agent/join-token" | "/agent/join-tokens" | "/agent/join-settings" => Subject::Region,
        "/metrics" | "/regions" => Subject::Agent,
        _ if path.starts_with("/agent/join-token/") => Subject::Region,
        _ if path.starts_with("/agent/") => Subject::Agent,
        _ => Subject::Region,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9048d907-480e-d8c7-3c87-6631f0f3e18f";

    fn on_server(path: &str, query: &str) -> Subject {
        subject(path, &Query::parse(query), true)
    }

    #[test]
    fn what_is_about_an_allocation_or_a_node_is_found_in_its_path() {
        let id: AllocId = ID.parse().expect("an id");
        assert_eq!(on_server(&format!("/client/fs/logs/{ID}"), "task=t"), Subject::Alloc(id));
        assert_eq!(on_server(&format!("/client/allocation/{ID}/exec"), ""), Subject::Alloc(id));
        assert_eq!(on_server("/client/stats", &format!("node_id={ID}")), Subject::Node(NodeId(id.0)));
        assert_eq!(on_server("/agent/host", &format!("node_id={ID}")), Subject::Node(NodeId(id.0)));
        assert_eq!(on_server("/client/stats", "node_id=nope"), Subject::Agent);
        assert_eq!(on_server("/client/fs/ls/nope", ""), Subject::Agent);
    }

    #[test]
    fn a_client_agent_answers_what_it_knows_by_itself() {
        let on_client = |path: &str| subject(path, &Query::parse(""), false);
        for path in ["/agent/self", "/agent/health", "/agent/servers", "/metrics", "/client/stats"] {
            assert_eq!(on_client(path), Subject::Agent, "{path}");
        }
        for path in ["/agent/members", "/status/leader", "/regions", "/event/stream"] {
            assert_eq!(on_client(path), Subject::AnyServer, "{path}");
        }
        for path in ["/jobs", "/job/agent/x", "/agent/join-tokens", "/operator/snapshot"] {
            assert_eq!(on_client(path), Subject::Region, "{path}");
        }
        assert_eq!(on_server("/agent/members", ""), Subject::Agent);
        assert_eq!(on_server("/agent/monitor", "server_id=leader"), Subject::Server("leader".to_owned()));
        assert_eq!(on_server("/operator/raft/hashes", "server_id=s1"), Subject::Server("s1".to_owned()));
        assert_eq!(on_server("/jobs", ""), Subject::Region);
    }
}

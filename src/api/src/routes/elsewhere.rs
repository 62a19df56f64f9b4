//! Who answers: client agents pass on to a server, followers to the leader, and what is about a node goes to that node.

use std::time::Duration;

use http::{Method, request::Parts};
use model::{AllocId, NodeId};
use raft::Leadership;
use transport::Connection;

use crate::{Api, HttpError, Query, forward::hops_of, listen::Origin};

/// Agents that a request may pass: from a client to a server, to its leader, to another node, and one to spare while
/// the leader changes.
const HOPS_MAX: u32 = 4;

/// Time to wait for a leader, or for a server, before giving up: an election takes less.
const LEADER_WAIT: Duration = Duration::from_secs(5);

/// What a request is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    /// The agent that got it, or what it knows by itself.
    Agent,
    /// An allocation on some node.
    Alloc(AllocId),
    /// A node.
    Node(NodeId),
    /// The state of the region.
    Region,
}

/// Decides whether another agent has to answer, and finds the way to it.
///
/// # Errors
///
/// 500 when there is no way to who could answer.
pub(crate) async fn elsewhere(
    api: &Api,
    request: &Parts,
    path: &str,
    query: &Query,
    origin: Origin,
) -> Result<Option<Connection>, HttpError> {
    let Some(path) = path.strip_prefix("/v1") else { return Ok(None) };
    let region = query.text("region").unwrap_or(&api.agent().region);
    if region != api.agent().region {
        return Err(HttpError::internal("No path to region"));
    }
    let subject = subject(path, query, api.server().is_some());
    if subject == Subject::Agent {
        return Ok(None);
    }
    if hops_of(&request.headers) >= HOPS_MAX {
        return Err(HttpError::internal("No cluster leader: agents disagree about who answers; try again"));
    }
    match subject {
        Subject::Agent => Ok(None),
        Subject::Alloc(id) if api.client().is_some_and(|client| client.alloc(id).is_some()) => Ok(None),
        Subject::Alloc(id) => match api.server() {
            Some(server) => match server.snapshot().alloc(id).map(|alloc| alloc.node_id) {
                // An allocation of this very node that its client has collected: nobody else knows more.
                Some(node) => to_node(api, node, origin).await,
                None => Ok(None),
            },
            None => upstream(api, origin).await,
        },
        Subject::Node(id) => to_node(api, id, origin).await,
        Subject::Region => to_region(api, &request.method, query, origin).await,
    }
}

/// Finds the way to a node; none when this agent is the node, or knows no way.
pub(crate) async fn to_node(api: &Api, id: NodeId, origin: Origin) -> Result<Option<Connection>, HttpError> {
    if api.client().is_some_and(|client| client.node_id() == id) {
        return Ok(None);
    }
    match api.server() {
        Some(server) => Ok(server.sessions().connection(id)),
        None => upstream(api, origin).await,
    }
}

async fn to_region(
    api: &Api,
    method: &Method,
    query: &Query,
    origin: Origin,
) -> Result<Option<Connection>, HttpError> {
    let Some(server) = api.server() else { return upstream(api, origin).await };
    let stale = query
        .get("stale")
        .is_some_and(|value| !matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False"));
    if stale && matches!(*method, Method::GET | Method::HEAD) {
        return Ok(None);
    }
    let mut leadership = server.raft().leadership();
    let known = leadership.wait_for(|leadership| !matches!(leadership, Leadership::Unknown { .. }));
    let known = tokio::select! {
        biased;
        known = known => known.ok().map(|known| known.clone()),
        () = server.env().sleep(LEADER_WAIT) => None,
    };
    match known {
        Some(Leadership::Leader { .. }) => Ok(None),
        Some(Leadership::Follower { leader, .. }) => {
            let peers = api.peers().ok_or_else(no_leader)?;
            peers.connect(&leader.addr).await.map(Some).map_err(|error| {
                HttpError::internal(format!("No cluster leader: {} can not be reached: {error}", leader.addr))
            })
        }
        Some(Leadership::Unknown { .. } | Leadership::Stopped) | None => Err(no_leader()),
    }
}

fn no_leader() -> HttpError {
    HttpError::internal("No cluster leader")
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
    known.map(Some).ok_or_else(|| HttpError::internal("No known servers"))
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
        "/agent/members" | "/regions" | "/status/leader" | "/status/peers" if !is_server => Subject::Region,
        "/agent/monitor" | "/agent/host" => node(),
        "/metrics" | "/regions" | "/event/stream" | "/operator/autopilot/health" if is_server => {
            Subject::Agent
        }
        "/metrics" => Subject::Agent,
        _ if path.starts_with("/agent/") => Subject::Agent,
        _ if path.starts_with("/status/") => Subject::Agent,
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
        for path in ["/agent/members", "/status/leader", "/regions", "/jobs", "/event/stream", "/job/agent/x"]
        {
            assert_eq!(on_client(path), Subject::Region, "{path}");
        }
        assert_eq!(on_server("/status/leader", ""), Subject::Agent);
        assert_eq!(on_server("/jobs", ""), Subject::Region);
    }
}

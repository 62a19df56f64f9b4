//! `/v1/operator/raft/...`: who takes part in Raft.

use api_types::{RaftConfiguration, RaftServer, StateHash, StateHashes};
use http::Method;
use model::NodeId;
use raft::{Members, Peer};
use serde_json::json;
use server::{GroupError, Server};

use super::members::{member_name, raft_number, rpc_addr, server_id};
use crate::{Api, Call, HttpError, Reply};

/// The version of the protocol between servers that Nomad's tools expect.
const RAFT_PROTOCOL: &str = "3";

/// Answers what follows `/v1/operator/raft/`.
pub(crate) async fn answer(api: &Api, call: &Call, verb: &str) -> Result<Reply, HttpError> {
    match verb {
        "configuration" => {
            call.require_read()?;
            call.query.wait()?;
            Reply::json(&RaftConfiguration { index: 0, servers: servers(api.require_server()?) })
        }
        "hashes" => hashes(api, call),
        "peer" => remove_peer(api, call).await,
        "transfer-leadership" => transfer_leadership(api, call).await,
        _ => Err(HttpError::not_found("")),
    }
}

/// Answers `GET /v1/operator/raft/hashes`: the hashes of its state that a server still has, oldest first. Two servers agree
/// on each index that both have; `server_id` names the one that is asked.
fn hashes(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_read()?;
    let server = api.require_server()?;
    let hashes = server.raft().with_state(|machine| {
        let window = machine.store().chain().window();
        window.map(|(index, hash)| StateHash { hash: hash.to_string(), index }).collect()
    });
    Reply::json(&StateHashes { hashes, server: member_name(api, &server.raft().me().name) })
}

/// Lists who takes part.
pub(crate) fn servers(server: &Server) -> Vec<RaftServer> {
    let members = server.raft().members();
    let (leader, voters) = (server.raft().leader().map(|peer| peer.id), members.voter_ids());
    let shape = |peer: &Peer| RaftServer {
        address: rpc_addr(peer).to_owned(),
        id: server_id(peer),
        leader: leader == Some(peer.id),
        node: peer.name.clone(),
        raft_protocol: RAFT_PROTOCOL.to_owned(),
        voter: voters.contains(&peer.id),
    };
    let mut servers: Vec<_> = members.peers.values().map(shape).collect();
    servers.sort_by(|one, other| one.node.cmp(&other.node));
    servers
}

/// Finds one that takes part, by its node's id or by its number. A server that began anew may be there twice, with one
/// id: then the number alone says which is meant, and the one that does not vote goes first.
fn find<'a>(members: &'a Members, id: &str) -> Option<&'a Peer> {
    let voters = members.voter_ids();
    let named = members.peers.values().filter(|peer| server_id(peer) == id);
    let by_number = members.peers.values().find(|peer| raft_number(peer.id) == id);
    by_number.or_else(|| named.min_by_key(|peer| voters.contains(&peer.id)))
}

/// Answers `DELETE /v1/operator/raft/peer`.
async fn remove_peer(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    if call.method != Method::DELETE {
        return Err(HttpError::not_found("Invalid method"));
    }
    if call.query.text("address").is_some() {
        let text = "Removing a peer by address is not supported in the current raft protocol version";
        return Err(HttpError::bad_request(text));
    }
    let Some(id) = call.query.text("id") else {
        return Err(HttpError::bad_request("Must specify the peer's ID to remove"));
    };
    let server = api.require_server()?;
    let members = server.raft().members();
    let Some(peer) = find(&members, id) else {
        return Err(HttpError::internal(format!("id {id:?} was not found in the Raft configuration")));
    };
    server.remove_server(peer.id).await.map_err(changed)?;
    Ok(Reply::empty())
}

fn changed(error: GroupError) -> HttpError {
    match error {
        GroupError::NotLeader => HttpError::no_leader(),
        GroupError::NoSuchServer(_) | GroupError::Refused(_) | GroupError::Unknown(_) => {
            HttpError::internal(error.to_string())
        }
    }
}

/// Answers `PUT /v1/operator/raft/transfer-leadership`.
async fn transfer_leadership(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_put().map_err(|_| HttpError::not_found("Invalid method"))?;
    let server = api.require_server()?;
    let members = server.raft().members();
    let target = match (call.query.text("id"), call.query.text("address")) {
        (Some(_), Some(_)) => return Err(HttpError::bad_request("must specify either id or address")),
        (Some(id), None) => {
            let wrong = |_| HttpError::bad_request("id must be a uuid: uuid string is wrong length");
            id.parse::<NodeId>().map_err(wrong)?;
            find(&members, id)
        }
        (None, Some(address)) => members.peers.values().find(|peer| rpc_addr(peer) == address),
        (None, None) => {
            return Err(HttpError::bad_request("must specify id or address"));
        }
    };
    let target = target.ok_or_else(|| HttpError::internal("target peer is not in the Raft configuration"))?;
    let me = server.raft().me();
    if target.id != me.id {
        server.transfer_leadership(Some(target.id)).await.map_err(changed)?;
    }
    Reply::json(&json!({ "From": server_id(me), "To": server_id(target), "Noop": target.id == me.id }))
}

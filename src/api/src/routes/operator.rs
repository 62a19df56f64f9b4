//! `/v1/operator/...`: schedulers, Raft, autopilot, keyring, snapshots.

use api_types::{
    AutopilotConfig, AutopilotHealth, RaftConfiguration, RaftServer, SchedulerConfig,
    SchedulerConfigResponse, SchedulerSetResponse, ServerHealth,
};
use http::{Method, StatusCode};
use model::NodeId;
use serde_json::{Value, json};
use server::{Server, Watch};
use state::Table;

use super::absent::{enterprise, not_yet};
use crate::{Api, Call, HttpError, Meta, Reply, blocking::FIRST_INDEX};

/// The version of the protocol between servers that Nomad's tools expect.
const RAFT_PROTOCOL: &str = "3";

/// Answers what follows `/v1/operator/`.
pub(crate) async fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    match rest {
        "scheduler/configuration" => match call.is_read() {
            true => scheduler_config(api, call).await,
            false => set_scheduler_config(api, call).await,
        },
        "raft/configuration" => {
            call.require_read()?;
            raft_configuration(api, call)
        }
        "raft/peer" => remove_peer(api, call).await,
        "raft/transfer-leadership" => transfer_leadership(api, call).await,
        "autopilot/configuration" => match call.is_read() {
            true => Reply::json(&autopilot_config()),
            false if call.method == Method::PUT => Err(not_yet("changes of autopilot's configuration")),
            false => Err(HttpError::not_found("Invalid method")),
        },
        "autopilot/health" => {
            call.require_read()?;
            autopilot_health(api)
        }
        "keyring/keys" if call.is_read() => {
            let index = api.require_server()?.snapshot().index();
            Reply::read(&Vec::<Value>::new(), Meta { index, next_token: None })
        }
        "license" if call.is_read() => Ok(Reply::Empty { index: None, code: StatusCode::NO_CONTENT }),
        "license" | "utilization" => Err(enterprise()),
        "upgrade-check/vault-workload-identity" => {
            let index = api.require_server()?.snapshot().index();
            let nothing = json!({
                "Index": index, "JobsWithoutVaultIdentity": [], "KnownLeader": true, "LastContact": 0,
                "NextToken": "", "OutdatedNodes": [], "VaultTokens": null,
            });
            Reply::read(&nothing, Meta { index, next_token: None })
        }
        "snapshot" => Err(not_yet("snapshots over HTTP")),
        _ if rest.starts_with("keyring/key/") && call.method == Method::DELETE => {
            Err(HttpError::internal("root key not found"))
        }
        _ if rest.starts_with("keyring/") => Err(not_yet("keys")),
        _ => Err(HttpError::not_found("")),
    }
}

/// Answers `GET /v1/operator/scheduler/configuration`.
async fn scheduler_config(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let (index, config) = api
        .read(call, &[Watch::Table(Table::SchedulerConfig)], |state| {
            Ok((
                state.table_index(Table::SchedulerConfig).max(FIRST_INDEX),
                SchedulerConfig::of(state.scheduler_config()),
            ))
        })
        .await?;
    let response = SchedulerConfigResponse {
        index,
        known_leader: true,
        scheduler_config: Some(config),
        ..SchedulerConfigResponse::default()
    };
    Reply::read(&response, Meta { index, next_token: None })
}

/// Answers `PUT /v1/operator/scheduler/configuration`.
async fn set_scheduler_config(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_put()?;
    let config: SchedulerConfig = call.json_of("structs.SchedulerConfiguration")?;
    let cas = call.query.number::<u64>("cas")?;
    let wrong =
        || HttpError::bad_request(format!("invalid scheduler algorithm: {}", config.scheduler_algorithm));
    let settings = config.to_model().ok_or_else(wrong)?;
    let (updated, index) = api.require_server()?.set_scheduler_config(settings, cas).await?;
    Reply::written(&SchedulerSetResponse { index, updated }, index)
}

/// Returns the id of a server as tools know it: they expect the form of a UUID.
pub(crate) fn server_id(id: u64) -> String {
    NodeId::from_random(u128::from(id)).to_string()
}

fn server_number(text: &str) -> Option<u64> {
    let id: NodeId = text.parse().ok()?;
    u64::try_from(id.0.as_u128()).ok()
}

fn servers(server: &Server) -> Vec<RaftServer> {
    let members = server.raft().members();
    let (leader, voters) = (server.raft().leader().map(|peer| peer.id), members.voter_ids());
    let shape = |peer: &raft::Peer| RaftServer {
        address: peer.addr.clone(),
        id: server_id(peer.id),
        leader: leader == Some(peer.id),
        node: peer.name.clone(),
        raft_protocol: RAFT_PROTOCOL.to_owned(),
        voter: voters.contains(&peer.id),
    };
    members.peers.values().map(shape).collect()
}

fn raft_configuration(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.query.wait()?;
    Reply::json(&RaftConfiguration { index: 0, servers: servers(api.require_server()?) })
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
    let known = server_number(id).filter(|number| server.raft().members().peers.contains_key(number));
    let Some(number) = known else {
        return Err(HttpError::internal(format!("id {id:?} was not found in the Raft configuration")));
    };
    server.raft().remove(number).await.map_err(|error| HttpError::internal(error.to_string()))?;
    Ok(Reply::empty())
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
            server_number(id).filter(|number| members.peers.contains_key(number))
        }
        (None, Some(address)) => members.peers.values().find(|peer| peer.addr == address).map(|peer| peer.id),
        (None, None) => {
            return Err(HttpError::bad_request("must specify id or address"));
        }
    };
    let target = target.ok_or_else(|| HttpError::internal("target peer is not in the Raft configuration"))?;
    server.raft().transfer_leader(target).await.map_err(|error| HttpError::internal(error.to_string()))?;
    let leader = server_id(target);
    Reply::json(
        &json!({ "From": server_id(server.raft().me().id), "To": leader, "Noop": target == server.raft().me().id }),
    )
}

/// How servers are looked after; fixed in this version.
fn autopilot_config() -> AutopilotConfig {
    AutopilotConfig {
        // The built-in values hold from the beginning of the state.
        create_index: FIRST_INDEX,
        modify_index: FIRST_INDEX,
        cleanup_dead_servers: true,
        last_contact_threshold: "200ms".to_owned(),
        max_trailing_logs: 250,
        server_stabilization_time: "10s".to_owned(),
        ..AutopilotConfig::default()
    }
}

fn autopilot_health(api: &Api) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let peers = servers(server);
    let leader = peers.iter().find(|peer| peer.leader).map(|peer| peer.id.clone()).unwrap_or_default();
    let voters: Vec<_> = peers.iter().filter(|peer| peer.voter).map(|peer| peer.id.clone()).collect();
    let (healthy, index) = (!leader.is_empty(), server.snapshot().index());
    let term = server.raft().status().applied.map_or(0, |applied| applied.term);
    let health = |peer: RaftServer| ServerHealth {
        address: peer.address,
        healthy,
        id: peer.id,
        last_contact: "0s".to_owned(),
        last_index: index,
        last_term: term,
        leader: peer.leader,
        name: peer.node,
        serf_status: "alive".to_owned(),
        stable_since: server.snapshot().cluster_create_time().into(),
        version: api.agent().version.clone(),
        voter: peer.voter,
    };
    let response = AutopilotHealth {
        failure_tolerance: i64::try_from(voters.len().saturating_sub(1) / 2).unwrap_or(0),
        healthy,
        leader,
        servers: peers.into_iter().map(health).collect(),
        voters,
    };
    if healthy {
        return Reply::json(&response);
    }
    let text = serde_json::to_string(&response).map_err(|error| HttpError::internal(error.to_string()))?;
    Err(HttpError::new(429, text))
}

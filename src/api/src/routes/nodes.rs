//! `/v1/nodes` and `/v1/node/:id...`, node pools aside.

use api_types::{
    Allocation, Node, NodeDrainRequest, NodeEligibilityRequest, NodeStub, NodeStubFields, NodeUpdateResponse,
};
use http::Method;
use model::{NodeId, Text};
use serde_json::{Value, json};
use server::{DrainDeadline, DrainWish, NodeChanged, Server, Watch};
use state::Table;

use super::members::rpc_addr;
use crate::{
    Api, Call, HttpError, Meta, Reply, ids,
    paging::{Paging, Position},
};

/// Answers `/v1/nodes`.
pub(crate) async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    require_read(call)?;
    let prefix = call.query.text("prefix").map(|text| ids::prefix("node", text)).transpose()?;
    let fields = NodeStubFields {
        resources: call.query.switch("resources")?.unwrap_or(false),
        os: call.query.switch("os")?.unwrap_or(false),
    };
    let paging = Paging::of(&call.query)?;
    let (index, (stubs, next_token)) = api
        .read(call, &[Watch::Table(Table::Nodes)], |snapshot| {
            let position = |node: &&std::sync::Arc<model::Node>| Position::Id(node.id.to_string());
            let shape = |node: &&std::sync::Arc<model::Node>| NodeStub::of(node, fields);
            let page = match (&prefix, paging.reverse) {
                (Some(prefix), false) => paging.shapes(snapshot.nodes_by_prefix(prefix), position, shape),
                (Some(prefix), true) => {
                    paging.shapes(snapshot.nodes_by_prefix(prefix).rev(), position, shape)
                }
                (None, false) => paging.shapes(snapshot.nodes(), position, shape),
                (None, true) => paging.shapes(snapshot.nodes().rev(), position, shape),
            };
            Ok((snapshot.table_index(Table::Nodes), page))
        })
        .await?;
    Reply::read(&stubs, Meta { index, next_token })
}

/// Answers what follows `/v1/node/`.
pub(crate) async fn single(api: &Api, call: Call, rest: &str) -> Result<Reply, HttpError> {
    let (id, verb) = rest.split_once('/').unwrap_or((rest, ""));
    match verb {
        "" => one(api, &call, ids::id("node", id)?).await,
        // What is no id has no allocations, as there.
        "allocations" => allocations(api, &call, id.parse().unwrap_or_default()).await,
        "drain" | "eligibility" | "evaluate" | "purge" => {
            if call.method != Method::PUT {
                return Err(HttpError::invalid_method());
            }
            change(api, &call, ids::id("node", id)?, verb).await
        }
        _ => Err(HttpError::not_found("")),
    }
}

async fn one(api: &Api, call: &Call, id: NodeId) -> Result<Reply, HttpError> {
    require_read(call)?;
    let (index, node) = api
        .read(call, &[Watch::Node(id)], |snapshot| {
            let node = snapshot.node(id);
            let index = node.map_or_else(|| snapshot.table_index(Table::Nodes), |node| node.modify_index);
            // The row does not say when its allocations last changed: it would be written anew with every word of them.
            let last = || snapshot.allocs_by_node(id).map(|alloc| alloc.modify_index).max().unwrap_or(0);
            let shape = |node| Node { last_alloc_update_index: last(), ..Node::of(node) };
            Ok((index, node.map(|node| shape(node))))
        })
        .await?;
    let node = node.ok_or_else(|| HttpError::not_found("node not found").at(index))?;
    Reply::read(&node, Meta { index, next_token: None })
}

async fn allocations(api: &Api, call: &Call, id: NodeId) -> Result<Reply, HttpError> {
    require_read(call)?;
    let (index, allocs) = api
        .read(call, &[Watch::NodeAllocs(id)], |snapshot| {
            let name = snapshot.node(id).map(|node| node.name.clone()).unwrap_or_default();
            let last = snapshot.allocs_by_node(id).map(|alloc| alloc.modify_index).max();
            let allocs: Vec<Allocation> =
                snapshot.allocs_by_node(id).map(|alloc| Allocation::of(alloc, &name)).collect();
            // A node without allocations is as late as the last node was, so that waiting on it begins somewhere.
            let none = || snapshot.table_index(Table::Allocs).max(snapshot.table_index(Table::Nodes));
            Ok((last.unwrap_or_else(none), allocs))
        })
        .await?;
    Reply::read(&allocs, Meta { index, next_token: None })
}

async fn change(api: &Api, call: &Call, id: NodeId, verb: &str) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    match verb {
        "drain" => drain(server, call, id).await,
        "eligibility" => {
            let request: NodeEligibilityRequest = call.json()?;
            names_this(&request.node_id, id)?;
            let eligible = match request.eligibility.as_str() {
                "eligible" => true,
                "ineligible" => false,
                other => {
                    return Err(HttpError::internal(format!("invalid scheduling eligibility {other:?}")));
                }
            };
            let changed = server.set_node_eligibility(id, eligible).await?;
            Reply::written(&update(&changed, 0), changed.index)
        }
        "evaluate" => {
            let changed = server.evaluate_node(id).await?;
            Reply::written(&registration(api, server, &changed, id), changed.index)
        }
        _ => {
            let changed = server.deregister_node(id).await?;
            Reply::written(&registration(api, server, &changed, id), changed.index)
        }
    }
}

async fn drain(server: &Server, call: &Call, id: NodeId) -> Result<Reply, HttpError> {
    let request: NodeDrainRequest = call.json()?;
    names_this(&request.node_id, id)?;
    let wish = request.drain_spec.map(|spec| DrainWish {
        deadline: match u64::try_from(spec.deadline) {
            Err(_) => DrainDeadline::AtOnce,
            Ok(0) => DrainDeadline::Never,
            Ok(nanos) => DrainDeadline::After(std::time::Duration::from_nanos(nanos)),
        },
        ignore_system_jobs: spec.ignore_system_jobs,
    });
    let meta = request.meta.iter().map(|(key, value)| (Text::from(key), Text::from(value))).collect();
    let changed = server.drain_node(id, wish, request.mark_eligible, meta).await?;
    Reply::written(&update(&changed, changed.index), changed.index)
}

/// A body may name the node, and then it names this one.
fn names_this(named: &str, id: NodeId) -> Result<(), HttpError> {
    if named.is_empty() || named == id.to_string() {
        return Ok(());
    }
    Err(HttpError::bad_request("Node ID does not match"))
}

fn eval_ids(changed: &NodeChanged) -> (u64, Vec<String>) {
    let ids: Vec<String> = changed.eval_ids.iter().map(ToString::to_string).collect();
    (if ids.is_empty() { 0 } else { changed.index }, ids)
}

fn update(changed: &NodeChanged, node_modify_index: u64) -> NodeUpdateResponse {
    let (eval_create_index, eval_ids) = eval_ids(changed);
    NodeUpdateResponse { eval_create_index, eval_ids, index: changed.index, node_modify_index }
}

/// What whoever changes a node as its client does gets: who the servers are, too.
fn registration(api: &Api, server: &Server, changed: &NodeChanged, id: NodeId) -> Value {
    let snapshot = server.snapshot();
    let eligibility =
        snapshot.node(id).map_or("", |node| if node.eligible { "eligible" } else { "ineligible" });
    let members = server.raft().members();
    let servers: Vec<Value> = members
        .peers
        .values()
        .map(|peer| {
            json!({
                "Datacenter": api.agent().datacenter,
                "RPCAdvertiseAddr": rpc_addr(peer),
                "RPCMajorVersion": 0,
                "RPCMinorVersion": 0,
            })
        })
        .collect();
    let (eval_create_index, eval_ids) = eval_ids(changed);
    json!({
        "EvalCreateIndex": eval_create_index,
        "EvalIDs": if eval_ids.is_empty() { Value::Null } else { json!(eval_ids) },
        "Features": 0,
        "HeartbeatTTL": 0,
        "Index": changed.index,
        "KnownLeader": false,
        "LastContact": 0,
        "LeaderRPCAddr": server.raft().leader().map(|leader| rpc_addr(&leader).to_owned()).unwrap_or_default(),
        "NextToken": "",
        "NodeModifyIndex": 0,
        "NumNodes": snapshot.node_count(),
        "SchedulingEligibility": eligibility,
        "Servers": servers,
        "SignedIdentity": Value::Null,
    })
}

pub(crate) fn require_read(call: &Call) -> Result<(), HttpError> {
    if call.is_read() { Ok(()) } else { Err(HttpError::invalid_method()) }
}

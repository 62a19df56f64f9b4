//! `/v1/node/pools` and `/v1/node/pool/:name` with its nodes and jobs.

use std::sync::Arc;

use api_types::{JobStub, NodePool as Shape, NodeStub, NodeStubFields};
use http::Method;
use model::{Job, Node, NodePool};
use server::Watch;
use state::Table;

use super::namespaces::hash;
use crate::{
    Api, Call, HttpError, Meta, Reply,
    call::decode,
    paging::{Paging, Position},
};

/// How long identities of nodes are good for, unless a pool says otherwise: a day, in nanoseconds.
const IDENTITY_TTL_NANOS: i64 = 86_400_000_000_000;

/// The pools that are always there.
const BUILT_IN: [&str; 2] = ["all", "default"];

/// Answers `/v1/node/pools`.
pub(crate) async fn collection(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    if call.method == Method::PUT {
        return put(api, call, "").await;
    }
    call.require_read()?;
    let paging = Paging::of(&call.query)?;
    let prefix = call.query.text("prefix").unwrap_or_default();
    let (index, (lines, next_token)) = api
        .read(call, &[Watch::Table(Table::NodePools)], |state| {
            let rows: Box<dyn Iterator<Item = &Arc<NodePool>>> = match paging.reverse {
                false => Box::new(state.node_pools()),
                true => Box::new(state.node_pools().rev()),
            };
            let rows = rows.filter(|pool| pool.name.starts_with(prefix));
            let position = |pool: &&Arc<NodePool>| Position::Id(pool.name.to_string());
            Ok((state.table_index(Table::NodePools), paging.shapes(rows, position, |pool| shape(pool))))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

/// Answers what follows `/v1/node/pool/`.
pub(crate) async fn single(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    let path = decode(rest, false);
    if let Some(name) = path.strip_suffix("/nodes") {
        call.require_read()?;
        return nodes(api, call, name).await;
    }
    if let Some(name) = path.strip_suffix("/jobs") {
        call.require_read()?;
        return jobs(api, call, name).await;
    }
    match call.method {
        Method::GET | Method::HEAD => get(api, call, &path).await,
        Method::PUT => put(api, call, &path).await,
        Method::DELETE => Ok(Reply::done(api.require_server()?.delete_node_pool(path.into()).await?)),
        _ => Err(HttpError::invalid_method()),
    }
}

async fn get(api: &Api, call: &Call, name: &str) -> Result<Reply, HttpError> {
    let (index, pool) = api
        .find(call, &[Watch::Table(Table::NodePools)], "node pool not found", |state| {
            let pool = state.node_pool(name).cloned();
            let table = state.table_index(Table::NodePools);
            Ok((pool.as_ref().map_or(table, |pool| pool.modify_index), pool))
        })
        .await?;
    Reply::read(&shape(&pool), Meta { index, next_token: None })
}

async fn put(api: &Api, call: &Call, name: &str) -> Result<Reply, HttpError> {
    let mut pool: Shape = call.json_of("structs.NodePool")?;
    if pool.name.is_empty() {
        name.clone_into(&mut pool.name);
    }
    if !name.is_empty() && pool.name != name {
        return Err(HttpError::bad_request("Node pool name does not match request path"));
    }
    if let Some(config) = pool.scheduler_configuration.as_ref().filter(|config| !config.is_known()) {
        let name = &config.scheduler_algorithm;
        return Err(HttpError::bad_request(format!(
            "invalid scheduler algorithm {name:?}: binpack or spread"
        )));
    }
    Ok(Reply::done(api.require_server()?.upsert_node_pool(pool.to_model()).await?))
}

fn refuse_prefix(call: &Call) -> Result<(), HttpError> {
    match call.query.text("prefix") {
        Some(_) => Err(HttpError::bad_request("prefix is not supported when listing what is in a node pool")),
        None => Ok(()),
    }
}

async fn nodes(api: &Api, call: &Call, name: &str) -> Result<Reply, HttpError> {
    refuse_prefix(call)?;
    let paging = Paging::of(&call.query)?;
    let fields = NodeStubFields {
        resources: call.query.switch("resources")?.unwrap_or(false),
        os: call.query.switch("os")?.unwrap_or(false),
    };
    let (index, (lines, next_token)) = api
        .read(call, &[Watch::Table(Table::Nodes)], |state| {
            let rows: Box<dyn Iterator<Item = &Arc<Node>>> = match paging.reverse {
                false => Box::new(state.nodes_by_pool(name)),
                true => Box::new(state.nodes_by_pool(name).rev()),
            };
            let position = |node: &&Arc<Node>| Position::Id(node.id.to_string());
            // A pool that is not there has no index to wait on.
            let index = state.node_pool(name).map_or(0, |_| state.table_index(Table::Nodes));
            Ok((index, paging.shapes(rows, position, |node| NodeStub::of(node, fields))))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

async fn jobs(api: &Api, call: &Call, name: &str) -> Result<Reply, HttpError> {
    refuse_prefix(call)?;
    let paging = Paging::of(&call.query)?;
    let with_meta = call.query.switch("meta")?.unwrap_or(false);
    let tables = [Table::Jobs, Table::Summaries];
    let (index, (lines, next_token)) = api
        .read(call, &tables.map(Watch::Table), |state| {
            let rows =
                state.jobs(call.list_namespace()).filter(|job| name == "all" || job.spec.node_pool == name);
            let position =
                |job: &&Arc<Job>| Position::Named(job.key.namespace.to_string(), job.key.id.to_string());
            let stub =
                |job: &&Arc<Job>| JobStub::of(job, state.summary(&job.key).map(Arc::as_ref), with_meta);
            Ok((state.last_index_of(&tables), paging.shapes(rows, position, stub)))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

fn shape(pool: &NodePool) -> Shape {
    let content = NodePool { create_index: 0, modify_index: 0, ..pool.clone() };
    let hash = if BUILT_IN.contains(&pool.name.as_str()) { String::new() } else { hash(&content) };
    let mut shape = Shape::of(pool, hash);
    if shape.node_identity_ttl == 0 {
        shape.node_identity_ttl = IDENTITY_TTL_NANOS;
    }
    shape
}

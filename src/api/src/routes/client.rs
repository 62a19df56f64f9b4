//! `/v1/client/...`: what a node knows of itself and its allocations. Files and logs are in `files.rs`, commands beside
//! tasks in `exec.rs`.

use std::sync::Arc;

use api_types::{
    AllocResourceUsage, AllocRestartRequest, AllocSignalRequest, AllocUsageTotal, CpuStats, HostCpuStats,
    HostDiskStats, HostMemoryStats, HostStats, IndexResponse, MemoryStats, NodeMetaRequest, NodeMetaResponse,
    ResourceUsage, TaskResourceUsage,
};
use axum::body::Body;
use client::{
    AskError, Client, Signal, View,
    metadata::Parts,
    stats::{DiskUsage, HostUsage, Rates, TaskUsage},
};
use http::{Method, Request};
use model::{AllocId, NodeId};
use serde_json::json;

use super::{elsewhere, exec, files, nodes::require_read};
use crate::{Api, Call, HttpError, Reply, ids, listen::Origin};

/// Answers what follows `/v1/client/`.
pub(crate) async fn answer(api: &Api, call: Call, rest: &str) -> Result<Reply, HttpError> {
    if let Some(rest) = rest.strip_prefix("fs/") {
        return files::answer(api, &call, rest).await;
    }
    if let Some(rest) = rest.strip_prefix("allocation/") {
        let (id, verb) = rest.split_once('/').unwrap_or((rest, ""));
        let (id, verb) = (id.to_owned(), verb.to_owned());
        return allocation(api, call, &id, &verb).await;
    }
    match rest {
        "stats" => {
            require_read(&call)?;
            let client = this_node(api, &call)?;
            let allocations = call.query.switch("allocations")?.unwrap_or(false);
            let used = async { if allocations { Some(client.all_tasks_usage().await) } else { None } };
            let (host, used) = tokio::join!(client.host_usage(), used);
            let alloc_usage =
                used.map(|used| AllocUsageTotal { memory: used.memory, total_ticks: used.ticks });
            Reply::json(&HostStats { alloc_usage, ..host_stats(&host) })
        }
        "gc" => {
            this_node(api, &call)?.collect(true).await;
            Ok(Reply::empty())
        }
        "metadata" if call.is_read() => metadata(this_node(api, &call)?.metadata()),
        "metadata" if call.parts.method == Method::POST => change_metadata(api, call).await,
        "metadata" => Err(HttpError::invalid_method()),
        "identity" => Err(HttpError::not_found(
            "this agent does not issue node identities: its certificate is its identity",
        )),
        _ => Err(HttpError::not_found("")),
    }
}

/// Finds an allocation on this node.
///
/// # Errors
///
/// 404 when it is unknown, or its node is not connected.
pub(super) fn find_alloc<'a>(
    api: &'a Api,
    text: &str,
) -> Result<(&'a Client, AllocId, Arc<View>), HttpError> {
    let id: AllocId = ids::id("alloc", text)?;
    if let Some(client) = api.client()
        && let Some(view) = client.alloc(id)
    {
        return Ok((client, id, view));
    }
    let node = api.server().and_then(|server| server.snapshot().alloc(id).map(|alloc| alloc.node_id));
    let own = api.client().map(Client::node_id);
    if let Some(node) = node
        && Some(node) != own
    {
        return Err(HttpError::not_found(format!(
            "No path to node: {node} runs allocation {id} and is not connected"
        )));
    }
    Err(HttpError::not_found(format!("Unknown allocation \"{id}\"")))
}

/// Finds the node that a request is about, which is this one by the time that a route sees it.
fn this_node<'a>(api: &'a Api, call: &Call) -> Result<&'a Client, HttpError> {
    let wanted = call.query.text("node_id").map(|text| ids::id::<NodeId>("node", text)).transpose()?;
    match (api.client(), wanted) {
        (Some(client), None) => Ok(client),
        (Some(client), Some(wanted)) if client.node_id() == wanted => Ok(client),
        (None, None) => Err(HttpError::bad_request("this agent is no client: name a node with ?node_id=")),
        (_, Some(wanted)) => Err(no_way_to(api, wanted)),
    }
}

fn no_way_to(api: &Api, node: NodeId) -> HttpError {
    let known = api.server().is_some_and(|server| server.snapshot().node(node).is_some());
    if known {
        return HttpError::not_found(format!("No path to node: {node} is not connected"));
    }
    HttpError::not_found(format!("Unknown node {node}"))
}

async fn allocation(api: &Api, call: Call, id: &str, verb: &str) -> Result<Reply, HttpError> {
    match verb {
        "exec" => exec::answer(api, call, id).await,
        "stats" => stats(api, &call, id).await,
        "restart" => restart(api, &call, id).await,
        "signal" if call.method == Method::PUT => signal(api, &call, id).await,
        "signal" => Err(HttpError::invalid_method()),
        "checks" => {
            find_alloc(api, id)?;
            // Checks of services are not run by this agent, so there are no results.
            Reply::json(&json!({}))
        }
        "gc" => collect(api, id).await,
        "pause" => Err(HttpError::new(501, "Nomad Enterprise only endpoint")),
        _ => Err(HttpError::not_found("resource not found")),
    }
}

async fn collect(api: &Api, id: &str) -> Result<Reply, HttpError> {
    // What was collected before counts as collected.
    let known = match find_alloc(api, id) {
        Ok(known) => known,
        Err(error) if is_known_to_state(api, id) => {
            tracing::debug!(%error, "allocation is collected already");
            return Ok(Reply::empty());
        }
        Err(error) => return Err(error),
    };
    let (client, id, view) = known;
    if view.ended_at.lock().is_none() {
        return Err(HttpError::internal(format!("allocation {id} has not ended; stop it first")));
    }
    client.destroy(id).await;
    Ok(Reply::empty())
}

fn is_known_to_state(api: &Api, id: &str) -> bool {
    let own = api.client().map(Client::node_id);
    let Ok(id) = id.parse::<AllocId>() else { return false };
    let node = api.server().and_then(|server| server.snapshot().alloc(id).map(|alloc| alloc.node_id));
    node.is_some() && node == own
}

async fn restart(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let (client, id, _) = find_alloc(api, id)?;
    let request: AllocRestartRequest = call.json_or_default()?;
    if request.all_tasks && !request.task_name.is_empty() {
        return Err(HttpError::internal("task name cannot be set when restarting all tasks"));
    }
    let task = Some(request.task_name.as_str()).filter(|name| !name.is_empty()).map(Into::into);
    client.restart(id, task, request.all_tasks).await.map_err(|error| match error {
        AskError::NoSuchTask { task } => {
            HttpError::internal(format!("Could not find task runner for task: {task}"))
        }
        AskError::Gone => HttpError::not_found(format!("Unknown allocation \"{id}\"")),
        AskError::NotRunning | AskError::Driver(_) => HttpError::internal(error.to_string()),
    })?;
    Reply::json(&IndexResponse { index: 0 })
}

async fn signal(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let (client, id, view) = find_alloc(api, id)?;
    let request: AllocSignalRequest = call.json_or_default()?;
    // Whether anything runs is looked at first: callers know that answer, whatever the signal's name.
    if let Some(why) = none_running(&view, &request.task_name) {
        return Err(HttpError::internal(why));
    }
    let name = if request.signal.is_empty() { "SIGKILL" } else { &request.signal };
    let signal: Signal =
        name.parse().map_err(|error: client::UnknownSignal| HttpError::internal(error.to_string()))?;
    let task = Some(request.task_name.as_str()).filter(|name| !name.is_empty()).map(Into::into);
    match client.signal(id, task, signal).await {
        // Programs expect that a task which is not there takes every signal.
        Ok(()) | Err(AskError::NoSuchTask { .. }) => Reply::json(&IndexResponse { index: 0 }),
        Err(AskError::Gone) => Err(HttpError::not_found(format!("Unknown allocation \"{id}\""))),
        Err(error) => Err(HttpError::internal(error.to_string())),
    }
}

/// Says that none of the tasks which a signal is for runs; nothing when one does, or when there is no such task.
fn none_running(view: &View, task: &str) -> Option<String> {
    let assigned = view.assigned.load();
    let names: Vec<&str> = assigned
        .group()
        .tasks
        .iter()
        .map(|known| known.name.as_str())
        .filter(|name| task.is_empty() || *name == task)
        .collect();
    if names.is_empty() || names.iter().any(|name| view.running(name).is_some()) {
        return None;
    }
    let each: Vec<String> = names
        .iter()
        .map(|name| format!("\t* Failed to signal task: {name}, err: Task not running\n"))
        .collect();
    let errors = if each.len() == 1 { "error" } else { "errors" };
    Some(format!("{} {errors} occurred:\n{}\n", each.len(), each.concat()))
}

async fn stats(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    require_read(call)?;
    let (client, id, view) = find_alloc(api, id)?;
    let task = call.query.text("task");
    if let Some(task) = task
        && !view.assigned.load().group().tasks.iter().any(|known| known.name == task)
    {
        return Err(HttpError::internal(format!("unknown task name {task:?}")));
    }
    let usage = client.task_usage(id, task).await;
    let tasks = usage.iter().map(|usage| (usage.name.clone(), task_usage(usage))).collect();
    let timestamp = usage.iter().map(|usage| usage.measured.at).max().unwrap_or(0);
    Reply::json(&AllocResourceUsage { resource_usage: sum(&usage), tasks, timestamp })
}

fn task_usage(usage: &TaskUsage) -> TaskResourceUsage {
    let of_pid = |(pid, rates): (&client::stats::PidStats, &Rates)| {
        let memory = MemoryStats {
            rss: pid.rss,
            swap: pid.swap,
            measured: usage.measured.memory.measured.iter().map(ToString::to_string).collect(),
            ..MemoryStats::default()
        };
        let cpu_stats = cpu(*rates, usage.measured.cpu.measured);
        (pid.pid.to_string(), ResourceUsage { cpu_stats, device_stats: None, memory_stats: memory })
    };
    let pids = usage.measured.pids.iter().zip(&usage.pid_rates).map(of_pid).collect();
    TaskResourceUsage { pids, resource_usage: whole(usage), timestamp: usage.measured.at }
}

fn whole(usage: &TaskUsage) -> ResourceUsage {
    let measured = &usage.measured;
    let cpu_stats = CpuStats {
        throttled_periods: measured.cpu.throttled_periods,
        throttled_time: measured.cpu.throttled_ns,
        ..cpu(usage.rates, measured.cpu.measured)
    };
    let memory = &measured.memory;
    let memory_stats = MemoryStats {
        cache: memory.cache,
        kernel_max_usage: memory.kernel_max_usage,
        kernel_usage: memory.kernel_usage,
        mapped_file: memory.mapped_file,
        max_usage: memory.max_usage,
        measured: memory.measured.iter().map(ToString::to_string).collect(),
        rss: memory.rss,
        swap: memory.swap,
        usage: memory.usage,
    };
    ResourceUsage { cpu_stats, device_stats: None, memory_stats }
}

fn cpu(rates: Rates, measured: &[&str]) -> CpuStats {
    CpuStats {
        measured: measured.iter().map(ToString::to_string).collect(),
        percent: rates.total,
        system_mode: rates.system,
        total_ticks: rates.ticks,
        user_mode: rates.user,
        ..CpuStats::default()
    }
}

/// Adds up what the tasks of an allocation use.
fn sum(tasks: &[TaskUsage]) -> ResourceUsage {
    let mut total = ResourceUsage { device_stats: Some(Vec::new()), ..ResourceUsage::default() };
    for usage in tasks.iter().map(whole) {
        let (into, from) = (&mut total.cpu_stats, usage.cpu_stats);
        into.percent += from.percent;
        into.system_mode += from.system_mode;
        into.user_mode += from.user_mode;
        into.total_ticks += from.total_ticks;
        into.throttled_periods += from.throttled_periods;
        into.throttled_time += from.throttled_time;
        into.measured = union(std::mem::take(&mut into.measured), from.measured);
        let (into, from) = (&mut total.memory_stats, usage.memory_stats);
        into.cache += from.cache;
        into.kernel_max_usage += from.kernel_max_usage;
        into.kernel_usage += from.kernel_usage;
        into.mapped_file += from.mapped_file;
        into.max_usage += from.max_usage;
        into.rss += from.rss;
        into.swap += from.swap;
        into.usage += from.usage;
        into.measured = union(std::mem::take(&mut into.measured), from.measured);
    }
    total
}

fn union(mut names: Vec<String>, more: Vec<String>) -> Vec<String> {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn host_stats(usage: &HostUsage) -> HostStats {
    let cpu = usage.cpus.iter().map(|cpu| HostCpuStats {
        cpu: cpu.name.clone(),
        idle: cpu.idle,
        system: cpu.system,
        total_percent: cpu.total,
        total_ticks: cpu.ticks,
        user: cpu.user,
    });
    HostStats {
        alloc_dir_stats: usage.alloc_dir.as_ref().map(disk),
        alloc_usage: None,
        cpu: cpu.collect(),
        cpu_ticks_consumed: usage.ticks,
        device_stats: Vec::new(),
        disk_stats: usage.disks.iter().map(disk).collect(),
        memory: Some(HostMemoryStats {
            available: usage.memory.available,
            free: usage.memory.free,
            total: usage.memory.total,
            used: usage.memory.used,
        }),
        timestamp: usage.at,
        uptime: usage.uptime,
    }
}

fn disk(usage: &DiskUsage) -> HostDiskStats {
    HostDiskStats {
        available: usage.available,
        device: usage.device.clone(),
        inodes_used_percent: usage.inodes_percent,
        mountpoint: usage.mountpoint.clone(),
        size: usage.size,
        used: usage.used,
        used_percent: usage.used_percent,
    }
}

fn metadata(parts: Parts) -> Result<Reply, HttpError> {
    let meta = parts.merged();
    Reply::json(&NodeMetaResponse { dynamic: parts.dynamic, meta, fixed: parts.fixed })
}

/// Changes metadata of this node, or passes the request on: the node may be named in the body alone.
async fn change_metadata(api: &Api, call: Call) -> Result<Reply, HttpError> {
    let request: NodeMetaRequest = call.json()?;
    if call.query.text("node_id").is_none() && !request.node_id.is_empty() {
        let id: NodeId = ids::id("node", &request.node_id)?;
        if api.client().is_none_or(|client| client.node_id() != id) {
            let connection = elsewhere::to_node(api, id, Origin::User).await?;
            let connection = connection.ok_or_else(|| no_way_to(api, id))?;
            let mut parts = call.parts;
            let separator = if parts.uri.query().is_some() { '&' } else { '?' };
            let target = format!("{}{separator}node_id={id}", parts.uri);
            parts.uri =
                target.parse().map_err(|_| HttpError::bad_request("request target can not be read"))?;
            let request = Request::from_parts(parts, Body::from(call.body));
            let passed = api.pass_on(&connection, request).await;
            return passed.map(Reply::Raw).map_err(|error| error.into_error(false));
        }
    }
    let client = this_node(api, &call)?;
    if request.meta.is_empty() {
        return Err(HttpError::bad_request("missing required Meta object"));
    }
    let parts = client.change_metadata(request.meta).await;
    metadata(parts.map_err(|error| HttpError::bad_request(error.to_string()))?)
}

//! The rows of a server's state, as its API shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use chaos_check::{AllocRow, EvalRow, GroupRow, Holding, JobRow, NodeRow, OwnedPort, Rows, Story};
use model::{ClientStatus, DesiredStatus, EvalStatus, JobKey, JobType, NodeStatus, Text, Timestamp};
use serde_json::Value;

use crate::{cluster::Cluster, http, layout::Agent};

/// How long one list may take.
const LIST_MAX: Duration = Duration::from_secs(3);

/// The lists, with what makes their rows complete.
const LISTS: [&str; 4] = [
    "/v1/jobs?stale&namespace=*&meta=true",
    "/v1/evaluations?stale&namespace=*",
    "/v1/allocations?stale&namespace=*&resources=true&task_states=true",
    "/v1/nodes?stale&resources=true",
];

/// Reads the rows that one server serves. The lists are read one after the other; when one of them changed in between,
/// they belong to no common index, and there is nothing to see this time.
pub fn read(cluster: &Cluster, server: Agent, last: Option<&Arc<Rows>>) -> Option<Arc<Rows>> {
    let before = LISTS.map(|list| ask(cluster, server, list));
    let after = LISTS.map(|list| ask(cluster, server, &format!("{list}&per_page=1")));
    let mut index = 0;
    for (before, after) in before.iter().zip(&after) {
        let (before, after) = (before.as_ref()?, after.as_ref()?);
        if before.0 != after.0 {
            return None;
        }
        index = index.max(before.0);
    }
    if let Some(last) = last.filter(|last| last.index == index) {
        return Some(last.clone());
    }
    let [jobs, evals, allocs, nodes] = before.map(|list| list.map(|(_, rows)| rows).unwrap_or_default());
    let kinds: BTreeMap<JobKey, JobType> = jobs
        .iter()
        .filter_map(|job| Some((key(job, "ID")?, name(&job["Type"], JobType::from_name)?)))
        .collect();
    let kind_of = |alloc: &Value| kinds.get(&key(alloc, "JobID")?).copied();
    Some(Arc::new(Rows {
        index,
        nodes: nodes.iter().filter_map(|row| Some((id(&row["ID"])?, node(row)?))).collect(),
        jobs: jobs.iter().filter_map(|row| Some((key(row, "ID")?, job(row)?))).collect(),
        allocs: allocs.iter().filter_map(|row| Some((id(&row["ID"])?, alloc(row, kind_of(row))?))).collect(),
        evals: evals.iter().filter_map(|row| Some((id(&row["ID"])?, eval(row)?))).collect(),
        // The jobs that this program places have none.
        deployments: BTreeMap::new(),
    }))
}

fn ask(cluster: &Cluster, server: Agent, path: &str) -> Option<(u64, Vec<Value>)> {
    let answer = http::request(cluster.address(server), "GET", path, None, LIST_MAX).ok()?;
    if !answer.is_fine() {
        return None;
    }
    let Value::Array(rows) = answer.json() else { return None };
    Some((answer.index?, rows))
}

fn id<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn name<T>(value: &Value, from_name: impl Fn(&str) -> Option<T>) -> Option<T> {
    from_name(value.as_str()?)
}

fn key(row: &Value, field: &str) -> Option<JobKey> {
    let namespace = row["Namespace"].as_str().unwrap_or("default");
    Some(JobKey::new(namespace, row[field].as_str()?))
}

fn text(value: &Value) -> Text {
    value.as_str().unwrap_or_default().into()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap_or(u32::MAX)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn node(row: &Value) -> Option<NodeRow> {
    let (all, kept) = (&row["NodeResources"], &row["ReservedResources"]);
    let left =
        |path: [&str; 2]| number(&all[path[0]][path[1]]).saturating_sub(number(&kept[path[0]][path[1]]));
    Some(NodeRow {
        status: name(&row["Status"], NodeStatus::from_name)?,
        schedulable: row["SchedulingEligibility"] == "eligible",
        cpu: left(["Cpu", "CpuShares"]),
        memory_mb: left(["Memory", "MemoryMB"]),
        disk_mb: left(["Disk", "DiskMB"]),
        cores: BTreeSet::new(),
        devices: BTreeSet::new(),
        modify_index: number(&row["ModifyIndex"]),
        // Nobody drains a node here.
        drain: None,
        drained: false,
        attributes: BTreeMap::new(),
        dynamic_ports: (0, 0),
    })
}

fn job(row: &Value) -> Option<JobRow> {
    // Lists of jobs tell no counts; the jobs that this program places have theirs in their meta.
    let groups = row["JobSummary"]["Summary"].as_object().into_iter().flatten();
    let count = row["Meta"][crate::workload::COUNT].as_str().and_then(|text| text.parse().ok());
    let group = |name: &String| count.map(|count| (Text::from(name), GroupRow { count, canaries: 0 }));
    Some(JobRow {
        kind: name(&row["Type"], JobType::from_name)?,
        stopped: row["Stop"] == true,
        template: row["Periodic"] == true || row["ParameterizedJob"] == true,
        version: number(&row["Version"]),
        create_index: number(&row["CreateIndex"]),
        job_index: number(&row["JobModifyIndex"]),
        // The jobs that this program places have no deployments.
        rollout_failed: false,
        groups: groups.filter_map(|(name, _)| group(name)).collect(),
        spec: None,
    })
}

fn alloc(row: &Value, kind: Option<JobType>) -> Option<AllocRow> {
    let full_name = row["Name"].as_str()?;
    let place = full_name.rsplit_once('[').and_then(|(_, rest)| rest.trim_end_matches(']').parse().ok());
    let restarts = row["TaskStates"].as_object().into_iter().flatten();
    let resources = &row["AllocatedResources"];
    let tasks: Vec<&Value> =
        resources["Tasks"].as_object().into_iter().flatten().map(|(_, task)| task).collect();
    let sum = |path: [&str; 2]| tasks.iter().map(|task| number(&task[path[0]][path[1]])).sum();
    let port = |port: &Value| OwnedPort {
        address: text(&port["HostIP"]),
        port: u16::try_from(number(&port["Value"])).unwrap_or(0),
        shared: port["IgnoreCollision"] == true,
    };
    let client = name(&row["ClientStatus"], ClientStatus::from_name)?;
    Some(AllocRow {
        node: id(&row["NodeID"])?,
        job: key(row, "JobID")?,
        version: number(&row["JobVersion"]),
        kind: kind.or_else(|| name(&row["JobType"], JobType::from_name))?,
        group: text(&row["TaskGroup"]),
        number: place.unwrap_or(0),
        desired: name(&row["DesiredStatus"], DesiredStatus::from_name)?,
        client,
        canary: row["DeploymentStatus"]["Canary"] == true,
        was_unknown: client == ClientStatus::Unknown,
        create_index: number(&row["CreateIndex"]),
        modify_index: number(&row["ModifyIndex"]),
        takes_over: id(&row["PreviousAllocation"]).into_iter().collect(),
        restarts: restarts.map(|(task, state)| (task.into(), small(&state["Restarts"]))).collect(),
        holds: Holding {
            cpu: sum(["Cpu", "CpuShares"]),
            memory_mb: sum(["Memory", "MemoryMB"]),
            disk_mb: number(&resources["Shared"]["DiskMB"]),
            cores: Vec::new(),
            ports: list(&resources["Shared"]["Ports"]).iter().map(port).collect(),
            devices: Vec::new(),
        },
        story: story(row),
        spec: None,
    })
}

fn story(row: &Value) -> Story {
    let migrates = &row["DesiredTransition"]["Migrate"];
    // Lists do not tell the one before.
    Story {
        next: id(&row["NextAllocation"]),
        deployment: id(&row["DeploymentID"]),
        healthy: row["DeploymentStatus"]["Healthy"].as_bool(),
        migrates: *migrates == true,
        why: text(&row["DesiredDescription"]),
        placed_at: Timestamp(row["CreateTime"].as_i64().unwrap_or(0)),
        ..Story::default()
    }
}

fn eval(row: &Value) -> Option<EvalRow> {
    let waits = row["WaitUntil"].as_str().is_some_and(|time| !time.starts_with("0001-"));
    let queued = row["QueuedAllocations"].as_object().into_iter().flatten();
    Some(EvalRow {
        job: key(row, "JobID")?,
        status: name(&row["Status"], EvalStatus::from_name)?,
        wait_until: if waits { Timestamp(1) } else { Timestamp::ZERO },
        modify_index: number(&row["ModifyIndex"]),
        queued: queued.map(|(_, count)| small(count)).sum(),
        lacks: BTreeMap::new(),
    })
}

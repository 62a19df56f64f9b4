//! `/v1/allocations` and `/v1/allocation/:id` with what follows it, as far as servers know it.

use std::sync::Arc;

use api_types::{
    AllocStopResponse, Allocation as Shape, ServiceRegistration, StubFields, job_value, write_alloc_stub,
};
use model::{AllocId, Allocation};
use serde_json::{Map, Value, json};
use server::{StopAlloc, Watch};
use state::{Snapshot, Table};

use crate::{
    Api, Call, HttpError, Meta, Reply,
    filter::Filter,
    ids,
    paging::{Paging, Position},
};

/// Bytes that a line of a list takes, about: the list grows once, not many times.
const LINE_BYTES: usize = 1_500;

/// Writes a list of allocations, without building a tree.
pub(crate) fn write_list<'a>(
    state: &Snapshot,
    allocs: impl IntoIterator<Item = &'a Arc<Allocation>>,
    fields: StubFields,
) -> Vec<u8> {
    let allocs = allocs.into_iter();
    let mut out = Vec::with_capacity(2 + allocs.size_hint().0 * LINE_BYTES);
    out.push(b'[');
    for alloc in allocs {
        if out.len() > 1 {
            out.push(b',');
        }
        let node = state.node(alloc.node_id);
        write_alloc_stub(&mut out, alloc, node.map_or("", |node| &node.name), fields);
    }
    out.push(b']');
    out
}

/// Answers `GET /v1/allocations`.
pub(crate) async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_read()?;
    call.query.wait()?;
    let paging = Paging::of(&call.query)?;
    let mut fields = StubFields::default();
    fields.resources = call.query.switch("resources")?.unwrap_or(fields.resources);
    fields.task_states = call.query.switch("task_states")?.unwrap_or(fields.task_states);
    let prefix = call.query.text("prefix").map(|text| ids::prefix("alloc", text)).transpose()?;
    let namespace = call.list_namespace();
    let (index, (body, next_token)) = api
        .read(call, &[Watch::Table(Table::Allocs)], |state| {
            let table = state.alloc_table();
            let rows: Box<dyn Iterator<Item = &Arc<Allocation>>> = match (&prefix, paging.reverse) {
                (Some(prefix), false) => Box::new(table.iter_by_prefix(prefix)),
                (Some(prefix), true) => Box::new(table.iter_by_prefix(prefix).rev()),
                (None, false) => Box::new(table.iter()),
                (None, true) => Box::new(table.iter().rev()),
            };
            let rows = rows.filter(|alloc| namespace.is_none_or(|name| alloc.job.key.namespace == name));
            let position = |alloc: &&Arc<Allocation>| match prefix {
                Some(_) => Position::Id(alloc.id.to_string()),
                None => Position::Created(alloc.create_index, alloc.id.to_string()),
            };
            let row = |alloc: &&Arc<Allocation>, filter: &Filter| filter_row(state, alloc, filter);
            let mut taken = Vec::new();
            let next = paging.select(rows, position, row, |alloc| taken.push(alloc));
            Ok((state.table_index(Table::Allocs), (write_list(state, taken, fields), next)))
        })
        .await?;
    Ok(Reply::read_encoded(body, Meta { index, next_token }))
}

/// Makes the fields of an allocation that a filter looks at: the cheap ones one by one, the whole for any other.
fn filter_row(state: &Snapshot, alloc: &Allocation, filter: &Filter) -> Value {
    let mut row = Map::new();
    for field in filter.fields() {
        let value = match field {
            "ID" => json!(alloc.id.to_string()),
            "EvalID" => json!(alloc.eval_id.to_string()),
            "Name" => json!(alloc.name()),
            "Namespace" => json!(alloc.job.key.namespace),
            "NodeID" => json!(alloc.node_id.to_string()),
            "NodeName" => json!(node_name(state, alloc)),
            "JobID" => json!(alloc.job.key.id),
            "JobType" => json!(alloc.job.spec.kind),
            "JobVersion" => json!(alloc.job.version),
            "TaskGroup" => json!(alloc.task_group().name),
            "DesiredStatus" => json!(alloc.desired),
            "DesiredDescription" => json!(alloc.desired_description),
            "ClientStatus" => json!(alloc.client_status),
            "ClientDescription" => json!(alloc.client_description),
            "CreateIndex" => json!(alloc.create_index),
            "ModifyIndex" => json!(alloc.modify_index),
            "CreateTime" => json!(alloc.create_time.0),
            "ModifyTime" => json!(alloc.modify_time.0),
            "DeploymentID" => json!(alloc.extra().deployment.map(|id| id.to_string()).unwrap_or_default()),
            "Job" => job_value(&alloc.job),
            _ => return serde_json::to_value(Shape::of(alloc, node_name(state, alloc))).unwrap_or_default(),
        };
        row.insert(field.to_owned(), value);
    }
    Value::Object(row)
}

fn node_name<'a>(state: &'a Snapshot, alloc: &Allocation) -> &'a str {
    state.node(alloc.node_id).map_or("", |node| &node.name)
}

/// Answers what follows `/v1/allocation/`.
pub(crate) async fn single(api: &Api, call: Call, rest: &str) -> Result<Reply, HttpError> {
    let (id, what) = rest.split_once('/').map_or((rest, None), |(id, what)| (id, Some(what)));
    match what {
        None => {
            call.require_read()?;
            one(api, &call, ids::id("alloc", id)?).await
        }
        Some("stop") => {
            call.require_put()?;
            stop(api, &call, id).await
        }
        Some("services") => {
            call.require_read()?;
            services(api, &call, ids::id("alloc", id)?).await
        }
        Some("checks") => {
            call.require_read()?;
            let id: AllocId = ids::id("alloc", id)?;
            find(api, &call, id).await?;
            // No client runs checks of its own yet.
            Reply::json(&json!({}))
        }
        Some(_) => Err(HttpError::not_found("resource not found")),
    }
}

async fn one(api: &Api, call: &Call, id: AllocId) -> Result<Reply, HttpError> {
    let (index, (alloc, node)) = find(api, call, id).await?;
    Reply::read(&Shape::of(&alloc, &node), Meta { index, next_token: None })
}

/// Finds an allocation and the name of its node.
async fn find(api: &Api, call: &Call, id: AllocId) -> Result<(u64, (Arc<Allocation>, String)), HttpError> {
    api.find(call, &[Watch::Alloc(id)], "alloc not found", |state| {
        let alloc = state.alloc(id);
        let index = alloc.map_or(state.table_index(Table::Allocs), |alloc| alloc.modify_index);
        Ok((
            index,
            alloc.map(|alloc| (with_current_stable(state, alloc), node_name(state, alloc).to_owned())),
        ))
    })
    .await
}

/// Shows whether the version of the job is stable now: it may have become so after the allocation was placed.
fn with_current_stable(state: &state::Snapshot, alloc: &Arc<Allocation>) -> Arc<Allocation> {
    let job = &alloc.job;
    let now = state.job_version(&job.key, job.version).filter(|now| now.create_index == job.create_index);
    match now {
        Some(now) if now.stable != job.stable => {
            let mut job = model::Job::clone(job);
            job.stable = now.stable;
            let mut shown = Allocation::clone(alloc);
            shown.job = Arc::new(job);
            Arc::new(shown)
        }
        _ => alloc.clone(),
    }
}

/// Services of an allocation; there is no catalogue of services yet.
async fn services(api: &Api, call: &Call, id: AllocId) -> Result<Reply, HttpError> {
    let (index, _) = find(api, call, id).await?;
    Reply::read(&Vec::<ServiceRegistration>::new(), Meta { index, next_token: None })
}

async fn stop(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let request = StopAlloc {
        id: ids::id("alloc", id)?,
        no_shutdown_delay: call.query.switch("no_shutdown_delay")?.unwrap_or(false),
        reschedule: call.query.switch("reschedule")?.unwrap_or(false),
    };
    let stopped = api.require_server()?.stop_alloc(request).await?;
    let response = AllocStopResponse { eval_id: stopped.eval_id.to_string(), index: stopped.index };
    Reply::written(&response, stopped.index)
}

//! `/v1/deployments` and `/v1/deployment/...`.

use std::sync::Arc;

use api_types::{
    Deployment as Shape, DeploymentHealthRequest, DeploymentIdRequest, DeploymentPauseRequest,
    DeploymentPromoteRequest, DeploymentUpdateResponse, StubFields,
};
use model::{AllocId, Deployment, DeploymentId};
use server::{DeploymentChanged, Watch};
use state::Table;

use super::allocations::write_list;
use crate::{
    Api, Call, HttpError, Meta, Reply, ids,
    paging::{Paging, Position},
};

/// Answers `GET /v1/deployments`.
pub(crate) async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_read()?;
    call.query.wait()?;
    let paging = Paging::of(&call.query)?;
    let prefix = call.query.text("prefix").map(|text| ids::prefix("deployment", text)).transpose()?;
    let namespace = call.list_namespace();
    let (index, (lines, next_token)) = api
        .read(call, &[Watch::Table(Table::Deployments)], |state| {
            let table = state.deployment_table();
            let rows: Box<dyn Iterator<Item = &Arc<Deployment>>> = match (&prefix, paging.reverse) {
                (Some(prefix), false) => Box::new(table.iter_by_prefix(prefix)),
                (Some(prefix), true) => Box::new(table.iter_by_prefix(prefix).rev()),
                (None, false) => Box::new(table.iter()),
                (None, true) => Box::new(table.iter().rev()),
            };
            let rows = rows.filter(|found| namespace.is_none_or(|name| found.job.namespace == name));
            let position = |found: &&Arc<Deployment>| match prefix {
                Some(_) => Position::Id(found.id.to_string()),
                None => Position::Created(found.create_index, found.id.to_string()),
            };
            Ok((
                state.table_index(Table::Deployments),
                paging.shapes(rows, position, |found| Shape::of(found)),
            ))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

/// Answers what follows `/v1/deployment/`.
pub(crate) async fn single(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    let id = |text: &str| ids::id::<DeploymentId>("deployment", text);
    match rest.split_once('/') {
        None => {
            call.require_read()?;
            one(api, call, id(rest)?).await
        }
        Some(("allocations", text)) => {
            call.require_read()?;
            allocations(api, call, id(text)?).await
        }
        Some((verb @ ("promote" | "fail" | "pause" | "allocation-health" | "unblock"), text)) => {
            call.require_put()?;
            change(api, call, verb, id(text)?).await
        }
        Some(_) => Err(HttpError::not_found("")),
    }
}

async fn one(api: &Api, call: &Call, id: DeploymentId) -> Result<Reply, HttpError> {
    let (index, deployment) = api
        .find(call, &[Watch::Deployment(id)], "deployment not found", |state| {
            let deployment = state.deployment(id).cloned();
            let table = state.table_index(Table::Deployments);
            Ok((deployment.as_ref().map_or(table, |found| found.modify_index), deployment))
        })
        .await?;
    Reply::read(&Shape::of(&deployment), Meta { index, next_token: None })
}

async fn allocations(api: &Api, call: &Call, id: DeploymentId) -> Result<Reply, HttpError> {
    let (index, body) = api
        .read(call, &[Watch::Table(Table::Allocs)], |state| {
            let mut allocs: Vec<_> = state.allocs_by_deployment(id).collect();
            allocs.sort_unstable_by_key(|alloc| alloc.id);
            Ok((state.table_index(Table::Allocs), write_list(state, allocs, StubFields::default())))
        })
        .await?;
    Ok(Reply::read_encoded(body, Meta { index, next_token: None }))
}

async fn change(api: &Api, call: &Call, verb: &str, id: DeploymentId) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let changed = match verb {
        "promote" => {
            let request: DeploymentPromoteRequest = call.json_of("structs.DeploymentPromoteRequest")?;
            check_id(&request.deployment_id, id)?;
            if !request.all && request.groups.is_empty() {
                return Err(HttpError::bad_request("promotion needs All or at least one of Groups"));
            }
            let groups = request.groups.iter().map(model::Text::from).collect();
            server.promote_deployment(id, (!request.all).then_some(groups)).await?
        }
        "fail" => {
            check_id(&call.json_or_default::<DeploymentIdRequest>()?.deployment_id, id)?;
            server.fail_deployment(id).await?
        }
        "pause" => {
            let request: DeploymentPauseRequest = call.json_of("structs.DeploymentPauseRequest")?;
            check_id(&request.deployment_id, id)?;
            server.pause_deployment(id, request.pause).await?
        }
        "allocation-health" => {
            let request: DeploymentHealthRequest = call.json_of("structs.DeploymentAllocHealthRequest")?;
            check_id(&request.deployment_id, id)?;
            let read = |texts: &[String]| {
                texts.iter().map(|text| ids::id("alloc", text)).collect::<Result<Vec<AllocId>, _>>()
            };
            let (healthy, unhealthy) =
                (read(&request.healthy_allocation_ids)?, read(&request.unhealthy_allocation_ids)?);
            if healthy.is_empty() && unhealthy.is_empty() {
                return Err(HttpError::internal("must specify at least one healthy/unhealthy allocation ID"));
            }
            server.set_alloc_health(id, healthy, unhealthy).await?
        }
        _ => {
            let active = server.snapshot().deployment(id).is_some_and(|found| found.status.is_active());
            let why = match active {
                true => "can't unblock deployment: jobs do not span regions here",
                false => "can't unblock terminal deployment",
            };
            return Err(HttpError::internal(why));
        }
    };
    answer(&changed)
}

fn check_id(given: &str, id: DeploymentId) -> Result<(), HttpError> {
    if !given.is_empty() && given != id.to_string() {
        return Err(HttpError::bad_request("Deployment ID does not match"));
    }
    Ok(())
}

fn answer(changed: &DeploymentChanged) -> Result<Reply, HttpError> {
    let response = DeploymentUpdateResponse {
        deployment_modify_index: changed.index,
        eval_create_index: changed.eval_id.map_or(0, |_| changed.index),
        eval_id: changed.eval_id.map(|id| id.to_string()).unwrap_or_default(),
        index: changed.index,
        reverted_job_version: changed.reverted_to,
    };
    Reply::written(&response, changed.index)
}

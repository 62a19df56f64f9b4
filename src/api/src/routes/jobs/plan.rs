//! What registering a job would do.

use std::collections::BTreeMap;

use api_types::{
    AllocMetric, Evaluation, JobPlanRequest, JobPlanResponse, PlanAnnotations, StubFields, job_value,
    write_alloc_stub,
};
use jobspec::diff::GroupUpdates;
use model::JobKey;
use scheduler::DryRun;
use serde_json::Value;
use server::{Planned, Server};

use super::submit::draft;
use crate::{Api, Call, HttpError, Reply};

/// Answers `PUT /v1/job/:id/plan`.
pub(super) async fn plan(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let request: JobPlanRequest = call.json_of("api.JobPlanRequest")?;
    let draft =
        draft(api, call, request.job, &request.namespace, Some(&key.id)).map_err(|error| {
            match error.message.as_str() {
                "Job ID does not match name" => HttpError::bad_request("Job ID does not match"),
                _ => error,
            }
        })?;
    let planned = server.plan_job(draft).await?;
    let index = planned.current.as_ref().map_or(0, |job| job.job_modify_index);
    let mut response = JobPlanResponse {
        index,
        job_modify_index: index,
        next_periodic_launch: planned.next_launch.into(),
        warnings: planned.warnings.clone(),
        ..JobPlanResponse::default()
    };
    if request.diff {
        response.diff = Some(difference(&planned)?);
    }
    let mut annotations = PlanAnnotations::default();
    if let Some(run) = &planned.run {
        annotations = PlanAnnotations::of(&run.annotations);
        annotations.preempted_allocs = preempted(server, run);
        // They were never decided on any state.
        let shape = |eval| Evaluation { snapshot_index: 0, ..Evaluation::of(eval) };
        response.created_evals = run.plan.new_evals.iter().map(shape).collect();
        let failed = run.failed_groups.iter();
        response.failed_tg_allocs =
            failed.map(|(group, why)| (group.to_string(), AllocMetric::of(why))).collect();
    }
    response.annotations = Some(annotations);
    Reply::written(&response, index)
}

fn difference(planned: &Planned) -> Result<Value, HttpError> {
    let (old, new) = (planned.current.as_deref().map(job_value), job_value(&planned.job));
    let mut diff = jobspec::diff(old.as_ref(), Some(&new), true);
    let updates: BTreeMap<String, GroupUpdates> = planned
        .run
        .iter()
        .flat_map(|run| &run.annotations.groups)
        .map(|(group, updates)| {
            let updates = GroupUpdates {
                ignore: updates.ignore,
                place: updates.place,
                migrate: updates.migrate,
                stop: updates.stop,
                in_place: updates.in_place_update,
                destructive: updates.destructive_update,
                canary: updates.canary,
                preemptions: updates.preemptions,
            };
            (group.to_string(), updates)
        })
        .collect();
    jobspec::annotate(&mut diff, &updates);
    serde_json::to_value(diff).map_err(|error| HttpError::internal(error.to_string()))
}

/// Lists the allocations that would make room.
fn preempted(server: &Server, run: &DryRun) -> Vec<Value> {
    let state = server.snapshot();
    let stops = run.plan.stops.iter().filter(|stop| stop.preempted_by.is_some());
    stops
        .filter_map(|stop| {
            let alloc = state.alloc(stop.id)?;
            let node = state.node(alloc.node_id);
            let mut line = Vec::new();
            write_alloc_stub(&mut line, alloc, node.map_or("", |node| &node.name), StubFields::default());
            serde_json::from_slice(&line).ok()
        })
        .collect()
}

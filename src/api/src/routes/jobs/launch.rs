//! Launches of jobs that wait to be launched.

use api_types::{JobDispatchRequest, JobDispatchResponse, PeriodicForceResponse};
use model::JobKey;
use server::Dispatch;

use crate::{Api, Call, HttpError, Reply};

/// Answers `PUT /v1/job/:id/dispatch`.
pub(super) async fn dispatch(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let request: JobDispatchRequest = call.json_or_default()?;
    if !request.job_id.is_empty() && request.job_id != key.id {
        return Err(HttpError::bad_request("Job ID does not match"));
    }
    launch(api, call, key, request).await
}

/// Answers `PUT /v1/job/:id/dispatch/payload`, whose body is the payload.
pub(super) async fn dispatch_payload(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let request = JobDispatchRequest { payload: call.body.to_vec(), ..JobDispatchRequest::default() };
    launch(api, call, key, request).await
}

async fn launch(
    api: &Api,
    call: &Call,
    key: JobKey,
    request: JobDispatchRequest,
) -> Result<Reply, HttpError> {
    let dispatch = Dispatch {
        key,
        payload: request.payload,
        meta: request.meta,
        id_prefix: request.id_prefix_template,
        idempotency_token: call.query.text("idempotency_token").unwrap_or_default().to_owned(),
        priority: Some(request.priority).filter(|priority| *priority != 0),
    };
    let launched = api.require_server()?.dispatch_job(dispatch).await?;
    let response = JobDispatchResponse {
        dispatched_job_id: launched.child.id.to_string(),
        eval_create_index: launched.eval_id.map_or(0, |_| launched.index),
        eval_id: launched.eval_id.map(|id| id.to_string()).unwrap_or_default(),
        index: launched.index,
        job_create_index: launched.create_index,
    };
    Reply::written(&response, launched.index)
}

/// Answers `PUT /v1/job/:id/periodic/force`.
pub(super) async fn force_periodic(api: &Api, key: JobKey) -> Result<Reply, HttpError> {
    let launched = api.require_server()?.force_periodic(&key).await?;
    let response = PeriodicForceResponse {
        eval_create_index: launched.index,
        eval_id: launched.eval_id.map(|id| id.to_string()).unwrap_or_default(),
        index: launched.index,
    };
    Reply::written(&response, launched.index)
}

//! Jobs change, but are not sent anew.

use api_types::{
    JobEvaluateRequest, JobRegisterResponse, JobRevertRequest, JobScaleRequest, JobStableRequest,
    JobTagRequest, JobTagResponse,
};
use http::Method;
use model::JobKey;
use serde_json::json;
use server::{Revert, Scale};

use super::submit::answer;
use crate::{Api, Call, HttpError, Reply};

fn check_id(given: &str, key: &JobKey) -> Result<(), HttpError> {
    if given.is_empty() {
        return Err(HttpError::bad_request("JobID must be specified"));
    }
    if given != key.id {
        return Err(HttpError::bad_request("Job ID does not match"));
    }
    Ok(())
}

/// Answers `PUT /v1/job/:id/evaluate`.
pub(super) async fn evaluate(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let request: JobEvaluateRequest = call.json_or_default()?;
    if !request.job_id.is_empty() && request.job_id != key.id {
        return Err(HttpError::bad_request("JobID not same as job name"));
    }
    let changed = api.require_server()?.evaluate_job(&key, request.eval_options.force_reschedule).await?;
    let index = changed.index;
    Reply::written(&answer(changed), index)
}

/// Answers `PUT /v1/job/:id/revert`.
pub(super) async fn revert(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let request: JobRevertRequest = call.json_of("structs.JobRevertRequest")?;
    check_id(&request.job_id, &key)?;
    let revert = Revert { key, version: request.job_version, enforce_prior: request.enforce_prior_version };
    let changed = api.require_server()?.revert_job(revert).await?;
    let index = changed.index;
    Reply::written(&answer(changed), index)
}

/// Answers `PUT /v1/job/:id/stable`.
pub(super) async fn stable(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let request: JobStableRequest = call.json_of("structs.JobStabilityRequest")?;
    check_id(&request.job_id, &key)?;
    let index = api.require_server()?.mark_job_stable(key, request.job_version, request.stable).await?;
    Reply::written(&json!({ "Index": index }), index)
}

/// Answers `PUT` and `DELETE /v1/job/:id/versions/:tag/tag`.
pub(super) async fn tag(api: &Api, call: &Call, key: JobKey, name: &str) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    if call.method == Method::DELETE {
        let (index, _) = server.tag_job_version(key, None, name.into(), None).await?;
        return Reply::json(&JobTagResponse { index, ..JobTagResponse::default() });
    }
    call.require_put()?;
    let request: JobTagRequest = call.json_of("api.TagVersionRequest")?;
    let description = request.description.clone();
    let (index, time) = server.tag_job_version(key, request.version, name.into(), Some(description)).await?;
    let response = JobTagResponse {
        description: request.description,
        index,
        name: name.to_owned(),
        tagged_time: time.0,
        ..JobTagResponse::default()
    };
    Reply::json(&response)
}

/// Answers `PUT /v1/job/:id/scale`.
pub(super) async fn scale(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let request: JobScaleRequest = call.json_of("api.ScalingRequest")?;
    if let Some(job) = request.target.get("Job").filter(|job| !job.is_empty())
        && *job != key.id
    {
        return Err(HttpError::bad_request("job ID in payload did not match URL"));
    }
    let Some(group) = request.target.get("Group").filter(|group| !group.is_empty()) else {
        return Err(HttpError::bad_request("missing task group name for scaling action"));
    };
    let scale = Scale {
        key,
        group: group.into(),
        count: request.count,
        message: request.message,
        error: request.error,
        meta: request.meta.map(|meta| meta.to_string()).unwrap_or_default(),
        enforce_index: Some(request.job_modify_index).filter(|index| *index != 0),
    };
    let changed = api.require_server()?.scale_job(scale).await?;
    let index = changed.index;
    Reply::written(&JobRegisterResponse { known_leader: true, ..answer(changed) }, index)
}

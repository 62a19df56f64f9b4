//! Jobs come and go.

use api_types::{
    JobDeregisterResponse, JobRegisterRequest, JobRegisterResponse, JobSubmissionSource, JobValidateRequest,
    JobValidateResponse,
};
use model::{JobKey, JobSubmission};
use serde_json::Value;
use server::{Deregister, Draft, JobChanged, Register};

use crate::{Api, Call, HttpError, Reply};

/// The region that a job names when it means the one that it is sent to.
const DEFAULT_REGION: &str = "global";

/// Answers `PUT /v1/jobs` and `PUT /v1/job/:id`.
pub(super) async fn register(api: &Api, call: &Call, id: Option<&str>) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let request: JobRegisterRequest = call.json_of("api.JobRegisterRequest")?;
    let draft = draft(api, call, request.job, &request.namespace, id)?;
    let register = Register {
        draft,
        submission: request.submission.and_then(submission),
        enforce_index: request.enforce_index.then_some(request.job_modify_index),
        preserve_counts: request.preserve_counts,
        preserve_resources: request.preserve_resources,
        eval_priority: Some(request.eval_priority).filter(|priority| *priority != 0),
    };
    let changed = server.register_job(register).await?;
    let index = changed.index;
    Reply::written(&answer(changed), index)
}

/// Makes the answer to a change of a job.
pub(super) fn answer(changed: JobChanged) -> JobRegisterResponse {
    JobRegisterResponse {
        eval_create_index: changed.eval_id.map_or(0, |_| changed.index),
        eval_id: changed.eval_id.map(|id| id.to_string()).unwrap_or_default(),
        index: changed.index,
        job_modify_index: changed.job_modify_index,
        warnings: changed.warnings,
        ..JobRegisterResponse::default()
    }
}

/// Answers `DELETE /v1/job/:id`.
pub(super) async fn deregister(api: &Api, call: &Call, key: JobKey) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let request = Deregister {
        key,
        purge: call.query.switch("purge")?.unwrap_or(false),
        no_shutdown_delay: call.query.switch("no_shutdown_delay")?.unwrap_or(false),
        eval_priority: call.query.number::<i32>("eval_priority")?.filter(|priority| *priority != 0),
    };
    let changed = server.deregister_job(request).await?;
    let response = JobDeregisterResponse {
        eval_create_index: changed.index,
        eval_id: changed.eval_id.map(|id| id.to_string()).unwrap_or_default(),
        index: changed.index,
        job_modify_index: changed.job_modify_index,
        ..JobDeregisterResponse::default()
    };
    Reply::written(&response, changed.index)
}

/// Answers `PUT /v1/validate/job`.
pub(super) fn validate(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_put()?;
    let server = api.require_server()?;
    let request: JobValidateRequest = call.json_of("api.JobValidateRequest")?;
    // Whoever asks what is wrong with a job is told that its id is missing beside all else.
    let job = request.job.map(|mut job| {
        if let Some(fields) = job.as_object_mut().filter(|fields| fields.get("ID").is_none_or(Value::is_null))
        {
            fields.insert("ID".to_owned(), "".into());
        }
        job
    });
    let draft = draft(api, call, job, &request.namespace, None)?;
    let validation = server.validate(draft)?;
    let response = JobValidateResponse {
        driver_config_validated: true,
        error: validation.error_text(),
        warnings: validation.warning_text(),
        validation_errors: validation.errors,
    };
    Reply::json(&response)
}

/// Reads a job from a body, and finds out where it belongs.
pub(super) fn draft(
    api: &Api,
    call: &Call,
    job: Option<Value>,
    body_namespace: &str,
    id: Option<&str>,
) -> Result<Draft, HttpError> {
    let job = job.ok_or_else(|| HttpError::bad_request("Job must be specified"))?;
    let document = jobspec::normalise_json(job).map_err(|error| HttpError::bad_request(error.to_string()))?;
    let text = |key: &str| document.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let Some(found) = document.get("ID").and_then(Value::as_str) else {
        return Err(HttpError::bad_request("Job ID hasn't been provided"));
    };
    if id.is_some_and(|id| id != found) {
        return Err(HttpError::bad_request("Job ID does not match name"));
    }
    let region = text("Region").filter(|region| *region != DEFAULT_REGION);
    if call.query.text("region").is_none() && region.is_some_and(|region| region != api.agent().region) {
        return Err(HttpError::internal("No path to region"));
    }
    let asked =
        call.query.text("namespace").or(Some(body_namespace)).filter(|namespace| !namespace.is_empty());
    let namespace = asked.or(text("Namespace")).unwrap_or("default").to_owned();
    Ok(Draft { document, namespace })
}

fn submission(source: JobSubmissionSource) -> Option<JobSubmission> {
    (!source.source.is_empty()).then(|| JobSubmission {
        source: source.source,
        format: source.format.into(),
        variable_flags: source.variable_flags.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        variables: source.variables,
    })
}

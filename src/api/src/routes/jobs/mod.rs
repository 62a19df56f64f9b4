//! `/v1/jobs`, `/v1/jobs/parse`, `/v1/jobs/statuses`, `/v1/validate/job` and `/v1/job/:id` with what follows it.

mod change;
mod launch;
mod parse;
mod plan;
mod read;
mod statuses;
mod submit;

use http::Method;
use model::{Job, JobKey};
use state::Snapshot;

use crate::{Api, Call, HttpError, Reply, call::decode};

/// Answers what follows `/v1/jobs`.
pub(crate) async fn collection(api: &Api, call: Call, rest: &str) -> Result<Reply, HttpError> {
    match rest {
        "" if call.is_read() => read::list(api, &call).await,
        "" if call.method == Method::PUT => submit::register(api, &call, None).await,
        "" => Err(HttpError::invalid_method()),
        "parse" => parse::parse(api, &call).await,
        "statuses" => statuses::statuses(api, &call).await,
        _ => Err(HttpError::not_found("")),
    }
}

/// Answers `/v1/validate/job`.
pub(crate) fn validate(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    submit::validate(api, call)
}

/// Answers what follows `/v1/job/`: ids hold slashes, so it is the end of the path that tells what is wanted.
pub(crate) async fn single(api: &Api, call: Call, rest: &str) -> Result<Reply, HttpError> {
    let path = decode(rest, false);
    let key_of = |id: &str| JobKey::new(call.namespace(), id);
    for (suffix, wanted) in READS {
        if let Some(id) = path.strip_suffix(suffix).filter(|id| !id.is_empty()) {
            call.require_read()?;
            return answer_read(api, &call, key_of(id), *wanted).await;
        }
    }
    for (suffix, wanted) in WRITES {
        if let Some(id) = path.strip_suffix(suffix).filter(|id| !id.is_empty()) {
            call.require_put()?;
            return answer_write(api, &call, key_of(id), *wanted).await;
        }
    }
    if let Some(id) = path.strip_suffix("/scale").filter(|id| !id.is_empty()) {
        return match call.is_read() {
            true => read::scale_status(api, &call, key_of(id)).await,
            false => {
                call.require_put()?;
                change::scale(api, &call, key_of(id)).await
            }
        };
    }
    if let Some((id, tag)) = path.strip_suffix("/tag").and_then(|rest| rest.split_once("/versions/"))
        && !id.contains('/')
    {
        return change::tag(api, &call, key_of(id), tag).await;
    }
    match call.method {
        Method::GET | Method::HEAD => read::job(api, &call, key_of(&path)).await,
        Method::PUT => submit::register(api, &call, Some(&path)).await,
        Method::DELETE => submit::deregister(api, &call, key_of(&path)).await,
        _ => Err(HttpError::invalid_method()),
    }
}

#[derive(Clone, Copy)]
enum Read {
    Allocations,
    Evaluations,
    Summary,
    Versions,
    Deployments,
    Deployment,
    Services,
    Submission,
    Actions,
}

const READS: &[(&str, Read)] = &[
    ("/allocations", Read::Allocations),
    ("/evaluations", Read::Evaluations),
    ("/summary", Read::Summary),
    ("/versions", Read::Versions),
    ("/deployments", Read::Deployments),
    ("/deployment", Read::Deployment),
    ("/services", Read::Services),
    ("/submission", Read::Submission),
    ("/actions", Read::Actions),
];

async fn answer_read(api: &Api, call: &Call, key: JobKey, wanted: Read) -> Result<Reply, HttpError> {
    match wanted {
        Read::Allocations => read::allocations(api, call, key).await,
        Read::Evaluations => read::evaluations(api, call, key).await,
        Read::Summary => read::summary(api, call, key).await,
        Read::Versions => read::versions(api, call, key).await,
        Read::Deployments => read::deployments(api, call, key).await,
        Read::Deployment => read::latest_deployment(api, call, key).await,
        Read::Services => read::services(api, call, key).await,
        Read::Submission => read::submission(api, call, key).await,
        Read::Actions => read::actions(api, call, key).await,
    }
}

#[derive(Clone, Copy)]
enum Write {
    Evaluate,
    ForcePeriodic,
    Plan,
    Dispatch,
    DispatchPayload,
    Revert,
    Stable,
}

const WRITES: &[(&str, Write)] = &[
    ("/evaluate", Write::Evaluate),
    ("/periodic/force", Write::ForcePeriodic),
    ("/plan", Write::Plan),
    ("/dispatch/payload", Write::DispatchPayload),
    ("/dispatch", Write::Dispatch),
    ("/revert", Write::Revert),
    ("/stable", Write::Stable),
];

async fn answer_write(api: &Api, call: &Call, key: JobKey, wanted: Write) -> Result<Reply, HttpError> {
    match wanted {
        Write::Evaluate => change::evaluate(api, call, key).await,
        Write::ForcePeriodic => launch::force_periodic(api, key).await,
        Write::Plan => plan::plan(api, call, key).await,
        Write::Dispatch => launch::dispatch(api, call, key).await,
        Write::DispatchPayload => launch::dispatch_payload(api, call, key).await,
        Write::Revert => change::revert(api, call, key).await,
        Write::Stable => change::stable(api, call, key).await,
    }
}

/// Lists the jobs of a namespace, or of all, whose id begins so.
pub(super) fn jobs_in<'a>(
    state: &'a Snapshot,
    namespace: Option<&'a str>,
    prefix: &'a str,
) -> Box<dyn Iterator<Item = &'a std::sync::Arc<Job>> + 'a> {
    match namespace {
        Some(namespace) => Box::new(state.jobs_by_prefix(namespace, prefix)),
        None => Box::new(state.jobs(None).filter(move |job| job.key.id.starts_with(prefix))),
    }
}

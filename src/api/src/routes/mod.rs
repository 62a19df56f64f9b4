//! Which path is answered by what.
//!
//! Job ids hold slashes, so paths are matched by prefix and then by suffix, never by splitting. Each family of paths has
//! a file; each file begins with the paths that it answers.

mod allocations;
mod elsewhere;
mod jobs;
mod status;

pub(crate) use elsewhere::elsewhere;

use crate::{Api, Call, HttpError, Reply};

/// Answers a request under `/v1`.
///
/// # Errors
///
/// 404 with an empty text for paths that there are not, and what the routes say.
pub(crate) async fn dispatch(api: &Api, call: Call) -> Result<Reply, HttpError> {
    let path = call.path.clone();
    let under = |prefix: &str| path.strip_prefix(prefix).map(str::to_owned);
    if path == "/jobs" || path.starts_with("/jobs/") {
        return jobs::collection(api, call, &path["/jobs".len()..]).await;
    }
    if let Some(rest) = under("/job/") {
        return jobs::single(api, call, &rest).await;
    }
    if path == "/validate/job" {
        return jobs::validate(api, &call);
    }
    if path == "/allocations" {
        return allocations::list(api, &call).await;
    }
    if let Some(rest) = under("/allocation/") {
        return allocations::single(api, call, &rest).await;
    }
    if let Some(rest) = under("/status/") {
        return status::answer(api, &call, &rest);
    }
    Err(HttpError::not_found(""))
}

/// Answers what is not under `/v1`.
pub(crate) fn outside_v1(_api: &Api, _path: &str) -> Result<Reply, HttpError> {
    Err(HttpError::not_found(""))
}

/// Tells whether pages of other origins may read this path.
pub(crate) fn is_open_to_pages(path: &str) -> bool {
    ["/v1/client/fs", "/v1/client/stats", "/v1/client/allocation", "/v1/client/metadata", "/v1/client/identity"]
        .iter()
        .any(|open| path.starts_with(open))
        || path == "/v1/vars"
        || path.starts_with("/v1/var/")
}

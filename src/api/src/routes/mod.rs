//! Which path is answered by what.
//!
//! Job ids hold slashes, so paths are matched by prefix and then by suffix, never by splitting. Each family of paths has
//! a file; each file begins with the paths that it answers.

mod jobs;
mod status;

use axum::body::Body;
use http::Request;
use transport::Connection;

use crate::{Api, Call, HttpError, Query, Reply, listen::Origin};

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

/// Decides whether another agent has to answer, and finds the way to it.
///
/// # Errors
///
/// 400 for what a wrong query says, 404 and 500 when there is no way.
pub(crate) fn elsewhere(
    api: &Api,
    request: &Request<Body>,
    path: &str,
    query: &Query,
    origin: Origin,
) -> Result<Option<Connection>, HttpError> {
    let region = query.text("region").unwrap_or(&api.agent().region);
    if region != api.agent().region && path.starts_with("/v1/") {
        return Err(HttpError::internal("No path to region"));
    }
    let _ = (request, origin);
    Ok(None)
}

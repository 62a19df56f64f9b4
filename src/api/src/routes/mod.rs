//! Which path is answered by what.
//!
//! Job ids hold slashes, so paths are matched by prefix and then by suffix, never by splitting. Each family of paths has
//! a file; each file begins with the paths that it answers.

mod absent;
mod agent;
mod allocations;
mod autopilot;
mod client;
mod deployments;
mod elsewhere;
mod evaluations;
mod events;
mod exec;
mod exhausted;
mod files;
mod jobs;
mod joining;
mod keyring;
mod members;
mod metrics;
mod namespaces;
mod node_pools;
mod nodes;
mod operator;
mod raft;
mod root_keys;
mod scaling;
mod search;
mod snapshot;
mod status;
mod system;

pub(crate) use agent::SchedulerPool;
pub(crate) use elsewhere::{Asking, Route, elsewhere};

use crate::{Api, Call, HttpError, Reply};

/// Answers a request under `/v1`.
///
/// # Errors
///
/// 404 with an empty text for paths that there are not, and what the routes say.
pub(crate) async fn dispatch(api: &Api, call: Call) -> Result<Reply, HttpError> {
    let path = call.path.clone();
    let (family, rest) = match path.trim_start_matches('/').split_once('/') {
        Some((family, rest)) => (family, Some(rest)),
        None => (path.trim_start_matches('/'), None),
    };
    match (family, rest) {
        ("jobs", rest) => jobs::collection(api, call, rest.unwrap_or_default()).await,
        ("job", Some(rest)) => jobs::single(api, call, rest).await,
        ("validate", Some("job")) => jobs::validate(api, &call),
        ("allocations", None) => allocations::list(api, &call).await,
        ("allocation", Some(rest)) => allocations::single(api, call, rest).await,
        ("evaluations", rest) => evaluations::collection(api, &call, rest.unwrap_or_default()).await,
        ("evaluation", Some(rest)) => evaluations::single(api, &call, rest).await,
        ("deployments", None) => deployments::list(api, &call).await,
        ("deployment", Some(rest)) => deployments::single(api, &call, rest).await,
        ("nodes", None) => nodes::list(api, &call).await,
        ("node", Some("pools")) => node_pools::collection(api, &call).await,
        ("node", Some(rest)) => match rest.strip_prefix("pool/") {
            Some(rest) => node_pools::single(api, &call, rest).await,
            None => nodes::single(api, call, rest).await,
        },
        ("namespaces", None) => namespaces::list(api, &call).await,
        ("namespace", rest) => namespaces::single(api, &call, rest.unwrap_or_default()).await,
        ("scaling", Some("policies")) => scaling::list(api, &call).await,
        ("scaling", Some(rest)) => match rest.strip_prefix("policy/") {
            Some(id) => scaling::single(api, &call, id).await,
            None => Err(HttpError::not_found("")),
        },
        ("search", rest) => search::answer(api, &call, rest.unwrap_or_default()),
        ("operator", Some(rest)) => operator::answer(api, &call, rest).await,
        ("client", Some(rest)) => client::answer(api, call, rest).await,
        ("agent", Some(rest)) => agent::answer(api, &call, rest).await,
        ("system", Some(rest)) => system::answer(api, &call, rest).await,
        ("status", Some(rest)) => status::answer(api, &call, rest),
        ("regions", None) => members::regions(api, &call),
        ("metrics", None) => metrics::answer(api, &call).await,
        ("event", Some("stream")) => events::answer(api, &call),
        _ => absent::answer(api, &call, family, rest),
    }
}

/// Answers what is not under `/v1`.
pub(crate) fn outside_v1(api: &Api, path: &str) -> Result<Reply, HttpError> {
    match path {
        "/.well-known/jwks.json" => root_keys::jwks(api),
        "/.well-known/openid-configuration" => Err(HttpError::not_found("OIDC Discovery endpoint disabled")),
        _ => Err(HttpError::not_found("")),
    }
}

/// Tells whether pages of other origins may read this path.
pub(crate) fn is_open_to_pages(path: &str) -> bool {
    [
        "/v1/client/fs",
        "/v1/client/stats",
        "/v1/client/allocation",
        "/v1/client/metadata",
        "/v1/client/identity",
    ]
    .iter()
    .any(|open| path.starts_with(open))
        || path == "/v1/vars"
        || path.starts_with("/v1/var/")
}

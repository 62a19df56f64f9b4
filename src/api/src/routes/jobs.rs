//! `/v1/jobs...` and `/v1/job/:id...`.

use crate::{Api, Call, HttpError, Reply};

/// Answers `/v1/jobs` and what follows it.
pub(crate) async fn collection(_api: &Api, _call: Call, _rest: &str) -> Result<Reply, HttpError> {
    Err(HttpError::not_found(""))
}

/// Answers `/v1/job/:id` and what follows it.
pub(crate) async fn single(_api: &Api, _call: Call, _rest: &str) -> Result<Reply, HttpError> {
    Err(HttpError::not_found(""))
}

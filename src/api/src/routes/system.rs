//! `/v1/system/...`.

use http::Method;

use crate::{Api, Call, HttpError, Reply};

/// Answers what follows `/v1/system/`.
pub(crate) async fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    // These take PUT alone; everywhere else POST is the same.
    let is_put = call.parts.method == Method::PUT;
    match rest {
        "gc" | "reconcile/summaries" if !is_put => Err(HttpError::invalid_method()),
        "gc" => {
            api.require_server()?.collect(true).await?;
            Ok(Reply::empty())
        }
        "reconcile/summaries" => {
            api.require_server()?.submit(&protocol::Command::ReconcileSummaries).await?;
            Ok(Reply::empty())
        }
        _ => Err(HttpError::not_found("")),
    }
}

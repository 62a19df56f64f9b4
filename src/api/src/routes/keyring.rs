//! `/v1/agent/keyring/...`: the keys that gossip is sealed with, on every member.

use std::collections::BTreeMap;

use api_types::{KeyringRequest, KeyringResponse};

use crate::{Api, Call, HttpError, KeyringChange, KeyringReport, Reply};

/// Answers what follows `/v1/agent/keyring/`.
pub(crate) async fn answer(api: &Api, call: &Call, verb: &str) -> Result<Reply, HttpError> {
    if api.server().is_none() && api.membership().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    let change = match verb {
        "list" => {
            call.require_read()?;
            KeyringChange::List
        }
        "install" | "use" | "remove" => {
            call.require_put()?;
            let key = call.json_of::<KeyringRequest>("structs.KeyringRequest")?.key;
            match verb {
                _ if key.is_empty() => return Err(HttpError::bad_request("missing key")),
                "install" => KeyringChange::Install(key),
                "use" => KeyringChange::Use(key),
                _ => KeyringChange::Remove(key),
            }
        }
        _ => return Err(HttpError::not_found("resource not found")),
    };
    // The only agent there is speaks no gossip, so it has no keys to list or change.
    let alone = || HttpError::internal("1/1 nodes reported failure");
    let report = api.membership().ok_or_else(alone)?.keyring(change).await?;
    if !report.messages.is_empty() && report.keys.is_empty() {
        let failed = report.messages.len();
        return Err(HttpError::internal(format!("{failed}/{} nodes reported failure", report.members)));
    }
    Reply::json(&shape(report))
}

fn shape(report: KeyringReport) -> KeyringResponse {
    let counts = |keys: BTreeMap<String, usize>| -> BTreeMap<String, u64> {
        keys.into_iter().map(|(key, count)| (key, count as u64)).collect()
    };
    KeyringResponse {
        keys: counts(report.keys),
        messages: report.messages,
        num_nodes: report.members as u64,
        primary_keys: counts(report.primary_keys),
    }
}

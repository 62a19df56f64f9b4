//! `/v1/operator/...`: schedulers, Raft, autopilot, keyring, snapshots.

use api_types::{SchedulerConfig, SchedulerConfigResponse, SchedulerSetResponse};
use http::StatusCode;
use serde_json::json;
use server::Watch;
use state::Table;

use super::{absent::enterprise, autopilot, raft, root_keys, snapshot};
use crate::{Api, Call, HttpError, Meta, Reply, blocking::FIRST_INDEX};

/// Answers what follows `/v1/operator/`.
pub(crate) async fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    match rest {
        "scheduler/configuration" => match call.is_read() {
            true => scheduler_config(api, call).await,
            false => set_scheduler_config(api, call).await,
        },
        "license" if call.is_read() => Ok(Reply::Empty { index: None, code: StatusCode::NO_CONTENT }),
        "license" | "utilization" => Err(enterprise()),
        "upgrade-check/vault-workload-identity" => {
            let index = api.require_server()?.snapshot().index();
            let nothing = json!({
                "Index": index, "JobsWithoutVaultIdentity": [], "KnownLeader": true, "LastContact": 0,
                "NextToken": "", "OutdatedNodes": [], "VaultTokens": null,
            });
            Reply::read(&nothing, Meta { index, next_token: None })
        }
        "snapshot" => snapshot::answer(api, call).await,
        _ => match rest.split_once('/') {
            Some(("raft", verb)) => raft::answer(api, call, verb).await,
            Some(("keyring", verb)) => root_keys::answer(api, call, verb).await,
            Some(("autopilot", verb)) => autopilot::answer(api, call, verb).await,
            _ => Err(HttpError::not_found("")),
        },
    }
}

/// Answers `GET /v1/operator/scheduler/configuration`.
async fn scheduler_config(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let (index, config) = api
        .read(call, &[Watch::Table(Table::SchedulerConfig)], |state| {
            Ok((
                state.table_index(Table::SchedulerConfig).max(FIRST_INDEX),
                SchedulerConfig::of(state.scheduler_config()),
            ))
        })
        .await?;
    let response = SchedulerConfigResponse {
        index,
        known_leader: true,
        scheduler_config: Some(config),
        ..SchedulerConfigResponse::default()
    };
    Reply::read(&response, Meta { index, next_token: None })
}

/// Answers `PUT /v1/operator/scheduler/configuration`.
async fn set_scheduler_config(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_put()?;
    let config: SchedulerConfig = call.json_of("structs.SchedulerConfiguration")?;
    let cas = call.query.number::<u64>("cas")?;
    let wrong =
        || HttpError::bad_request(format!("invalid scheduler algorithm: {}", config.scheduler_algorithm));
    let settings = config.to_model().ok_or_else(wrong)?;
    let (updated, index) = api.require_server()?.set_scheduler_config(settings, cas).await?;
    Reply::written(&SchedulerSetResponse { index, updated }, index)
}

//! `/v1/operator/autopilot/...`: how servers are looked after.

use std::time::Duration;

use api_types::{AutopilotConfig, AutopilotHealth, ServerHealth};
use http::Method;
use protocol::{Command, Named};
use server::SubmitError;
use state::Refusal;

use super::{members::raft_number, raft::servers};
use crate::{Api, Call, HttpError, Reply, blocking::FIRST_INDEX, call::parse_duration};

/// Answers what follows `/v1/operator/autopilot/`.
pub(crate) async fn answer(api: &Api, call: &Call, verb: &str) -> Result<Reply, HttpError> {
    match verb {
        "configuration" => match call.is_read() {
            true => Reply::json(&shape(api.require_server()?.snapshot().autopilot_config())),
            // POST is no PUT here, as there.
            false if call.parts.method == Method::PUT => set_config(api, call).await,
            false => Err(HttpError::not_found("Invalid method")),
        },
        "health" => {
            call.require_read()?;
            health(api)
        }
        _ => Err(HttpError::not_found("")),
    }
}

fn shape(config: &model::AutopilotConfig) -> AutopilotConfig {
    AutopilotConfig {
        cleanup_dead_servers: config.cleanup_dead_servers,
        // The built-in values hold from the beginning of the state.
        create_index: config.create_index.max(FIRST_INDEX),
        disable_upgrade_migration: config.disable_upgrade_migration,
        enable_custom_upgrades: config.enable_custom_upgrades,
        enable_redundancy_zones: config.enable_redundancy_zones,
        last_contact_threshold: go_duration(config.last_contact_threshold),
        max_trailing_logs: config.max_trailing_logs,
        min_quorum: config.min_quorum.into(),
        modify_index: config.modify_index.max(FIRST_INDEX),
        server_stabilization_time: go_duration(config.server_stabilization_time),
    }
}

/// Writes a duration the way Go does, to the microsecond.
fn go_duration(duration: Duration) -> String {
    let (seconds, micros) = (duration.as_secs(), duration.subsec_micros());
    if seconds == 0 && micros > 0 {
        return fraction(u64::from(micros), 1_000, "ms");
    }
    let rest = fraction((seconds % 60) * 1_000_000 + u64::from(micros), 1_000_000, "s");
    match (seconds / 3_600, seconds / 60 % 60) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

fn fraction(count: u64, unit: u64, name: &str) -> String {
    let width = unit.ilog10() as usize;
    let part = format!("{:0width$}", count % unit);
    let part = part.trim_end_matches('0');
    let dot = if part.is_empty() { "" } else { "." };
    format!("{}{dot}{part}{name}", count / unit)
}

fn parsed(config: &AutopilotConfig) -> Result<model::AutopilotConfig, HttpError> {
    let duration = |name: &str, text: &str| match text {
        "" => Ok(Duration::ZERO),
        text => parse_duration(text).ok_or_else(|| {
            HttpError::bad_request(format!("{name} {text:?} is no duration: use e.g. \"10s\""))
        }),
    };
    let min_quorum = u32::try_from(config.min_quorum)
        .map_err(|_| HttpError::bad_request("MinQuorum is more servers than a region can have"))?;
    Ok(model::AutopilotConfig {
        cleanup_dead_servers: config.cleanup_dead_servers,
        last_contact_threshold: duration("LastContactThreshold", &config.last_contact_threshold)?,
        max_trailing_logs: config.max_trailing_logs,
        min_quorum,
        server_stabilization_time: duration("ServerStabilizationTime", &config.server_stabilization_time)?,
        enable_redundancy_zones: config.enable_redundancy_zones,
        disable_upgrade_migration: config.disable_upgrade_migration,
        enable_custom_upgrades: config.enable_custom_upgrades,
        create_index: 0,
        modify_index: 0,
    })
}

async fn set_config(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let wanted: AutopilotConfig = call.json_of("api.AutopilotConfiguration")?;
    let cas = call.query.number::<u64>("cas")?;
    let config = Named(parsed(&wanted)?);
    match api.require_server()?.submit(&Command::SetAutopilotConfig { config, cas }).await {
        Ok(_) => Reply::json(&true),
        Err(SubmitError::Refused(Refusal::AutopilotConfigChanged { .. })) => Reply::json(&false),
        Err(error) => Err(error.into()),
    }
}

/// What the leader thinks of the servers, as it last looked at them. Before it first did, nobody counts as healthy.
fn health(api: &Api) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let health = server.autopilot_health();
    let peers = servers(server);
    let leader = peers.iter().find(|peer| peer.leader).map(|peer| peer.id.clone()).unwrap_or_default();
    let mut all: Vec<_> =
        health.iter().flat_map(|health| &health.servers).map(|one| server_health(api, one)).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    let response = AutopilotHealth {
        failure_tolerance: health
            .as_ref()
            .map_or(0, |health| i64::try_from(health.failure_tolerance).unwrap_or(i64::MAX)),
        healthy: health.as_ref().is_some_and(|health| health.healthy),
        leader,
        servers: all,
        voters: peers.into_iter().filter(|peer| peer.voter).map(|peer| peer.id).collect(),
    };
    if response.healthy {
        return Reply::json(&response);
    }
    let text = serde_json::to_string(&response).map_err(|error| HttpError::internal(error.to_string()))?;
    Err(HttpError::new(429, text))
}

fn server_health(api: &Api, found: &server::ServerHealth) -> ServerHealth {
    let replica = found.server.replica.as_ref();
    let word = found.member.as_ref().map_or("alive", |member| match member.status {
        server::MemberStatus::Alive => "alive",
        server::MemberStatus::Failed => "failed",
        server::MemberStatus::Left => "left",
    });
    ServerHealth {
        address: replica.map(|replica| replica.rpc_addr.to_string()).unwrap_or_default(),
        healthy: found.healthy,
        id: replica.map_or_else(|| raft_number(found.server.raft_id), |replica| replica.node_id.to_string()),
        last_contact: found.last_contact.map_or_else(|| "never".to_owned(), go_duration),
        last_index: found.last_index,
        last_term: found.last_term,
        leader: found.server.leader,
        name: found.server.name.clone(),
        serf_status: word.to_owned(),
        stable_since: found.stable_since.into(),
        version: api.agent().version.clone(),
        voter: found.server.voter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (micros, text) in [
            (0, "0s"),
            (200_000, "200ms"),
            (1_500, "1.5ms"),
            (10_000_000, "10s"),
            (90_500_000, "1m30.5s"),
            (3_600_000_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn settings_are_read_as_they_are_written() {
        let shown = shape(&model::AutopilotConfig::default());
        assert_eq!(shown.last_contact_threshold, "200ms");
        let read = parsed(&shown).expect("they were just written");
        assert_eq!(read, model::AutopilotConfig::default());
        let wrong = AutopilotConfig { server_stabilization_time: "soon".to_owned(), ..shown };
        assert!(parsed(&wrong).expect_err("no duration").message.contains("ServerStabilizationTime"));
    }
}

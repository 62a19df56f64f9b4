//! The server's part of the options.

use std::{path::PathBuf, time::Duration};

use control::collection::Thresholds;
use model::{SchedulerAlgorithm, SchedulerConfig};
use server::Heartbeats;

use super::{
    check::Fault,
    options::ServerOptions,
    raw::{RawScheduler, RawServer},
    section::Span,
};

/// Priorities that jobs have unless the configuration says otherwise, and the highest that it may allow.
const PRIORITY_DEFAULT: i64 = 50;
const PRIORITY_MAX: i64 = 100;
const PRIORITY_LIMIT: i64 = 32_766;

/// Makes the checked form.
pub(super) fn options(raw: &RawServer, warnings: &mut Vec<String>) -> Result<ServerOptions, Fault> {
    let refuse = |why: String| Err(Fault::Setup(format!("server config setup failed: {why}")));
    if let Some(version) = raw.raft_protocol.filter(|version| *version != 3) {
        return refuse(format!("raft_protocol must be 3 in Nomad v1.4 and later, got {version}"));
    }
    if let Some(multiplier) = raw.raft_multiplier.filter(|multiplier| !(0..=10).contains(multiplier)) {
        return refuse(format!("raft_multiplier cannot be {multiplier}. Must be between 1 and 10"));
    }
    let max = raw.job_max_priority.unwrap_or(PRIORITY_MAX);
    if !(PRIORITY_MAX..=PRIORITY_LIMIT).contains(&max) {
        return refuse(format!(
            "job_max_priority cannot be {max}. Must be between {PRIORITY_MAX} and {PRIORITY_LIMIT}"
        ));
    }
    let default = raw.job_default_priority.unwrap_or(PRIORITY_DEFAULT);
    if !(PRIORITY_DEFAULT..=max).contains(&default) {
        return refuse(format!(
            "job_default_priority cannot be {default}. Must be between {PRIORITY_DEFAULT} and {max}"
        ));
    }
    let count_max = raw.job_max_count.unwrap_or(50_000);
    let Ok(job_count_max) = u32::try_from(count_max) else {
        return refuse(format!("job_max_count cannot be {count_max}. Must be between 0 and {}", u32::MAX));
    };
    let expect = raw.bootstrap_expect.unwrap_or(0);
    let Ok(bootstrap_expect) = u32::try_from(expect) else {
        return refuse(format!("bootstrap_expect cannot be {expect}. Must be 0 or more"));
    };
    // Zero is what an unset number looks like in files that programs write.
    let raft_multiplier = raw.raft_multiplier.and_then(|times| u32::try_from(times).ok()).unwrap_or(1).max(1);
    let priority = |value: i64| i32::try_from(value).expect("priorities are at most PRIORITY_LIMIT");
    Ok(ServerOptions {
        bootstrap_expect,
        data_dir: raw.data_dir.clone().filter(|dir| !dir.is_empty()).map(PathBuf::from),
        raft_multiplier,
        rejoin_after_leave: raw.rejoin_after_leave.unwrap_or(false),
        snapshot_threshold: raw.raft_snapshot_threshold.and_then(positive),
        snapshot_interval: raw.raft_snapshot_interval.as_ref().map(|span| span.time),
        trailing_logs: raw.raft_trailing_logs.and_then(positive),
        thresholds: thresholds(raw),
        gc_interval: time(&raw.job_gc_interval, Duration::from_secs(300)),
        heartbeats: heartbeats(raw),
        event_buffer: raw.event_buffer_size.and_then(positive).map_or(100, |size| size as usize),
        job_priority: (priority(default), priority(max)),
        job_count_max,
        scheduler: scheduler(raw.default_scheduler_config.as_ref(), warnings),
    })
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// A time that was set to something; zero leaves the standard.
fn time(span: &Option<Span>, standard: Duration) -> Duration {
    span.as_ref().map(|span| span.time).filter(|time| !time.is_zero()).unwrap_or(standard)
}

fn heartbeats(raw: &RawServer) -> Heartbeats {
    let set = |span: &Option<Span>| span.as_ref().map(|span| span.time).filter(|time| !time.is_zero());
    Heartbeats {
        grace: set(&raw.heartbeat_grace),
        min_ttl: set(&raw.min_heartbeat_ttl),
        failover_ttl: set(&raw.failover_heartbeat_ttl),
    }
}

fn thresholds(raw: &RawServer) -> Thresholds {
    let standard = Thresholds::STANDARD;
    Thresholds {
        jobs: time(&raw.job_gc_threshold, standard.jobs),
        evals: time(&raw.eval_gc_threshold, standard.evals),
        batch_evals: time(&raw.batch_eval_gc_threshold, standard.batch_evals),
        deployments: time(&raw.deployment_gc_threshold, standard.deployments),
        nodes: time(&raw.node_gc_threshold, standard.nodes),
    }
}

fn scheduler(raw: Option<&RawScheduler>, warnings: &mut Vec<String>) -> SchedulerConfig {
    let standard = SchedulerConfig::default();
    let Some(raw) = raw else { return standard };
    let preempt = raw.preemption_config.clone().unwrap_or_default();
    let algorithm = match raw.scheduler_algorithm.as_deref() {
        None | Some("" | "binpack") => SchedulerAlgorithm::Binpack,
        Some("spread") => SchedulerAlgorithm::Spread,
        Some(other) => {
            warnings.push(format!(
                "server.default_scheduler_config.scheduler_algorithm {other:?} is unknown; using binpack"
            ));
            SchedulerAlgorithm::Binpack
        }
    };
    SchedulerConfig {
        algorithm,
        memory_oversubscription: raw
            .memory_oversubscription_enabled
            .unwrap_or(standard.memory_oversubscription),
        reject_job_registration: raw.reject_job_registration.unwrap_or(standard.reject_job_registration),
        pause_eval_broker: raw.pause_eval_broker.unwrap_or(standard.pause_eval_broker),
        node_limit: raw
            .node_limit_for_feasibility_checks
            .and_then(|limit| u32::try_from(limit).ok())
            .unwrap_or(standard.node_limit),
        preempt_service: preempt.service_scheduler_enabled.unwrap_or(standard.preempt_service),
        preempt_batch: preempt.batch_scheduler_enabled.unwrap_or(standard.preempt_batch),
        preempt_system: preempt.system_scheduler_enabled.unwrap_or(standard.preempt_system),
        preempt_sysbatch: preempt.sysbatch_scheduler_enabled.unwrap_or(standard.preempt_sysbatch),
        ..standard
    }
}

//! Commands for those who run the cluster.

use std::io::Read;

use sdk::{
    Query, RawRequest,
    types::{ServerHealth, Time},
};
use serde_json::json;

use crate::{
    command::{Command, Context, Failure, JSON, OrFail, Outcome, TEMPLATE, command},
    flags::{Flag, Kind, flag},
    format, template,
};

const STALE: Flag = flag("stale", Kind::Bool, "Any server may answer.");
const PEER_ID: Flag = flag("peer-id", Kind::Text, "The server's id.");
const CHECK_INDEX: Flag = flag("check-index", Kind::Number, "Only if the settings have this modify index.");
const CAS: Flag = flag("cas", Kind::Number, "Only if the settings have this modify index.");

/// Commands that ask and act.
pub const COMMANDS: &[Command] = &[
    command!(
        "operator api",
        "[options] <path>",
        "Send a request to the API.",
        &[
            flag("X", Kind::Text, "The method; GET unless set, PUT with a body."),
            flag("H", Kind::List, "A header, Name: value. May be given again and again."),
            flag("d", Kind::Text, "The body; `-` is standard input, @file a file."),
            flag("filter", Kind::Text, "Only what this expression holds for."),
            flag("dryrun", Kind::Bool, "Only print the request as a call of curl."),
            flag("verbose", Kind::Bool, "Print the headers of the answer, too."),
        ],
        api
    ),
    command!(
        "operator raft list-peers",
        "[options]",
        "List who takes part in Raft.",
        &[STALE, JSON, TEMPLATE],
        list_peers
    ),
    command!(
        "operator raft remove-peer",
        "-peer-id <id>",
        "Take a server out of Raft.",
        &[PEER_ID],
        remove_peer
    ),
    command!(
        "operator raft transfer-leadership",
        "-peer-id <id>",
        "Make another server the leader.",
        &[PEER_ID, flag("peer-address", Kind::Text, "The server's address, instead of its id."),],
        transfer
    ),
    command!(
        "operator autopilot health",
        "[options]",
        "Show what autopilot thinks of the servers.",
        &[JSON],
        health
    ),
    command!(
        "operator metrics",
        "[options]",
        "Print an agent's metrics.",
        &[
            flag("pretty", Kind::Bool, "On many lines."),
            flag("format", Kind::Text, "`prometheus` for that form."),
            JSON,
            TEMPLATE,
        ],
        metrics
    ),
];

/// Commands about settings.
pub const SETTINGS: &[Command] = &[
    command!(
        "operator scheduler get-config",
        "[options]",
        "Show the settings of the schedulers.",
        &[JSON, TEMPLATE],
        scheduler
    ),
    command!(
        "operator scheduler set-config",
        "[options]",
        "Change the settings of the schedulers.",
        &[
            CHECK_INDEX,
            flag("scheduler-algorithm", Kind::Text, "`binpack` or `spread`."),
            flag("memory-oversubscription", Kind::Bool, "Tasks may use more memory than they reserved."),
            flag("reject-job-registration", Kind::Bool, "Refuse jobs."),
            flag("pause-eval-broker", Kind::Bool, "Look at no evaluation."),
            flag("preempt-batch-scheduler", Kind::Bool, "Batch jobs may preempt."),
            flag("preempt-service-scheduler", Kind::Bool, "Service jobs may preempt."),
            flag("preempt-sysbatch-scheduler", Kind::Bool, "Sysbatch jobs may preempt."),
            flag("preempt-system-scheduler", Kind::Bool, "System jobs may preempt."),
            flag("node-limit-for-feasibility-checks", Kind::Number, "Accepted; every node is looked at."),
        ],
        set_scheduler
    ),
    command!(
        "operator autopilot get-config",
        "[options]",
        "Show the settings of autopilot.",
        &[JSON, TEMPLATE],
        autopilot
    ),
    command!(
        "operator autopilot set-config",
        "[options]",
        "Change the settings of autopilot.",
        &[
            CAS,
            flag("cleanup-dead-servers", Kind::Bool, "Take dead servers out when another comes."),
            flag("last-contact-threshold", Kind::Duration, "Longest silence of a healthy server."),
            flag("max-trailing-logs", Kind::Number, "Most entries that a healthy server lags behind."),
            flag("min-quorum", Kind::Number, "Fewest servers that stay."),
            flag(
                "server-stabilization-time",
                Kind::Duration,
                "Time for which a new server is healthy before it votes."
            ),
            flag("disable-upgrade-migration", Kind::Bool, "Accepted and kept."),
            flag("enable-redundancy-zones", Kind::Bool, "Accepted and kept."),
            flag("enable-custom-upgrades", Kind::Bool, "Accepted and kept."),
        ],
        set_autopilot
    ),
];

async fn api(context: &Context) -> Outcome {
    let count = context.args.len();
    let [path] = context.args.as_slice() else {
        return Err(Failure::usage(format!(
            "operator api accepts exactly 1 argument, but {count} arguments were found"
        )));
    };
    let client = context.client();
    let path = if path.starts_with('/') { path.clone() } else { format!("/{path}") };
    let query = Query { filter: context.text("filter").to_owned(), ..Query::default() };
    let target = client.target(&path, &query);
    let body = match context.flags.text("d") {
        None => Vec::new(),
        Some("-") => read_all(std::io::stdin())?,
        Some(text) => match text.strip_prefix('@') {
            Some(file) => std::fs::read(file)
                .map_err(|error| Failure::new(format!("Error reading file {file:?}: {error}")))?,
            None => text.as_bytes().to_vec(),
        },
    };
    let method = match context.text("X") {
        "" if body.is_empty() => "GET".to_owned(),
        "" => "PUT".to_owned(),
        method => method.to_uppercase(),
    };
    if context.on("dryrun") {
        context.console.out(&curl(context, &method, &client.url(&target), &body));
        return Ok(0);
    }
    let mut headers = Vec::new();
    for header in context.flags.list("H") {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| Failure::new(format!("Invalid header {header:?}: wanted Name: value")))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let method =
        method.parse().map_err(|_| Failure::new(format!("{method:?} is not the name of a method")))?;
    let answer = client.request(RawRequest { method, target, headers, body: body.into() }).await;
    let answer = answer.map_err(|error| Failure::new(format!("Error making request: {error}")))?;
    if context.on("verbose") {
        context.console.err(&format!("< HTTP/1.1 {}", answer.status));
        for (name, value) in &answer.headers {
            context.console.err(&format!("< {name}: {}", String::from_utf8_lossy(value.as_bytes())));
        }
    }
    let mut body = answer.body;
    while let Some(piece) = body.next().await.or_fail("Error reading answer")? {
        context.console.raw(&piece);
    }
    Ok(0)
}

fn curl(context: &Context, method: &str, url: &str, body: &[u8]) -> String {
    let mut parts = vec!["curl".to_owned()];
    if context.on("verbose") {
        parts.push("--verbose".to_owned());
    }
    if method != "GET" {
        parts.push(format!("-X {method}"));
    }
    for header in context.flags.list("H") {
        parts.push(format!("-H {}", format::quoted(header)));
    }
    if !context.globals.config.token.is_empty() {
        // The secret itself stays out of what is printed.
        parts.push("-H \"X-Nomad-Token: ${NOMAD_TOKEN}\"".to_owned());
    }
    if !body.is_empty() {
        parts.push(format!("-d '{}'", String::from_utf8_lossy(body)));
    }
    parts.push(url.to_owned());
    parts.join(" \\\n  ")
}

fn read_all(mut from: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("Error reading standard input: {error}")))?;
    Ok(bytes)
}

async fn list_peers(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let raft = context
        .client()
        .raft_configuration(context.on("stale"))
        .await
        .or_fail("Failed to retrieve raft configuration")?;
    if template::print(context, || json!(raft))? {
        return Ok(0);
    }
    let row = |server: &sdk::types::RaftServer| {
        let state = if server.leader { "leader" } else { "follower" };
        let protocol = if server.raft_protocol.is_empty() { "unknown" } else { &server.raft_protocol };
        vec![
            server.node.clone(),
            server.id.clone(),
            server.address.clone(),
            state.to_owned(),
            server.voter.to_string(),
            protocol.to_owned(),
        ]
    };
    let rows: Vec<_> = raft.servers.iter().map(row).collect();
    context.console.out(&format::table(&["Node", "ID", "Address", "State", "Voter", "RaftProtocol"], &rows));
    Ok(0)
}

async fn remove_peer(context: &Context) -> Outcome {
    let id = context.text("peer-id");
    if id.is_empty() {
        return Err(Failure::usage("Missing peer id required: give it with -peer-id"));
    }
    context.client().remove_raft_peer(id).await.or_fail("Error removing peer")?;
    context.console.out(&format!("Removed peer with id {}", format::quoted(id)));
    Ok(0)
}

async fn transfer(context: &Context) -> Outcome {
    let (id, address) = (context.text("peer-id"), context.text("peer-address"));
    if id.is_empty() == address.is_empty() {
        return Err(Failure::usage("Exactly one of -peer-id and -peer-address must be given"));
    }
    context
        .client()
        .transfer_leadership(id, address)
        .await
        .or_fail("Error transferring leadership to peer")?;
    context.console.out(&format!(
        "Transferred leadership to peer {}",
        format::quoted(if id.is_empty() { address } else { id })
    ));
    Ok(0)
}

async fn health(context: &Context) -> Outcome {
    let health = context.client().autopilot_health().await.or_fail("Error querying Autopilot health")?;
    if context.on("json") {
        context.console.out(&json!(health).to_string());
        return Ok(0);
    }
    let since = |time: Time| {
        jiff::Timestamp::from_nanosecond(i128::from(time.nanos()))
            .map(|time| time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
            .unwrap_or_default()
    };
    let row = |server: &ServerHealth| {
        let mut row = vec![
            server.id.clone(),
            server.name.clone(),
            server.address.clone(),
            server.serf_status.clone(),
            server.version.clone(),
        ];
        row.extend([server.leader, server.voter, server.healthy].map(|truth| truth.to_string()));
        row.extend([
            server.last_contact.clone(),
            server.last_term.to_string(),
            server.last_index.to_string(),
            since(server.stable_since),
        ]);
        row
    };
    let header = [
        "ID",
        "Name",
        "Address",
        "SerfStatus",
        "Version",
        "Leader",
        "Voter",
        "Healthy",
        "LastContact",
        "LastTerm",
        "LastIndex",
        "StableSince",
    ];
    let table = format::table(&header, &health.servers.iter().map(row).collect::<Vec<_>>());
    // One tab before the first, none before the others: so it is there.
    let voters = format!("\t{}", health.voters.join("\n"));
    context.console.out(&format!(
        "Healthy: {}\nFailureTolerance: {}\nLeader: {}\nVoters:  \n{voters}\nServers: \n{table}\n",
        health.healthy, health.failure_tolerance, health.leader
    ));
    Ok(0)
}

async fn metrics(context: &Context) -> Outcome {
    let mut query = Query::default();
    for name in ["pretty", "format"] {
        if let Some(value) = context.flags.text(name) {
            query = query.with(name, if value == "true" { "1" } else { value });
        }
    }
    let body = context.client().metrics(&query).await.or_fail("Error querying metrics")?;
    if !context.text("t").is_empty() || context.on("json") {
        let value = serde_json::from_slice(&body)
            .map_err(|error| Failure::new(format!("Error reading metrics: {error}")))?;
        template::print(context, || value)?;
        return Ok(0);
    }
    context.console.out(String::from_utf8_lossy(&body).trim_end());
    Ok(0)
}

async fn scheduler(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let answer =
        context.client().scheduler_config().await.or_fail("Error querying scheduler configuration")?;
    if template::print(context, || {
        json!({
            "KnownLeader": answer.known_leader, "LastContact": answer.last_contact, "LastIndex": 0, "NextToken": answer.next_token,
            "RequestTime": 0, "SchedulerConfig": answer.scheduler_config,
        })
    })? {
        return Ok(0);
    }
    let config = answer.scheduler_config.unwrap_or_default();
    let preempt = &config.preemption_config;
    let pairs = [
        ("Scheduler Algorithm", config.scheduler_algorithm.clone()),
        ("Memory Oversubscription", config.memory_oversubscription_enabled.to_string()),
        ("Reject Job Registration", config.reject_job_registration.to_string()),
        ("Pause Eval Broker", config.pause_eval_broker.to_string()),
        ("Preemption System Scheduler", preempt.system_scheduler_enabled.to_string()),
        ("Preemption Service Scheduler", preempt.service_scheduler_enabled.to_string()),
        ("Preemption Batch Scheduler", preempt.batch_scheduler_enabled.to_string()),
        ("Preemption SysBatch Scheduler", preempt.sys_batch_scheduler_enabled.to_string()),
        ("Node Limit For Feasibility Checks", config.node_limit_for_feasibility_checks.to_string()),
        ("Modify Index", config.modify_index.to_string()),
    ];
    context.console.out(&format::pairs(&pairs));
    Ok(0)
}

async fn set_scheduler(context: &Context) -> Outcome {
    context.no_args()?;
    let client = context.client();
    let answer = client.scheduler_config().await.or_fail("Error querying for scheduler configuration")?;
    let mut config = answer.scheduler_config.unwrap_or_default();
    if let Some(algorithm) = context.flags.text("scheduler-algorithm") {
        if !["binpack", "spread"].contains(&algorithm) {
            return Err(Failure::new(format!(
                "Unsupported scheduler algorithm {algorithm:?}: wanted binpack or spread"
            )));
        }
        config.scheduler_algorithm = algorithm.to_owned();
    }
    let preempt = &mut config.preemption_config;
    for (field, name) in [
        (&mut config.memory_oversubscription_enabled, "memory-oversubscription"),
        (&mut config.reject_job_registration, "reject-job-registration"),
        (&mut config.pause_eval_broker, "pause-eval-broker"),
        (&mut preempt.batch_scheduler_enabled, "preempt-batch-scheduler"),
        (&mut preempt.service_scheduler_enabled, "preempt-service-scheduler"),
        (&mut preempt.sys_batch_scheduler_enabled, "preempt-sysbatch-scheduler"),
        (&mut preempt.system_scheduler_enabled, "preempt-system-scheduler"),
    ] {
        if let Some(truth) = context.flags.truth(name) {
            *field = truth;
        }
    }
    if let Some(limit) = context.flags.number("node-limit-for-feasibility-checks") {
        config.node_limit_for_feasibility_checks = u32::try_from(limit).unwrap_or(0);
    }
    let cas = context.flags.number("check-index").and_then(|index| u64::try_from(index).ok());
    let set =
        client.set_scheduler_config(&config, cas).await.or_fail("Error setting scheduler configuration")?;
    if !set.updated {
        return Err(Failure::new(
            "Scheduler configuration could not be atomically updated, please try again",
        ));
    }
    context.console.out("Scheduler configuration updated!");
    Ok(0)
}

async fn autopilot(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let config =
        context.client().autopilot_config().await.or_fail("Error querying Autopilot configuration")?;
    if template::print(context, || json!(config))? {
        return Ok(0);
    }
    let lines = [
        ("CleanupDeadServers", config.cleanup_dead_servers.to_string()),
        ("LastContactThreshold", config.last_contact_threshold.clone()),
        ("MaxTrailingLogs", config.max_trailing_logs.to_string()),
        ("MinQuorum", config.min_quorum.to_string()),
        ("ServerStabilizationTime", config.server_stabilization_time.clone()),
        ("EnableRedundancyZones", config.enable_redundancy_zones.to_string()),
        ("DisableUpgradeMigration", config.disable_upgrade_migration.to_string()),
        ("EnableCustomUpgrades", config.enable_custom_upgrades.to_string()),
    ];
    // Not aligned: so it is there, and scripts split at " = ".
    context.console.out(&lines.map(|(name, value)| format!("{name} = {value}")).join("\n"));
    Ok(0)
}

async fn set_autopilot(context: &Context) -> Outcome {
    context.no_args()?;
    let client = context.client();
    let mut config = client.autopilot_config().await.or_fail("Error querying Autopilot configuration")?;
    for (field, name) in [
        (&mut config.cleanup_dead_servers, "cleanup-dead-servers"),
        (&mut config.disable_upgrade_migration, "disable-upgrade-migration"),
        (&mut config.enable_redundancy_zones, "enable-redundancy-zones"),
        (&mut config.enable_custom_upgrades, "enable-custom-upgrades"),
    ] {
        if let Some(truth) = context.flags.truth(name) {
            *field = truth;
        }
    }
    for (field, name) in
        [(&mut config.max_trailing_logs, "max-trailing-logs"), (&mut config.min_quorum, "min-quorum")]
    {
        if let Some(number) = context.flags.number(name) {
            *field = u64::try_from(number).unwrap_or(0);
        }
    }
    for (field, name) in [
        (&mut config.last_contact_threshold, "last-contact-threshold"),
        (&mut config.server_stabilization_time, "server-stabilization-time"),
    ] {
        if let Some(nanos) = context.flags.number(name) {
            *field = format::go_duration(nanos);
        }
    }
    let cas = context.flags.number("cas").and_then(|index| u64::try_from(index).ok());
    if !client.set_autopilot_config(&config, cas).await.or_fail("Error setting Autopilot configuration")? {
        return Err(Failure::new("Configuration could not be atomically updated, please try again"));
    }
    context.console.out("Configuration updated!");
    Ok(0)
}

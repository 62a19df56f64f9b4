//! `/v1/agent/...`: the agent about itself.

use std::{collections::BTreeMap, time::Duration};

use api_types::{AgentHealth, AgentSelf, PartHealth, StreamFrame, Time};
use axum::body::Body;
use http::Method;
use serde_json::{Value, json};
use server::Server;
use tokio::sync::mpsc;

use super::{
    joining, keyring,
    members::{self, member_name, rpc_addr, server_id},
    nodes::require_read,
    raft,
};
use crate::{
    Api, Call, HttpError, MemberStatus, Reply,
    streaming::{self, Frames, ReaderGone},
};

/// Schedulers that a server runs.
const SCHEDULERS: [&str; 5] = ["batch", "system", "sysbatch", "service", "_core"];

/// Time between two looks of a quiet log stream at its reader.
const MONITOR_IDLE: Duration = Duration::from_secs(1);

/// Largest file of the machine that `/v1/agent/host` shows.
const HOST_FILE_BYTES_MAX: usize = 64 * 1024;

/// Answers what follows `/v1/agent/`.
pub(crate) async fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    let is_write = call.method == Method::PUT;
    match rest {
        "self" => read(call, || itself(api)),
        "members" => read(call, || members::list(api, call)),
        "health" => read(call, || health(api, call)),
        "servers" if is_write => members::change_servers(api, call).await,
        "servers" => read(call, || members::servers(api)),
        "host" => {
            require_read(call)?;
            let host = api.agent().env.spawn_blocking(host).await;
            let mut host = host.map_err(|error| HttpError::internal(error.to_string()))?;
            redact(&mut host);
            Reply::json(&host)
        }
        "monitor" => monitor(api, call),
        "schedulers" => read(call, || schedulers(api)),
        "schedulers/config" => scheduler_pool(api, call),
        "join" | "force-leave" | "reload" if !is_write => Err(HttpError::invalid_method()),
        "join" => members::join(api, call).await,
        "force-leave" => members::force_leave(api, call).await,
        "reload" => {
            (api.agent().reload)().map_err(HttpError::internal)?;
            Ok(Reply::empty())
        }
        "join-token" | "join-tokens" | "join-settings" => joining::answer(api, call, rest).await,
        _ if rest.starts_with("join-token/") => joining::answer(api, call, rest).await,
        _ => match rest.split_once('/') {
            Some(("pprof", profile)) => read(call, || pprof(api, profile)),
            Some(("keyring", verb)) => keyring::answer(api, call, verb).await,
            _ => Err(HttpError::not_found("")),
        },
    }
}

fn read(call: &Call, answer: impl FnOnce() -> Result<Reply, HttpError>) -> Result<Reply, HttpError> {
    require_read(call)?;
    answer()
}

fn itself(api: &Api) -> Result<Reply, HttpError> {
    let member = members::itself(api);
    Reply::json(&AgentSelf { config: api.agent().config.clone(), member, stats: stats(api) })
}

/// Figures, by the part of the agent that they are about.
type Stats = BTreeMap<String, BTreeMap<String, String>>;

fn texts<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn stats(api: &Api) -> Stats {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string();
    let runtime = texts([
        ("arch", arch().to_owned()),
        ("cpu_count", cores.clone()),
        ("kernel.name", "linux".to_owned()),
        ("max_procs", cores),
        ("version", format!("wayfarer {}", env!("CARGO_PKG_VERSION"))),
    ]);
    let mut stats = BTreeMap::from([("runtime".to_owned(), runtime)]);
    if let Some(server) = api.server() {
        let leader = server.raft().leader().map(|leader| rpc_addr(&leader).to_owned()).unwrap_or_default();
        let regions = api.membership().map_or(1, |membership| membership.regions().len());
        let nomad = texts([
            ("bootstrap", (server.raft().members().voter_ids().len() == 1).to_string()),
            ("known_regions", regions.to_string()),
            ("leader", server.is_leader().to_string()),
            ("leader_addr", leader),
            ("server", "true".to_owned()),
        ]);
        stats.insert("nomad".to_owned(), nomad);
        stats.insert("raft".to_owned(), raft_stats(server));
        stats.insert("serf".to_owned(), gossip_stats(api, server));
    }
    if let Some(client) = api.client() {
        let node = texts([
            ("known_servers", members::known_servers(api).join(",")),
            ("node_id", client.node_id().to_string()),
            ("num_allocations", client.alloc_ids().len().to_string()),
        ]);
        stats.insert("client".to_owned(), node);
    }
    stats
}

/// What Raft says of itself, with the names that Nomad's tools look for.
fn raft_stats(server: &Server) -> BTreeMap<String, String> {
    let mut stats = server.raft().stats();
    let status = server.raft().status();
    let contact = match server.last_contact() {
        _ if server.is_leader() => "0".to_owned(),
        Some(contact) => format!("{}ms", contact.as_millis()),
        None => "never".to_owned(),
    };
    let suffrage = |voter| if voter { "Voter" } else { "Nonvoter" };
    let peers: Vec<String> = raft::servers(server)
        .iter()
        .map(|peer| format!("{{Suffrage:{} ID:{} Address:{}}}", suffrage(peer.voter), peer.id, peer.address))
        .collect();
    stats.extend(texts([
        ("last_contact", contact),
        ("last_log_term", status.applied.map_or(0, |at| at.term).to_string()),
        ("latest_configuration", format!("[{}]", peers.join(" "))),
        ("logstore_backend", "fjall".to_owned()),
        ("protocol_version", "3".to_owned()),
        ("protocol_version_max", "3".to_owned()),
        ("protocol_version_min", "0".to_owned()),
        ("snapshot_version_max", "1".to_owned()),
        ("snapshot_version_min", "0".to_owned()),
    ]));
    stats
}

/// What gossip says of the servers, with the names that Nomad's tools look for. There are no queues to show.
fn gossip_stats(api: &Api, server: &Server) -> BTreeMap<String, String> {
    let Some(membership) = api.membership() else {
        return texts([("members", server.raft().members().peers.len().to_string())]);
    };
    let known: Vec<_> = membership.members().into_iter().filter(|member| member.role.is_server()).collect();
    let count = |status| known.iter().filter(|member| member.status == status).count().to_string();
    texts([
        ("encrypted", membership.trust().encrypted.to_string()),
        ("failed", count(MemberStatus::Failed)),
        ("left", count(MemberStatus::Left)),
        ("members", known.len().to_string()),
    ])
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn health(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let kind = call.query.text("type");
    let asked = |name: &str| kind.is_none_or(|kind| kind == name);
    let part = |problem: Option<&str>| PartHealth {
        message: problem.unwrap_or("ok").to_owned(),
        ok: problem.is_none(),
    };
    let mut health = AgentHealth::default();
    if let Some(server) = api.server().filter(|_| asked("server")) {
        health.server = Some(part(server.raft().leader().is_none().then_some("No cluster leader")));
    }
    if api.client().is_some() && asked("client") {
        health.client = Some(part(members::known_servers(api).is_empty().then_some("no known servers")));
    }
    let is_well = [&health.server, &health.client].into_iter().flatten().all(|part| part.ok);
    if is_well {
        return Reply::json(&health);
    }
    let text = serde_json::to_string(&health).map_err(|error| HttpError::internal(error.to_string()))?;
    Err(HttpError::internal(text))
}

fn schedulers(api: &Api) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let (status, workload) =
        if server.is_leader() { ("Started", "WaitingToDequeue") } else { ("Paused", "Paused") };
    // One scheduler does the work of all, and only on the leader.
    let scheduler = json!({
        "enabled_schedulers": SCHEDULERS,
        "id": server_id(server.raft().me()),
        "started": Time(api.inner.started_at),
        "status": status,
        "workload_status": workload,
    });
    let name = member_name(api, &server.raft().me().name);
    Reply::json(&json!({ "schedulers": [scheduler], "server_id": name }))
}

/// What someone asks of a server's schedulers.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct SchedulerPool {
    num_schedulers: i64,
    enabled_schedulers: Vec<String>,
}

/// Answers `/v1/agent/schedulers/config`. What is asked for is kept while the agent runs, and shown; one scheduler does
/// all of the work whatever it says.
fn scheduler_pool(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let mut kept = api.inner.schedulers.lock();
    if call.method == Method::PUT {
        let wanted: SchedulerPool = call.json()?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = usize::try_from(wanted.num_schedulers).ok().filter(|count| *count <= cores);
        let known = wanted.enabled_schedulers.iter().all(|name| SCHEDULERS.contains(&name.as_str()));
        // A pool without the scheduler that collects old records would never be rid of them.
        if count.is_none() || !known || !wanted.enabled_schedulers.iter().any(|name| name == "_core") {
            return Err(HttpError::bad_request("Invalid request"));
        }
        *kept = Some(wanted);
    } else {
        require_read(call)?;
    }
    let (count, enabled) = match &*kept {
        Some(pool) => (pool.num_schedulers, pool.enabled_schedulers.clone()),
        None => (1, SCHEDULERS.map(str::to_owned).to_vec()),
    };
    Reply::json(&json!({
        "enabled_schedulers": enabled,
        "num_schedulers": count,
        "server_id": member_name(api, &server.raft().me().name),
    }))
}

fn monitor(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    require_read(call)?;
    let level = call.query.text("log_level").unwrap_or("info");
    let is_json = call.query.switch("log_json")?.unwrap_or(false);
    let plain = call.query.switch("plain")?.unwrap_or(false);
    let unknown = |_| HttpError::bad_request(format!("Unknown log level: {level}"));
    if !["trace", "debug", "info", "warn", "error"].contains(&level.to_ascii_lowercase().as_str()) {
        return Err(unknown(String::new()));
    }
    let lines = api.agent().monitor.subscribe(&level.to_ascii_lowercase(), is_json).map_err(unknown)?;
    let env = &api.agent().env;
    let (out, pieces) = streaming::channel();
    let frames = Frames::new(env, out, plain);
    env.spawn("log-monitor", async move {
        if let Err(ReaderGone) = send_lines(lines, frames).await {
            tracing::trace!("reader of the log went away");
        }
    });
    let content_type = if plain { "text/plain" } else { "application/json" };
    Ok(Reply::Raw(streaming::response(content_type, pieces)))
}

async fn send_lines(mut lines: mpsc::Receiver<String>, mut frames: Frames) -> Result<(), ReaderGone> {
    loop {
        let line = tokio::select! {
            biased;
            line = lines.recv() => line,
            idle = frames.idle(MONITOR_IDLE) => {
                idle?;
                continue;
            }
        };
        let Some(mut line) = line else { return Ok(()) };
        if !line.ends_with('\n') {
            line.push('\n');
        }
        frames.send(StreamFrame { data: line.into_bytes(), ..StreamFrame::default() }).await?;
    }
}

fn pprof(api: &Api, profile: &str) -> Result<Reply, HttpError> {
    if !api.agent().enable_debug {
        return Err(HttpError::not_found(""));
    }
    if profile != "cmdline" {
        return Err(HttpError::not_found(format!("Pprof profile not found profile: {profile}")));
    }
    let words: Vec<String> = std::env::args().collect();
    let response = streaming::typed("text/plain; charset=utf-8", Body::from(words.join("\0")));
    Ok(Reply::Raw(response))
}

/// Describes the machine.
fn host() -> Value {
    let file = |path: &str| {
        let mut text = std::fs::read_to_string(path).unwrap_or_default();
        while text.len() > HOST_FILE_BYTES_MAX {
            text.pop();
        }
        text
    };
    let names = rustix::system::uname();
    let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
    let os = [names.machine(), names.nodename(), names.release(), names.sysname(), names.version()]
        .map(text)
        .join(" ");
    let mut disks = serde_json::Map::new();
    for line in file("/proc/self/mounts").lines() {
        let mut words = line.split(' ');
        let (Some(device), Some(point)) = (words.next(), words.next()) else { continue };
        if let (true, Ok(space)) = (device.starts_with("/dev/"), rustix::fs::statvfs(point)) {
            let mb = |blocks: u64| blocks * space.f_frsize / (1 << 20);
            let used = mb(space.f_blocks.saturating_sub(space.f_bavail));
            disks.insert(point.to_owned(), json!({ "DiskMB": mb(space.f_blocks), "UsedMB": used }));
        }
    }
    json!({
        "Disk": disks,
        "Environment": std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect::<BTreeMap<String, String>>(),
        "Hosts": file("/etc/hosts"),
        "Network": Value::Null,
        "OS": os,
        "ResolvConf": file("/etc/resolv.conf"),
    })
}

/// Hides what may be a secret in the agent's environment.
fn redact(host: &mut Value) {
    const SECRET: [&str; 7] = ["token", "secret", "password", "passwd", "credential", "key", "auth"];
    let Some(environment) = host.get_mut("Environment").and_then(Value::as_object_mut) else { return };
    for (name, value) in environment.iter_mut() {
        let name = name.to_ascii_lowercase();
        if SECRET.iter().any(|word| name.contains(word)) {
            *value = Value::from("<redacted>");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_the_environment_are_hidden() {
        let mut host =
            json!({ "Environment": { "NOMAD_TOKEN": "x", "HOME": "/root", "AWS_SECRET_ACCESS_KEY": "y" } });
        redact(&mut host);
        assert_eq!(
            host["Environment"],
            json!({ "NOMAD_TOKEN": "<redacted>", "HOME": "/root", "AWS_SECRET_ACCESS_KEY": "<redacted>" })
        );
    }

    #[test]
    fn the_machine_is_described() {
        let host = host();
        assert!(host["OS"].as_str().is_some_and(|os| os.contains("Linux")));
        assert!(host["Environment"].as_object().is_some_and(|environment| !environment.is_empty()));
    }
}

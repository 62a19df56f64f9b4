//! `/v1/agent/...` and `/v1/regions`: the agent about itself and those beside it.

use std::{collections::BTreeMap, time::Duration};

use api_types::{AgentHealth, AgentMember, AgentSelf, JoinResponse, Members, PartHealth, StreamFrame, Time};
use axum::body::Body;
use http::Method;
use model::NodeId;
use serde_json::{Value, json};
use server::Server;
use tokio::sync::mpsc;

use super::nodes::require_read;
use crate::{
    Api, Call, HttpError, Reply,
    streaming::{self, Frames, ReaderGone},
};

/// Port of the gossip of other servers, where they do not say.
const GOSSIP_PORT: u16 = 4648;

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
        "members" => read(call, || Reply::json(&members(api)?)),
        "health" => read(call, || health(api, call)),
        "servers" if is_write => change_servers(api, call),
        "servers" => read(call, || servers(api)),
        "host" => {
            require_read(call)?;
            let host = api.agent().env.spawn_blocking(host).await;
            let mut host = host.map_err(|error| HttpError::internal(error.to_string()))?;
            redact(&mut host);
            Reply::json(&host)
        }
        // The only node there is speaks no encrypted gossip, so it has no keys to list.
        "keyring/list" => read(call, || Err(HttpError::internal("1/1 nodes reported failure"))),
        "monitor" => monitor(api, call),
        "schedulers" => read(call, || schedulers(api)),
        "schedulers/config" => read(call, || {
            let config = json!({
                "enabled_schedulers": SCHEDULERS,
                "num_schedulers": 1,
                "server_id": member_name(api, &api.require_server()?.raft().me().name),
            });
            Reply::json(&config)
        }),
        "join" | "force-leave" | "reload" if !is_write => Err(HttpError::invalid_method()),
        "join" => join(api, call),
        "force-leave" => force_leave(api, call),
        "reload" => {
            (api.agent().reload)().map_err(HttpError::internal)?;
            Ok(Reply::empty())
        }
        _ => match rest.strip_prefix("pprof/") {
            Some(profile) => read(call, || pprof(api, profile)),
            None => Err(HttpError::not_found("")),
        },
    }
}

/// Answers `/v1/regions`.
pub(crate) fn regions(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    read(call, || Reply::json(&[&api.agent().region]))
}

fn read(call: &Call, answer: impl FnOnce() -> Result<Reply, HttpError>) -> Result<Reply, HttpError> {
    require_read(call)?;
    answer()
}

/// A member's name ends with its region.
fn member_name(api: &Api, name: &str) -> String {
    let suffix = format!(".{}", api.agent().region);
    if name.ends_with(&suffix) { name.to_owned() } else { format!("{name}{suffix}") }
}

/// A server's id as others see it.
fn server_id(id: u64) -> String {
    NodeId::from_random(id.into()).to_string()
}

fn members(api: &Api) -> Result<Members, HttpError> {
    let server = api.require_server()?;
    let me = server.raft().me().id;
    let known = server.raft().members();
    let mut members: Vec<AgentMember> =
        known.peers.values().map(|peer| member(api, server, peer, peer.id == me)).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Members {
        members,
        server_dc: api.agent().datacenter.clone(),
        server_name: api.agent().name.clone(),
        server_region: api.agent().region.clone(),
    })
}

fn member(api: &Api, server: &Server, peer: &raft::Peer, is_me: bool) -> AgentMember {
    let (host, port) = peer.addr.rsplit_once(':').unwrap_or((&peer.addr, "4647"));
    let host = host.trim_matches(['[', ']']).to_owned();
    let voters = server.raft().members().voter_ids();
    let mut tags = BTreeMap::from([
        ("build", api.agent().version.clone()),
        ("dc", api.agent().datacenter.clone()),
        ("expect", voters.len().to_string()),
        ("id", server_id(peer.id)),
        ("port", port.to_owned()),
        ("raft_vsn", "3".to_owned()),
        ("region", api.agent().region.clone()),
        ("revision", String::new()),
        ("role", "nomad".to_owned()),
        ("rpc_addr", host.clone()),
        ("vsn", "1".to_owned()),
    ]);
    if voters.len() == 1 {
        tags.insert("bootstrap", "1".to_owned());
    }
    AgentMember {
        addr: host,
        delegate_cur: 4,
        delegate_max: 5,
        delegate_min: 2,
        name: member_name(api, &peer.name),
        port: if is_me { api.agent().serf_addr.port() } else { GOSSIP_PORT },
        protocol_cur: 2,
        protocol_max: 5,
        protocol_min: 1,
        status: "alive".to_owned(),
        tags: tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

fn itself(api: &Api) -> Result<Reply, HttpError> {
    let member = match api.server() {
        Some(server) => member(api, server, server.raft().me(), true),
        None => AgentMember::default(),
    };
    Reply::json(&AgentSelf { config: api.agent().config.clone(), member, stats: stats(api) })
}

fn stats(api: &Api) -> BTreeMap<String, BTreeMap<String, String>> {
    let texts = |pairs: Vec<(&str, String)>| -> BTreeMap<String, String> {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).to_string();
    let runtime = vec![
        ("arch", arch().to_owned()),
        ("cpu_count", cores.clone()),
        ("kernel.name", "linux".to_owned()),
        ("max_procs", cores),
        ("version", format!("wayfarer {}", env!("CARGO_PKG_VERSION"))),
    ];
    let mut stats = BTreeMap::from([("runtime".to_owned(), texts(runtime))]);
    if let Some(server) = api.server() {
        let leader = server.raft().leader().map(|leader| leader.addr).unwrap_or_default();
        let voters = server.raft().members().voter_ids().len();
        let nomad = vec![
            ("bootstrap", (voters == 1).to_string()),
            ("known_regions", "1".to_owned()),
            ("leader", server.is_leader().to_string()),
            ("leader_addr", leader),
            ("server", "true".to_owned()),
        ];
        stats.insert("nomad".to_owned(), texts(nomad));
        stats.insert("raft".to_owned(), server.raft().stats());
        let serf = vec![("members", server.raft().members().peers.len().to_string())];
        stats.insert("serf".to_owned(), texts(serf));
    }
    if let Some(client) = api.client() {
        let node = vec![
            ("known_servers", known_servers(api).join(",")),
            ("node_id", client.node_id().to_string()),
            ("num_allocations", client.alloc_ids().len().to_string()),
        ];
        stats.insert("client".to_owned(), texts(node));
    }
    stats
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn known_servers(api: &Api) -> Vec<String> {
    if let Some(server) = api.server() {
        return vec![server.raft().me().addr.clone()];
    }
    let upstream = api.inner.upstream.borrow();
    upstream.iter().map(|(addr, _)| addr.to_string()).collect()
}

fn servers(api: &Api) -> Result<Reply, HttpError> {
    if api.client().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    Reply::json(&known_servers(api))
}

fn change_servers(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    if api.client().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    let addresses: Vec<&str> = call.query.all("address").filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        return Err(HttpError::bad_request("missing server address"));
    }
    let known = known_servers(api);
    if addresses.iter().all(|address| known.iter().any(|known| known == address)) {
        return Ok(Reply::empty());
    }
    Err(HttpError::internal(
        "this agent finds servers by its configuration: change `client.servers` or `server_join` and reload it",
    ))
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
        health.client = Some(part(known_servers(api).is_empty().then_some("no known servers")));
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
        "id": server_id(server.raft().me().id),
        "started": Time(api.inner.started_at),
        "status": status,
        "workload_status": workload,
    });
    let name = member_name(api, &server.raft().me().name);
    Reply::json(&json!({ "schedulers": [scheduler], "server_id": name }))
}

fn join(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    if api.server().is_none() {
        return Err(HttpError::new(501, "Invalid method"));
    }
    let addresses: Vec<&str> = call.query.all("address").filter(|address| !address.is_empty()).collect();
    if addresses.is_empty() {
        return Err(HttpError::bad_request("missing address to join"));
    }
    let own = [api.agent().serf_addr.to_string(), api.agent().serf_addr.ip().to_string()];
    let strangers: Vec<&&str> =
        addresses.iter().filter(|address| !own.contains(&(**address).to_owned())).collect();
    let joined = (addresses.len() - strangers.len()) as u64;
    let reasons: String = strangers
        .iter()
        .map(|address| format!("\t* failed to join {address}: this agent is a region of one server\n"))
        .collect();
    let error = match strangers.len() {
        0 => String::new(),
        1 => format!("1 error occurred:\n{reasons}\n"),
        count => format!("{count} errors occurred:\n{reasons}\n"),
    };
    Reply::json(&JoinResponse { error, num_joined: joined, warning: String::new() })
}

fn force_leave(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let server = api.server().ok_or_else(|| HttpError::new(501, "Invalid method"))?;
    let name =
        call.query.text("node").ok_or_else(|| HttpError::bad_request("missing node to force leave"))?;
    let me = member_name(api, &server.raft().me().name);
    if name == me || name == api.agent().name {
        return Err(HttpError::internal(format!("{name} is this server: stop its agent to make it leave")));
    }
    let is_other = server.raft().members().peers.values().any(|peer| member_name(api, &peer.name) == name);
    if is_other {
        let text = format!("{name} takes part in Raft: remove it with `operator raft remove-peer`");
        return Err(HttpError::internal(text));
    }
    // A member that nobody knows has left.
    Ok(Reply::empty())
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

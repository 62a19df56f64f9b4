//! Everything that an agent is told, checked: what the rest of the agent reads.

#![allow(
    dead_code,
    reason = "keys marked `Later` in `raw` are checked and kept here before a part reads them"
)]

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use client::fingerprint::Settings;
use serde_json::Value;

/// Everything that an agent is told, checked and complete. What it was made from is [`super::raw::RawAgent`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Runs in memory, for trying things out; its tasks end with it.
    pub dev: bool,
    /// The agent's name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Where everything lasting is; none in dev mode.
    pub data_dir: Option<PathBuf>,
    /// Where to listen for HTTP; one or more.
    pub http: Vec<SocketAddr>,
    /// Where to listen for agents.
    pub rpc: SocketAddr,
    /// Where to listen for gossip.
    pub serf: SocketAddr,
    /// What others are told: HTTP, RPC and gossip.
    pub advertise: Advertise,
    /// Log level: `trace` to `error`, or `off`.
    pub log_level: String,
    /// Log lines as JSON.
    pub log_json: bool,
    /// Log lines into this file, too.
    pub log_file: Option<PathBuf>,
    /// Serves what is expensive and revealing.
    pub enable_debug: bool,
    /// Serves metrics in Prometheus' format.
    pub prometheus_metrics: bool,
    /// Headers of every HTTP answer.
    pub response_headers: Vec<(String, String)>,
    /// Leave the region on SIGINT.
    pub leave_on_interrupt: bool,
    /// Leave the region on SIGTERM.
    pub leave_on_terminate: bool,
    /// Whom to join, and how.
    pub join: JoinOptions,
    /// What gossip is sealed with: 16, 24 or 32 bytes. From the server's block, on clients too.
    pub encrypt: Option<Vec<u8>>,
    /// Certificates of the user's own.
    pub tls: TlsOptions,
    /// What autopilot does in a region that begins.
    pub autopilot: AutopilotOptions,
    /// The server's part, where the agent is one.
    pub server: Option<ServerOptions>,
    /// The client's part, where the agent is one.
    pub client: Option<ClientOptions>,
    /// Driver settings by plugin name, as JSON: the `config` blocks of `plugin` blocks.
    pub plugins: BTreeMap<String, Value>,
    /// The whole as `/v1/agent/self` shows it, without secrets.
    pub shown: Value,
    /// Things that the user should know, e.g. keys that do nothing here.
    pub warnings: Vec<String>,
    /// The files that were read, for the banner.
    pub files: Vec<PathBuf>,
}

/// Addresses that others are told.
#[derive(Clone, Debug)]
pub struct Advertise {
    /// HTTP.
    pub http: SocketAddr,
    /// RPC.
    pub rpc: SocketAddr,
    /// Gossip.
    pub serf: SocketAddr,
}

/// The server's part.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Servers that found the region together.
    pub bootstrap_expect: u32,
    /// Where log and snapshots are; a directory of the data directory unless set.
    pub data_dir: Option<PathBuf>,
    /// Stretches the times of elections and signs of life; 1 to 10.
    pub raft_multiplier: u32,
    /// Joins the servers that it knew though it left them.
    pub rejoin_after_leave: bool,
    /// Entries after which a snapshot is due.
    pub snapshot_threshold: Option<u64>,
    /// Time between looks whether one is due.
    pub snapshot_interval: Option<Duration>,
    /// Entries kept behind a snapshot.
    pub trailing_logs: Option<u64>,
    /// Ages at which records are removed.
    pub thresholds: control::collection::Thresholds,
    /// Time between two looks for old records.
    pub gc_interval: Duration,
    /// How long nodes may be silent.
    pub heartbeats: server::Heartbeats,
    /// Batches of events kept.
    pub event_buffer: usize,
    /// Priority of jobs that name none, and the highest one.
    pub job_priority: (i32, i32),
    /// The largest count of a group.
    pub job_count_max: u32,
    /// Settings of the schedulers for a new region.
    pub scheduler: model::SchedulerConfig,
}

/// Whom an agent joins, and how.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Addresses of agents, tried again and again. What Nomad tries once at the start is among them: machines that start
    /// together rarely start at once.
    pub addresses: Vec<String>,
    /// Rounds over them before the agent gives up; without end unless set.
    pub tries_max: Option<u32>,
    /// Time between two rounds.
    pub interval: Duration,
    /// What lets the agent in.
    pub token: Option<String>,
    /// Let nobody in, and go nowhere, without a token or a certificate.
    pub require_token: bool,
    /// How long certificates last that this agent issues, as a server; 30 days unless set.
    pub certificate_ttl: Option<Duration>,
}

/// Certificates of the user's own, as Nomad's `tls` block names them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsOptions {
    /// The HTTP API speaks TLS.
    pub http: bool,
    /// Agents know each other by these certificates.
    pub rpc: bool,
    /// The authority.
    pub ca: PathBuf,
    /// The agent's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Callers of the HTTP API show a certificate too.
    pub verify_https_client: bool,
}

/// What autopilot does, as far as it is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct AutopilotOptions {
    /// Removes servers that failed when others stand in.
    pub cleanup_dead_servers: Option<bool>,
    /// Time for which a server is to be well before it votes.
    pub server_stabilization_time: Option<Duration>,
    /// Silence of the leader after which a server is not well.
    pub last_contact_threshold: Option<Duration>,
    /// Entries that a server may be behind.
    pub max_trailing_logs: Option<u64>,
    /// Servers that are never gone below.
    pub min_quorum: Option<u32>,
}

/// The client's part.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// What the node says of itself, but for its id and secret, which are kept in the data directory.
    pub node: Settings,
    /// Where allocations live.
    pub alloc_dir: PathBuf,
    /// Where the client's own records are.
    pub state_dir: PathBuf,
    /// The longest that a task may take to stop.
    pub max_kill_timeout: Duration,
    /// Time between two looks for ended allocations.
    pub gc_interval: Duration,
    /// Allocations kept.
    pub gc_max_allocs: usize,
    /// Refuse exec.
    pub disable_remote_exec: bool,
    /// Old-style options, `client.options`.
    pub options: BTreeMap<String, String>,
    /// The address that tasks' ports are on, when one was asked for.
    pub bind: IpAddr,
}

impl AutopilotOptions {
    /// Puts what is set over other settings.
    pub fn over(&self, config: model::AutopilotConfig) -> model::AutopilotConfig {
        model::AutopilotConfig {
            cleanup_dead_servers: self.cleanup_dead_servers.unwrap_or(config.cleanup_dead_servers),
            server_stabilization_time: self
                .server_stabilization_time
                .unwrap_or(config.server_stabilization_time),
            last_contact_threshold: self.last_contact_threshold.unwrap_or(config.last_contact_threshold),
            max_trailing_logs: self.max_trailing_logs.unwrap_or(config.max_trailing_logs),
            min_quorum: self.min_quorum.unwrap_or(config.min_quorum),
            ..config
        }
    }
}

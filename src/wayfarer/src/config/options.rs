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
    /// Servers to join.
    pub join: Vec<String>,
    /// How patiently to try to join.
    pub join_retry: JoinRetry,
    /// What gossip is encrypted with: 16, 24 or 32 bytes.
    pub encrypt: Option<Vec<u8>>,
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

/// How patiently a server tries to join others.
#[derive(Clone, Copy, Debug)]
pub struct JoinRetry {
    /// Tries; without end unless set.
    pub tries_max: Option<u64>,
    /// Time between two tries.
    pub interval: Duration,
}

/// The client's part.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Servers, as `host:port`; this agent's own when it is one.
    pub servers: Vec<String>,
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

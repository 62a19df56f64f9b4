//! `/v1/metrics`: figures of the state, the leader, the node and the process, taken when they are asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use api_types::{MetricGauge, MetricSample, Metrics};
use axum::body::Body;
use client::Client;
use model::{ClientStatus, JobStatus, NodeStatus};
use server::Server;
use state::Snapshot;

use super::nodes::require_read;
use crate::{
    Api, Call, HttpError, Reply,
    figures::{Figures, Interval, Tally},
    streaming,
};

/// The type of an answer in Prometheus' form.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Length of an interval, in seconds.
const INTERVAL_SECONDS: f64 = 10.0;

/// Labels of one gauge.
type Labels = BTreeMap<String, String>;

/// Answers `/v1/metrics`.
pub(crate) async fn answer(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    require_read(call)?;
    let prometheus = call.query.text("format") == Some("prometheus");
    if prometheus && !is_prometheus_on(api) {
        return Err(HttpError::new(415, "Prometheus is not enabled"));
    }
    let mut gauges = Gauges::new(&api.agent().name);
    if let Some(server) = api.server() {
        of_server(server, &mut gauges).await;
    }
    if let Some(client) = api.client() {
        of_client(client, &mut gauges).await;
    }
    of_process(api, &mut gauges);
    let (figures, wall) = (&api.inner.figures, api.agent().env.wall());
    if prometheus {
        let text = gauges.prometheus() + &totals(figures, &api.agent().name);
        return Ok(Reply::Raw(streaming::typed(PROMETHEUS, Body::from(text))));
    }
    let Interval { counters, samples } = figures.interval(wall);
    let shapes = |tallies: BTreeMap<&'static str, Tally>| {
        tallies.into_iter().map(|(name, tally)| sample(name, tally, &api.agent().name)).collect()
    };
    let gauges = gauges.into_metrics(wall);
    Reply::json(&Metrics { counters: shapes(counters), samples: shapes(samples), ..gauges })
}

fn sample(name: &str, tally: Tally, host: &str) -> MetricSample {
    MetricSample {
        count: tally.count.into(),
        labels: labels([("host", host)]),
        max: tally.max,
        mean: tally.mean(),
        min: tally.min,
        name: name.to_owned(),
        rate: tally.sum / INTERVAL_SECONDS,
        stddev: tally.deviation(),
        sum: tally.sum,
    }
}

/// Counters and summaries in Prometheus' form, from the agent's start on.
fn totals(figures: &Figures, host: &str) -> String {
    let mut text = String::new();
    let host = escape(host);
    for (name, total) in figures.totals() {
        let name = name.replace('.', "_");
        let kind = if total.is_sample { "summary" } else { "counter" };
        // Writing to a text does not fail.
        let _ = writeln!(text, "# HELP {name} {name}\n# TYPE {name} {kind}");
        if !total.is_sample {
            let _ = writeln!(text, "{name}{{host=\"{host}\"}} {}", total.sum);
            continue;
        }
        for share in ["0.5", "0.9", "0.99"] {
            let value = total.quantile(share.parse().unwrap_or(0.5));
            let _ = writeln!(text, "{name}{{host=\"{host}\",quantile=\"{share}\"}} {value}");
        }
        let _ = writeln!(text, "{name}_sum{{host=\"{host}\"}} {}", total.sum);
        let _ = writeln!(text, "{name}_count{{host=\"{host}\"}} {}", total.count);
    }
    text
}

fn is_prometheus_on(api: &Api) -> bool {
    let telemetry = api.agent().config.get("Telemetry");
    telemetry.and_then(|telemetry| telemetry.get("PrometheusMetrics")?.as_bool()).unwrap_or(api.agent().dev)
}

/// Gauges that were collected.
struct Gauges {
    host: String,
    found: Vec<MetricGauge>,
}

impl Gauges {
    fn new(host: &str) -> Self {
        Self { host: host.to_owned(), found: Vec::new() }
    }

    fn set(&mut self, name: &str, value: f64) {
        self.set_with(name, value, &Labels::new());
    }

    fn set_with(&mut self, name: &str, value: f64, labels: &Labels) {
        let mut labels = labels.clone();
        labels.insert("host".to_owned(), self.host.clone());
        self.found.push(MetricGauge { labels, name: format!("nomad.{name}"), value });
    }

    // Counts of records and bytes are far below 2^53, where a double is exact.
    #[allow(clippy::cast_precision_loss)]
    fn count(&mut self, name: &str, count: u64) {
        self.set(name, count as f64);
    }

    #[allow(clippy::cast_precision_loss)]
    fn count_with(&mut self, name: &str, count: u64, labels: &Labels) {
        self.set_with(name, count as f64, labels);
    }

    fn into_metrics(mut self, wall: i64) -> Metrics {
        self.found.sort_by(|one, other| (&one.name, &one.labels).cmp(&(&other.name, &other.labels)));
        Metrics { gauges: self.found, timestamp: timestamp(wall), ..Metrics::default() }
    }

    fn prometheus(mut self) -> String {
        self.found.sort_by(|one, other| (&one.name, &one.labels).cmp(&(&other.name, &other.labels)));
        let mut text = String::new();
        let mut described = BTreeSet::new();
        for gauge in &self.found {
            let name = gauge.name.replace(['.', '-', ' ', '='], "_");
            if described.insert(name.clone()) {
                // Writing to a text does not fail.
                let _ = writeln!(text, "# HELP {name} {name}\n# TYPE {name} gauge");
            }
            let labels: Vec<String> = gauge
                .labels
                .iter()
                .map(|(key, value)| format!("{}=\"{}\"", key.replace(['.', '-'], "_"), escape(value)))
                .collect();
            let _ = writeln!(text, "{name}{{{}}} {}", labels.join(","), gauge.value);
        }
        text
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Writes a time as metrics do: whole ten seconds, when their interval began.
fn timestamp(wall: i64) -> String {
    let interval = 10_000_000_000;
    let began = api_types::Time(wall - wall.rem_euclid(interval)).to_string();
    format!("{} +0000 UTC", began.trim_end_matches('Z').replace('T', " "))
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn of_server(server: &Server, gauges: &mut Gauges) {
    let snapshot = server.snapshot();
    let counts = server.counts().await.unwrap_or_default();
    gauges.count("nomad.broker.total_ready", counts.broker.ready as u64);
    gauges.count("nomad.broker.total_unacked", counts.broker.taken as u64);
    gauges.count("nomad.broker.total_pending", counts.broker.waiting as u64);
    gauges.count("nomad.broker.total_waiting", counts.broker.delayed as u64);
    gauges.count("nomad.broker.total_cancelable", 0);
    gauges.count("nomad.blocked_evals.total_blocked", counts.blocked as u64);
    gauges.count("nomad.blocked_evals.total_escaped", 0);
    gauges.count("nomad.blocked_evals.total_quota_limit", 0);
    // Plans are applied by who makes them; there is no queue between the two.
    gauges.count("nomad.plan.queue_depth", 0);
    gauges.count("nomad.heartbeat.active", server.sessions().connected().len() as u64);
    gauges.count("nomad.state.index", snapshot.index());
    gauges.count("nomad.state.nodes", snapshot.node_count() as u64);
    of_jobs(&snapshot, gauges);
    of_nodes(&snapshot, gauges);
    of_raft(server, gauges);
}

fn of_jobs(snapshot: &Snapshot, gauges: &mut Gauges) {
    let (mut pending, mut running, mut dead) = (0, 0, 0);
    for job in snapshot.all_jobs() {
        match job.status {
            JobStatus::Pending => pending += 1,
            JobStatus::Running => running += 1,
            JobStatus::Dead => dead += 1,
        }
    }
    gauges.count("nomad.job_status.pending", pending);
    gauges.count("nomad.job_status.running", running);
    gauges.count("nomad.job_status.dead", dead);
    for summary in snapshot.summaries() {
        let shape = api_types::JobSummary::of(summary);
        for (group, counts) in &shape.summary {
            let labels = labels([
                ("job", shape.job_id.as_str()),
                ("namespace", shape.namespace.as_str()),
                ("task_group", group.as_str()),
                ("exported_job", shape.job_id.as_str()),
            ]);
            for (name, count) in [
                ("queued", counts.queued),
                ("complete", counts.complete),
                ("failed", counts.failed),
                ("running", counts.running),
                ("starting", counts.starting),
                ("lost", counts.lost),
                ("unknown", counts.unknown),
            ] {
                gauges.count_with(&format!("nomad.job_summary.{name}"), count, &labels);
            }
        }
    }
}

fn of_nodes(snapshot: &Snapshot, gauges: &mut Gauges) {
    let mut counts = [
        (NodeStatus::Initializing, 0),
        (NodeStatus::Ready, 0),
        (NodeStatus::Down, 0),
        (NodeStatus::Disconnected, 0),
    ];
    for node in snapshot.nodes() {
        for (status, count) in &mut counts {
            *count += u64::from(node.status == *status);
        }
    }
    for (status, count) in counts {
        gauges.count_with("nomad.nodes", count, &labels([("status", &status.to_string())]));
    }
}

fn of_raft(server: &Server, gauges: &mut Gauges) {
    let raft = server.raft();
    let status = raft.status();
    gauges.count("raft.peers", status.members.peers.len() as u64);
    gauges.count("raft.is_leader", u64::from(raft.is_leader()));
    gauges.count("raft.appliedIndex", status.applied.map_or(0, |at| at.index));
    gauges.count("raft.lastIndex", status.last_log.unwrap_or(0));
    gauges.count("nomad.leader.known", u64::from(raft.leader().is_some()));
    let voters = status.members.voter_ids().len() as u64;
    gauges.count("nomad.autopilot.healthy", u64::from(raft.leader().is_some()));
    gauges.count("nomad.autopilot.failure_tolerance", voters.saturating_sub(1) / 2);
}

async fn of_client(client: &Client, gauges: &mut Gauges) {
    let node = client.node();
    let own = labels([
        ("datacenter", node.datacenter.as_str()),
        ("node_class", if node.node_class.is_empty() { "none" } else { node.node_class.as_str() }),
        ("node_id", &node.id.to_string()),
        ("node_pool", node.node_pool.as_str()),
        ("node_scheduling_eligibility", if node.eligible { "eligible" } else { "ineligible" }),
        ("node_status", &node.status.to_string()),
    ]);
    of_allocs(client, &own, gauges).await;
    let usage = client.host_usage().await;
    gauges.count_with("client.uptime", usage.uptime, &own);
    for cpu in &usage.cpus {
        let mut own = own.clone();
        own.insert("cpu".to_owned(), cpu.name.clone());
        gauges.set_with("client.host.cpu.idle", cpu.idle, &own);
        gauges.set_with("client.host.cpu.system", cpu.system, &own);
        gauges.set_with("client.host.cpu.total", cpu.total, &own);
        gauges.set_with("client.host.cpu.total_percent", cpu.total, &own);
        gauges.set_with("client.host.cpu.total_ticks", cpu.ticks, &own);
        gauges.set_with("client.host.cpu.user", cpu.user, &own);
    }
    gauges.count_with("client.host.memory.available", usage.memory.available, &own);
    gauges.count_with("client.host.memory.free", usage.memory.free, &own);
    gauges.count_with("client.host.memory.total", usage.memory.total, &own);
    gauges.count_with("client.host.memory.used", usage.memory.used, &own);
    let mut seen = BTreeSet::new();
    for disk in &usage.disks {
        // A device that is mounted at many places is one disk.
        if !seen.insert(disk.device.clone()) {
            continue;
        }
        let mut own = own.clone();
        own.insert("disk".to_owned(), disk.device.clone());
        gauges.count_with("client.host.disk.available", disk.available, &own);
        gauges.count_with("client.host.disk.size", disk.size, &own);
        gauges.count_with("client.host.disk.used", disk.used, &own);
        gauges.set_with("client.host.disk.used_percent", disk.used_percent, &own);
        gauges.set_with("client.host.disk.inodes_percent", disk.inodes_percent, &own);
    }
}

async fn of_allocs(client: &Client, own: &Labels, gauges: &mut Gauges) {
    let (mut pending, mut running, mut terminal) = (0, 0, 0);
    let (mut cpu, mut memory, mut memory_max, mut disk) = (0, 0, 0, 0);
    for id in client.alloc_ids() {
        let Some(view) = client.alloc(id) else { continue };
        let status = view.told.lock().client_status;
        match status {
            ClientStatus::Pending => pending += 1,
            ClientStatus::Running => running += 1,
            ClientStatus::Complete | ClientStatus::Failed | ClientStatus::Lost | ClientStatus::Unknown => {
                terminal += 1
            }
        }
        if status.is_terminal() {
            continue;
        }
        let assigned = view.assigned.load_full();
        let held = &assigned.alloc.resources;
        disk += held.disk_mb;
        for task in &held.tasks {
            cpu += task.cpu_shares;
            memory += task.memory_mb;
            memory_max += u64::try_from(task.memory_max_mb).unwrap_or(0).max(task.memory_mb);
        }
        if status == ClientStatus::Running {
            of_tasks(client, id, &assigned, gauges).await;
        }
    }
    gauges.count_with("client.allocations.pending", pending, own);
    gauges.count_with("client.allocations.running", running, own);
    gauges.count_with("client.allocations.terminal", terminal, own);
    gauges.count_with("client.allocations.blocked", 0, own);
    gauges.count_with("client.allocations.migrating", 0, own);
    gauges.count_with("client.allocated.cpu", cpu, own);
    gauges.count_with("client.allocated.memory", memory, own);
    gauges.count_with("client.allocated.max_memory", memory_max, own);
    gauges.count_with("client.allocated.disk", disk, own);
    let has = &client.node().resources.capacity;
    gauges.count_with("client.unallocated.cpu", has.cpu_shares.saturating_sub(cpu), own);
    gauges.count_with("client.unallocated.memory", has.memory_mb.saturating_sub(memory), own);
    gauges.count_with("client.unallocated.disk", has.disk_mb.saturating_sub(disk), own);
}

async fn of_tasks(client: &Client, id: model::AllocId, assigned: &client::Assigned, gauges: &mut Gauges) {
    let group = assigned.group().name.to_string();
    for usage in client.task_usage(id, None).await {
        let labels = labels([
            ("alloc_id", &id.to_string()),
            ("job", assigned.job.key.id.as_str()),
            ("namespace", assigned.job.key.namespace.as_str()),
            ("task", usage.name.as_str()),
            ("task_group", &group),
        ]);
        gauges.set_with("client.allocs.cpu.total_percent", usage.rates.total, &labels);
        gauges.set_with("client.allocs.cpu.system", usage.rates.system, &labels);
        gauges.set_with("client.allocs.cpu.user", usage.rates.user, &labels);
        gauges.set_with("client.allocs.cpu.total_ticks", usage.rates.ticks, &labels);
        gauges.count_with(
            "client.allocs.cpu.throttled_periods",
            usage.measured.cpu.throttled_periods,
            &labels,
        );
        gauges.count_with("client.allocs.cpu.throttled_time", usage.measured.cpu.throttled_ns, &labels);
        let memory = &usage.measured.memory;
        gauges.count_with("client.allocs.memory.rss", memory.rss, &labels);
        gauges.count_with("client.allocs.memory.cache", memory.cache, &labels);
        gauges.count_with("client.allocs.memory.swap", memory.swap, &labels);
        gauges.count_with("client.allocs.memory.usage", memory.usage, &labels);
        gauges.count_with("client.allocs.memory.max_usage", memory.max_usage, &labels);
        gauges.count_with("client.allocs.memory.kernel_usage", memory.kernel_usage, &labels);
    }
}

fn of_process(api: &Api, gauges: &mut Gauges) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    gauges.count("runtime.alloc_bytes", field("RssAnon") * 1_024);
    gauges.count("runtime.sys_bytes", field("VmRSS") * 1_024);
    gauges.count("runtime.threads", field("Threads"));
    let up = api.agent().env.wall().saturating_sub(api.inner.started_at) / 1_000_000_000;
    gauges.count("agent.uptime", u64::try_from(up).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_read_as_prometheus_expects() {
        let mut gauges = Gauges::new("rec1");
        gauges.count_with("client.host.cpu.total-percent", 4, &labels([("cpu", "cpu\"1"), ("node_id", "x")]));
        gauges.count("client.a", 1);
        assert_eq!(
            gauges.prometheus(),
            "# HELP nomad_client_a nomad_client_a\n# TYPE nomad_client_a gauge\nnomad_client_a{host=\"rec1\"} 1\n\
             # HELP nomad_client_host_cpu_total_percent nomad_client_host_cpu_total_percent\n\
             # TYPE nomad_client_host_cpu_total_percent gauge\n\
             nomad_client_host_cpu_total_percent{cpu=\"cpu\\\"1\",host=\"rec1\",node_id=\"x\"} 4\n"
        );
    }

    #[test]
    fn metrics_say_when_their_interval_began() {
        assert_eq!(timestamp(1_795_359_559_250_000_000), "2026-11-22 14:59:10 +0000 UTC");
        let metrics = Gauges::new("h").into_metrics(0);
        assert!(metrics.counters.is_empty() && metrics.samples.is_empty());
    }
}

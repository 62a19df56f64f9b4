use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer};

use crate::{Affinity, Constraint, Spread, Task, Text};

/// Reads a duration from the API's integer nanoseconds; a negative one counts as zero.
pub(crate) fn nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let nanos = i64::deserialize(deserializer)?;
    Ok(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

/// Reads an optional duration from the API's integer nanoseconds.
pub(crate) fn some_nanos<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    nanos(deserializer).map(Some)
}

/// Tasks that are placed together on one node, `count` times.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaskGroup {
    /// Unique in the job.
    pub name: Text,
    /// How many allocations are wanted.
    pub count: u32,
    /// Conditions on the node, beside the job's.
    pub constraints: Vec<Constraint>,
    /// Preferences, beside the job's.
    pub affinities: Vec<Affinity>,
    /// Spreads, beside the job's.
    pub spreads: Vec<Spread>,
    /// How changes roll out; none for batch.
    pub update: Option<UpdateStrategy>,
    /// How allocations leave a draining node.
    pub migrate: Option<MigrateStrategy>,
    /// What happens on the server when an allocation failed.
    #[serde(rename = "ReschedulePolicy")]
    pub reschedule: Option<ReschedulePolicy>,
    /// What happens on the client when a task failed.
    #[serde(rename = "RestartPolicy")]
    pub restart: RestartPolicy,
    /// What happens while the node can not be reached.
    pub disconnect: Option<Disconnect>,
    /// The shared directory.
    pub ephemeral_disk: EphemeralDisk,
    /// At most one.
    pub networks: Vec<Network>,
    /// Services of the group.
    pub services: Vec<Service>,
    /// Volumes that tasks may mount, by name.
    pub volumes: BTreeMap<Text, VolumeRequest>,
    /// The tasks, in the user's order. At least one.
    pub tasks: Vec<Task>,
    /// Free key-value pairs.
    pub meta: BTreeMap<Text, String>,
    /// Between deregistering services and killing tasks.
    #[serde(deserialize_with = "some_nanos")]
    pub shutdown_delay: Option<Duration>,
    /// Longest time that an allocation may run.
    #[serde(deserialize_with = "some_nanos")]
    pub max_run_duration: Option<Duration>,
    /// Bounds of scaling.
    pub scaling: Option<Scaling>,
}

/// How changes of a group roll out.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateStrategy {
    /// Wait between batches of system jobs.
    #[serde(deserialize_with = "nanos")]
    pub stagger: Duration,
    /// How many at a time; 0 means no strategy at all.
    pub max_parallel: u32,
    /// `checks`, `task_states` or `manual`.
    pub health_check: Text,
    /// How long it must be healthy to count.
    #[serde(deserialize_with = "nanos")]
    pub min_healthy_time: Duration,
    /// When it counts as unhealthy.
    #[serde(deserialize_with = "nanos")]
    pub healthy_deadline: Duration,
    /// When a deployment without progress fails; 0 for at the first unhealthy one.
    #[serde(deserialize_with = "nanos")]
    pub progress_deadline: Duration,
    /// Go back to the last stable version on failure.
    pub auto_revert: bool,
    /// Promote healthy canaries without asking.
    pub auto_promote: bool,
    /// How many canaries; a percentage for system jobs.
    pub canary: u32,
}

/// How allocations leave a draining node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct MigrateStrategy {
    /// How many at a time.
    pub max_parallel: u32,
    /// `checks` or `task_states`.
    pub health_check: Text,
    /// How long a replacement must be healthy to count.
    #[serde(deserialize_with = "nanos")]
    pub min_healthy_time: Duration,
    /// When it counts as unhealthy.
    #[serde(deserialize_with = "nanos")]
    pub healthy_deadline: Duration,
}

/// What happens on the server when an allocation failed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct ReschedulePolicy {
    /// Tries within `interval`, unless unlimited.
    pub attempts: u32,
    /// The sliding window of attempts.
    #[serde(deserialize_with = "nanos")]
    pub interval: Duration,
    /// First wait.
    #[serde(deserialize_with = "nanos")]
    pub delay: Duration,
    /// `constant`, `exponential` or `fibonacci`.
    pub delay_function: Text,
    /// Longest wait.
    #[serde(deserialize_with = "nanos")]
    pub max_delay: Duration,
    /// No bound on attempts.
    pub unlimited: bool,
}

/// What happens on the client when a task failed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// Restarts within `interval`.
    pub attempts: u32,
    /// The window of attempts.
    #[serde(deserialize_with = "nanos")]
    pub interval: Duration,
    /// Wait before a restart.
    #[serde(deserialize_with = "nanos")]
    pub delay: Duration,
    /// `fail` or `delay`.
    pub mode: Text,
    /// Render templates again before a restart.
    pub render_templates: bool,
}

/// What happens while a node can not be reached.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Disconnect {
    /// How long allocations stay `unknown` before they are lost.
    #[serde(deserialize_with = "some_nanos")]
    pub lost_after: Option<Duration>,
    /// When the client stops them by itself.
    #[serde(deserialize_with = "some_nanos")]
    pub stop_on_client_after: Option<Duration>,
    /// Whether they are replaced meanwhile; default true.
    pub replace: Option<bool>,
    /// Which one stays afterwards: `best_score`, `keep_original`, `keep_replacement`, `longest_running`.
    pub reconcile: Text,
}

/// The directory that the tasks of an allocation share.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct EphemeralDisk {
    /// Place replacements where the data is.
    #[serde(rename = "Sticky")]
    pub sticky: bool,
    /// Carry the data to another node.
    #[serde(rename = "Migrate")]
    pub migrate: bool,
    /// Reserved size.
    #[serde(rename = "SizeMB")]
    pub size_mb: u64,
}

/// How an allocation is reached.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Network {
    /// `host` (or empty), `bridge`, `none`, `cni/<name>`.
    pub mode: Text,
    /// Host name inside the network.
    pub hostname: Text,
    /// Megabits; accepted and not enforced.
    #[serde(rename = "MBits")]
    pub mbits: i64,
    /// Name servers inside the network.
    #[serde(rename = "DNS")]
    pub dns: Option<Dns>,
    /// Ports that must have this number on the host.
    pub reserved_ports: Vec<PortRequest>,
    /// Ports that get a free number on the host.
    pub dynamic_ports: Vec<PortRequest>,
}

/// Name servers of a network.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Dns {
    /// Addresses.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// A port that a group asks for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortRequest {
    /// Its name, unique in the group.
    pub label: Text,
    /// The number on the host; 0 for any.
    pub value: u16,
    /// The number inside; 0 for unset, -1 for the same as on the host.
    pub to: i32,
    /// Which of the host's networks; `default` unless set.
    pub host_network: Text,
    /// Two owners are fine.
    pub ignore_collision: bool,
}

/// A service of a group or task; only what running reads.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Service {
    /// Registered name.
    pub name: Text,
    /// `nomad` or `consul`.
    pub provider: Text,
    /// Label or number of the port.
    pub port_label: Text,
    /// The task that it belongs to, for group services with scripts.
    pub task_name: Text,
    /// Which address is advertised.
    pub address_mode: Text,
    /// A fixed address.
    pub address: Text,
    /// Tags.
    pub tags: Vec<Text>,
    /// Tags while it is a canary.
    pub canary_tags: Vec<Text>,
    /// Meta.
    pub meta: BTreeMap<Text, String>,
    /// Checks.
    pub checks: Vec<Check>,
    /// What an unhealthy check means for a deployment.
    pub on_update: Text,
}

/// A health check of a service.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Check {
    /// Shown name.
    pub name: Text,
    /// `http`, `tcp`, `script`, `grpc`.
    #[serde(rename = "Type")]
    pub kind: Text,
    /// Path of an HTTP check.
    pub path: String,
    /// `http` or `https`.
    pub protocol: Text,
    /// HTTP method; GET unless set.
    pub method: Text,
    /// HTTP headers.
    pub header: BTreeMap<Text, Vec<String>>,
    /// HTTP body.
    pub body: String,
    /// Label or number of the port; the service's unless set.
    pub port_label: Text,
    /// Which address is asked.
    pub address_mode: Text,
    /// Time between checks.
    #[serde(deserialize_with = "nanos")]
    pub interval: Duration,
    /// Longest time of one check.
    #[serde(deserialize_with = "nanos")]
    pub timeout: Duration,
    /// What an unhealthy check means for a deployment.
    pub on_update: Text,
    /// Skip verification of the certificate.
    #[serde(rename = "TLSSkipVerify")]
    pub tls_skip_verify: bool,
    /// Restart the task when the check keeps failing.
    pub check_restart: Option<CheckRestart>,
}

/// Restarts a task whose check keeps failing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckRestart {
    /// Failures in a row; 0 for never.
    pub limit: u32,
    /// Time after a start in which failures do not count.
    #[serde(deserialize_with = "nanos")]
    pub grace: Duration,
    /// Warnings do not count.
    pub ignore_warnings: bool,
}

/// A volume that tasks of the group may mount.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeRequest {
    /// Its name in the group.
    pub name: Text,
    /// `host` or `csi`.
    #[serde(rename = "Type")]
    pub kind: Text,
    /// The volume's name or id.
    pub source: Text,
    /// Never written to.
    pub read_only: bool,
    /// The source gets the allocation's index.
    pub per_alloc: bool,
    /// Stay with the same volume.
    pub sticky: bool,
    /// Who may use it at a time.
    pub access_mode: Text,
    /// `file-system` or `block-device`.
    pub attachment_mode: Text,
}

/// Bounds of a group's count.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Scaling {
    /// Whether an autoscaler may act.
    pub enabled: bool,
    /// Smallest count.
    pub min: Option<i64>,
    /// Largest count.
    pub max: Option<i64>,
}

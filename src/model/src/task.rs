use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Affinity, Constraint, RestartPolicy, Service, Text, group::nanos, named::named_enum};

named_enum! {
    /// When a task runs in the life of its allocation; main tasks have no hook.
    LifecycleHook {
        /// Before the main tasks.
        Prestart = "prestart",
        /// Once the main tasks run.
        Poststart = "poststart",
        /// After the main tasks ended.
        Poststop = "poststop",
    }
}

/// One program to run.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Task {
    /// Unique in the group.
    pub name: Text,
    /// Name of the driver that runs it.
    pub driver: Text,
    /// The user that it runs as; the driver's default when empty.
    pub user: Text,
    /// The driver's own options.
    pub config: BTreeMap<String, Value>,
    /// Environment, beside what the client adds.
    pub env: BTreeMap<Text, String>,
    /// Free key-value pairs.
    pub meta: BTreeMap<Text, String>,
    /// What it needs of the node.
    pub resources: TaskResources,
    /// What happens when it fails.
    #[serde(rename = "RestartPolicy")]
    pub restart: Option<RestartPolicy>,
    /// When it runs; none for a main task.
    pub lifecycle: Option<Lifecycle>,
    /// Its death ends the others.
    pub leader: bool,
    /// Time between the signal and the kill.
    #[serde(deserialize_with = "nanos")]
    pub kill_timeout: Duration,
    /// The signal; the driver's default when empty.
    pub kill_signal: Text,
    /// Time between deregistering services and the signal.
    #[serde(deserialize_with = "nanos")]
    pub shutdown_delay: Duration,
    /// Rotation of its logs.
    pub log_config: LogConfig,
    /// Conditions on the node, beside the group's.
    pub constraints: Vec<Constraint>,
    /// Preferences, beside the group's.
    pub affinities: Vec<Affinity>,
    /// Services of the task.
    pub services: Vec<Service>,
    /// Files that are rendered before it starts.
    pub templates: Vec<Template>,
    /// Files that are fetched before it starts.
    pub artifacts: Vec<Artifact>,
    /// Volumes of the group that it sees.
    pub volume_mounts: Vec<VolumeMount>,
    /// Where the payload of a dispatch is written.
    pub dispatch_payload: Option<DispatchPayload>,
}

/// When a task runs in the life of its allocation.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Lifecycle {
    /// The point of the allocation's life.
    pub hook: LifecycleHook,
    /// It runs beside the main tasks until they end.
    #[serde(default)]
    pub sidecar: bool,
}

named_enum! {
    /// Whether a task's cores must be of one NUMA node.
    NumaAffinity {
        /// They need not.
        None = "none",
        /// They should, where that can be had.
        Prefer = "prefer",
        /// They must.
        Require = "require",
    }
}

/// How close to each other a task's cores are to be.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Numa {
    /// `none`, `prefer` or `require`.
    #[serde(rename = "Affinity")]
    pub affinity: Text,
    /// Devices that are to be close to the cores.
    #[serde(rename = "Devices")]
    pub devices: Vec<Text>,
}

impl Numa {
    /// Reads the affinity; what is not one is none.
    pub fn affinity(&self) -> NumaAffinity {
        NumaAffinity::from_name(&self.affinity).unwrap_or(NumaAffinity::None)
    }
}

/// What a task needs of its node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct TaskResources {
    /// MHz; 0 when cores are asked for.
    #[serde(rename = "CPU")]
    pub cpu: u32,
    /// Whole cores for itself.
    #[serde(rename = "Cores")]
    pub cores: u32,
    /// Reserved memory.
    #[serde(rename = "MemoryMB")]
    pub memory_mb: u32,
    /// Hard limit; 0 for the reserved amount, -1 for none.
    #[serde(rename = "MemoryMaxMB")]
    pub memory_max_mb: i64,
    /// Size of the secrets directory beyond its default.
    #[serde(rename = "SecretsMB")]
    pub secrets_mb: u32,
    /// How close its cores must be.
    #[serde(rename = "NUMA")]
    pub numa: Option<Numa>,
    /// Devices.
    #[serde(rename = "Devices")]
    pub devices: Vec<DeviceRequest>,
    /// Networks in the old place.
    #[serde(rename = "Networks")]
    pub networks: Vec<crate::Network>,
}

/// Devices that a task asks for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceRequest {
    /// `type`, `vendor/type` or `vendor/type/name`.
    pub name: Text,
    /// How many.
    pub count: u32,
    /// Conditions on the device.
    pub constraints: Vec<Constraint>,
    /// Preferences among devices.
    pub affinities: Vec<Affinity>,
}

/// Rotation of a task's logs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct LogConfig {
    /// Files kept, per stream.
    #[serde(rename = "MaxFiles")]
    pub max_files: u32,
    /// Size at which a file is rotated.
    #[serde(rename = "MaxFileSizeMB")]
    pub max_file_size_mb: u32,
    /// Logs go nowhere.
    #[serde(rename = "Disabled")]
    pub disabled: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { max_files: 10, max_file_size_mb: 10, disabled: false }
    }
}

/// A file that is rendered before a task starts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Template {
    /// Text of the template, unless `source_path` is set.
    pub embedded_tmpl: String,
    /// Path of the template.
    pub source_path: String,
    /// Where the result goes.
    pub dest_path: String,
    /// `restart`, `noop`, `signal` or `script`.
    pub change_mode: Text,
    /// The signal of mode `signal`.
    pub change_signal: Text,
    /// Octal permissions.
    pub perms: Text,
    /// Left delimiter.
    pub left_delim: Text,
    /// Right delimiter.
    pub right_delim: Text,
    /// The result is read as environment.
    pub envvars: bool,
    /// Missing keys are an error.
    pub err_missing_key: bool,
    /// Longest random wait before acting on a change.
    #[serde(deserialize_with = "nanos")]
    pub splay: Duration,
}

/// A file that is fetched before a task starts.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct Artifact {
    /// Where from.
    pub getter_source: String,
    /// How, e.g. `checksum`.
    pub getter_options: BTreeMap<Text, String>,
    /// HTTP headers.
    pub getter_headers: BTreeMap<Text, String>,
    /// `any`, `file` or `dir`.
    pub getter_mode: Text,
    /// Where to, under the task directory.
    pub relative_dest: String,
}

/// A volume of the group as a task sees it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct VolumeMount {
    /// Name of the volume in the group.
    pub volume: Text,
    /// Path inside the task.
    pub destination: String,
    /// Never written to.
    pub read_only: bool,
    /// `private`, `host-to-task` or `bidirectional`.
    pub propagation_mode: Text,
}

/// Where the payload of a dispatch is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "PascalCase")]
pub struct DispatchPayload {
    /// Path under the task's `local` directory.
    pub file: String,
}

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Signal, TaskId};

/// Everything a driver needs to start one task. Interpolation is done: values are final.
#[derive(Clone, Debug)]
pub struct TaskConfig {
    /// This launch.
    pub id: TaskId,
    /// The name of the allocation, such as `web.cache[0]`.
    pub alloc_name: String,
    /// The job's id.
    pub job_id: String,
    /// The job's name.
    pub job_name: String,
    /// The task group's name.
    pub group: String,
    /// The namespace.
    pub namespace: String,
    /// The node's id.
    pub node_id: String,
    /// The node's name.
    pub node_name: String,
    /// The task's complete environment.
    pub env: TaskEnv,
    /// The user from the job file; empty means the driver's default.
    pub user: Option<String>,
    /// What the task may use.
    pub resources: Resources,
    /// The task's directories.
    pub dirs: TaskDirs,
    /// The allocation's ports that this task may use.
    pub ports: Vec<Port>,
    /// Host paths to show inside the task.
    pub mounts: Vec<Mount>,
    /// Host devices to show inside the task.
    pub devices: Vec<Device>,
    /// The network namespace to join; none means the host's.
    pub network: Option<NetworkIsolation>,
    /// The name servers that the group asked for.
    pub dns: Option<DnsConfig>,
    /// How the task's output is kept.
    pub logs: LogConfig,
    /// The `config` block of the job file, as JSON.
    pub config: Value,
    /// The signal that asks the task to stop; none means the driver's default.
    pub kill_signal: Option<Signal>,
    /// How long the task has to stop by itself.
    pub kill_timeout: Duration,
}

impl TaskConfig {
    /// Returns the task's name.
    pub fn task(&self) -> &str {
        self.id.task()
    }

    /// Returns the allocation's id.
    pub fn alloc_id(&self) -> &str {
        self.id.alloc_id()
    }
}

/// A task's environment, in order of names. Its `Debug` shows names only, because values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TaskEnv(pub BTreeMap<String, String>);

impl fmt::Debug for TaskEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for TaskEnv {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// What a task may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Processor.
    pub cpu: CpuResources,
    /// Memory.
    pub memory: MemoryResources,
    /// Disk of the whole allocation, in megabytes.
    pub disk_mb: u64,
}

/// A task's share of the processor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuResources {
    /// Megahertz granted to this task; becomes its weight.
    pub shares_mhz: u64,
    /// Megahertz that this node has to give in all, for turning `shares_mhz` into a fraction.
    pub node_total_mhz: u64,
    /// Cores reserved for this task alone.
    pub cores: Vec<u16>,
}

/// A task's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryResources {
    /// Megabytes that are reserved.
    pub memory_mb: u64,
    /// Megabytes that it may reach when the node has room; none means `memory_mb`.
    pub memory_max_mb: Option<u64>,
}

impl MemoryResources {
    /// The bound at which the kernel ends the task, in bytes; none when nothing was asked for.
    pub fn hard_limit(&self) -> Option<u64> {
        let megabytes = self.memory_max_mb.filter(|max| *max > 0).unwrap_or(self.memory_mb);
        (megabytes > 0).then(|| megabytes.saturating_mul(1 << 20))
    }

    /// The reserved amount in bytes, when it lies below the hard limit.
    pub fn reservation(&self) -> Option<u64> {
        let reserved = self.memory_mb.saturating_mul(1 << 20);
        (reserved > 0 && self.hard_limit().is_some_and(|limit| reserved < limit)).then_some(reserved)
    }
}

/// The directories of a task. All exist when a driver sees them.
#[derive(Clone, Debug, Default)]
pub struct TaskDirs {
    /// The allocation's shared directory (`NOMAD_ALLOC_DIR` on the host).
    pub alloc_shared: PathBuf,
    /// The task's own directory: working directory of plain processes, root of chroots.
    pub task: PathBuf,
    /// `local` inside the task's directory.
    pub local: PathBuf,
    /// `secrets` inside the task's directory.
    pub secrets: PathBuf,
    /// Where `<task>.stdout.N` and `<task>.stderr.N` go.
    pub logs: PathBuf,
}

/// One port of the allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its label in the job file.
    pub label: String,
    /// The address on the host.
    pub host_ip: IpAddr,
    /// The port on the host.
    pub host_port: u16,
    /// The port inside the task's network; zero means the same as `host_port`.
    pub to: u16,
}

/// A host path shown inside the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The path on the host.
    pub host_path: PathBuf,
    /// The path inside the task.
    pub task_path: PathBuf,
    /// Whether the task may not write to it.
    pub read_only: bool,
    /// How mounts made on one side reach the other.
    pub propagation: Propagation,
}

/// How mounts made on one side of a bind mount reach the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    #[default]
    Private,
    /// From the host to the task.
    HostToTask,
    /// Both ways.
    Bidirectional,
}

/// A host device shown inside the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The device node on the host.
    pub host_path: PathBuf,
    /// The device node inside the task.
    pub task_path: PathBuf,
    /// Letters of `rwm`.
    pub permissions: String,
}

/// A network that the tasks of one allocation share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkIsolation {
    /// The namespace as a path that can be opened, such as `/var/run/netns/<alloc id>`.
    pub path: Option<PathBuf>,
    /// Labels of the driver that made it, such as the id of the container that holds it open.
    pub labels: BTreeMap<String, String>,
    /// The host name inside it.
    pub hostname: Option<String>,
    /// Lines for the tasks' `/etc/hosts`.
    pub hosts: Vec<(String, String)>,
}

/// What a driver needs to make a network.
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// The allocation it is for; everything made carries this id.
    pub alloc_id: String,
    /// The host name inside, when the group asked for one.
    pub hostname: Option<String>,
    /// The name servers inside.
    pub dns: Option<DnsConfig>,
}

/// Name servers of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options of `resolv.conf`.
    pub options: Vec<String>,
}

/// How a task's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Files kept for each stream.
    pub max_files: u32,
    /// Size at which the next file begins.
    pub max_file_size_mb: u32,
    /// Output is thrown away.
    pub disabled: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { max_files: 10, max_file_size_mb: 10, disabled: false }
    }
}

/// An address that the driver gave to a task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverNetwork {
    /// The address.
    pub ip: String,
    /// Whether services should advertise it instead of the host's.
    pub auto_advertise: bool,
    /// Port label to the port inside.
    pub port_map: BTreeMap<String, u16>,
}

/// How a task ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitResult {
    /// The exit code; for a signal 128 and its number, as shells do.
    pub exit_code: i32,
    /// The signal that ended it, or zero.
    pub signal: i32,
    /// The kernel ended it for want of memory.
    pub oom_killed: bool,
    /// What the driver has to add, such as why the code is unknown.
    pub err: Option<String>,
}

impl ExitResult {
    /// The result of a process that called exit.
    pub fn exited(exit_code: i32) -> Self {
        Self { exit_code, ..Self::default() }
    }

    /// The result of a process that a signal ended.
    pub fn signaled(signal: i32) -> Self {
        Self { exit_code: 128 + signal, signal, ..Self::default() }
    }

    /// Tells whether the task did what it should: code zero, no signal, no error.
    pub fn successful(&self) -> bool {
        self.exit_code == 0 && self.signal == 0 && self.err.is_none()
    }
}

//! From a task as a user wrote it to what its driver is told: pure but for the paths.

use std::{path::PathBuf, time::Duration};

use driver::{
    CpuResources, Driver, FsIsolation, LogConfig, MemoryResources, NetworkIsolation, Port, Resources, Signal,
    TaskConfig, TaskDirs, TaskId,
};
use model::{AllocRecord, Job, Node, Task, TaskGroup};
use serde_json::Value;

use crate::{
    alloc_dir::AllocDir,
    context::Context,
    task_env::{SeenPaths, Sources, TaskEnv},
};

/// One task of one allocation, with everything that it is made from.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The node's parts.
    pub context: &'a Context,
    /// The job.
    pub job: &'a Job,
    /// The allocation.
    pub alloc: &'a AllocRecord,
    /// Its group.
    pub group: &'a TaskGroup,
    /// The task.
    pub task: &'a Task,
    /// Its directories.
    pub dir: &'a AllocDir,
    /// Its driver.
    pub driver: &'a dyn Driver,
}

impl Subject<'_> {
    /// Returns the task's environment, without what hooks add.
    pub fn environment(&self) -> TaskEnv {
        let node = self.context.node.load();
        let isolation = self.driver.capabilities().fs_isolation;
        let paths = self.seen_paths(isolation);
        TaskEnv::build(&Sources {
            node: &node,
            region: &self.context.region,
            job: self.job,
            alloc: self.alloc,
            group: self.group,
            task: self.task,
            paths: &paths,
            host_env: (isolation != FsIsolation::Image).then_some(&self.context.host_env),
            oversubscription: false,
        })
    }

    /// Returns what the driver is told to start.
    pub fn task_config(&self, launch: u64, env: &TaskEnv, network: Option<NetworkIsolation>) -> TaskConfig {
        let node = self.context.node.load();
        let alloc_id = self.alloc.id.to_string();
        TaskConfig {
            id: TaskId::new(&alloc_id, &self.task.name, &launch.to_string()),
            alloc_name: format!("{}.{}[{}]", self.job.key.id, self.group.name, self.alloc.index),
            job_id: self.job.key.id.to_string(),
            job_name: self.job.spec.name.to_string(),
            group: self.group.name.to_string(),
            namespace: self.job.key.namespace.to_string(),
            node_id: node.id.to_string(),
            node_name: node.name.to_string(),
            env: env.variables().iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            user: Some(self.task.user.to_string()).filter(|user| !user.is_empty()),
            resources: self.resources(&node),
            dirs: self.dirs(),
            ports: self.ports(),
            mounts: self.mounts(&node),
            devices: Vec::new(),
            network,
            dns: self.dns(),
            logs: LogConfig {
                max_files: self.task.log_config.max_files,
                max_file_size_mb: self.task.log_config.max_file_size_mb,
                disabled: self.task.log_config.disabled,
            },
            config: self.config(env),
            kill_signal: self.kill_signal(),
            kill_timeout: self.kill_timeout(),
        }
    }

    /// Returns the driver's options with every `${...}` replaced.
    pub fn config(&self, env: &TaskEnv) -> Value {
        self.task.config.iter().map(|(key, value)| (key.clone(), env.replace_tree(value))).collect()
    }

    /// Returns the signal that asks the task to stop, if the job names one that exists.
    pub fn kill_signal(&self) -> Option<Signal> {
        self.task.kill_signal.parse().ok()
    }

    /// Returns the time that the task has to stop, within the node's bound.
    pub fn kill_timeout(&self) -> Duration {
        self.task.kill_timeout.min(self.context.max_kill_timeout)
    }

    /// Returns the task's directories.
    pub fn dirs(&self) -> TaskDirs {
        let task = self.dir.task(&self.task.name);
        TaskDirs {
            alloc_shared: self.dir.shared(),
            local: task.join("local"),
            secrets: task.join("secrets"),
            logs: self.dir.logs(),
            task,
        }
    }

    fn seen_paths(&self, isolation: FsIsolation) -> SeenPaths {
        match isolation {
            FsIsolation::None => {
                let dirs = self.dirs();
                let text = |path: PathBuf| path.to_string_lossy().into_owned();
                SeenPaths {
                    alloc: text(dirs.alloc_shared),
                    local: text(dirs.local),
                    secrets: text(dirs.secrets),
                }
            }
            FsIsolation::Chroot | FsIsolation::Image => {
                SeenPaths { alloc: "/alloc".into(), local: "/local".into(), secrets: "/secrets".into() }
            }
        }
    }

    fn resources(&self, node: &Node) -> Resources {
        let held = self.alloc.resources.tasks.iter().find(|held| held.name == self.task.name);
        let Some(held) = held else { return Resources::default() };
        Resources {
            cpu: CpuResources {
                shares_mhz: held.cpu_shares,
                node_total_mhz: node.resources.capacity.cpu_shares,
                cores: held.cores.clone(),
            },
            memory: MemoryResources {
                memory_mb: held.memory_mb,
                memory_max_mb: u64::try_from(held.memory_max_mb).ok().filter(|max| *max > 0),
            },
            disk_mb: self.alloc.resources.disk_mb,
        }
    }

    fn ports(&self) -> Vec<Port> {
        let ports = self.alloc.resources.ports.iter();
        ports
            .filter_map(|port| {
                Some(Port {
                    label: port.label.to_string(),
                    host_ip: port.host_ip.parse().ok()?,
                    host_port: port.value,
                    to: port.to,
                })
            })
            .collect()
    }

    fn mounts(&self, node: &Node) -> Vec<driver::Mount> {
        let mounts = self.task.volume_mounts.iter();
        mounts
            .filter_map(|wanted| {
                let request = self.group.volumes.get(&wanted.volume)?;
                let volume = node.host_volumes.get(&request.source)?;
                Some(driver::Mount {
                    host_path: PathBuf::from(&volume.path),
                    task_path: PathBuf::from(&wanted.destination),
                    read_only: wanted.read_only || request.read_only || volume.read_only,
                    propagation: match wanted.propagation_mode.as_str() {
                        "host-to-task" => driver::Propagation::HostToTask,
                        "bidirectional" => driver::Propagation::Bidirectional,
                        _ => driver::Propagation::Private,
                    },
                })
            })
            .collect()
    }

    fn dns(&self) -> Option<driver::DnsConfig> {
        let dns = self.group.networks.first()?.dns.as_ref()?;
        Some(driver::DnsConfig {
            servers: dns.servers.clone(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        })
    }
}

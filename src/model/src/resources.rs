use serde::{Deserialize, Serialize};

use crate::{Lifecycle, Text};

/// What a node has, or holds back: the same dimensions for both.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Capacity {
    /// MHz.
    pub cpu_shares: u64,
    /// Ids of cores that may be given to one task alone.
    pub cores: Vec<u16>,
    /// MiB of memory.
    pub memory_mb: u64,
    /// MiB of disk.
    pub disk_mb: u64,
}

/// What one allocation holds on its node; exact, nothing is left to choose.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AllocatedResources {
    /// In the order of the group's tasks.
    pub tasks: Vec<AllocatedTask>,
    /// MiB of the shared directory.
    pub disk_mb: u64,
    /// Ports of the group.
    pub ports: Vec<AssignedPort>,
    /// The network that the ports belong to, if the group has one.
    pub network: Option<AllocatedNetwork>,
}

/// What one task holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AllocatedTask {
    /// Name of the task.
    pub name: Text,
    /// MHz.
    pub cpu_shares: u64,
    /// Cores for itself alone.
    pub cores: Vec<u16>,
    /// Reserved MiB.
    pub memory_mb: u64,
    /// Limit in MiB; 0 for the reserved amount, -1 for none.
    pub memory_max_mb: i64,
    /// When it runs.
    pub lifecycle: Option<Lifecycle>,
    /// Device instances.
    pub devices: Vec<AllocatedDevice>,
}

/// Instances of one device group that a task holds.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AllocatedDevice {
    /// Vendor.
    pub vendor: Text,
    /// Type.
    pub kind: Text,
    /// Name.
    pub name: Text,
    /// Instance ids.
    pub ids: Vec<Text>,
}

/// The network of an allocation.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AllocatedNetwork {
    /// `host` (or empty), `bridge`, `none`, `cni/<name>`.
    pub mode: Text,
    /// Device on the host.
    pub device: Text,
    /// The host's address on it.
    pub ip: Text,
    /// Megabits; accepted and not enforced.
    pub mbits: i64,
    /// Host name inside.
    pub hostname: Text,
}

/// A port of the host with one owner.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AssignedPort {
    /// The label in the group.
    pub label: Text,
    /// The number on the host.
    pub value: u16,
    /// The number inside; 0 when not mapped.
    pub to: u16,
    /// The host's address.
    pub host_ip: Text,
    /// Name of the host's network.
    pub host_network: Text,
    /// Asked for by number.
    pub reserved: bool,
    /// Two owners are fine.
    pub ignore_collision: bool,
}

/// How much of a node's countable capacity something takes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// MHz.
    pub cpu_shares: u64,
    /// MiB reserved.
    pub memory_mb: u64,
    /// MiB at most, for oversubscription.
    pub memory_max_mb: u64,
    /// MiB of disk.
    pub disk_mb: u64,
}

impl AllocatedResources {
    /// Adds up what the allocation holds while it is at its largest: tasks of different phases do not run together.
    ///
    /// Prestart tasks that end are over before the main tasks start, and poststop tasks start when those are gone;
    /// sidecars and main tasks overlap.
    pub fn usage(&self) -> Usage {
        use crate::LifecycleHook::{Poststart, Poststop, Prestart};
        let mut prestart = Usage::default();
        let mut main = Usage::default();
        let mut poststop = Usage::default();
        let mut sidecars = Usage::default();
        for task in &self.tasks {
            let phase = match task.lifecycle {
                None => &mut main,
                Some(Lifecycle { sidecar: true, .. }) => &mut sidecars,
                Some(Lifecycle { hook: Prestart, .. }) => &mut prestart,
                Some(Lifecycle { hook: Poststart, .. }) => &mut main,
                Some(Lifecycle { hook: Poststop, .. }) => &mut poststop,
            };
            phase.add_task(task);
        }
        let mut largest = prestart.max(main).max(poststop);
        largest.add(sidecars);
        largest.disk_mb = self.disk_mb;
        largest
    }

    /// Lists the cores that the allocation holds alone.
    pub fn cores(&self) -> impl Iterator<Item = u16> + '_ {
        self.tasks.iter().flat_map(|task| task.cores.iter().copied())
    }
}

impl Usage {
    /// Adds another usage to this one.
    pub fn add(&mut self, other: Self) {
        self.cpu_shares += other.cpu_shares;
        self.memory_mb += other.memory_mb;
        self.memory_max_mb += other.memory_max_mb;
        self.disk_mb += other.disk_mb;
    }

    /// Takes another usage off this one, to zero at least.
    pub fn sub(&mut self, other: Self) {
        self.cpu_shares = self.cpu_shares.saturating_sub(other.cpu_shares);
        self.memory_mb = self.memory_mb.saturating_sub(other.memory_mb);
        self.memory_max_mb = self.memory_max_mb.saturating_sub(other.memory_max_mb);
        self.disk_mb = self.disk_mb.saturating_sub(other.disk_mb);
    }

    fn add_task(&mut self, task: &AllocatedTask) {
        self.cpu_shares += task.cpu_shares;
        self.memory_mb += task.memory_mb;
        self.memory_max_mb += u64::try_from(task.memory_max_mb).unwrap_or(0).max(task.memory_mb);
    }

    fn max(self, other: Self) -> Self {
        Self {
            cpu_shares: self.cpu_shares.max(other.cpu_shares),
            memory_mb: self.memory_mb.max(other.memory_mb),
            memory_max_mb: self.memory_max_mb.max(other.memory_max_mb),
            disk_mb: self.disk_mb.max(other.disk_mb),
        }
    }
}

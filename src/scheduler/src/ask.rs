//! What one group needs of a node.

use std::sync::Arc;

use model::{
    AllocatedNetwork, AllocatedResources, AllocatedTask, AssignedPort, DeviceRequest, Job, Network, Node,
    Numa, NumaAffinity, PortRequest, TaskGroup, TaskResources, Text,
};

use crate::{
    exclusive::Share,
    table::{AMOUNT_MAX, Room},
};

/// What one allocation of a group needs of its node.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The countable part; without the MHz of whole cores, which depend on the node.
    pub(crate) room: Room,
    /// Whole cores.
    pub(crate) cores: u32,
    /// Whole cores, by position of the task.
    pub(crate) cores_by_task: Vec<CoreWish>,
    /// Ports, those with a number first.
    pub(crate) ports: Vec<PortWish>,
    /// Devices, by position of the task.
    pub(crate) devices_by_task: Vec<Vec<DeviceRequest>>,
    /// The region, for conditions on devices.
    pub(crate) region: Text,
    network: Option<Network>,
    template: Arc<AllocatedResources>,
}

/// The whole cores that a task asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CoreWish {
    pub(crate) count: u32,
    pub(crate) affinity: NumaAffinity,
}

/// A port that a group asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PortWish {
    pub(crate) label: Text,
    /// 0 for any.
    pub(crate) value: u16,
    pub(crate) host_network: Text,
    pub(crate) ignore_collision: bool,
    to: i32,
}

impl Ask {
    /// Adds up what a group needs.
    pub(crate) fn of(job: &Job, group: &TaskGroup, oversubscription: bool) -> Self {
        let tasks = group.tasks.iter().map(|task| AllocatedTask {
            name: task.name.clone(),
            // Whole cores come with all their MHz, which depend on the node.
            cpu_shares: if task.resources.cores > 0 { 0 } else { u64::from(task.resources.cpu) },
            cores: Vec::new(),
            memory_mb: u64::from(task.resources.memory_mb),
            memory_max_mb: if oversubscription { task.resources.memory_max_mb } else { 0 },
            lifecycle: task.lifecycle,
            devices: Vec::new(),
        });
        let template = AllocatedResources {
            tasks: tasks.collect(),
            disk_mb: group.ephemeral_disk.size_mb,
            ports: Vec::new(),
            network: None,
        };
        let task_networks = group.tasks.iter().flat_map(|task| &task.resources.networks);
        let networks: Vec<&Network> = group.networks.iter().chain(task_networks).collect();
        let fixed = networks.iter().flat_map(|network| &network.reserved_ports);
        let dynamic = networks.iter().flat_map(|network| &network.dynamic_ports);
        let core_wish = |resources: &TaskResources| CoreWish {
            count: resources.cores,
            affinity: resources.numa.as_ref().map_or(NumaAffinity::None, Numa::affinity),
        };
        let cores_by_task: Vec<CoreWish> =
            group.tasks.iter().map(|task| core_wish(&task.resources)).collect();
        Self {
            room: Room::of(&template),
            cores: cores_by_task.iter().map(|wish| wish.count).sum(),
            cores_by_task,
            ports: fixed.chain(dynamic).map(PortWish::of).collect(),
            devices_by_task: group.tasks.iter().map(|task| task.resources.devices.clone()).collect(),
            region: job.spec.region.clone(),
            network: networks.first().map(|network| (*network).clone()),
            template: Arc::new(template),
        }
    }

    /// Tells whether some task asks for devices.
    pub(crate) fn has_devices(&self) -> bool {
        self.devices_by_task.iter().any(|requests| !requests.is_empty())
    }

    /// Tells whether some task prefers some devices to others.
    pub(crate) fn prefers_devices(&self) -> bool {
        self.devices_by_task.iter().flatten().any(|request| !request.affinities.is_empty())
    }

    /// Tells whether more than countable capacity is asked for.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.cores > 0 || !self.ports.is_empty() || self.has_devices()
    }

    /// Returns the countable need on a node: whole cores count with all their MHz.
    pub(crate) fn room_on(&self, node: &Node) -> Room {
        if self.cores == 0 {
            return self.room;
        }
        let of_cores = u64::from(self.cores) * node.resources.core_mhz;
        let of_cores = i32::try_from(of_cores).unwrap_or(AMOUNT_MAX).min(AMOUNT_MAX);
        Room { cpu: (self.room.cpu + of_cores).min(AMOUNT_MAX), ..self.room }
    }

    /// Returns what all allocations of the group hold, when that is the same for each.
    pub(crate) fn shared(&self) -> Option<&Arc<AllocatedResources>> {
        (!self.is_exclusive() && self.network.is_none()).then_some(&self.template)
    }

    /// Writes down what one allocation holds on a node.
    pub(crate) fn resources(&self, node: &Node, share: Share) -> AllocatedResources {
        let mut resources = (*self.template).clone();
        for (task, cores) in resources.tasks.iter_mut().zip(share.cores) {
            if !cores.is_empty() {
                task.cpu_shares = cores.len() as u64 * node.resources.core_mhz;
                task.cores = cores;
            }
        }
        for (task, devices) in resources.tasks.iter_mut().zip(share.devices) {
            task.devices = devices;
        }
        resources.network =
            self.network.as_ref().map(|network| allocated_network(network, node, &share.ports));
        resources.ports = share.ports;
        resources
    }
}

impl PortWish {
    fn of(request: &PortRequest) -> Self {
        Self {
            label: request.label.clone(),
            value: request.value,
            host_network: request.host_network.clone(),
            ignore_collision: request.ignore_collision,
            to: request.to,
        }
    }

    /// Writes down the port that was chosen.
    pub(crate) fn assigned(&self, value: u16, host_ip: &Text) -> AssignedPort {
        AssignedPort {
            label: self.label.clone(),
            value,
            to: if self.to < 0 { value } else { u16::try_from(self.to).unwrap_or(0) },
            host_ip: host_ip.clone(),
            host_network: self.host_network.clone(),
            reserved: self.value > 0,
            ignore_collision: self.ignore_collision,
        }
    }
}

fn allocated_network(network: &Network, node: &Node, ports: &[AssignedPort]) -> AllocatedNetwork {
    let addresses = || {
        node.resources
            .networks
            .iter()
            .flat_map(|host| host.addresses.iter().map(move |address| (host, address)))
    };
    let found = match ports.first() {
        Some(port) => addresses().find(|(_, address)| address.address == port.host_ip),
        None => addresses().find(|(_, address)| address.alias == "default" || address.alias.is_empty()),
    };
    let (device, ip) =
        found.map(|(host, address)| (host.device.clone(), address.address.clone())).unwrap_or_default();
    AllocatedNetwork {
        mode: network.mode.clone(),
        device,
        ip,
        mbits: network.mbits,
        hostname: network.hostname.clone(),
    }
}

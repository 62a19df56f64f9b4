use std::collections::BTreeMap;

use crate::shape::{or_null, text_map};

sparse! {
    /// A network as it was asked for or handed out.
    NetworkResource {
        cidr "CIDR": String,
        cni "CNI": Option<serde_json::Value>,
        dns "DNS": Option<serde_json::Value>,
        device "Device": String,
        dynamic_ports "DynamicPorts": Vec<Port>,
        hostname "Hostname": String,
        ip "IP": String,
        mbits "MBits": i64,
        mode "Mode": String,
        reserved_ports "ReservedPorts": Vec<Port>,
    }
    /// A port of a network.
    Port {
        host_network "HostNetwork": String,
        ignore_collision "IgnoreCollision": bool,
        label "Label": String,
        to "To": i32,
        value "Value": u16,
    }
    /// A port of the host that an allocation holds.
    AllocatedPort {
        host_ip "HostIP": String,
        ignore_collision "IgnoreCollision": bool,
        label "Label": String,
        to "To": i32,
        value "Value": u16,
    }
}

shape! {
    /// Resources in the older form, one object for everything.
    Resources {
        cpu "CPU": i64,
        cores "Cores": i64,
        #[serde(serialize_with = "or_null")]
        devices "Devices": Vec<serde_json::Value>,
        disk_mb "DiskMB": i64,
        iops "IOPS": i64,
        memory_mb "MemoryMB": i64,
        memory_max_mb "MemoryMaxMB": i64,
        numa "NUMA": Option<serde_json::Value>,
        #[serde(serialize_with = "or_null")]
        networks "Networks": Vec<NetworkResource>,
        secrets_mb "SecretsMB": i64,
    }
    /// What an allocation holds on its node.
    AllocatedResources {
        shared "Shared": AllocatedShared,
        #[serde(serialize_with = "or_null")]
        task_lifecycles "TaskLifecycles": BTreeMap<String, Option<TaskLifecycle>>,
        #[serde(serialize_with = "or_null")]
        tasks "Tasks": BTreeMap<String, AllocatedTask>,
    }
    /// What the tasks of an allocation share.
    AllocatedShared {
        disk_mb "DiskMB": u64,
        #[serde(serialize_with = "or_null")]
        networks "Networks": Vec<NetworkResource>,
        #[serde(serialize_with = "or_null")]
        ports "Ports": Vec<AllocatedPort>,
    }
    /// What one task holds.
    AllocatedTask {
        cpu "Cpu": AllocatedCpu,
        #[serde(serialize_with = "or_null")]
        devices "Devices": Vec<AllocatedDevice>,
        memory "Memory": AllocatedMemory,
        #[serde(serialize_with = "or_null")]
        networks "Networks": Vec<NetworkResource>,
    }
    /// Processor of a task.
    AllocatedCpu {
        cpu_shares "CpuShares": u64,
        #[serde(serialize_with = "or_null")]
        reserved_cores "ReservedCores": Vec<u16>,
    }
    /// Memory of a task.
    AllocatedMemory {
        memory_mb "MemoryMB": u64,
        memory_max_mb "MemoryMaxMB": i64,
    }
    /// Device instances of a task.
    AllocatedDevice {
        device_ids "DeviceIDs": Vec<String>,
        name "Name": String,
        kind "Type": String,
        vendor "Vendor": String,
    }
    /// When a task runs.
    TaskLifecycle {
        hook "Hook": String,
        sidecar "Sidecar": bool,
    }
    /// What a node has.
    NodeResources {
        cpu "Cpu": NodeCpu,
        #[serde(serialize_with = "or_null")]
        devices "Devices": Vec<NodeDevice>,
        disk "Disk": NodeDisk,
        max_dynamic_port "MaxDynamicPort": u16,
        memory "Memory": NodeMemory,
        min_dynamic_port "MinDynamicPort": u16,
        #[serde(serialize_with = "or_null")]
        networks "Networks": Vec<NetworkResource>,
        #[serde(serialize_with = "or_null")]
        node_networks "NodeNetworks": Vec<NodeNetwork>,
        processors "Processors": Processors,
    }
    /// Processor of a node.
    NodeCpu {
        cpu_shares "CpuShares": u64,
        #[serde(serialize_with = "or_null")]
        reservable_cpu_cores "ReservableCpuCores": Vec<u16>,
        total_cpu_cores "TotalCpuCores": u16,
    }
    /// Disk of a node.
    NodeDisk { disk_mb "DiskMB": u64, }
    /// Memory of a node.
    NodeMemory { memory_mb "MemoryMB": u64, }
    /// Devices of a node.
    NodeDevice {
        #[serde(serialize_with = "or_null")]
        attributes "Attributes": BTreeMap<String, serde_json::Value>,
        instances "Instances": Vec<NodeDeviceInstance>,
        name "Name": String,
        kind "Type": String,
        vendor "Vendor": String,
    }
    /// One device.
    NodeDeviceInstance {
        health_description "HealthDescription": String,
        healthy "Healthy": bool,
        id "ID": String,
        locality "Locality": Option<serde_json::Value>,
    }
    /// An interface of a node.
    NodeNetwork {
        #[serde(serialize_with = "or_null")]
        addresses "Addresses": Vec<NodeAddress>,
        device "Device": String,
        mac_address "MacAddress": String,
        mode "Mode": String,
        speed "Speed": u64,
    }
    /// An address of an interface.
    NodeAddress {
        address "Address": String,
        alias "Alias": String,
        family "Family": String,
        gateway "Gateway": String,
        reserved_ports "ReservedPorts": String,
    }
    /// The processors of a node.
    Processors { topology "Topology": Topology, }
    /// How the cores of a node lie.
    Topology {
        #[serde(serialize_with = "or_null")]
        cores "Cores": Vec<Core>,
        distances "Distances": Option<serde_json::Value>,
        #[serde(serialize_with = "or_null")]
        nodes "Nodes": Vec<u16>,
        override_total_compute "OverrideTotalCompute": u64,
        override_withold_compute "OverrideWitholdCompute": u64,
    }
    /// One core.
    Core {
        base_speed "BaseSpeed": u64,
        disable "Disable": bool,
        grade "Grade": bool,
        guess_speed "GuessSpeed": u64,
        id "ID": u16,
        max_speed "MaxSpeed": u64,
        node_id "NodeID": u16,
        socket_id "SocketID": u16,
    }
    /// What a node holds back.
    ReservedResources {
        cpu "Cpu": ReservedCpu,
        disk "Disk": NodeDisk,
        memory "Memory": NodeMemory,
        networks "Networks": ReservedNetworks,
    }
    /// Processor that is held back.
    ReservedCpu {
        cpu_shares "CpuShares": u64,
        #[serde(serialize_with = "or_null")]
        reserved_cpu_cores "ReservedCpuCores": Vec<u16>,
    }
    /// Ports that are held back.
    ReservedNetworks { reserved_host_ports "ReservedHostPorts": String, }
}

fn port(port: &model::AssignedPort) -> Port {
    Port {
        host_network: port.host_network.to_string(),
        ignore_collision: port.ignore_collision,
        label: port.label.to_string(),
        to: i32::from(port.to),
        value: port.value,
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl AllocatedResources {
    /// Makes the shape of what an allocation holds.
    pub fn of(held: &model::AllocatedResources) -> Self {
        let lifecycle = |lifecycle: model::Lifecycle| TaskLifecycle {
            hook: lifecycle.hook.to_string(),
            sidecar: lifecycle.sidecar,
        };
        Self {
            shared: AllocatedShared {
                disk_mb: held.disk_mb,
                networks: networks(held),
                ports: held
                    .ports
                    .iter()
                    .map(|port| AllocatedPort {
                        host_ip: port.host_ip.to_string(),
                        ignore_collision: port.ignore_collision,
                        label: port.label.to_string(),
                        to: i32::from(port.to),
                        value: port.value,
                    })
                    .collect(),
            },
            task_lifecycles: held
                .tasks
                .iter()
                .map(|task| (task.name.to_string(), task.lifecycle.map(lifecycle)))
                .collect(),
            tasks: held.tasks.iter().map(|task| (task.name.to_string(), AllocatedTask::of(task))).collect(),
        }
    }
}

/// Makes the network that an allocation's ports belong to, as a list of at most one.
fn networks(held: &model::AllocatedResources) -> Vec<NetworkResource> {
    let Some(network) = &held.network else { return Vec::new() };
    let ports = |reserved| held.ports.iter().filter(|port| port.reserved == reserved).map(port).collect();
    // Callers expect no interface's name here: the node says which interface has the address.
    vec![NetworkResource {
        dynamic_ports: ports(false),
        hostname: network.hostname.to_string(),
        ip: network.ip.to_string(),
        mbits: network.mbits,
        mode: network.mode.to_string(),
        reserved_ports: ports(true),
        ..NetworkResource::default()
    }]
}

impl AllocatedTask {
    fn of(task: &model::AllocatedTask) -> Self {
        Self {
            cpu: AllocatedCpu { cpu_shares: task.cpu_shares, reserved_cores: task.cores.clone() },
            devices: task.devices.iter().map(AllocatedDevice::of).collect(),
            memory: AllocatedMemory { memory_mb: task.memory_mb, memory_max_mb: task.memory_max_mb },
            networks: Vec::new(),
        }
    }
}

impl AllocatedDevice {
    fn of(device: &model::AllocatedDevice) -> Self {
        Self {
            device_ids: device.ids.iter().map(ToString::to_string).collect(),
            name: device.name.to_string(),
            kind: device.kind.to_string(),
            vendor: device.vendor.to_string(),
        }
    }
}

impl Resources {
    /// Makes the older form of one task's resources.
    pub fn of_task(task: &model::AllocatedTask) -> Self {
        Self {
            cpu: signed(task.cpu_shares),
            cores: task.cores.len() as i64,
            memory_mb: signed(task.memory_mb),
            memory_max_mb: task.memory_max_mb,
            ..Self::default()
        }
    }

    /// Makes the older form of what the tasks share.
    pub fn shared(held: &model::AllocatedResources) -> Self {
        Self { disk_mb: signed(held.disk_mb), networks: networks(held), ..Self::default() }
    }

    /// Makes the older form of all that an allocation holds.
    pub fn total(held: &model::AllocatedResources) -> Self {
        let mut total = Self::shared(held);
        for task in &held.tasks {
            total.cpu += signed(task.cpu_shares);
            total.cores += task.cores.len() as i64;
            total.memory_mb += signed(task.memory_mb);
            total.memory_max_mb += task.memory_max_mb.max(signed(task.memory_mb));
        }
        total
    }
}

impl NodeResources {
    /// Makes the shape of what a node has.
    pub fn of(node: &model::Node) -> Self {
        let has = &node.resources;
        Self {
            cpu: NodeCpu {
                cpu_shares: has.capacity.cpu_shares,
                reservable_cpu_cores: has.capacity.cores.clone(),
                total_cpu_cores: has.total_cores,
            },
            devices: has.devices.iter().map(NodeDevice::of).collect(),
            disk: NodeDisk { disk_mb: has.capacity.disk_mb },
            max_dynamic_port: has.max_dynamic_port,
            memory: NodeMemory { memory_mb: has.capacity.memory_mb },
            min_dynamic_port: has.min_dynamic_port,
            networks: has.networks.iter().flat_map(legacy_networks).collect(),
            node_networks: has.networks.iter().map(NodeNetwork::of).collect(),
            processors: Processors { topology: Topology::of(has) },
        }
    }
}

/// Makes the older form of an interface: one object an address.
fn legacy_networks(network: &model::NodeNetwork) -> Vec<NetworkResource> {
    let bare = NetworkResource { mode: network.mode.to_string(), ..NetworkResource::default() };
    if network.addresses.is_empty() {
        return vec![bare];
    }
    let one = |address: &model::NodeAddress| NetworkResource {
        cidr: format!("{}/{}", address.address, if address.family == "ipv6" { 128 } else { 32 }),
        device: network.device.to_string(),
        ip: address.address.to_string(),
        mbits: signed(network.speed),
        ..bare.clone()
    };
    network.addresses.iter().map(one).collect()
}

impl NodeNetwork {
    fn of(network: &model::NodeNetwork) -> Self {
        let address = |address: &model::NodeAddress| NodeAddress {
            address: address.address.to_string(),
            alias: address.alias.to_string(),
            family: address.family.to_string(),
            gateway: String::new(),
            reserved_ports: address.reserved_ports.to_string(),
        };
        Self {
            addresses: network.addresses.iter().map(address).collect(),
            device: network.device.to_string(),
            mac_address: network.mac.to_string(),
            mode: network.mode.to_string(),
            speed: network.speed,
        }
    }
}

impl NodeDevice {
    fn of(device: &model::NodeDevice) -> Self {
        let instance = |(id, healthy): &(model::Text, bool)| NodeDeviceInstance {
            healthy: *healthy,
            id: id.to_string(),
            ..NodeDeviceInstance::default()
        };
        let attributes = text_map(&device.attributes);
        Self {
            attributes: attributes
                .into_iter()
                .map(|(name, value)| (name, serde_json::json!({ "String": value })))
                .collect(),
            instances: device.instances.iter().map(instance).collect(),
            name: device.name.to_string(),
            kind: device.kind.to_string(),
            vendor: device.vendor.to_string(),
        }
    }
}

impl Topology {
    fn of(has: &model::NodeResources) -> Self {
        let core = |id| Core {
            base_speed: has.core_mhz,
            disable: !has.capacity.cores.contains(&id),
            grade: true,
            id,
            ..Core::default()
        };
        Self {
            cores: (0..has.total_cores).map(core).collect(),
            nodes: vec![0],
            override_total_compute: has.capacity.cpu_shares,
            ..Self::default()
        }
    }
}

impl ReservedResources {
    /// Makes the shape of what a node holds back.
    pub fn of(node: &model::Node) -> Self {
        Self {
            cpu: ReservedCpu {
                cpu_shares: node.reserved.cpu_shares,
                reserved_cpu_cores: node.reserved.cores.clone(),
            },
            disk: NodeDisk { disk_mb: node.reserved.disk_mb },
            memory: NodeMemory { memory_mb: node.reserved.memory_mb },
            networks: ReservedNetworks { reserved_host_ports: node.reserved_ports.to_string() },
        }
    }
}

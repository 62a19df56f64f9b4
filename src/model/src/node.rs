use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Capacity, NodeId, Text, Timestamp, named::named_enum};

named_enum! {
    /// Whether a node can be used.
    NodeStatus {
        /// Not ready yet.
        Initializing = "initializing",
        /// Can be used.
        Ready = "ready",
        /// Gone.
        Down = "down",
        /// Out of reach, with allocations that may come back.
        Disconnected = "disconnected",
    }
}

/// The record of a client in the state.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What the client proves itself with; never shown.
    pub secret_id: uuid::Uuid,
    /// Its name.
    pub name: Text,
    /// Its datacenter.
    pub datacenter: Text,
    /// Its pool.
    pub node_pool: Text,
    /// Its class, free text.
    pub node_class: Text,
    /// Where its HTTP API is, `host:port`.
    pub http_addr: Text,
    /// Facts found on the machine.
    pub attributes: BTreeMap<Text, Text>,
    /// Free key-value pairs.
    pub meta: BTreeMap<Text, Text>,
    /// Links to other systems' ids.
    pub links: BTreeMap<Text, Text>,
    /// Its drivers.
    pub drivers: BTreeMap<Text, DriverState>,
    /// What it has.
    pub resources: NodeResources,
    /// What it holds back.
    pub reserved: Capacity,
    /// Host ports that are held back, e.g. `22,80,8000-8010`.
    pub reserved_ports: Text,
    /// Directories offered to jobs.
    pub host_volumes: BTreeMap<Text, HostVolume>,
    /// Named host networks.
    pub host_networks: BTreeMap<Text, HostNetwork>,
    /// Parent of the tasks' control groups.
    pub cgroup_parent: Text,
    /// Most allocations at a time; 0 for no bound.
    pub max_allocs: u32,
    /// Hash of what constraints may look at; equal nodes share a class.
    pub computed_class: Text,
    /// Whether it can be used.
    pub status: NodeStatus,
    /// Why it is so.
    pub status_description: Text,
    /// When the status last changed.
    pub status_updated_at: Timestamp,
    /// Whether new allocations may be placed on it.
    pub eligible: bool,
    /// It is being emptied.
    pub drain: Option<DrainStrategy>,
    /// The last time that it was emptied.
    pub last_drain: Option<DrainRecord>,
    /// The last things that happened, oldest first, at most 10.
    pub events: Vec<NodeEvent>,
    /// Whether its HTTP API speaks TLS.
    pub tls_enabled: bool,
    /// Index of the last status that it handed in.
    pub last_alloc_update_index: u64,
    /// Index at which it was last missed.
    pub last_missed_heartbeat_index: u64,
    /// Index of its creation.
    pub create_index: u64,
    /// Index of its last change.
    pub modify_index: u64,
}

/// What a node has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeResources {
    /// Countable capacity.
    pub capacity: Capacity,
    /// All cores, reservable or not.
    pub total_cores: u16,
    /// Speed of each core in MHz.
    pub core_mhz: u64,
    /// First dynamic port.
    pub min_dynamic_port: u16,
    /// Last dynamic port.
    pub max_dynamic_port: u16,
    /// Its networks.
    pub networks: Vec<NodeNetwork>,
    /// Its devices.
    pub devices: Vec<NodeDevice>,
}

/// A network of a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeNetwork {
    /// `host`, `bridge`, `cni/<name>`.
    pub mode: Text,
    /// Interface.
    pub device: Text,
    /// Hardware address.
    pub mac: Text,
    /// Megabits per second.
    pub speed: u64,
    /// Addresses.
    pub addresses: Vec<NodeAddress>,
}

/// An address of a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeAddress {
    /// The host network that it belongs to; `default` unless configured.
    pub alias: Text,
    /// The address.
    pub address: Text,
    /// `ipv4` or `ipv6`.
    pub family: Text,
    /// Ports that are held back on it.
    pub reserved_ports: Text,
}

/// Devices of one kind on a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeDevice {
    /// Vendor.
    pub vendor: Text,
    /// Type.
    pub kind: Text,
    /// Name.
    pub name: Text,
    /// Instances: id and whether it is healthy.
    pub instances: Vec<(Text, bool)>,
    /// Facts about it.
    pub attributes: BTreeMap<Text, Text>,
}

/// A driver on a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DriverState {
    /// It is there.
    pub detected: bool,
    /// It works.
    pub healthy: bool,
    /// What it says of its health.
    pub health_description: Text,
    /// Facts about it.
    pub attributes: BTreeMap<Text, Text>,
    /// When it was last looked at.
    pub update_time: Timestamp,
}

/// A directory offered to jobs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HostVolume {
    /// Path on the machine.
    pub path: String,
    /// Never written to.
    pub read_only: bool,
    /// Id, of a dynamic one.
    pub id: Text,
}

/// A named host network.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct HostNetwork {
    /// Addresses that belong to it.
    pub cidr: Text,
    /// Or the interface that does.
    pub interface: Text,
    /// Ports that are held back.
    pub reserved_ports: Text,
}

/// A node is being emptied.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct DrainStrategy {
    /// Time that allocations have; zero for no deadline.
    pub deadline: Duration,
    /// Stop everything at once.
    pub force: bool,
    /// Leave system jobs alone.
    pub ignore_system_jobs: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// When the time is over; zero for never.
    pub force_deadline: Timestamp,
}

/// The last time that a node was emptied.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DrainRecord {
    /// When it began.
    pub started_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// `draining`, `complete` or `canceled`.
    pub status: Text,
    /// Who asked for it.
    pub accessor_id: Text,
    /// What they said.
    pub meta: BTreeMap<Text, Text>,
}

/// Something that happened to a node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct NodeEvent {
    /// What happened.
    pub message: Text,
    /// The part that it concerns: `Cluster`, `Drain`, `Driver`, ...
    pub subsystem: Text,
    /// More about it.
    pub details: BTreeMap<Text, Text>,
    /// When.
    pub timestamp: Timestamp,
    /// At which index it was noted.
    pub create_index: u64,
}

impl Node {
    /// Hashes what conditions may look at on more than one node, so that nodes that are alike share a class: datacenter,
    /// pool, class, attributes and meta that are not unique to the node, drivers and devices.
    pub fn class_of_facts(&self) -> Text {
        let mut hash = Fnv::default();
        for text in [&self.datacenter, &self.node_pool, &self.node_class] {
            hash.add(text);
        }
        let shared = |name: &Text| !name.starts_with("unique.");
        for (name, value) in self.attributes.iter().chain(&self.meta).filter(|(name, _)| shared(name)) {
            hash.add(name);
            hash.add(value);
        }
        for (name, driver) in &self.drivers {
            hash.add(name);
            hash.add(if driver.detected && driver.healthy { "healthy" } else { "not" });
        }
        for name in self.host_volumes.keys().chain(self.host_networks.keys()) {
            hash.add(name);
        }
        for device in &self.resources.devices {
            for text in [&device.vendor, &device.kind, &device.name] {
                hash.add(text);
            }
            for (name, value) in device.attributes.iter().filter(|(name, _)| shared(name)) {
                hash.add(name);
                hash.add(value);
            }
        }
        format!("v1:{}", hash.0).into()
    }

    /// Tells whether new allocations may be placed on it.
    pub fn schedulable(&self) -> bool {
        self.status == NodeStatus::Ready && self.eligible && self.drain.is_none()
    }

    /// Tells whether nothing that it holds can be counted on.
    pub fn is_down(&self) -> bool {
        self.status == NodeStatus::Down
    }

    /// Tells whether the driver is there and works.
    pub fn has_driver(&self, name: &str) -> bool {
        self.drivers.get(name).is_some_and(|driver| driver.detected && driver.healthy)
    }
}

/// The 64-bit Fowler-Noll-Vo hash (1a): stable over builds and machines, which the standard library's is not.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// Adds a text and its end, so that `ab` + `c` differs from `a` + `bc`.
    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

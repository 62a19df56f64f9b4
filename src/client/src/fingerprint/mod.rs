//! What a node finds out about its machine.
//!
//! Each part looks at one thing and adds attributes and resources. A part that finds nothing adds nothing and says why
//! in the log: a node never fails to start for want of a fact.

mod cpu;
mod host;
mod network;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use driver::{Driver, Signal};
use model::{
    Capacity, DriverState, HostNetwork, HostVolume, Node, NodeId, NodeResources, NodeStatus, Text, Timestamp,
};
use uuid::Uuid;

pub use self::network::{default_interface, holds as network_holds, interfaces};

/// What every node says of itself unless its configuration says otherwise; job files refer to these.
const STANDARD_META: [(&str, &str); 6] = [
    ("connect.gateway_image", "docker.io/envoyproxy/envoy:v${NOMAD_envoy_version}"),
    ("connect.log_level", "info"),
    ("connect.proxy_concurrency", "1"),
    ("connect.sidecar_image", "docker.io/envoyproxy/envoy:v${NOMAD_envoy_version}"),
    ("connect.transparent_proxy.default_outbound_port", "15001"),
    ("connect.transparent_proxy.default_uid", "101"),
];

/// What the configuration says about a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its id.
    pub id: NodeId,
    /// What it proves itself with.
    pub secret_id: Uuid,
    /// Its name.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its pool.
    pub node_pool: String,
    /// Its class.
    pub node_class: String,
    /// Free key-value pairs.
    pub meta: BTreeMap<String, String>,
    /// Where its HTTP API is.
    pub http_addr: String,
    /// Version of Nomad whose API this is.
    pub version: String,
    /// Interface whose addresses are used; the one of the default route unless set.
    pub network_interface: Option<String>,
    /// Megabits per second; found unless set.
    pub network_speed: Option<u64>,
    /// Compute in MHz; found unless set.
    pub cpu_total_compute: Option<u64>,
    /// MiB of memory; found unless set.
    pub memory_total_mb: Option<u64>,
    /// MiB of disk; found unless set.
    pub disk_total_mb: Option<u64>,
    /// MiB of free disk; found unless set.
    pub disk_free_mb: Option<u64>,
    /// Ids of cores that may be given to one task alone; all unless set.
    pub reservable_cores: Option<Vec<u16>>,
    /// What is held back.
    pub reserved: Capacity,
    /// Host ports that are held back.
    pub reserved_ports: String,
    /// First and last dynamic port.
    pub dynamic_ports: (u16, u16),
    /// Directories offered to jobs.
    pub host_volumes: BTreeMap<String, HostVolume>,
    /// Named host networks.
    pub host_networks: BTreeMap<String, HostNetwork>,
    /// Parent of the tasks' control groups.
    pub cgroup_parent: String,
    /// Most allocations at a time; 0 for no bound.
    pub max_allocs: u32,
    /// Not used for new allocations until someone says so.
    pub default_ineligible: bool,
    /// Where allocations live.
    pub alloc_dir: PathBuf,
    /// Parts that are not looked at, from `fingerprint.denylist`.
    pub denied: Vec<String>,
}

/// Looks at the machine and describes the node. Drivers are added by [`add_drivers`].
pub fn describe(settings: &Settings) -> Node {
    let mut found = Found::default();
    cpu::look(settings, &mut found);
    host::look(settings, &mut found);
    host::look_at_storage(settings, &mut found);
    network::look(settings, &mut found);
    let signals: Vec<&str> = Signal::names().collect();
    found.set("os.signals", signals.join(","));
    found.set("nomad.version", settings.version.as_str());
    found.set("nomad.service_discovery", "true");
    found.set("nomad.bridge.hairpin_mode", "false");
    found.set("unique.advertise.address", settings.http_addr.as_str());
    found.set("plugins.host_volume.mkdir.version", "0.0.1");
    let resources = NodeResources {
        min_dynamic_port: settings.dynamic_ports.0,
        max_dynamic_port: settings.dynamic_ports.1,
        ..found.resources
    };
    Node {
        id: settings.id,
        secret_id: settings.secret_id,
        name: settings.name.as_str().into(),
        datacenter: settings.datacenter.as_str().into(),
        node_pool: settings.node_pool.as_str().into(),
        node_class: settings.node_class.as_str().into(),
        http_addr: settings.http_addr.as_str().into(),
        attributes: found.attributes,
        meta: STANDARD_META
            .iter()
            .map(|(name, value)| (Text::new_static(name), Text::new_static(value)))
            .chain(texts(&settings.meta))
            .collect(),
        links: BTreeMap::new(),
        drivers: BTreeMap::new(),
        resources,
        reserved: settings.reserved.clone(),
        reserved_ports: settings.reserved_ports.as_str().into(),
        host_volumes: settings
            .host_volumes
            .iter()
            .map(|(name, volume)| (name.into(), volume.clone()))
            .collect(),
        host_networks: settings.host_networks.iter().map(|(name, net)| (name.into(), net.clone())).collect(),
        cgroup_parent: settings.cgroup_parent.as_str().into(),
        max_allocs: settings.max_allocs,
        computed_class: Text::default(),
        status: NodeStatus::Initializing,
        status_description: Text::default(),
        status_updated_at: Timestamp::ZERO,
        eligible: !settings.default_ineligible,
        drain: None,
        last_drain: None,
        events: Vec::new(),
        tls_enabled: false,
        last_alloc_update_index: 0,
        last_missed_heartbeat_index: 0,
        create_index: 0,
        modify_index: 0,
    }
}

/// Asks every driver how it is, and puts what it says on the node. Returns whether anything but times changed.
pub async fn add_drivers(node: &mut Node, drivers: &[Arc<dyn Driver>], now: Timestamp) -> bool {
    let mut changed = false;
    for driver in drivers {
        let print = driver.fingerprint().await;
        let attributes: BTreeMap<Text, Text> = texts(&print.attributes);
        let state = DriverState {
            detected: print.detected,
            healthy: print.healthy,
            health_description: print.description.into(),
            attributes,
            update_time: now,
        };
        let known = node.drivers.get(driver.name());
        let same = known.is_some_and(|known| DriverState { update_time: now, ..known.clone() } == state);
        if same {
            continue;
        }
        changed = true;
        let own = format!("driver.{}", driver.name());
        node.attributes.retain(|name, _| *name != own && !name.starts_with(&format!("{own}.")));
        for (name, value) in &state.attributes {
            // A driver that is there reads as "1" on the node, and as "true" in its own list.
            let value = if *name == own && value == "true" { Text::new_static("1") } else { value.clone() };
            node.attributes.insert(name.clone(), value);
        }
        node.drivers.insert(driver.name().into(), state);
    }
    changed
}

fn texts(map: &BTreeMap<String, String>) -> BTreeMap<Text, Text> {
    map.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// What was found so far.
#[derive(Debug, Default)]
struct Found {
    attributes: BTreeMap<Text, Text>,
    resources: NodeResources,
}

impl Found {
    fn set(&mut self, name: &str, value: impl Into<Text>) {
        self.attributes.insert(name.into(), value.into());
    }
}

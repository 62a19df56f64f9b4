//! The client's part of the options.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use client::fingerprint::Settings;
use model::{Capacity, HostNetwork, HostVolume, NodeId};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Machine,
    address::{AddressError, Addresses},
    check::{Fault, numbers},
    files::io_text,
    options::ClientOptions,
    raw::{RawAgent, RawClient},
    sockaddr::expand,
};

/// Ids of cores are smaller than this.
const CORES_LIMIT: u32 = 4_096;

/// What the client needs to know of the agent.
pub(super) struct Agent<'a> {
    pub name: &'a str,
    pub datacenter: &'a str,
    /// The data directory; none only where both directories are given.
    pub root: Option<&'a Path>,
}

/// Makes the checked form.
pub(super) fn options(
    raw: &RawClient,
    agent: &Agent<'_>,
    addresses: &Addresses,
    machine: &Machine,
) -> Result<ClientOptions, Fault> {
    let dir = |given: &Option<String>, name: &str| {
        let given = given.as_ref().filter(|dir| !dir.is_empty()).map(PathBuf::from);
        given.or_else(|| agent.root.map(|root| root.join(name))).ok_or(Fault::NoDataDir)
    };
    let alloc_dir = dir(&raw.alloc_dir, "alloc")?;
    let gc_max_allocs =
        raw.gc_max_allocs.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    Ok(ClientOptions {
        node: settings(raw, agent, addresses, machine, &alloc_dir)?,
        alloc_dir,
        state_dir: dir(&raw.state_dir, "client")?,
        max_kill_timeout: raw.max_kill_timeout.as_ref().map_or(Duration::from_secs(30), |span| span.time),
        gc_interval: raw.gc_interval.as_ref().map_or(Duration::from_secs(60), |span| span.time),
        gc_max_allocs: gc_max_allocs.unwrap_or(50),
        disable_remote_exec: raw.disable_remote_exec.unwrap_or(false),
        options: raw.options.clone().unwrap_or_default(),
        bind: addresses.bind,
    })
}

fn settings(
    raw: &RawClient,
    agent: &Agent<'_>,
    addresses: &Addresses,
    machine: &Machine,
    alloc_dir: &Path,
) -> Result<Settings, Fault> {
    let interface = raw.network_interface.as_deref().map(|text| expand(text, machine)).transpose();
    let interface = interface.map_err(|source| {
        Fault::Address(AddressError::Template { key: "client.network_interface", source })
    })?;
    let cores = raw.reservable_cores.as_deref().filter(|text| !text.is_empty());
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let reserved = raw.reserved.clone().unwrap_or_default();
    let options = raw.options.clone().unwrap_or_default();
    let denied = options.get("fingerprint.denylist").or_else(|| options.get("fingerprint.blacklist"));
    let port =
        |port: Option<i64>, standard: u16| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(standard);
    Ok(Settings {
        id: NodeId(Uuid::nil()),
        secret_id: Uuid::nil(),
        name: agent.name.to_owned(),
        datacenter: agent.datacenter.to_owned(),
        node_pool: raw
            .node_pool
            .clone()
            .filter(|pool| !pool.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        node_class: text(&raw.node_class),
        meta: raw.meta.clone().unwrap_or_default(),
        http_addr: addresses.advertise.http.to_string(),
        version: String::new(),
        network_interface: interface.filter(|name| !name.is_empty()),
        network_speed: raw.network_speed.and_then(amount),
        cpu_total_compute: raw.cpu_total_compute.and_then(amount),
        memory_total_mb: raw.memory_total_mb.and_then(amount),
        disk_total_mb: raw.disk_total_mb.and_then(amount),
        disk_free_mb: raw.disk_free_mb.and_then(amount),
        reservable_cores: cores
            .map(|text| numbers("client.reservable_cores", text, CORES_LIMIT))
            .transpose()?,
        reserved: Capacity {
            cpu_shares: reserved.cpu.and_then(amount).unwrap_or(0),
            cores: numbers("reserved.cores", &text(&reserved.cores), CORES_LIMIT)?,
            memory_mb: reserved.memory.and_then(amount).unwrap_or(0),
            disk_mb: reserved.disk.and_then(amount).unwrap_or(0),
        },
        reserved_ports: text(&reserved.reserved_ports),
        dynamic_ports: (port(raw.min_dynamic_port, 20_000), port(raw.max_dynamic_port, 32_000)),
        host_volumes: host_volumes(raw)?,
        host_networks: host_networks(raw, machine)?,
        cgroup_parent: raw
            .cgroup_parent
            .clone()
            .filter(|parent| !parent.is_empty())
            .unwrap_or_else(|| "nomad.slice".to_owned()),
        max_allocs: raw.node_max_allocs.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        default_ineligible: raw.default_ineligible.unwrap_or(false),
        alloc_dir: alloc_dir.to_owned(),
        denied: denied.map_or_else(Vec::new, |list| {
            list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
        }),
    })
}

/// An amount that was set; zero means that it is found out.
fn amount(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn host_volumes(raw: &RawClient) -> Result<BTreeMap<String, HostVolume>, Fault> {
    let mut volumes = BTreeMap::new();
    for (name, volume) in raw.host_volume.iter().flatten() {
        let path = volume.path.clone().unwrap_or_default();
        if let Err(error) = std::fs::metadata(&path) {
            let why = io_text(Path::new(&path), &error).replacen("open ", "stat ", 1);
            return Err(Fault::Setup(format!(
                "client setup failed: node setup failed: failed to validate volume {name}, err: {why}"
            )));
        }
        let volume =
            HostVolume { path, read_only: volume.read_only.unwrap_or(false), ..HostVolume::default() };
        volumes.insert(name.clone(), volume);
    }
    Ok(volumes)
}

fn host_networks(raw: &RawClient, machine: &Machine) -> Result<BTreeMap<String, HostNetwork>, Fault> {
    let mut networks = BTreeMap::new();
    for (name, network) in raw.host_network.iter().flatten() {
        let expanded = |key, text: &Option<String>| {
            expand(text.as_deref().unwrap_or_default(), machine)
                .map_err(|source| Fault::Address(AddressError::Template { key, source }))
        };
        let network = HostNetwork {
            cidr: expanded("host_network.cidr", &network.cidr)?.into(),
            interface: expanded("host_network.interface", &network.interface)?.into(),
            reserved_ports: network.reserved_ports.clone().unwrap_or_default().into(),
        };
        networks.insert(name.clone(), network);
    }
    Ok(networks)
}

/// Settings of plugins by their name. Old-style options stand in where a plugin's own settings are silent.
pub(super) fn plugins(raw: &RawAgent) -> BTreeMap<String, Value> {
    let mut plugins: BTreeMap<String, Value> = BTreeMap::new();
    for (name, plugin) in raw.plugin.iter().flatten() {
        let config = plugin.config.as_ref().map_or_else(|| json!({}), |config| config.0.clone());
        plugins.insert(name.clone(), config);
    }
    let options = raw.client.as_ref().and_then(|client| client.options.clone()).unwrap_or_default();
    let on = |name: &str| options.get(name).is_some_and(|value| value == "1" || value == "true");
    if on("driver.raw_exec.enable") {
        let settings = plugins.entry("raw_exec".to_owned()).or_insert_with(|| json!({}));
        set_default(settings, "enabled", json!(true));
    }
    if on("driver.docker.volumes") {
        let settings = plugins.entry("docker".to_owned()).or_insert_with(|| json!({}));
        set_default(settings, "volumes", json!({ "enabled": true }));
    }
    plugins
}

fn set_default(settings: &mut Value, key: &str, value: Value) {
    if settings.is_null() {
        *settings = Map::new().into();
    }
    if let Value::Object(members) = settings {
        members.entry(key.to_owned()).or_insert(value);
    }
}

use std::collections::BTreeSet;

use model::{AllocatedResources, Allocation, AssignedPort, Node, Text, Usage};

/// What is short on a node. `Display` gives the words that a user sees among a placement's metrics.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Misfit {
    /// MHz.
    #[error("cpu")]
    Cpu {
        /// How much is missing.
        missing: u64,
    },
    /// Memory.
    #[error("memory")]
    Memory {
        /// How much is missing, in MiB.
        missing: u64,
    },
    /// Disk.
    #[error("disk")]
    Disk {
        /// How much is missing, in MiB.
        missing: u64,
    },
    /// A core that the node does not have, or that has two owners.
    #[error("cores")]
    Cores {
        /// The core.
        core: u16,
    },
    /// A port with two owners, or one that the node holds back.
    #[error("network: reserved port collision {label}={port}")]
    Port {
        /// The port's label.
        label: Text,
        /// The port.
        port: u16,
    },
    /// A device instance that the node does not have, or that has two owners.
    #[error("device oversubscribed")]
    Device {
        /// Which.
        device: Text,
    },
    /// The node runs as many as it may.
    #[error("max allocation exceeded")]
    MaxAllocs {
        /// How many it may run.
        most: u32,
    },
}

impl Misfit {
    /// Returns the words that a user sees.
    pub fn dimension(&self) -> String {
        self.to_string()
    }
}

/// A port of a node: the host's address and the number.
pub type PortKey = (Text, u16);

/// Ports with their owners counted away: what is taken on a node.
#[derive(Clone, Debug, Default)]
pub struct UsedPorts {
    taken: BTreeSet<PortKey>,
}

impl UsedPorts {
    /// Takes the ports that the node holds back, on each of its addresses.
    pub fn of_node(node: &Node) -> Self {
        let mut used = Self::default();
        let everywhere = parse_ports(&node.reserved_ports);
        for address in node.resources.networks.iter().flat_map(|network| &network.addresses) {
            let own = parse_ports(&address.reserved_ports);
            let network =
                node.host_networks.get(&address.alias).map(|network| parse_ports(&network.reserved_ports));
            for port in everywhere.iter().chain(&own).chain(network.iter().flatten()) {
                used.taken.insert((address.address.clone(), *port));
            }
        }
        used
    }

    /// Tells whether a port is taken.
    pub fn is_taken(&self, host_ip: &Text, port: u16) -> bool {
        self.taken.contains(&(host_ip.clone(), port))
    }

    /// Takes a port.
    ///
    /// # Errors
    ///
    /// When it has an owner, unless two owners are fine.
    pub fn take(&mut self, port: &AssignedPort) -> Result<(), Misfit> {
        if self.taken.insert((port.host_ip.clone(), port.value)) || port.ignore_collision {
            return Ok(());
        }
        Err(Misfit::Port { label: port.label.clone(), port: port.value })
    }
}

/// Reads a list of ports, e.g. `22,80,8000-8010`; parts that are not ports count for nothing.
pub fn parse_ports(text: &str) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            Some((first, last)) => {
                if let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                    ports.extend(first..=last);
                }
            }
            None => ports.extend(part.parse::<u16>().ok()),
        }
    }
    ports
}

/// Returns what a node has for allocations: all of it less what it holds back.
pub fn available(node: &Node) -> Usage {
    let (all, reserved) = (&node.resources.capacity, &node.reserved);
    Usage {
        cpu_shares: all.cpu_shares.saturating_sub(reserved.cpu_shares),
        memory_mb: all.memory_mb.saturating_sub(reserved.memory_mb),
        memory_max_mb: all.memory_mb.saturating_sub(reserved.memory_mb),
        disk_mb: all.disk_mb.saturating_sub(reserved.disk_mb),
    }
}

/// Decides whether these allocations fit on a node together, and adds up what they take.
///
/// The one function that decides it: the scheduler places by it, the store refuses plans by it and the invariant
/// checker recomputes every node with it. It counts allocations that hold their resources ([`Allocation::occupies`])
/// and skips the others. One that the servers stopped keeps what it holds until its client says that it is over, with
/// one exception: it hands over to the allocation that names it as `previous` or among `preempted` and that is on the
/// same node. That one's client starts it only when the other is gone.
///
/// Memory is counted as reserved: what tasks may use beyond that is bounded on the node, not here.
///
/// # Errors
///
/// The first dimension that is short.
pub fn fits<'a>(node: &Node, allocs: impl IntoIterator<Item = &'a Allocation>) -> Result<Usage, Misfit> {
    let allocs: Vec<_> = allocs.into_iter().filter(|alloc| alloc.occupies()).collect();
    let heirs = allocs.iter().filter_map(|alloc| alloc.extra.as_deref());
    let handed_over: BTreeSet<_> =
        heirs.flat_map(|extra| extra.previous.iter().chain(&extra.preempted)).copied().collect();
    let (mut used, mut count) = (Usage::default(), 0_u32);
    let mut exclusive = Exclusive::new(node);
    for alloc in allocs {
        if alloc.server_terminal() && handed_over.contains(&alloc.id) {
            continue;
        }
        used.add(alloc.resources.usage());
        exclusive.take(&alloc.resources)?;
        count += 1;
    }
    if node.max_allocs > 0 && count > node.max_allocs {
        return Err(Misfit::MaxAllocs { most: node.max_allocs });
    }
    let has = available(node);
    if used.cpu_shares > has.cpu_shares {
        return Err(Misfit::Cpu { missing: used.cpu_shares - has.cpu_shares });
    }
    if used.memory_mb > has.memory_mb {
        return Err(Misfit::Memory { missing: used.memory_mb - has.memory_mb });
    }
    if used.disk_mb > has.disk_mb {
        return Err(Misfit::Disk { missing: used.disk_mb - has.disk_mb });
    }
    Ok(used)
}

/// What has one owner at a time: cores, ports, device instances.
struct Exclusive<'a> {
    node: &'a Node,
    cores: BTreeSet<u16>,
    devices: BTreeSet<(Text, Text, Text, Text)>,
    /// Made when the first port is asked for; many nodes never have one taken.
    ports: Option<UsedPorts>,
}

impl<'a> Exclusive<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, cores: BTreeSet::new(), devices: BTreeSet::new(), ports: None }
    }

    fn take(&mut self, resources: &AllocatedResources) -> Result<(), Misfit> {
        for core in resources.cores() {
            let owned = self.node.resources.capacity.cores.contains(&core)
                && !self.node.reserved.cores.contains(&core);
            if !owned || !self.cores.insert(core) {
                return Err(Misfit::Cores { core });
            }
        }
        for port in &resources.ports {
            self.ports.get_or_insert_with(|| UsedPorts::of_node(self.node)).take(port)?;
        }
        for device in resources.tasks.iter().flat_map(|task| &task.devices) {
            for id in &device.ids {
                let key = (device.vendor.clone(), device.kind.clone(), device.name.clone(), id.clone());
                if !self.has_device(&key) || !self.devices.insert(key) {
                    return Err(Misfit::Device { device: id.clone() });
                }
            }
        }
        Ok(())
    }

    fn has_device(&self, (vendor, kind, name, id): &(Text, Text, Text, Text)) -> bool {
        self.node.resources.devices.iter().any(|device| {
            device.vendor == *vendor
                && device.kind == *kind
                && device.name == *name
                && device.instances.iter().any(|(instance, _)| instance == id)
        })
    }
}

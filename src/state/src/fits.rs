use std::collections::{BTreeMap, BTreeSet};

use model::{AllocId, AllocatedResources, Allocation, AssignedPort, Node, Text, Usage};
use serde::{Deserialize, Serialize};

/// What is short on a node. `Display` gives the words that a user sees among a placement's metrics.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
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
        if self.taken.insert((port.host_ip.clone(), port.value))
            || port.ignore_collision
            || mutants::on!("port-with-two-owners")
        {
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
/// one exception: it lends it to the allocation that names it as `previous` or among `preempted` and that is on the same
/// node, and whose client starts it only when the other is gone. The two take as much as the larger of them.
///
/// Memory is counted as reserved: what tasks may use beyond that is bounded on the node, not here.
///
/// # Errors
///
/// The first dimension that is short.
pub fn fits<'a>(node: &Node, allocs: impl IntoIterator<Item = &'a Allocation>) -> Result<Usage, Misfit> {
    let allocs: Vec<_> = allocs.into_iter().filter(|alloc| alloc.occupies()).collect();
    let loans = Loans::of(&allocs);
    let mut exclusive = Exclusive::new(node);
    let (mut used, mut count) = (Usage::default(), 0_u32);
    for alloc in &allocs {
        used.add(alloc.resources.usage());
        if !loans.lends(alloc.id) {
            exclusive.take(&alloc.resources, &[])?;
            count += 1;
        }
    }
    // Whoever is nearest to the end of its line takes first: what it holds, it has from those before it.
    let mut lenders: Vec<_> = allocs.iter().filter(|alloc| loans.lends(alloc.id)).collect();
    lenders.sort_by_key(|lender| loans.heirs_of(lender.id).len());
    for lender in lenders {
        exclusive.take(&lender.resources, &loans.heirs_of(lender.id))?;
    }
    used.sub(loans.lent());
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

/// Which stopping allocations lend what they hold, and to whom. Empty on most nodes.
#[derive(Default)]
struct Loans<'a> {
    lenders: BTreeMap<AllocId, &'a Allocation>,
    /// By lender.
    heirs: BTreeMap<AllocId, &'a Allocation>,
}

impl<'a> Loans<'a> {
    fn of(allocs: &[&'a Allocation]) -> Self {
        let mut loans = Self::default();
        if allocs.iter().all(|alloc| alloc.extra.is_none()) {
            return loans;
        }
        let stopping = allocs.iter().filter(|alloc| alloc.server_terminal());
        let stopping: BTreeMap<_, _> = stopping.map(|alloc| (alloc.id, *alloc)).collect();
        for heir in allocs {
            let extra = heir.extra();
            for id in extra.previous.iter().chain(&extra.preempted) {
                let Some(lender) = stopping.get(id) else { continue };
                // What one lends, it lends once.
                if !loans.heirs.contains_key(id) {
                    loans.lenders.insert(*id, lender);
                    loans.heirs.insert(*id, heir);
                }
            }
        }
        loans
    }

    fn lends(&self, id: AllocId) -> bool {
        self.heirs.contains_key(&id)
    }

    /// Lists who gets what a lender holds: its heir, the heir of that one if it stops too, and so on.
    fn heirs_of(&self, lender: AllocId) -> Vec<&'a AllocatedResources> {
        let mut found = Vec::new();
        let mut next = self.heirs.get(&lender);
        // An allocation names only older ones, so this ends; the bound is for rows that say otherwise.
        while let Some(heir) = next.filter(|_| found.len() <= self.heirs.len()) {
            found.push(&*heir.resources);
            next = self.heirs.get(&heir.id);
        }
        found
    }

    /// Adds up what is counted twice: for each heir what it borrows, at most what it needs.
    fn lent(&self) -> Usage {
        let mut offered: BTreeMap<AllocId, (Usage, Usage)> = BTreeMap::new();
        for (id, heir) in &self.heirs {
            let (offer, _) =
                offered.entry(heir.id).or_insert_with(|| (Usage::default(), heir.resources.usage()));
            offer.add(self.lenders[id].resources.usage());
        }
        let mut lent = Usage::default();
        for (offer, need) in offered.into_values() {
            lent.add(Usage {
                cpu_shares: offer.cpu_shares.min(need.cpu_shares),
                memory_mb: offer.memory_mb.min(need.memory_mb),
                memory_max_mb: offer.memory_max_mb.min(need.memory_max_mb),
                disk_mb: offer.disk_mb.min(need.disk_mb),
            });
        }
        lent
    }
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

    /// Takes what an allocation holds; what one of its heirs took already, it lends.
    fn take(&mut self, resources: &AllocatedResources, heirs: &[&AllocatedResources]) -> Result<(), Misfit> {
        for core in resources.cores() {
            let owned = self.node.resources.capacity.cores.contains(&core)
                && !self.node.reserved.cores.contains(&core);
            let lent = || heirs.iter().any(|heir| heir.cores().any(|other| other == core));
            if !owned || !(self.cores.insert(core) || lent()) {
                return Err(Misfit::Cores { core });
            }
        }
        for port in &resources.ports {
            let same = |other: &AssignedPort| other.value == port.value && other.host_ip == port.host_ip;
            let lent = || heirs.iter().any(|heir| heir.ports.iter().any(same));
            let taken = self.ports.get_or_insert_with(|| UsedPorts::of_node(self.node)).take(port);
            taken.or_else(|misfit| if lent() { Ok(()) } else { Err(misfit) })?;
        }
        for key in device_keys(resources) {
            let lent = || heirs.iter().any(|heir| device_keys(heir).any(|other| other == key));
            let owned = self.has_device(&key);
            if !owned || !(self.devices.insert(key.clone()) || lent()) {
                return Err(Misfit::Device { device: key.3 });
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

/// Lists the device instances that an allocation holds: vendor, type, name, id.
fn device_keys(resources: &AllocatedResources) -> impl Iterator<Item = (Text, Text, Text, Text)> + '_ {
    let devices = resources.tasks.iter().flat_map(|task| &task.devices);
    devices.flat_map(|device| {
        let key = |id: &Text| (device.vendor.clone(), device.kind.clone(), device.name.clone(), id.clone());
        device.ids.iter().map(key)
    })
}

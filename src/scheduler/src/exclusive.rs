//! What has one owner at a time on a node: ports, cores, device instances.

use model::{AllocatedDevice, AllocatedResources, AssignedPort, DeviceRequest, Node, NodeDevice, Text};

use crate::{
    Chance,
    ask::{Ask, PortWish},
    condition::Condition,
    numa,
};

/// Tries to hit a free port at random before the ports are searched in order.
const RANDOM_PORT_TRIES: u32 = 20;

/// Who owns what on one node.
#[derive(Debug, Default)]
pub(crate) struct Exclusive {
    addresses: Vec<Address>,
    first_port: u16,
    last_port: u16,
    free_cores: Vec<u16>,
    taken_devices: Vec<AllocatedDevice>,
}

/// An address of the host with its ports, sorted.
#[derive(Debug, Default)]
struct Address {
    alias: Text,
    ip: Text,
    taken: Vec<u16>,
}

/// What one allocation got of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share {
    pub(crate) ports: Vec<AssignedPort>,
    /// By position of the task.
    pub(crate) cores: Vec<Vec<u16>>,
    /// By position of the task.
    pub(crate) devices: Vec<Vec<AllocatedDevice>>,
}

impl Exclusive {
    /// Starts with what the node itself holds back.
    pub(crate) fn of_node(node: &Node) -> Self {
        let mut addresses: Vec<Address> = Vec::new();
        let everywhere = state::parse_ports(&node.reserved_ports);
        for address in node.resources.networks.iter().flat_map(|network| &network.addresses) {
            let mut held = everywhere.clone();
            held.extend(state::parse_ports(&address.reserved_ports));
            if let Some(network) = node.host_networks.get(&address.alias) {
                held.extend(state::parse_ports(&network.reserved_ports));
            }
            addresses.push(Address {
                alias: address.alias.clone(),
                ip: address.address.clone(),
                taken: held.into_iter().collect(),
            });
        }
        let cores = node.resources.capacity.cores.iter().filter(|core| !node.reserved.cores.contains(core));
        Self {
            addresses,
            first_port: node.resources.min_dynamic_port,
            last_port: node.resources.max_dynamic_port,
            free_cores: cores.copied().collect(),
            taken_devices: Vec::new(),
        }
    }

    /// Gives an allocation what it holds.
    pub(crate) fn take(&mut self, resources: &AllocatedResources) {
        for port in &resources.ports {
            self.take_port(&port.host_ip, port.value);
        }
        for core in resources.cores() {
            self.free_cores.retain(|free| *free != core);
        }
        for device in resources.tasks.iter().flat_map(|task| &task.devices) {
            self.taken_devices.push(device.clone());
        }
    }

    /// Chooses ports, cores and devices; what the lenders, which make room here, hold counts as free.
    ///
    /// # Errors
    ///
    /// What is short, in the words that a user sees.
    pub(crate) fn choose(
        &self,
        node: &Node,
        ask: &Ask,
        lenders: &[&AllocatedResources],
        chance: &mut dyn Chance,
    ) -> Result<Share, Text> {
        Ok(Share {
            cores: self.choose_cores(node, ask, lenders)?,
            devices: self.choose_devices(node, ask, lenders)?,
            ports: self.choose_ports(ask, lenders, chance)?,
        })
    }

    /// Tells whether what a group asks for by name or number can be had if these made room. Ports that may be any are
    /// not looked at: they run out with the node's room.
    pub(crate) fn would_do(&self, node: &Node, ask: &Ask, lenders: &[&AllocatedResources]) -> bool {
        let port_is_free = |wish: &PortWish| {
            wish.value == 0 || self.address(wish).is_some_and(|address| !collides(address, wish, lenders))
        };
        self.choose_cores(node, ask, lenders).is_ok()
            && self.choose_devices(node, ask, lenders).is_ok()
            && ask.ports.iter().all(port_is_free)
    }

    /// Returns how well the devices that a group would get suit its preferences, from -1 to 1; 0 when it has none.
    pub(crate) fn device_score(&self, node: &Node, ask: &Ask) -> f32 {
        let preferring = || ask.devices_by_task.iter().flatten().filter(|ask| !ask.affinities.is_empty());
        let Ok(chosen) = self.choose_devices(node, ask, &[]) else { return 0.0 };
        let requests = ask.devices_by_task.iter().flatten().zip(chosen.iter().flatten());
        let (mut sum, total) = (0.0, preferring().map(weight_of).sum::<i32>());
        for (request, device) in requests {
            if let Some(known) = node.resources.devices.iter().find(|known| is_of(device, known)) {
                sum += device_affinity(known, request, &ask.region) * f64::from(weight_of(request));
            }
        }
        if total == 0 { 0.0 } else { (sum / f64::from(total)) as f32 }
    }

    /// Tells whether an allocation holds something that a group asks for by name or number.
    pub(crate) fn contends(&self, node: &Node, ask: &Ask, held: &AllocatedResources) -> bool {
        let holds_port = |wish: &PortWish| {
            self.address(wish).is_some_and(|address| lends(&[held], &address.ip, wish.value))
        };
        let asked_for = |device: &AllocatedDevice| {
            let same = |known: &&NodeDevice| is_of(device, known);
            let requests = || ask.devices_by_task.iter().flatten();
            node.resources
                .devices
                .iter()
                .find(same)
                .is_some_and(|known| requests().any(|request| matches(known, request, &ask.region)))
        };
        (ask.cores > 0 && held.cores().next().is_some())
            || ask.ports.iter().any(|wish| wish.value > 0 && holds_port(wish))
            || held.tasks.iter().flat_map(|task| &task.devices).any(asked_for)
    }

    fn take_port(&mut self, ip: &Text, port: u16) {
        // Host networks may share an address: the port is taken in each.
        let mut known = false;
        for address in self.addresses.iter_mut().filter(|address| address.ip == *ip) {
            known = true;
            if let Err(at) = address.taken.binary_search(&port) {
                address.taken.insert(at, port);
            }
        }
        if !known {
            self.addresses.push(Address { alias: Text::default(), ip: ip.clone(), taken: vec![port] });
        }
    }

    fn choose_cores(
        &self,
        node: &Node,
        ask: &Ask,
        lenders: &[&AllocatedResources],
    ) -> Result<Vec<Vec<u16>>, Text> {
        if ask.cores == 0 {
            return Ok(Vec::new());
        }
        let lent = lenders.iter().flat_map(|held| held.cores());
        let mut free: Vec<u16> = self.free_cores.iter().copied().chain(lent).collect();
        free.sort_unstable();
        free.dedup();
        numa::choose_cores(node, &free, &ask.cores_by_task)
    }

    fn choose_devices(
        &self,
        node: &Node,
        ask: &Ask,
        lenders: &[&AllocatedResources],
    ) -> Result<Vec<Vec<AllocatedDevice>>, Text> {
        if !ask.has_devices() {
            return Ok(Vec::new());
        }
        let lent: Vec<&AllocatedDevice> =
            lenders.iter().flat_map(|held| &held.tasks).flat_map(|task| &task.devices).collect();
        let mut chosen: Vec<AllocatedDevice> = Vec::new();
        let mut by_task = Vec::with_capacity(ask.devices_by_task.len());
        for requests in &ask.devices_by_task {
            let mut of_task = Vec::with_capacity(requests.len());
            for request in requests {
                let device = self.choose_device(node, request, &lent, &chosen, &ask.region);
                let device = device.ok_or_else(|| {
                    Text::from(format!("devices: no devices match request {}", request.name))
                })?;
                chosen.push(device.clone());
                of_task.push(device);
            }
            by_task.push(of_task);
        }
        Ok(by_task)
    }

    /// Chooses instances of the device group that matches and has the best affinity, the first of equals.
    fn choose_device(
        &self,
        node: &Node,
        request: &DeviceRequest,
        lent: &[&AllocatedDevice],
        chosen: &[AllocatedDevice],
        region: &str,
    ) -> Option<AllocatedDevice> {
        let mut best: Option<(f64, AllocatedDevice)> = None;
        for device in node.resources.devices.iter().filter(|device| matches(device, request, region)) {
            let is_free = |id: &Text| {
                let owned = |held: &&AllocatedDevice| is_of(held, device) && held.ids.contains(id);
                let taken = self.taken_devices.iter().any(|held| owned(&held)) && !lent.iter().any(&owned);
                !taken && !chosen.iter().any(|held| owned(&held))
            };
            let free = device
                .instances
                .iter()
                .filter(|(id, healthy)| *healthy && is_free(id))
                .map(|(id, _)| id.clone());
            let ids: Vec<Text> = free.take(request.count.max(1) as usize).collect();
            if ids.len() < request.count.max(1) as usize {
                continue;
            }
            let affinity = device_affinity(device, request, region);
            if best.as_ref().is_none_or(|(found, _)| affinity > *found) {
                let (vendor, kind, name) = (device.vendor.clone(), device.kind.clone(), device.name.clone());
                best = Some((affinity, AllocatedDevice { vendor, kind, name, ids }));
            }
        }
        best.map(|(_, device)| device)
    }

    fn choose_ports(
        &self,
        ask: &Ask,
        lenders: &[&AllocatedResources],
        chance: &mut dyn Chance,
    ) -> Result<Vec<AssignedPort>, Text> {
        let mut ports: Vec<AssignedPort> = Vec::with_capacity(ask.ports.len());
        for wish in &ask.ports {
            let address = self.address(wish).ok_or_else(|| missing_network(wish))?;
            let value = if wish.value > 0 {
                if collides(address, wish, lenders) {
                    return Err(
                        format!("network: reserved port collision {}={}", wish.label, wish.value).into()
                    );
                }
                wish.value
            } else {
                let taken = |port: u16| {
                    address.has(port)
                        || ports.iter().any(|other| other.value == port && other.host_ip == address.ip)
                        || ask.ports.iter().any(|other| other.value == port)
                };
                self.free_port(taken, chance)
                    .ok_or_else(|| Text::new_static("network: dynamic port selection failed"))?
            };
            ports.push(wish.assigned(value, &address.ip));
        }
        Ok(ports)
    }

    fn address(&self, wish: &PortWish) -> Option<&Address> {
        let alias = if wish.host_network.is_empty() { "default" } else { wish.host_network.as_str() };
        self.addresses.iter().find(|address| address.alias == alias).or_else(|| {
            self.addresses.first().filter(|address| alias == "default" && address.alias.is_empty())
        })
    }

    fn free_port(&self, taken: impl Fn(u16) -> bool, chance: &mut dyn Chance) -> Option<u16> {
        if self.first_port == 0 || self.last_port < self.first_port {
            return None;
        }
        let count = u64::from(self.last_port - self.first_port) + 1;
        let at_random =
            |random: u64| self.first_port + u16::try_from(random % count).expect("below a port count");
        for _ in 0..RANDOM_PORT_TRIES {
            let port = at_random(chance.random_u64());
            if !taken(port) {
                return Some(port);
            }
        }
        let start = at_random(chance.random_u64());
        let ports = (start..=self.last_port).chain(self.first_port..start);
        ports.into_iter().find(|port| !taken(*port))
    }
}

impl Address {
    fn has(&self, port: u16) -> bool {
        self.taken.binary_search(&port).is_ok()
    }
}

/// Says which network a port misses.
pub(crate) fn missing_network(wish: &PortWish) -> Text {
    if wish.host_network.is_empty() || wish.host_network == "default" {
        return "missing network".into();
    }
    format!("missing host network {:?} for port {:?}", wish.host_network.as_str(), wish.label.as_str()).into()
}

fn collides(address: &Address, wish: &PortWish, lenders: &[&AllocatedResources]) -> bool {
    !wish.ignore_collision && address.has(wish.value) && !lends(lenders, &address.ip, wish.value)
}

fn lends(lenders: &[&AllocatedResources], ip: &Text, port: u16) -> bool {
    let mut ports = lenders.iter().flat_map(|held| &held.ports);
    ports.any(|held| held.value == port && held.host_ip == *ip)
}

/// Tells whether held instances are of a device of the node.
fn is_of(held: &AllocatedDevice, device: &NodeDevice) -> bool {
    held.vendor == device.vendor && held.kind == device.kind && held.name == device.name
}

/// Tells whether a device is what a request names, and meets its conditions.
pub(crate) fn matches(device: &NodeDevice, request: &DeviceRequest, region: &str) -> bool {
    let parts: Vec<&str> = request.name.splitn(3, '/').collect();
    let named = match parts.as_slice() {
        [kind] => device.kind == *kind,
        [vendor, kind] => device.vendor == *vendor && device.kind == *kind,
        [vendor, kind, name] => device.vendor == *vendor && device.kind == *kind && device.name == *name,
        _ => false,
    };
    named
        && request
            .constraints
            .iter()
            .all(|constraint| Condition::of_constraint(constraint, region).holds_on_device(device))
}

fn device_affinity(device: &NodeDevice, request: &DeviceRequest, region: &str) -> f64 {
    let met = |affinity: &&model::Affinity| Condition::of_affinity(affinity, region).holds_on_device(device);
    let sum: i32 = request.affinities.iter().filter(met).map(|affinity| affinity.weight).sum();
    let total = weight_of(request);
    if total == 0 { 0.0 } else { f64::from(sum) / f64::from(total) }
}

fn weight_of(request: &DeviceRequest) -> i32 {
    request.affinities.iter().map(|affinity| affinity.weight.abs()).sum()
}

//! The scheduler against a small and obvious model: what the model can put somewhere is placed, what it can not is not.
//!
//! The model knows nothing of classes, heaps or arrays. For each node it asks every demand anew and adds up what is there.

mod fixture;

use std::collections::BTreeSet;

use fixture::*;
use model::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a node of the random region has.
#[derive(Clone, Debug)]
struct Has {
    memory: u64,
    rack: Option<u8>,
    version: u8,
    gpus: u8,
    second_address: bool,
    max_allocs: u32,
}

/// What a job of one allocation asks for.
#[derive(Clone, Debug)]
struct Asks {
    cpu: u32,
    memory: u32,
    cores: u32,
    /// Host network and port.
    port: Option<(bool, u16)>,
    dynamic: bool,
    gpus: u8,
    rack: Option<(u8, bool)>,
    version: Option<u8>,
}

fn has() -> impl Strategy<Value = Has> {
    (
        500..4000_u64,
        proptest::option::of(0..3_u8),
        0..4_u8,
        0..3_u8,
        any::<bool>(),
        prop_oneof![Just(0), 2..5_u32],
    )
        .prop_map(|(memory, rack, version, gpus, second_address, max_allocs)| Has {
            memory,
            rack,
            version,
            gpus,
            second_address,
            max_allocs,
        })
}

fn asks() -> impl Strategy<Value = Asks> {
    let port = proptest::option::of((any::<bool>(), 9000..9003_u16));
    let rack = proptest::option::of((0..3_u8, any::<bool>()));
    let room = (0..1500_u32, 10..1200_u32, prop_oneof![3 => Just(0_u32), 1 => 1..3_u32]);
    (
        room,
        port,
        any::<bool>(),
        prop_oneof![4 => Just(0_u8), 1 => 1..3_u8],
        rack,
        proptest::option::of(0..4_u8),
    )
        .prop_map(|((cpu, memory, cores), port, dynamic, gpus, rack, version)| Asks {
            cpu,
            memory,
            cores,
            port,
            dynamic,
            gpus,
            rack,
            version,
        })
}

fn node_of(at: usize, of: usize, has: &Has) -> Node {
    let mut node = node(at, of);
    node.resources.capacity.memory_mb = has.memory;
    node.meta = has.rack.map(|rack| ("rack".into(), format!("r{rack}").into())).into_iter().collect();
    node.attributes.insert("os.version".into(), format!("1.{}.0", has.version).into());
    node.max_allocs = has.max_allocs;
    if has.gpus > 0 {
        node.resources.devices.push(NodeDevice {
            vendor: "acme".into(),
            kind: "gpu".into(),
            name: "one".into(),
            instances: (0..has.gpus).map(|gpu| (format!("gpu{gpu}").into(), true)).collect(),
            ..NodeDevice::default()
        });
    }
    if has.second_address {
        let address =
            NodeAddress { alias: "second".into(), address: "10.1.0.1".into(), ..NodeAddress::default() };
        node.resources.networks[0].addresses.push(address);
    }
    node.computed_class = node.class_of_facts();
    node
}

fn job_document(id: &str, asks: &Asks) -> Value {
    document(id, "batch", 1, |job| {
        let group = &mut job["TaskGroups"][0];
        let resources = &mut group["Tasks"][0]["Resources"];
        resources["CPU"] = json!(if asks.cores > 0 { 0 } else { asks.cpu });
        resources["MemoryMB"] = json!(asks.memory);
        resources["Cores"] = json!(asks.cores);
        if asks.gpus > 0 {
            resources["Devices"] = json!([{"Name": "gpu", "Count": asks.gpus}]);
        }
        let fixed = asks.port.map(|(second, port)| {
            json!([{"Label": "f", "Value": port, "HostNetwork": if second { "second" } else { "default" }}])
        });
        let dynamic = asks.dynamic.then(|| json!([{"Label": "d"}]));
        if fixed.is_some() || dynamic.is_some() {
            group["Networks"] = json!([{"ReservedPorts": fixed, "DynamicPorts": dynamic}]);
        }
        let mut constraints = Vec::new();
        if let Some((rack, is)) = asks.rack {
            let operator = if is { "=" } else { "!=" };
            constraints
                .push(json!({"LTarget": "${meta.rack}", "Operand": operator, "RTarget": format!("r{rack}")}));
        }
        if let Some(version) = asks.version {
            let wanted = format!(">= 1.{version}");
            constraints
                .push(json!({"LTarget": "${attr.os.version}", "Operand": "version", "RTarget": wanted}));
        }
        group["Constraints"] = json!(constraints);
    })
}

/// The model: decides for one node.
fn could_take(has: &Has, node: &Node, on_node: &[&Allocation], asks: &Asks) -> bool {
    let rack = asks.rack.is_none_or(|(rack, is)| (has.rack == Some(rack)) == is);
    let version = asks.version.is_none_or(|version| has.version >= version);
    let held: Vec<&AllocatedResources> = on_node.iter().map(|alloc| &*alloc.resources).collect();
    let sum = |of: fn(&AllocatedResources) -> u64| held.iter().map(|held| of(held)).sum::<u64>();
    let cpu = if asks.cores > 0 { 1000 * u64::from(asks.cores) } else { u64::from(asks.cpu) };
    let room = sum(|held| held.tasks[0].cpu_shares) + cpu <= node.resources.capacity.cpu_shares
        && sum(|held| held.tasks[0].memory_mb) + u64::from(asks.memory) <= has.memory
        && sum(|held| held.disk_mb) + 10 <= node.resources.capacity.disk_mb;
    let cores = sum(|held| held.cores().count() as u64) + u64::from(asks.cores) <= 4;
    let gpus = sum(|held| held.tasks[0].devices.iter().map(|device| device.ids.len() as u64).sum());
    let port = asks.port.is_none_or(|(second, port)| {
        let ip = if second { "10.1.0.1" } else { "10.0.0.1" };
        let taken =
            held.iter().flat_map(|held| &held.ports).any(|held| held.host_ip == ip && held.value == port);
        (has.second_address || !second) && !taken
    });
    let count = has.max_allocs == 0 || on_node.len() < has.max_allocs as usize;
    rack && version && room && cores && gpus + u64::from(asks.gpus) <= u64::from(has.gpus) && port && count
}

/// What has one owner has one, counted from scratch.
fn nothing_has_two_owners(region: &Region) {
    let state = region.store.state();
    for node in state.nodes() {
        let (mut ports, mut cores, mut devices) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for alloc in state.allocs_by_node(node.id).filter(|alloc| alloc.occupies()) {
            for port in &alloc.resources.ports {
                assert!(ports.insert((port.host_ip.clone(), port.value)), "port {} twice", port.value);
            }
            for core in alloc.resources.cores() {
                assert!(cores.insert(core), "core {core} twice");
            }
            for id in alloc.resources.tasks[0].devices.iter().flat_map(|device| &device.ids) {
                assert!(devices.insert(id.clone()), "device {id} twice");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_could_be_placed_is_placed(
        seed: u64,
        nodes in proptest::collection::vec(has(), 1..6),
        jobs in proptest::collection::vec(asks(), 1..24),
        together: bool,
    ) {
        let all = nodes.iter().enumerate().map(|(at, has)| node_of(at, nodes.len(), has));
        let mut region = Region::of(all).seed(seed);
        for (at, asks) in jobs.iter().enumerate() {
            let id = format!("job{at}");
            region.register(&job_document(&id, asks));
            let snapshot = region.snapshot();
            let possible: Vec<usize> = (0..nodes.len())
                .filter(|&at| {
                    let node = snapshot.node(region.node_id(at)).expect("kept");
                    let on_node: Vec<&Allocation> =
                        snapshot.allocs_by_node(node.id).filter(|alloc| alloc.occupies()).map(|alloc| &**alloc).collect();
                    could_take(&nodes[at], node, &on_node, asks)
                })
                .collect();
            region.schedule();
            nothing_has_two_owners(&region);
            let live = region.live(&id);
            prop_assert_eq!(live.len(), usize::from(!possible.is_empty()), "{:?} on {:?}", asks, possible);
            if let Some(alloc) = live.first() {
                let at = (0..nodes.len()).find(|at| region.node_id(*at) == alloc.node_id).expect("one of ours");
                prop_assert!(possible.contains(&at), "{:?} went to {}, possible: {:?}", asks, at, possible);
            }
            // Some end on the way, so that room comes back.
            if together && seed.rotate_left(at as u32).is_multiple_of(3) {
                region.stop(&id, false);
                region.schedule();
                region.clients();
            }
        }
    }
}

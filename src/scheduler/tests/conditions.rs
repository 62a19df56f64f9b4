//! What jobs ask of nodes beside room: conditions, preferences, pools, networks, devices, cores, volumes.

mod fixture;

use std::collections::BTreeMap;

use fixture::*;
use model::*;
use protocol::{Command, Named};
use serde_json::{Value, json};

/// Asks for one allocation on each of four nodes that a constraint leaves; returns the nodes by number.
fn left_by(constraints: &Value) -> Vec<usize> {
    let nodes = (0..4).map(|at| {
        let mut node = node(at, 4);
        node.attributes.insert("os.version".into(), ["1.2.3", "1.10.0", "2.0.0-beta1", "2.0.0"][at].into());
        node.meta.insert("tags".into(), ["a,b", "b, c", "c", ""][at].into());
        node.meta.insert("wanted".into(), ["^c[12]$", "c2", "never", "~> 2.0"][at].into());
        if at < 2 {
            node.meta.insert("size".into(), ["9", "10"][at].into());
        }
        node.computed_class = format!("v1:{at}").into();
        node
    });
    let mut region = Region::of(nodes);
    region.register(&document("probe", "batch", 4, |job| {
        job["Constraints"] = json!([{"Operand": "distinct_hosts"}]);
        job["TaskGroups"][0]["Constraints"] = constraints.clone();
    }));
    region.settle();
    let live = region.live("probe");
    (0..4).filter(|at| live.iter().any(|alloc| alloc.node_id == region.node_id(*at))).collect()
}

#[test]
fn every_operator_leaves_the_nodes_that_it_should() {
    let cases: [(&str, &str, &str, &[usize]); 34] = [
        ("${meta.size}", "=", "9", &[0]),
        ("${meta.size}", "==", "9", &[0]),
        ("${meta.size}", "is", "9", &[0]),
        ("${meta.size}", "", "9", &[0]),
        ("${meta.size}", "!=", "9", &[1, 2, 3]),
        ("${meta.size}", "not", "9", &[1, 2, 3]),
        ("${meta.size}", "<", "10", &[0]),
        ("${meta.size}", "<=", "10", &[0, 1]),
        ("${meta.size}", ">", "9", &[1]),
        ("${meta.size}", ">=", "9.5", &[1]),
        ("${node.unique.name}", ">", "c2", &[2, 3]),
        ("${meta.size}", "is_set", "", &[0, 1]),
        ("${meta.size}", "is_not_set", "", &[2, 3]),
        ("${meta.size}", "attribute_is_set", "", &[0, 1]),
        ("${attr.os.version}", "version", ">= 1.3", &[1, 3]),
        ("${attr.os.version}", "version", "~> 1.2", &[0, 1]),
        ("${attr.os.version}", "version", "> 1.2.3, < 2", &[1]),
        ("${attr.os.version}", "semver", ">= 1.3", &[1, 2, 3]),
        ("${attr.os.version}", "semver", "< 2.0.0", &[0, 1, 2]),
        ("${attr.os.version}", "version", "no version", &[]),
        ("${meta.tags}", "set_contains", "b", &[0, 1]),
        ("${meta.tags}", "set_contains", "b,c", &[1]),
        ("${meta.tags}", "set_contains_all", "a,b", &[0]),
        ("${meta.tags}", "set_contains_any", "a,c", &[0, 1, 2]),
        ("${node.unique.name}", "regexp", "^c[24]$", &[1, 3]),
        ("${node.unique.name}", "regexp", "${meta.wanted}", &[0, 1]),
        ("${attr.os.version}", "version", "${meta.wanted}", &[3]),
        ("${node.unique.name}", "regexp", "((", &[]),
        ("${node.datacenter}", "=", "dc2", &[2, 3]),
        ("${node.class}", "=", "a", &[0, 1]),
        ("${node.pool}", "=", "default", &[0, 1, 2, 3]),
        ("${node.region}", "=", "global", &[0, 1, 2, 3]),
        ("${attr.unique.hostname}", "=", "${node.unique.name}", &[0, 1, 2, 3]),
        ("${no.such.thing}", "=", "x", &[]),
    ];
    for (left, operator, right, wanted) in cases {
        let constraint = json!([{"LTarget": left, "Operand": operator, "RTarget": right}]);
        assert_eq!(left_by(&constraint), wanted, "{left} {operator} {right}");
    }
    let id = json!([{"LTarget": "${node.unique.id}", "RTarget": node(2, 4).id.to_string(), "Operand": "="}]);
    assert_eq!(left_by(&id), [2]);
}

/// Where the allocations of a job are: how many by a fact of their nodes.
fn by(region: &Region, id: &str, fact: impl Fn(&Node) -> Text) -> BTreeMap<Text, u32> {
    let snapshot = region.snapshot();
    let mut counts = BTreeMap::new();
    for alloc in region.live(id) {
        *counts.entry(fact(snapshot.node(alloc.node_id).expect("kept"))).or_default() += 1;
    }
    counts
}

fn rack(node: &Node) -> Text {
    node.meta.get("rack").cloned().unwrap_or_default()
}

#[test]
fn distinct_hosts_may_be_switched_off() {
    for (value, placed) in [("false", 3), ("0", 3), ("true", 1), ("1", 1), ("", 1)] {
        let mut region = Region::nodes(1);
        region.register(&document("probe", "batch", 3, |job| {
            job["Constraints"] = json!([{"Operand": "distinct_hosts", "RTarget": value}]);
        }));
        region.settle();
        assert_eq!(region.live("probe").len(), placed, "{value:?}");
    }
}

#[test]
fn distinct_property_counts_the_whole_job_or_one_group() {
    let two_groups = |on_job: bool| {
        document("two", "batch", 1, |job| {
            let mut second = job["TaskGroups"][0].clone();
            second["Name"] = json!("h");
            let constraint = json!([{"LTarget": "${meta.rack}", "Operand": "distinct_property"}]);
            if on_job {
                job["Constraints"] = constraint;
            } else {
                job["TaskGroups"][0]["Constraints"] = constraint.clone();
                second["Constraints"] = constraint;
            }
            job["TaskGroups"][0]["Count"] = json!(2);
            second["Count"] = json!(2);
            job["TaskGroups"].as_array_mut().expect("groups").push(second);
        })
    };
    for (on_job, placed) in [(true, 2), (false, 4)] {
        let mut region = Region::nodes(4);
        region.register(&two_groups(on_job));
        region.settle();
        assert_eq!(region.live("two").len(), placed, "on the job: {on_job}");
    }
}

#[test]
fn a_node_without_the_property_is_left_out() {
    let mut bare = node(1, 2);
    bare.meta.clear();
    bare.computed_class = "v1:bare".into();
    let mut region = Region::of([node(0, 2), bare]);
    region.register(&document("probe", "batch", 2, |job| {
        job["Constraints"] = json!([{"LTarget": "${meta.rack}", "Operand": "distinct_property"}]);
    }));
    region.settle();
    assert_eq!(by(&region, "probe", rack), BTreeMap::from([("r1".into(), 1)]));
}

#[test]
fn a_negative_affinity_keeps_away_and_gives_way_to_need() {
    let mut region = Region::nodes(4);
    region.register(&document("probe", "batch", 2, |job| {
        job["Affinities"] = json!([{"LTarget": "${meta.rack}", "Operand": "=", "RTarget": "r1", "Weight": -80},
            {"LTarget": "${node.datacenter}", "Operand": "=", "RTarget": "dc2", "Weight": 20}]);
    }));
    region.settle();
    assert_eq!(by(&region, "probe", rack), BTreeMap::from([("r2".into(), 2)]));
    let metric = region.live("probe")[0].metrics.clone().expect("explained");
    let worst = metric.scores.last().expect("four nodes are shown");
    assert!((worst.parts[2].1 + 0.8).abs() < 1e-6, "{worst:?}");
    region.register(&document("only", "batch", 1, |job| {
        job["Constraints"] = json!([{"LTarget": "${meta.rack}", "Operand": "=", "RTarget": "r1"}]);
        job["Affinities"] =
            json!([{"LTarget": "${meta.rack}", "Operand": "=", "RTarget": "r1", "Weight": -100}]);
    }));
    region.settle();
    assert_eq!(region.live("only").len(), 1);
}

#[test]
fn spreads_follow_their_percentages_and_weights() {
    let mut region = Region::nodes(8);
    region.register(&document("shares", "batch", 10, |job| {
        job["Spreads"] = json!([{"Attribute": "${meta.rack}", "Weight": 100,
            "SpreadTarget": [{"Value": "r1", "Percent": 70}, {"Value": "r2", "Percent": 30}]}]);
    }));
    region.settle();
    assert_eq!(by(&region, "shares", rack), BTreeMap::from([("r1".into(), 7), ("r2".into(), 3)]));
    // What is not listed shares the rest.
    let mut region = Region::nodes(8);
    region.register(&document("rest", "batch", 10, |job| {
        job["Spreads"] = json!([{"Attribute": "${meta.rack}", "Weight": 100,
            "SpreadTarget": [{"Value": "r1", "Percent": 60}]}]);
    }));
    region.settle();
    assert_eq!(by(&region, "rest", rack), BTreeMap::from([("r1".into(), 6), ("r2".into(), 4)]));
    // Two spreads that agree with each other are both kept, where each allocation can have a node of its own.
    let mut region = Region::nodes(16);
    region.register(&document("both", "batch", 8, |job| {
        job["Spreads"] = json!([{"Attribute": "${meta.rack}", "Weight": 60,
                "SpreadTarget": [{"Value": "r1", "Percent": 50}, {"Value": "r2", "Percent": 50}]},
            {"Attribute": "${node.datacenter}", "Weight": 40,
                "SpreadTarget": [{"Value": "dc1", "Percent": 75}, {"Value": "dc2", "Percent": 25}]}]);
    }));
    region.settle();
    assert_eq!(by(&region, "both", rack), BTreeMap::from([("r1".into(), 4), ("r2".into(), 4)]));
    let datacenters = by(&region, "both", |node| node.datacenter.clone());
    assert_eq!(datacenters, BTreeMap::from([("dc1".into(), 6), ("dc2".into(), 2)]));
}

#[test]
fn nodes_without_a_spread_attribute_come_last() {
    let nodes = (0..4).map(|at| {
        let mut node = node(at, 4);
        if at == 3 {
            node.meta.clear();
        }
        node.computed_class = format!("v1:{at}").into();
        node
    });
    let mut region = Region::of(nodes);
    region.register(&document("probe", "batch", 4, |job| {
        job["Spreads"] = json!([{"Attribute": "${meta.rack}", "Weight": 100}]);
    }));
    region.settle();
    assert_eq!(by(&region, "probe", rack), BTreeMap::from([("r1".into(), 2), ("r2".into(), 2)]));
}

#[test]
fn pools_have_their_own_settings() {
    let mut pooled = node(0, 3);
    pooled.node_pool = "gpu".into();
    let mut other = node(1, 3);
    other.node_pool = "gpu".into();
    let mut region = Region::of([pooled, other, node(2, 3)]);
    let scheduler =
        PoolScheduler { algorithm: Some(SchedulerAlgorithm::Spread), memory_oversubscription: Some(true) };
    let pool = NodePool { name: "gpu".into(), scheduler: Some(scheduler), ..NodePool::default() };
    region.apply(&Command::UpsertNodePools { pools: vec![Named(pool)] });
    let in_pool = |id: &str, pool: &str| {
        document(id, "batch", 1, |job| {
            job["NodePool"] = json!(pool);
            job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(500);
            job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMaxMB"] = json!(900);
        })
    };
    for id in ["one", "two"] {
        region.register(&in_pool(id, "gpu"));
        region.settle();
    }
    region.register(&in_pool("three", "default"));
    region.settle();
    let alloc = |id: &str| region.live(id)[0].clone();
    assert_ne!(alloc("one").node_id, alloc("two").node_id, "the pool's algorithm is spread");
    assert_eq!(alloc("one").resources.tasks[0].memory_max_mb, 900);
    assert_eq!(alloc("three").resources.tasks[0].memory_max_mb, 0, "the region's setting is off");
    assert_eq!(alloc("three").node_id, region.node_id(2));
}

#[test]
fn datacenters_may_be_patterns() {
    for (patterns, wanted) in
        [(json!(["*"]), 4), (json!(["dc?"]), 0), (json!(["d*2"]), 2), (json!(["dc1", "x*"]), 2)]
    {
        let mut region = Region::nodes(4);
        region.register(&document("probe", "system", 1, |job| job["Datacenters"] = patterns.clone()));
        region.settle();
        assert_eq!(region.live("probe").len(), wanted, "{patterns}");
    }
}

#[test]
fn ports_are_of_the_host_network_that_is_named() {
    let mut node = node(0, 1);
    let address = |alias: &str, ip: &str| NodeAddress {
        alias: alias.into(),
        address: ip.into(),
        reserved_ports: if alias == "public" { "80".into() } else { Text::default() },
        ..NodeAddress::default()
    };
    node.resources.networks[0].addresses =
        vec![address("default", "10.0.0.1"), address("public", "192.0.2.1"), address("shared", "10.0.0.1")];
    let mut region = Region::of([node]);
    let job = |id: &str, network: &str, port: u16| {
        document(id, "batch", 1, |job| {
            job["TaskGroups"][0]["Networks"] =
                json!([{"ReservedPorts": [{"Label": "p", "Value": port, "HostNetwork": network}]}]);
        })
    };
    region.register(&job("inner", "default", 8080));
    region.register(&job("outer", "public", 8080));
    region.settle();
    let ip = |id: &str| region.live(id)[0].resources.ports[0].host_ip.clone();
    assert_eq!((ip("inner").as_str(), ip("outer").as_str()), ("10.0.0.1", "192.0.2.1"));
    // Another name of the same address, a port that is held back there, and a network that is not there.
    for (id, network, port, reason) in [
        ("alias", "shared", 8080, "network: reserved port collision p=8080"),
        ("held", "public", 80, "network: reserved port collision p=80"),
        ("none", "private", 1, "missing host network \"private\" for port \"p\""),
    ] {
        region.register(&job(id, network, port));
        region.settle();
        let metric = failure(&region, id);
        let told = metric.dimension_exhausted.get(reason).or(metric.constraint_filtered.get(reason));
        assert_eq!(told, Some(&1), "{id}: {metric:?}");
    }
}

fn failure(region: &Region, id: &str) -> AllocMetric {
    let snapshot = region.snapshot();
    let mut evals = snapshot.evals_by_job(&key(id));
    evals.find_map(|eval| eval.failed_groups.get("g").cloned()).expect("it could not be placed")
}

#[test]
fn devices_are_chosen_by_condition_and_preference() {
    let gpu = |name: &str, memory: &str, count: usize| NodeDevice {
        vendor: "acme".into(),
        kind: "gpu".into(),
        name: name.into(),
        instances: (0..count).map(|at| (format!("{name}-{at}").into(), at < 3)).collect(),
        attributes: [("memory".into(), memory.into())].into(),
    };
    let nodes =
        [("small", "4", 2), ("large", "16", 4)].into_iter().enumerate().map(|(at, (name, memory, count))| {
            let mut node = node(at, 2);
            node.resources.devices.push(gpu(name, memory, count));
            node.computed_class = format!("v1:{at}").into();
            node
        });
    let mut region = Region::of(nodes);
    let asks = |id: &str, request: Value| {
        document(id, "batch", 1, |job| {
            job["TaskGroups"][0]["Tasks"][0]["Resources"]["Devices"] = json!([request]);
        })
    };
    region.register(&asks(
        "prefers",
        json!({"Name": "gpu", "Count": 1,
        "Affinities": [{"LTarget": "${device.attr.memory}", "Operand": ">", "RTarget": "8", "Weight": 50}]}),
    ));
    region.settle();
    let live = region.live("prefers")[0].clone();
    assert_eq!(live.resources.tasks[0].devices[0].name, "large");
    let parts = &live.metrics.as_ref().expect("explained").scores[0].parts;
    assert!(parts.contains(&("devices".into(), 1.0)), "{parts:?}");
    region.register(&asks(
        "demands",
        json!({"Name": "acme/gpu", "Count": 2,
        "Constraints": [{"LTarget": "${device.model}", "Operand": "=", "RTarget": "small"}]}),
    ));
    region.settle();
    assert_eq!(region.live("demands")[0].resources.tasks[0].devices[0].ids.len(), 2);
    // Two of the large one are left that work: three are too many, and the fourth is not healthy.
    region.register(&asks("many", json!({"Name": "acme/gpu/large", "Count": 3})));
    region.settle();
    let reason = "devices: no devices match request acme/gpu/large";
    assert_eq!(failure(&region, "many").dimension_exhausted.get(reason), Some(&1));
    region.register(&asks("none", json!({"Name": "fpga", "Count": 1})));
    region.settle();
    assert_eq!(failure(&region, "none").constraint_filtered.get("missing devices"), Some(&2));
}

#[test]
fn cores_are_close_where_that_is_asked_for() {
    let mut only = node(0, 1);
    only.resources.capacity =
        Capacity { cpu_shares: 8000, cores: (0..8).collect(), ..only.resources.capacity };
    only.resources.total_cores = 8;
    for (name, value) in
        [("numa.node.count", "2"), ("numa.node0.cores", "0,2,4,6"), ("numa.node1.cores", "1,3,5,7")]
    {
        only.attributes.insert(name.into(), value.into());
    }
    let mut region = Region::of([only]);
    let job = |id: &str, count: u32, affinity: &str| {
        document(id, "batch", 1, |job| {
            let resources = &mut job["TaskGroups"][0]["Tasks"][0]["Resources"];
            resources["Cores"] = json!(count);
            resources["NUMA"] = json!({"Affinity": affinity});
        })
    };
    for (id, count, affinity) in [("any", 1, "none"), ("near", 3, "require"), ("odd", 2, "prefer")] {
        region.register(&job(id, count, affinity));
        region.settle();
    }
    let cores = |id: &str| region.live(id)[0].resources.cores().collect::<Vec<_>>();
    assert_eq!(cores("any"), [0]);
    assert_eq!(cores("near"), [2, 4, 6], "the tightest fit");
    assert_eq!(cores("odd"), [1, 3]);
    region.register(&job("fits", 2, "require"));
    region.settle();
    assert_eq!(region.live("fits").len(), 1);
    region.stop("any", true);
    region.stop("fits", true);
    region.settle();
    // 0, 5 and 7 are free: three that are not close.
    region.register(&job("far", 3, "require"));
    region.settle();
    assert_eq!(failure(&region, "far").dimension_exhausted.get("numa-cores"), Some(&1));
    region.register(&job("likes", 3, "prefer"));
    region.settle();
    assert_eq!(region.live("likes").len(), 1);
}

#[test]
fn volumes_that_are_not_there_say_so() {
    let mut has = node(0, 2);
    has.host_volumes.insert("data".into(), HostVolume { read_only: true, ..HostVolume::default() });
    has.computed_class = "v1:has".into();
    let mut region = Region::of([has, node(1, 2)]);
    let job = |id: &str, volume: Value| {
        document(id, "batch", 1, |job| job["TaskGroups"][0]["Volumes"] = json!({"v": volume}))
    };
    region.register(&job("reads", json!({"Name": "v", "Type": "host", "Source": "data", "ReadOnly": true})));
    region.register(&job("writes", json!({"Name": "v", "Type": "host", "Source": "data"})));
    region.register(&job("claims", json!({"Name": "v", "Type": "csi", "Source": "db"})));
    region.settle();
    assert_eq!(region.live("reads")[0].node_id, region.node_id(0));
    assert_eq!(failure(&region, "writes").constraint_filtered["missing compatible host volumes"], 2);
    assert_eq!(failure(&region, "claims").constraint_filtered["missing CSI Volume db"], 2);
}

#[test]
fn what_a_node_holds_back_is_nobodys() {
    let mut only = node(0, 1);
    only.reserved = Capacity { cpu_shares: 1000, cores: vec![0], memory_mb: 500, disk_mb: 0 };
    let mut region = Region::of([only]);
    region.register(&document("large", "batch", 1, |job| {
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(3600);
    }));
    region.register(&document("cores", "batch", 1, |job| {
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["Cores"] = json!(3);
    }));
    region.settle();
    let metric = failure(&region, "large");
    assert_eq!((metric.dimension_exhausted["memory"], metric.nearest_miss["memory"]), (1, 100));
    assert_eq!(region.live("cores")[0].resources.cores().collect::<Vec<_>>(), [1, 2, 3]);
}

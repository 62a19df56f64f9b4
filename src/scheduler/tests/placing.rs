//! Where allocations go, and what is said about it.

mod fixture;

use std::{collections::BTreeMap, time::Duration};

use fixture::*;
use model::*;
use protocol::Command;
use serde_json::{Value, json};

fn batch(id: &str, count: u32, change: impl FnOnce(&mut Value)) -> Value {
    document(id, "batch", count, change)
}

fn resources(job: &mut Value) -> &mut Value {
    &mut job["TaskGroups"][0]["Tasks"][0]["Resources"]
}

fn failed(region: &Region, id: &str) -> AllocMetric {
    let snapshot = region.snapshot();
    let evals = snapshot.evals_by_job(&key(id));
    evals.filter_map(|eval| eval.failed_groups.get("g").cloned()).next().expect("some could not be placed")
}

#[test]
fn ports_have_one_owner() {
    let mut region = Region::nodes(2);
    region.register(&batch("web", 3, |job| {
        job["TaskGroups"][0]["Networks"] = json!([{"ReservedPorts": [{"Label": "http", "Value": 8080, "To": 80}],
            "DynamicPorts": [{"Label": "admin", "To": -1}]}]);
    }));
    region.settle();
    let live = region.live("web");
    assert_eq!(live.len(), 2, "one a node");
    for alloc in &live {
        let ports = &alloc.resources.ports;
        assert_eq!((ports[0].value, ports[0].to, ports[0].reserved), (8080, 80, true));
        assert!((20000..=32000).contains(&ports[1].value));
        assert_eq!(ports[1].to, ports[1].value);
        assert_eq!(alloc.resources.network.as_ref().expect("it has one").ip, "10.0.0.1");
    }
    assert_eq!(failed(&region, "web").dimension_exhausted["network: reserved port collision http=8080"], 2);
}

#[test]
fn an_update_reuses_the_port_of_the_one_that_it_replaces() {
    let mut region = Region::nodes(1);
    let job = |value: &str| {
        document("web", "service", 1, |job| {
            job["TaskGroups"][0]["Networks"] = json!([{"ReservedPorts": [{"Label": "http", "Value": 8080}]}]);
            job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": value});
            resources(job)["MemoryMB"] = json!(3000);
            resources(job)["Cores"] = json!(3);
        })
    };
    region.register(&job("0"));
    region.settle();
    region.register(&job("1"));
    region.settle();
    let live = region.live("web");
    assert_eq!((live.len(), live[0].job.version), (1, 1));
    assert_eq!(live[0].resources.cores().count(), 3);
    assert_eq!(live[0].resources.tasks[0].cpu_shares, 3000);
}

#[test]
fn a_held_back_port_is_not_given_away() {
    let mut region = Region::nodes(1);
    region.register(&batch("ssh", 1, |job| {
        job["TaskGroups"][0]["Networks"] = json!([{"ReservedPorts": [{"Label": "ssh", "Value": 22}]}]);
    }));
    region.settle();
    assert!(region.live("ssh").is_empty());
}

#[test]
fn filters_say_why() {
    let mut region = Region::nodes(4);
    region.register(&batch("gpu", 2, |job| {
        job["Constraints"] = json!([{"LTarget": "${meta.gpu}", "Operand": "=", "RTarget": "yes"}]);
    }));
    region.register(&batch("driver", 1, |job| job["TaskGroups"][0]["Tasks"][0]["Driver"] = json!("docker")));
    region.register(&batch("unique", 1, |job| {
        job["Constraints"] = json!([{"LTarget": "${attr.unique.hostname}", "Operand": "=", "RTarget": "c3"}]);
    }));
    region.register(&batch("elsewhere", 1, |job| job["Datacenters"] = json!(["nowhere"])));
    region.settle();
    let gpu = failed(&region, "gpu");
    assert_eq!(gpu.constraint_filtered, BTreeMap::from([("${meta.gpu} = yes".into(), 4)]));
    assert_eq!(gpu.class_filtered, BTreeMap::from([("a".into(), 2), ("b".into(), 2)]));
    assert_eq!(
        (gpu.nodes_evaluated, gpu.nodes_filtered, gpu.nodes_exhausted, gpu.coalesced_failures),
        (4, 4, 0, 1)
    );
    assert_eq!(gpu.nodes_available, BTreeMap::from([("dc1".into(), 2), ("dc2".into(), 2)]));
    assert_eq!(failed(&region, "driver").constraint_filtered["missing drivers"], 4);
    let elsewhere = failed(&region, "elsewhere");
    assert_eq!(
        (elsewhere.nodes_evaluated, elsewhere.nodes_in_pool, elsewhere.nodes_available.len()),
        (0, 4, 0)
    );
    assert_eq!(region.live("unique")[0].node_id, region.node_id(2));
    let snapshot = region.snapshot();
    let blocked =
        snapshot.evals_by_job(&key("gpu")).find(|eval| eval.status == EvalStatus::Blocked).expect("it waits");
    assert_eq!(blocked.class_eligibility.values().collect::<Vec<_>>(), [&false; 4]);
    assert!(!blocked.escaped_class);
    assert_eq!(blocked.status_description, "created to place remaining allocations");
}

#[test]
fn scores_are_shown_by_their_names() {
    let mut region = Region::nodes(4);
    region.register(&document("web", "service", 1, |job| {
        job["Affinities"] =
            json!([{"LTarget": "${node.datacenter}", "Operand": "=", "RTarget": "dc2", "Weight": 50}]);
    }));
    region.settle();
    let alloc = &region.live("web")[0];
    let metric = alloc.metrics.as_ref().expect("explained");
    assert_eq!(metric.scores.len(), 4);
    let names: Vec<&str> = metric.scores[0].parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["binpack", "job-anti-affinity", "node-affinity", "node-reschedule-penalty"]);
    assert_eq!(metric.scores[0].parts[2].1, 1.0);
    assert_eq!(region.snapshot().node(alloc.node_id).expect("kept").datacenter, "dc2");
    assert_eq!((metric.nodes_evaluated, metric.nodes_exhausted), (4, 0));
}

#[test]
fn distinct_property_bounds_each_value() {
    let mut region = Region::nodes(4);
    region.register(&batch("racks", 5, |job| {
        job["Constraints"] =
            json!([{"LTarget": "${meta.rack}", "Operand": "distinct_property", "RTarget": "2"}]);
    }));
    region.settle();
    let snapshot = region.snapshot();
    let mut racks: BTreeMap<Text, u32> = BTreeMap::new();
    for alloc in region.live("racks") {
        *racks.entry(snapshot.node(alloc.node_id).expect("kept").meta["rack"].clone()).or_default() += 1;
    }
    assert_eq!(racks, BTreeMap::from([("r1".into(), 2), ("r2".into(), 2)]));
    assert_eq!(
        failed(&region, "racks").constraint_filtered["distinct_property: ${meta.rack}=r1 used by 2 allocs"],
        2
    );
}

#[test]
fn an_even_spread_is_even() {
    let mut region = Region::nodes(4);
    region.register(&batch("even", 8, |job| {
        job["Spreads"] = json!([{"Attribute": "${meta.rack}", "Weight": 100}])
    }));
    region.settle();
    let snapshot = region.snapshot();
    let first = region
        .live("even")
        .iter()
        .filter(|alloc| snapshot.node(alloc.node_id).expect("kept").meta["rack"] == "r1")
        .count();
    assert_eq!(first, 4);
}

#[test]
fn a_lost_node_is_replaced_once() {
    let mut region = Region::nodes(4);
    region.register(&service("web", 2));
    region.settle();
    let lost = region.live("web")[0].clone();
    let at = (0..4).find(|at| region.node_id(*at) == lost.node_id).expect("it is on a node");
    region.node_status(at, NodeStatus::Down);
    region.settle();
    let rows = region.rows("web");
    assert!(rows.contains(&format!(
        "web.g[{}] v0 stop \"alloc is lost since its node is down\" lost replaced",
        lost.index
    )));
    assert_eq!(region.live("web").len(), 2);
    let eval = region.eval("web", EvalTrigger::NodeUpdate);
    assert!(region.plan(&eval).is_quiet(), "a second look changes nothing");
}

#[test]
fn a_failed_allocation_waits_longer_each_time() {
    let mut region = Region::nodes(4);
    region.register(&document("web", "service", 1, |job| job["TaskGroups"][0]["Update"] = json!(null)));
    region.failing.insert("web");
    let mut waits = Vec::new();
    for _ in 0..4 {
        region.settle();
        let snapshot = region.snapshot();
        let next = snapshot
            .evals()
            .find(|eval| eval.status == EvalStatus::Pending)
            .expect("it is tried again")
            .wait_until;
        let wait = next.since(region.now);
        waits.push(wait.as_secs());
        region.pass(wait + Duration::from_secs(1));
    }
    assert_eq!(waits, [30, 60, 120, 240]);
}

#[test]
fn a_disconnected_allocation_is_replaced_and_taken_back() {
    let mut region = Region::nodes(3);
    region.register(&document("far", "service", 1, |job| {
        job["TaskGroups"][0]["Disconnect"] =
            json!({"LostAfter": 3_600_000_000_000_u64, "Replace": true, "Reconcile": "keep_original"});
    }));
    region.settle();
    let original = region.live("far")[0].clone();
    let at = (0..3).find(|at| region.node_id(*at) == original.node_id).expect("it is on a node");
    region.node_status(at, NodeStatus::Disconnected);
    region.settle();
    let unknown = region.store.state().alloc(original.id).expect("kept").clone();
    assert_eq!(unknown.client_status, ClientStatus::Unknown);
    assert_eq!(unknown.client_description, "alloc is unknown since its node is disconnected");
    assert_eq!(unknown.desired_description, "", "the servers want of it what they wanted");
    assert_eq!(region.live("far").len(), 2);
    region.node_status(at, NodeStatus::Ready);
    region.settle();
    let stopped = region.allocs("far").into_iter().find(|alloc| alloc.server_terminal()).expect("one goes");
    assert_ne!(stopped.id, original.id);
    assert_eq!(stopped.desired_description, "alloc not needed due to disconnected client reconnect");
}

#[test]
fn all_at_once_places_all_or_nothing() {
    let mut region = Region::nodes(1);
    region.register(&batch("all", 5, |job| {
        job["AllAtOnce"] = json!(true);
        resources(job)["MemoryMB"] = json!(1000);
    }));
    region.settle();
    assert!(region.live("all").is_empty());
    region.register(&batch("some", 5, |job| resources(job)["MemoryMB"] = json!(1000)));
    region.settle();
    assert_eq!(region.live("some").len(), 4, "what was taken back is free");
}

#[test]
fn plans_stack_before_they_are_committed() {
    let mut region = Region::nodes(1);
    for id in ["first", "second"] {
        region.register(&batch(id, 1, |job| resources(job)["MemoryMB"] = json!(3000)));
    }
    let (first, second) =
        (region.eval("first", EvalTrigger::JobRegister), region.eval("second", EvalTrigger::JobRegister));
    let first = region.plan(&first);
    assert_eq!(first.placements.len(), 1);
    assert_eq!(region.plan(&second).placements.len(), 0, "the room is taken by a plan in flight");
    let snapshot = region.snapshot();
    region.scheduler.withdraw(&snapshot, [&first]);
    assert_eq!(region.plan(&second).placements.len(), 1);
}

/// A leader's state goes ahead of the changes that its scheduler follows one by one.
#[test]
fn room_that_the_table_does_not_know_of_yet_is_not_said_to_be_known() {
    let mut region = Region::nodes(1);
    let large = |id: &str| batch(id, 1, |job| resources(job)["MemoryMB"] = json!(3_000));
    region.register(&large("first"));
    region.settle();
    region.register(&large("second"));
    let eval = region.eval("second", EvalTrigger::JobRegister);
    let known = region.snapshot().index();
    let first = region.live("first").remove(0);
    let updates = vec![region.update(&first, ClientStatus::Complete, None)];
    let command = Command::UpdateAllocs { updates, evals: vec![], now: region.now };
    let applied = region.store.apply(known + 1, &command).expect("the state allows it");
    let plan = region.plan(&eval);
    assert_eq!(plan.placements.len(), 0, "the room counts as taken");
    let waits = plan.new_evals.iter().find(|eval| eval.status == EvalStatus::Blocked);
    assert_eq!(waits.expect("it waits for room").snapshot_index, known);
    let snapshot = region.snapshot();
    region.scheduler.follow(&snapshot, &applied.changes);
    assert_eq!(region.plan(&eval).placements.len(), 1);
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let mut region = Region::nodes(2);
    region.register(&service("web", 2));
    region.settle();
    let job = job_of(&document("web", "service", 3, |job| {
        job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": "1"})
    }));
    let snapshot = region.snapshot();
    let mut number = 0_u64;
    let mut chance = || {
        number += 1;
        number
    };
    let run = scheduler::plan_job(&snapshot, &job, region.now, &mut chance);
    let desired = run.annotations.groups["g"];
    assert_eq!((desired.place, desired.destructive_update, desired.ignore), (1, 0, 2));
    let job = job_of(&document("huge", "service", 2, |job| resources(job)["MemoryMB"] = json!(99_999_999)));
    let run = scheduler::plan_job(&snapshot, &job, region.now, &mut chance);
    assert_eq!(run.failed_groups["g"].coalesced_failures, 1);
    assert_eq!(run.failed_groups["g"].dimension_exhausted["memory"], 2);
}

#[test]
fn a_node_takes_no_more_allocations_than_it_may() {
    let mut region = Region::of([Node { max_allocs: 3, ..node(0, 1) }]);
    region.register(&batch("many", 5, |_| {}));
    region.settle();
    assert_eq!(region.live("many").len(), 3);
    assert_eq!(failed(&region, "many").dimension_exhausted["max allocation exceeded"], 1);
}

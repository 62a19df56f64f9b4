//! The scenarios that were recorded on a real Nomad, as far as scheduling decides them.

mod fixture;

use std::time::Duration;

use fixture::*;
use model::*;
use protocol::{Command, DeploymentUpdate};
use serde_json::json;

const UPDATED: &str = "alloc is being updated due to job update";
const NOT_NEEDED: &str = "alloc not needed due to job update";

fn counts(deployment: &Deployment) -> (u32, u32, u32, u32, u32, bool) {
    let group = &deployment.groups["g"];
    (
        group.desired_total,
        group.desired_canaries,
        group.placed,
        group.healthy,
        group.unhealthy,
        group.promoted,
    )
}

fn with_env(id: &str, count: u32, value: &str) -> serde_json::Value {
    document(id, "service", count, |job| job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": value}))
}

/// A job whose changes are tried with so many canaries first.
fn with_canaries(count: u32, canaries: u32, value: &str) -> serde_json::Value {
    let mut job = with_env("can", count, value);
    job["TaskGroups"][0]["Update"]["Canary"] = json!(canaries);
    job
}

#[test]
fn rolling_update() {
    let mut region = Region::nodes(4);
    region.register(&with_env("roll", 3, "0"));
    region.settle();
    assert_eq!(region.deployment("roll").status, DeploymentStatus::Successful);
    region.register(&with_env("roll", 3, "1"));
    region.schedule();
    assert_eq!(region.live("roll").iter().filter(|alloc| alloc.job.version == 1).count(), 1, "one at a time");
    region.settle();
    let old = |index| format!("roll.g[{index}] v0 stop {UPDATED:?} complete replaced");
    let new = |index| format!("roll.g[{index}] v1 run \"\" running replaces");
    assert_eq!(region.rows("roll"), [old(0), new(0), old(1), new(1), old(2), new(2)]);
    let deployment = region.deployment("roll");
    assert_eq!(counts(&deployment), (3, 0, 3, 3, 0, false));
    assert_eq!(deployment.status_description, "Deployment completed successfully");
}

#[test]
fn in_place_update() {
    let mut region = Region::nodes(4);
    region.register(&service("place", 2));
    region.settle();
    let before: Vec<AllocId> = region.allocs("place").iter().map(|alloc| alloc.id).collect();
    region.register(&document("place", "service", 2, |job| job["Priority"] = json!(60)));
    region.settle();
    assert_eq!(before, region.allocs("place").iter().map(|alloc| alloc.id).collect::<Vec<_>>());
    assert!(region.allocs("place").iter().all(|alloc| alloc.job.version == 1));
    let deployment = region.deployment("place");
    assert_eq!(
        (deployment.job_version, deployment.groups["g"].desired_total, deployment.groups["g"].placed),
        (1, 2, 2)
    );
}

#[test]
fn canary_promote() {
    let mut region = Region::nodes(4);
    region.register(&with_canaries(2, 1, "0"));
    region.settle();
    region.register(&with_canaries(2, 1, "1"));
    region.settle();
    assert_eq!(region.live("can").len(), 3, "running before promotion");
    let deployment = region.deployment("can");
    assert_eq!(deployment.status_description, "Deployment is running but requires manual promotion");
    let (eval, now) = (region.eval("can", EvalTrigger::DeploymentWatcher), region.now);
    region.apply(&Command::PromoteDeployment {
        id: deployment.id,
        groups: None,
        eval: Some(Box::new(eval)),
        now,
    });
    region.settle();
    assert_eq!(
        region.rows("can"),
        [
            format!("can.g[0] v0 stop {NOT_NEEDED:?} complete"),
            "can.g[0] v1 run \"\" running".to_owned(),
            format!("can.g[1] v0 stop {UPDATED:?} complete replaced"),
            "can.g[1] v1 run \"\" running replaces".to_owned(),
        ]
    );
    let deployment = region.deployment("can");
    assert_eq!(counts(&deployment), (2, 1, 2, 2, 0, true));
    assert_eq!(deployment.status, DeploymentStatus::Successful);
}

/// A canary that failed and is to run elsewhere is followed by one and not by two, and one that is lost or moves likewise.
#[test]
fn a_canary_that_goes_is_replaced_once() {
    for way in ["failed", "moved", "lost"] {
        let mut region = Region::nodes(5);
        region.register(&with_canaries(3, 2, "0"));
        region.settle();
        region.register(&with_canaries(3, 2, "1"));
        region.settle();
        let canary = region.deployment("can").groups["g"].placed_canaries[0];
        let alloc = region.snapshot().alloc(canary).expect("it is placed").clone();
        match way {
            "failed" => {
                let update = region.update(&alloc, ClientStatus::Failed, None);
                let now = region.now;
                region.apply(&Command::UpdateAllocs { updates: vec![update], evals: Vec::new(), now });
                region.reschedule(&[canary]);
            }
            "moved" => region.migrate(&[canary]),
            _ => {
                let at = (0..5).find(|at| region.node_id(*at) == alloc.node_id);
                region.node_status(at.expect("it is one of ours"), NodeStatus::Down);
            }
        }
        region.settle();
        let (live, rows) = (region.live("can"), region.rows("can"));
        let canaries = region.allocs("can").iter().filter(|alloc| alloc.job.version == 1).count();
        assert_eq!((live.len(), canaries), (5, 3), "{way}: {rows:#?}");
        assert!(live.iter().all(|alloc| alloc.id != canary), "{way}: {rows:#?}");
    }
}

/// While canaries wait, what is lost beside them comes back when there is room, in its own version, and so does a canary.
#[test]
fn what_is_lost_beside_canaries_without_room_comes_back_with_the_room() {
    let mut region = Region::nodes(2);
    let large = |value: &str| {
        let mut job = with_canaries(3, 1, value);
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(2_000);
        job
    };
    region.register(&large("0"));
    region.settle();
    region.register(&large("1"));
    region.settle();
    assert_eq!(region.live("can").len(), 4, "both nodes are full");
    region.node_status(0, NodeStatus::Down);
    region.settle();
    assert_eq!(region.live("can").len(), 2);
    region.node_status(0, NodeStatus::Ready);
    region.unblock();
    region.settle();
    let (live, rows) = (region.live("can"), region.rows("can"));
    let canaries = live.iter().filter(|alloc| alloc.job.version == 1).count();
    assert_eq!((live.len(), canaries), (4, 1), "{rows:#?}");
}

/// Where everything was gone before the first canary found room, there is nothing to try a change beside.
#[test]
fn canaries_of_which_nothing_is_left_to_stand_beside_are_given_up() {
    let mut region = Region::nodes(2);
    region.register(&with_canaries(2, 1, "0"));
    region.settle();
    (0..2).for_each(|at| region.eligible(at, false));
    region.register(&with_canaries(2, 1, "1"));
    region.settle();
    assert_eq!(region.deployment("can").groups["g"].desired_canaries, 1, "it waits for room");
    let ended: Vec<_> = region.live("can");
    let updates = ended.iter().map(|alloc| region.update(alloc, ClientStatus::Complete, None)).collect();
    let now = region.now;
    region.apply(&Command::UpdateAllocs { updates, evals: Vec::new(), now });
    (0..2).for_each(|at| region.eligible(at, true));
    region.unblock();
    region.settle();
    let (live, rows) = (region.live("can"), region.rows("can"));
    assert!(live.len() == 2 && live.iter().all(|alloc| alloc.job.version == 1), "{rows:#?}");
    assert_eq!(counts(&region.deployment("can")), (2, 0, 2, 2, 0, false));
}

#[test]
fn what_failed_is_not_replaced_beyond_a_lower_count() {
    let mut region = Region::nodes(4);
    region.register(&service("less", 3));
    region.settle();
    let failed = region.live("less")[0].clone();
    let (update, now) = (region.update(&failed, ClientStatus::Failed, None), region.now);
    let evals = vec![region.eval("less", EvalTrigger::RetryFailedAlloc)];
    region.apply(&Command::UpdateAllocs { updates: vec![update], evals, now });
    region.settle();
    // Its time has come, and so has a count that the others fill.
    region.pass(Duration::from_secs(60));
    region.register(&service("less", 2));
    region.settle();
    let rows = region.rows("less");
    assert_eq!(region.allocs("less").len(), 3, "nothing was placed: {rows:#?}");
    assert_eq!(region.live("less").len(), 2, "{rows:#?}");
}

#[test]
fn failed_deployment_stays() {
    let mut region = Region::nodes(4);
    let job = |value: &str| {
        let mut job = with_env("stay", 2, value);
        job["TaskGroups"][0]["ReschedulePolicy"] = json!({"Attempts": 0, "Unlimited": false});
        job
    };
    region.register(&job("0"));
    region.settle();
    region.failing.insert("stay");
    region.register(&job("1"));
    region.settle();
    let id = region.deployment("stay").id;
    let update = DeploymentUpdate {
        id,
        status: DeploymentStatus::Failed,
        description: "Failed due to unhealthy allocations".into(),
    };
    let (eval, now) = (region.eval("stay", EvalTrigger::DeploymentWatcher), region.now);
    region.apply(&Command::UpdateDeployment { update, job: None, eval: Some(Box::new(eval)), now });
    region.settle();
    assert_eq!(
        region.rows("stay"),
        [
            format!("stay.g[0] v0 stop {UPDATED:?} complete replaced"),
            "stay.g[0] v1 run \"\" failed replaces".to_owned(),
            "stay.g[1] v0 run \"\" running".to_owned(),
        ]
    );
    assert_eq!(counts(&region.deployment("stay")), (2, 0, 1, 0, 1, false));

    // Going back is another version: the failed one is replaced, the untouched one moves where it is. That this version
    // may be rescheduled for ever says nothing about the failed one.
    region.failing.clear();
    region.register(&with_env("stay", 2, "0"));
    region.schedule();
    let waits = |eval: &model::Evaluation| eval.trigger == EvalTrigger::AllocReschedule;
    assert!(!region.snapshot().evals().any(|eval| waits(eval)), "nothing waits for the failed one");
    region.settle();
    assert_eq!(
        region.rows("stay"),
        [
            format!("stay.g[0] v0 stop {UPDATED:?} complete replaced"),
            format!("stay.g[0] v1 stop {UPDATED:?} failed replaced replaces"),
            "stay.g[0] v2 run \"\" running replaces".to_owned(),
            "stay.g[1] v2 run \"\" running".to_owned(),
        ]
    );
    assert_eq!(counts(&region.deployment("stay")), (2, 0, 2, 2, 0, false));
}

#[test]
fn batch_fails_and_is_tried_again() {
    let mut region = Region::nodes(4);
    region.failing.insert("tries");
    region.register(&document("tries", "batch", 1, |_| {}));
    region.settle();
    let snapshot = region.snapshot();
    let waiting: Vec<_> = snapshot.evals().filter(|eval| eval.status == EvalStatus::Pending).collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].trigger, EvalTrigger::AllocReschedule);
    assert_eq!(waiting[0].status_description, "created for delayed rescheduling");
    let eval = snapshot.eval(waiting[0].previous_eval.expect("it follows one")).expect("it is kept");
    let desired = eval.annotations.as_ref().expect("annotated").groups["g"];
    assert_eq!((desired.ignore, desired.reschedule_later), (1, 1));
    region.pass(Duration::from_secs(6));
    region.settle();
    region.pass(Duration::from_secs(60));
    region.enqueue("tries", EvalTrigger::NodeUpdate);
    region.settle();
    assert_eq!(
        region.rows("tries"),
        ["tries.g[0] v0 run \"\" failed replaces", "tries.g[0] v0 stop \"\" failed replaced"]
    );
    let second =
        region.allocs("tries").into_iter().find(|alloc| alloc.extra().previous.is_some()).expect("replaced");
    assert_eq!(second.extra().reschedules.len(), 1);
    assert_eq!(second.extra().reschedules[0].delay_ns, 5_000_000_000);
    let score = &second.metrics.as_ref().expect("explained").scores[0];
    assert!(score.parts.iter().any(|(name, _)| name == "node-reschedule-penalty"));
}

#[test]
fn drain_migrates_one_by_one() {
    let mut region = Region::nodes(4);
    region.register(&document("mig", "service", 4, |job| {
        job["TaskGroups"][0]["Update"]["MaxParallel"] = json!(4)
    }));
    region.settle();
    let moved = region.allocs("mig")[0].clone();
    let at = (0..4).find(|at| region.node_id(*at) == moved.node_id).expect("it is on a node");
    region.eligible(at, false);
    let ids: Vec<AllocId> = region
        .live("mig")
        .iter()
        .filter(|alloc| alloc.node_id == moved.node_id)
        .map(|alloc| alloc.id)
        .collect();
    region.migrate(&ids);
    region.settle();
    assert!(region.live("mig").iter().all(|alloc| alloc.node_id != moved.node_id));
    assert_eq!(region.live("mig").len(), 4);
    let row = format!("mig.g[{}] v0 stop \"alloc is being migrated\" complete replaced", moved.index);
    assert!(region.rows("mig").contains(&row));
}

#[test]
fn system_job_follows_nodes() {
    let mut region = Region::nodes(4);
    region.eligible(0, false);
    region.register(&document("sys", "system", 1, |_| {}));
    region.schedule();
    assert_eq!(region.live("sys").len(), 3);
    region.eligible(0, true);
    region.schedule();
    assert_eq!(region.rows("sys"), ["sys.g[0] v0 run \"\" pending"; 4]);
    let deployment = region.deployment("sys");
    assert_eq!(counts(&deployment), (4, 0, 4, 0, 0, false));
    assert_eq!(deployment.status_description, "Deployment is running");
    region.settle();
    assert_eq!(region.deployment("sys").status, DeploymentStatus::Successful);
    region.stop("sys", false);
    region.settle();
    assert_eq!(region.live("sys").len(), 0);
}

/// What was just replaced on a node that takes no more work still counts as under way.
#[test]
fn a_system_update_waits_for_one_on_a_node_that_was_closed() {
    let mut region = Region::nodes(3);
    let version = |value: &str| {
        document("sys", "system", 1, |job| job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": value}))
    };
    region.register(&version("0"));
    region.settle();
    region.register(&version("1"));
    region.schedule();
    let under_way = |region: &Region| {
        let snapshot = region.snapshot();
        snapshot
            .allocs()
            .filter(|alloc| alloc.job.version == 1)
            .map(|alloc| alloc.node_id)
            .collect::<Vec<_>>()
    };
    let [first] = under_way(&region)[..] else { panic!("one at a time") };
    let at = (0..3).find(|at| region.node_id(*at) == first).expect("it is one of ours");
    region.eligible(at, false);
    region.enqueue("sys", EvalTrigger::NodeUpdate);
    region.schedule();
    assert_eq!(under_way(&region), [first], "the first is not known to be healthy");
    region.settle();
    assert_eq!(under_way(&region).len(), 3);
}

#[test]
fn spread_over_datacenters() {
    let mut region = Region::nodes(4);
    region.register(&document("spr", "service", 10, |job| {
        job["Spreads"] = json!([{"Attribute": "${node.datacenter}", "Weight": 100,
            "SpreadTarget": [{"Value": "dc1", "Percent": 70}, {"Value": "dc2", "Percent": 30}]}]);
    }));
    region.schedule();
    let snapshot = region.snapshot();
    let first = region
        .allocs("spr")
        .iter()
        .filter(|alloc| snapshot.node(alloc.node_id).expect("kept").datacenter == "dc1")
        .count();
    assert_eq!(first, 6);
}

#[test]
fn distinct_hosts_blocks_and_unblocks() {
    let mut region = Region::nodes(4);
    region.eligible(3, false);
    region.register(&document("dist", "service", 4, |job| {
        job["Constraints"] = json!([{"LTarget": "", "Operand": "distinct_hosts", "RTarget": "true"}]);
    }));
    region.settle();
    assert_eq!(region.live("dist").len(), 3);
    let snapshot = region.snapshot();
    let blocked: Vec<_> = snapshot.evals().filter(|eval| eval.status == EvalStatus::Blocked).collect();
    assert_eq!(blocked.len(), 1);
    assert_eq!(blocked[0].trigger, EvalTrigger::QueuedAllocs);
    assert_eq!(blocked[0].failed_groups["g"].constraint_filtered["distinct_hosts"], 3);
    region.eligible(3, true);
    region.unblock();
    region.settle();
    assert_eq!(region.live("dist").len(), 4);
    assert!(region.snapshot().evals().all(|eval| eval.status != EvalStatus::Blocked));
}

#[test]
fn room_is_made_for_a_waiting_job() {
    let mut region = Region::nodes(4);
    let large = |id: &str, memory: u32| {
        document(id, "service", 1, |job| {
            job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(memory)
        })
    };
    for at in 0..4 {
        region.register(&large(&format!("fill{at}"), 3000));
    }
    region.settle();
    region.register(&large("wait", 2000));
    region.settle();
    assert!(region.live("wait").is_empty());
    let snapshot = region.snapshot();
    let eval = snapshot.evals().find(|eval| eval.blocked_eval.is_some()).expect("one waits");
    let failed = &eval.failed_groups["g"];
    assert_eq!(failed.dimension_exhausted["memory"], 4);
    assert_eq!(failed.nearest_miss["memory"], 1000);
    assert_eq!((failed.nodes_evaluated, failed.nodes_exhausted, failed.class_exhausted["a"]), (4, 4, 2));
    assert_eq!(eval.queued["g"], 1);
    region.stop("fill2", true);
    region.settle();
    region.unblock();
    region.settle();
    assert_eq!(region.live("wait").len(), 1);
}

/// What went out of reach when there was no room for its replacement is replaced by one that knows it, so that one of the two
/// goes when it comes back.
#[test]
fn what_is_replaced_later_than_it_went_out_of_reach_has_one_name_with_its_replacement() {
    let mut region = Region::nodes(3);
    region.eligible(2, false);
    region.register(&document("away", "service", 2, |job| {
        job["TaskGroups"][0]["Disconnect"] = json!({"LostAfter": 3_600_000_000_000_u64, "Replace": true});
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(3_000);
    }));
    region.settle();
    let first = region.live("away").into_iter().find(|alloc| alloc.index == 0).expect("it is placed");
    let at = (0..2).find(|at| region.node_id(*at) == first.node_id).expect("it is one of ours");
    region.node_status(at, NodeStatus::Disconnected);
    region.settle();
    assert_eq!(region.allocs("away").len(), 2, "there is no room");
    region.eligible(2, true);
    region.unblock();
    region.settle();
    let next = region.live("away").into_iter().find(|alloc| alloc.node_id == region.node_id(2));
    assert_eq!(next.expect("it is replaced").extra().previous, Some(first.id));
    region.node_status(at, NodeStatus::Ready);
    region.settle();
    let names: Vec<u32> = region.live("away").iter().map(|alloc| alloc.index).collect();
    assert!(names == [0, 1] || names == [1, 0], "{:#?}", region.rows("away"));
}

/// It failed while its deployment went on, which counts it as healthy all the same and completes.
#[test]
fn what_failed_after_it_was_healthy_is_replaced_when_its_deployment_is_over() {
    let mut region = Region::nodes(4);
    region.register(&service("late", 2));
    region.schedule();
    region.clients();
    let failed = region.live("late").remove(0);
    let updates = vec![region.update(&failed, ClientStatus::Failed, None)];
    let (evals, now) = (vec![region.eval("late", EvalTrigger::RetryFailedAlloc)], region.now);
    region.apply(&Command::UpdateAllocs { updates, evals, now });
    region.settle();
    assert_eq!(region.deployment("late").status, DeploymentStatus::Successful);
    region.pass(Duration::from_secs(60));
    region.settle();
    assert_eq!(region.live("late").len(), 2, "{:#?}", region.rows("late"));
}

#[test]
fn a_running_allocation_is_rescheduled_when_a_user_asks() {
    let mut region = Region::nodes(4);
    region.register(&service("moved", 2));
    region.settle();
    let asked = region.live("moved")[0].clone();
    region.reschedule(&[asked.id]);
    region.settle();
    let live = region.live("moved");
    assert_eq!(live.len(), 2);
    let next = live.iter().find(|alloc| alloc.index == asked.index).expect("it is replaced");
    assert_ne!(next.id, asked.id);
    assert_ne!(next.node_id, asked.node_id, "a rescheduled allocation goes elsewhere");
    assert_eq!(next.extra().reschedules.len(), 1);
    let row = format!("moved.g[{}] v0 stop \"\" complete replaced", asked.index);
    assert!(region.rows("moved").contains(&row), "{:?}", region.rows("moved"));
    region.settle();
    assert_eq!(region.live("moved").len(), 2, "it happens once");
}

#[test]
fn scale_down_takes_the_highest() {
    let mut region = Region::nodes(4);
    let job = |count| {
        document("down", "service", count, |job| job["TaskGroups"][0]["Update"]["MaxParallel"] = json!(5))
    };
    region.register(&job(5));
    region.settle();
    region.register(&job(2));
    region.settle();
    let stopped = |index| format!("down.g[{index}] v0 stop {NOT_NEEDED:?} complete");
    let kept = |index| format!("down.g[{index}] v1 run \"\" running");
    assert_eq!(region.rows("down"), [kept(0), kept(1), stopped(2), stopped(3), stopped(4)]);
    let deployment = region.deployment("down");
    assert_eq!((deployment.groups["g"].desired_total, deployment.groups["g"].placed), (2, 2));
}

#[test]
fn stop_and_start_again() {
    let mut region = Region::nodes(4);
    region.register(&service("again", 2));
    region.schedule();
    region.stop("again", false);
    region.settle();
    assert_eq!(region.deployment("again").status_description, "Cancelled because job is stopped");
    region.register(&service("again", 2));
    region.settle();
    let old = |index| format!("again.g[{index}] v0 stop {NOT_NEEDED:?} complete");
    let new = |index| format!("again.g[{index}] v2 run \"\" running");
    assert_eq!(region.rows("again"), [old(0), new(0), old(1), new(1)]);
}

#[test]
fn sysbatch_runs_once_everywhere() {
    let mut region = Region::nodes(4);
    region.finishing.insert("sb");
    region.register(&document("sb", "sysbatch", 1, |_| {}));
    region.settle();
    region.enqueue("sb", EvalTrigger::NodeUpdate);
    region.settle();
    assert_eq!(region.rows("sb"), ["sb.g[0] v0 run \"\" complete"; 4]);
}

/// As users are told of `alloc stop`: what a system job loses by it is not replaced at once.
#[test]
fn a_system_allocation_that_is_stopped_by_hand_comes_back_with_the_next_look() {
    let mut region = Region::nodes(2);
    region.register(&document("sys", "system", 1, |_| {}));
    region.settle();
    let stopped = region.live("sys")[0].id;
    region.migrate(&[stopped]);
    region.settle();
    let old = "sys.g[0] v0 stop \"alloc not needed as node is tainted\" complete";
    let other = "sys.g[0] v0 run \"\" running";
    assert_eq!(region.rows("sys"), [other, old]);
    region.enqueue("sys", EvalTrigger::NodeUpdate);
    region.settle();
    assert_eq!(region.rows("sys"), [other, &format!("{other} replaces"), &format!("{old} replaced")]);
}

#[test]
fn sysbatch_runs_again_when_its_tasks_change_and_only_then() {
    let mut region = Region::nodes(2);
    region.finishing.insert("sb");
    let version = |priority: u32, value: &str| {
        document("sb", "sysbatch", 1, |job| {
            job["Priority"] = json!(priority);
            job["TaskGroups"][0]["Tasks"][0]["Env"] = json!({"V": value});
        })
    };
    region.register(&version(50, "0"));
    region.settle();
    region.register(&version(60, "0"));
    region.settle();
    assert_eq!(region.rows("sb"), ["sb.g[0] v0 run \"\" complete"; 2]);
    region.register(&version(60, "1"));
    region.settle();
    let old = "sb.g[0] v0 stop \"alloc is being updated due to job update\" complete replaced";
    let new = "sb.g[0] v2 run \"\" complete replaces";
    assert_eq!(region.rows("sb"), [old, old, new, new]);
}

/// A drain gives batch its time to end, and ends it then; it does not begin anew elsewhere, not even while it still stops.
#[test]
fn a_drained_batch_allocation_is_not_replaced() {
    let mut region = Region::nodes(3);
    region.register(&document("slow", "batch", 2, |_| {}));
    region.settle();
    let drained = region.live("slow")[0].clone();
    region.drain_out(&[drained.id]);
    region.schedule();
    region.enqueue("slow", EvalTrigger::NodeUpdate);
    region.schedule();
    assert_eq!(region.allocs("slow").len(), 2, "it stops, and counts");
    region.settle();
    region.enqueue("slow", EvalTrigger::NodeUpdate);
    region.settle();
    let other = region.live("slow")[0].clone();
    let mut rows = [
        format!("slow.g[{}] v0 stop \"alloc is being migrated\" complete", drained.index),
        format!("slow.g[{}] v0 run \"\" running", other.index),
    ];
    rows.sort();
    assert_eq!(region.rows("slow"), rows);
}

/// Told to stop, and gone with its node before its client said that it did: nobody will ever say it.
#[test]
fn what_was_stopped_on_a_node_that_goes_down_is_over() {
    let mut region = Region::nodes(3);
    region.register(&service("stopped", 2));
    region.register(&service("purged", 2));
    region.settle();
    region.stop("stopped", false);
    region.stop("purged", true);
    region.schedule();
    assert!(["stopped", "purged"].iter().all(|id| region.allocs(id).iter().all(|alloc| alloc.occupies())));
    (0..3).for_each(|at| region.node_status(at, NodeStatus::Down));
    region.schedule();
    for id in ["stopped", "purged"] {
        let allocs = region.allocs(id);
        assert_eq!(allocs.len(), 2, "nothing is placed in their stead");
        for alloc in allocs {
            assert_eq!((alloc.desired, alloc.client_status), (DesiredStatus::Stop, ClientStatus::Lost));
        }
    }
}

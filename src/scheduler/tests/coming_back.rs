//! What comes back when its node does, and what took its place meanwhile.

mod fixture;

use std::sync::Arc;

use fixture::*;
use model::*;
use serde_json::json;

/// A job of which what goes out of reach is replaced and may come back.
fn away(count: u32, reconcile: &str) -> serde_json::Value {
    document("away", "service", count, |job| {
        job["TaskGroups"][0]["Disconnect"] =
            json!({"LostAfter": 3_600_000_000_000_u64, "Replace": true, "Reconcile": reconcile});
        job["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = json!(3_000);
    })
}

/// The numbers of what is wanted of a job, in order.
fn numbers(region: &Region, id: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = region.live(id).iter().map(|alloc| alloc.index).collect();
    numbers.sort_unstable();
    numbers
}

/// Takes the node of the youngest allocation with number 0 out of reach, so that it is replaced, and returns the node.
fn lose_sight(region: &mut Region, nodes: usize) -> usize {
    let running = |alloc: &&Arc<Allocation>| alloc.client_status == ClientStatus::Running;
    let all = region.live("away");
    let last = all.iter().filter(running).rfind(|alloc| alloc.index == 0).expect("it is placed");
    let at = (0..nodes).find(|at| region.node_id(*at) == last.node_id).expect("it is one of ours");
    region.node_status(at, NodeStatus::Disconnected);
    region.settle();
    at
}

/// The node of the one that replaced it went out of reach, too, and it was replaced in turn. However they come back, and
/// whatever is asked for meanwhile, one of the three stays.
#[test]
fn one_stays_of_all_that_had_a_number_when_they_come_back() {
    for reconcile in ["best_score", "keep_original", "keep_replacement", "longest_running"] {
        for (order, together) in [([0, 1], true), ([0, 1], false), ([1, 0], false)] {
            let mut region = Region::nodes(8);
            region.register(&away(2, reconcile));
            region.settle();
            let gone = [lose_sight(&mut region, 8), lose_sight(&mut region, 8)];
            // The count grows in the same breath, so that nothing is too many.
            region.register(&away(4, reconcile));
            for at in order {
                region.node_status(gone[at], NodeStatus::Ready);
                if !together {
                    region.settle();
                }
            }
            region.settle();
            assert_eq!(numbers(&region, "away"), [0, 1, 2, 3], "{reconcile}: {:#?}", region.rows("away"));
        }
    }
}

/// One comes back while what was placed for it and another one are lost: the other one is what is missing.
#[test]
fn what_is_lost_is_not_replaced_under_a_number_that_came_back() {
    let mut region = Region::nodes(8);
    region.register(&away(3, "best_score"));
    region.settle();
    let back = lose_sight(&mut region, 8);
    let live = region.live("away");
    for number in [0, 1] {
        let running = |alloc: &&Arc<Allocation>| alloc.client_status == ClientStatus::Running;
        let lost = live.iter().filter(running).find(|alloc| alloc.index == number).expect("it runs");
        let at = (0..8).find(|at| region.node_id(*at) == lost.node_id).expect("it is one of ours");
        region.node_status(at, NodeStatus::Down);
    }
    region.node_status(back, NodeStatus::Ready);
    region.settle();
    assert_eq!(numbers(&region, "away"), [0, 1, 2], "{:#?}", region.rows("away"));
}

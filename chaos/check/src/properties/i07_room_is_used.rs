use model::{EvalStatus, JobKey, NodeId, NodeStatus, TaskGroup};

use super::i04_constraints_are_met::meets;
use crate::{History, NodeRow, Observation, Property, Rows};

/// After the last fault nothing waits for room while a node has it.
///
/// Only jobs of one group are looked at that ask for nothing but CPU, memory, disk, ports and constraints that are understood
/// here: for them a node's room can be told from the rows alone.
#[derive(Default)]
pub struct RoomIsUsed;

impl Property for RoomIsUsed {
    fn name(&self) -> &'static str {
        "I7 room is used"
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        for (id, eval) in &rows.evals {
            if eval.status != EvalStatus::Blocked || eval.queued == 0 {
                continue;
            }
            let Some(group) = rows.jobs.get(&eval.job).and_then(|job| simple_group(job.spec.as_deref()?))
            else {
                continue;
            };
            if let Some(node) = rows.nodes.iter().find(|(id, node)| {
                may_run(rows, **id, node, &eval.job, group) && has_room(rows, **id, node, group)
            }) {
                let held: u64 = rows.holding_on(*node.0).values().map(|row| row.holds.cpu).sum();
                return Err(format!(
                    "evaluation {id} of {} waits for room since index {} of {} ({:?}), and node {} has it: {held} of {} MHz \
                     are taken there",
                    eval.job, eval.modify_index, rows.index, eval.lacks, node.0, node.1.cpu
                ));
            }
        }
        Ok(())
    }
}

/// The one group of a job that any node may run which has room.
fn simple_group(job: &model::Job) -> Option<&TaskGroup> {
    let [group] = job.spec.groups.as_slice() else { return None };
    let tasks = &group.tasks;
    let plain = |task: &model::Task| {
        let resources = &task.resources;
        task.constraints.is_empty()
            && task.lifecycle.is_none()
            && resources.cores == 0
            && resources.devices.is_empty()
            && resources.networks.is_empty()
    };
    let anywhere = job.spec.constraints.is_empty()
        && group.volumes.is_empty()
        && group.networks.iter().all(|network| network.mode.is_empty() || network.mode == "host");
    (!job.stop && anywhere && tasks.iter().all(plain)).then_some(group)
}

/// Tells whether a node meets a group's constraints; false when that is not known here.
fn may_run(rows: &Rows, id: NodeId, node: &NodeRow, key: &JobKey, group: &TaskGroup) -> bool {
    let is_there = || rows.holding_on(id).values().any(|row| row.job == *key);
    group.constraints.iter().all(|constraint| match constraint.operator.as_str() {
        "distinct_hosts" => !is_there(),
        _ => meets(node, constraint) == Some(true),
    })
}

fn has_room(rows: &Rows, id: NodeId, node: &NodeRow, group: &TaskGroup) -> bool {
    if node.status != NodeStatus::Ready || !node.schedulable || node.drain.is_some() {
        return false;
    }
    let held = rows.holding_on(id);
    let free = |all: u64, amount: fn(&crate::Holding) -> u64| {
        all.saturating_sub(held.values().map(|row| amount(&row.holds)).sum())
    };
    let asks = |amount: fn(&model::TaskResources) -> u32| {
        group.tasks.iter().map(|task| u64::from(amount(&task.resources))).sum::<u64>()
    };
    let owned: Vec<u16> =
        held.values().flat_map(|row| row.holds.ports.iter().map(|port| port.port)).collect();
    let (first, last) = node.dynamic_ports;
    let given = owned.iter().filter(|port| (first..=last).contains(port)).count();
    let mut fixed = group.networks.iter().flat_map(|network| &network.reserved_ports);
    let dynamic: usize = group.networks.iter().map(|network| network.dynamic_ports.len()).sum();
    free(node.cpu, |holds| holds.cpu) >= asks(|resources| resources.cpu)
        && free(node.memory_mb, |holds| holds.memory_mb) >= asks(|resources| resources.memory_mb)
        && free(node.disk_mb, |holds| holds.disk_mb) >= group.ephemeral_disk.size_mb
        && fixed.all(|port| !owned.contains(&port.value))
        && usize::from(last - first) + 1 >= given + dynamic
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        OwnedPort,
        fixture::{alloc_id, calm, change, end, eval_id, node_id, rows_of},
    };

    /// Node 1 has room for one more, node 2 for two.
    fn waiting(group: &Value) -> Observation {
        let mut seen = calm(rows_of(group));
        change(&mut seen, |rows| {
            let eval = rows.evals.get_mut(&eval_id(1)).expect("it is there");
            (eval.status, eval.queued) = (EvalStatus::Blocked, 1);
        });
        seen
    }

    #[test]
    fn waiting_beside_a_free_node_is_seen() {
        end::<RoomIsUsed>(&waiting(&json!({}))).expect_err("there is room");
        let mut full = waiting(&json!({}));
        change(&mut full, |rows| rows.nodes.values_mut().for_each(|node| node.cpu = 800));
        assert!(end::<RoomIsUsed>(&full).is_err(), "node 2 has 500 left");
        change(&mut full, |rows| rows.nodes.values_mut().for_each(|node| node.cpu = 599));
        assert_eq!(end::<RoomIsUsed>(&full), Ok(()));
        let mut draining = waiting(&json!({}));
        change(&mut draining, |rows| rows.nodes.values_mut().for_each(|node| node.schedulable = false));
        assert_eq!(end::<RoomIsUsed>(&draining), Ok(()));
    }

    #[test]
    fn a_port_that_is_taken_is_no_room() {
        let mut seen =
            waiting(&json!({"Networks": [{"ReservedPorts": [{"Label": "http", "Value": 8_080}]}]}));
        let taken = |rows: &mut Rows, number: u128| {
            let row = rows.allocs.get_mut(&alloc_id(number)).expect("it is there");
            row.holds.ports = vec![OwnedPort { port: 8_080, ..OwnedPort::default() }];
        };
        change(&mut seen, |rows| taken(rows, 1));
        end::<RoomIsUsed>(&seen).expect_err("node 2 has the port");
        change(&mut seen, |rows| taken(rows, 3));
        assert_eq!(end::<RoomIsUsed>(&seen), Ok(()));
    }

    #[test]
    fn a_node_that_does_not_meet_the_constraints_is_no_room() {
        let of = |value: &str| json!({"LTarget": "${attr.x}", "Operand": "=", "RTarget": value});
        let with = |constraint: &Value| {
            let mut seen = waiting(&json!({"Constraints": [constraint]}));
            change(&mut seen, |rows| {
                rows.nodes.values_mut().for_each(|node| _ = node.attributes.insert("x".into(), "y".into()));
            });
            seen
        };
        end::<RoomIsUsed>(&with(&of("y"))).expect_err("node 2 meets it");
        assert_eq!(end::<RoomIsUsed>(&with(&of("z"))), Ok(()));
        let mut apart = with(&json!({"Operand": "distinct_hosts"}));
        assert_eq!(end::<RoomIsUsed>(&apart), Ok(()));
        change(&mut apart, |rows| _ = rows.allocs.remove(&alloc_id(3)));
        end::<RoomIsUsed>(&apart).expect_err("nothing of it is on node 2");
    }

    #[test]
    fn what_asks_for_more_than_room_is_passed_over() {
        let picky = json!({"Constraints": [{"LTarget": "${attr.x}", "Operand": "=", "RTarget": "y"}]});
        assert_eq!(end::<RoomIsUsed>(&waiting(&picky)), Ok(()));
        let mut gone = waiting(&json!({}));
        change(&mut gone, |rows| rows.nodes.retain(|id, _| *id != node_id(1) && *id != node_id(2)));
        assert_eq!(end::<RoomIsUsed>(&gone), Ok(()));
    }
}

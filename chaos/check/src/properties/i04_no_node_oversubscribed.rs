use model::NodeId;

use crate::{NodeRow, Observation, Property, Rows, handover::Handover, last_shown::LastShown};

/// What allocations hold on a node is never more than the node has: CPU, memory, disk, cores, devices. Added up here
/// from the rows, apart from the product's own sums, for every server's state.
#[derive(Default)]
pub struct NoNodeOversubscribed {
    last_shown: LastShown,
}

impl Property for NoNodeOversubscribed {
    fn name(&self) -> &'static str {
        "I4 no node oversubscribed"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for (server, rows) in self.last_shown.fresh(seen) {
            for (id, node) in &rows.nodes {
                check(rows, *id, node).map_err(|what| {
                    format!("node {id} at index {} of server {server}: {what}", rows.index)
                })?;
            }
        }
        Ok(())
    }
}

fn check(rows: &Rows, id: NodeId, node: &NodeRow) -> Result<(), String> {
    let handover = Handover::on(rows, id);
    let sums = [
        ("MHz", handover.sum(|row| row.holds.cpu), node.cpu),
        ("MiB of memory", handover.sum(|row| row.holds.memory_mb), node.memory_mb),
        ("MiB of disk", handover.sum(|row| row.holds.disk_mb), node.disk_mb),
    ];
    for (unit, used, has) in sums {
        // A node that came back smaller keeps what was placed on it.
        let later = rows.allocs.values().any(|row| row.node == id && row.create_index > node.modify_index);
        if used > has && (later || node.modify_index == 0) {
            return Err(format!("{used} {unit} are held, it has {has}"));
        }
    }
    if let Some((core, one, other)) = handover.two_owners(|row| row.holds.cores.clone()) {
        return Err(format!("core {core} is held by {one} and {other}"));
    }
    if let Some((device, one, other)) = handover.two_owners(|row| row.holds.devices.clone()) {
        return Err(format!("device {device} is held by {one} and {other}"));
    }
    for row in rows.holding_on(id).values().filter(|row| row.create_index > node.modify_index) {
        if let Some(core) = row.holds.cores.iter().find(|core| !node.cores.contains(core)) {
            return Err(format!("core {core} is held and is not to be had"));
        }
        if let Some(device) = row.holds.devices.iter().find(|device| !node.devices.contains(*device)) {
            return Err(format!("device {device} is held and is not there"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{ClientStatus, DesiredStatus};

    use super::*;
    use crate::{
        AllocRow,
        fixture::{alloc, alloc_id, breaks, calm, holds, rows},
    };

    /// The rows with two more on node 1, beside the two that hold 300 of 1000 each.
    fn with_two_more(change: impl FnOnce(&mut AllocRow, &mut AllocRow)) -> Observation {
        let (mut rows, mut four, mut five) = (rows(), alloc(1, 3), alloc(1, 4));
        change(&mut four, &mut five);
        rows.allocs.extend([(alloc_id(4), four), (alloc_id(5), five)]);
        calm(rows)
    }

    #[test]
    fn what_is_over_holds_nothing() {
        holds::<NoNodeOversubscribed>(&[with_two_more(|_, five| five.client = ClientStatus::Lost)]);
    }

    #[test]
    fn what_takes_over_holds_no_more_than_the_larger() {
        holds::<NoNodeOversubscribed>(&[with_two_more(|four, five| {
            four.desired = DesiredStatus::Stop;
            five.takes_over = vec![alloc_id(4)];
            five.holds.cpu = 400;
        })]);
        breaks::<NoNodeOversubscribed>(&[with_two_more(|_, five| five.takes_over = vec![alloc_id(4)])]);
    }

    #[test]
    fn too_much_of_anything_is_seen() {
        for spoil in [
            |row: &mut AllocRow| row.holds.cpu = 800,
            |row: &mut AllocRow| row.holds.memory_mb = 800,
            |row: &mut AllocRow| row.holds.disk_mb = 800,
        ] {
            breaks::<NoNodeOversubscribed>(&[with_two_more(|four, five| {
                four.client = ClientStatus::Complete;
                spoil(five);
            })]);
        }
    }

    #[test]
    fn a_core_with_two_owners_or_none_to_give_is_seen() {
        let cores = |one: &[u16], other: &[u16]| {
            let mut rows = rows();
            for (id, cores) in [(1, one), (2, other)] {
                rows.allocs.get_mut(&alloc_id(id)).expect("it is there").holds.cores = cores.to_vec();
            }
            calm(rows)
        };
        holds::<NoNodeOversubscribed>(&[cores(&[0, 1], &[2])]);
        breaks::<NoNodeOversubscribed>(&[cores(&[0, 1], &[1])]);
        breaks::<NoNodeOversubscribed>(&[cores(&[0], &[9])]);
        breaks::<NoNodeOversubscribed>(&[cores(&[0, 0], &[])]);
    }

    #[test]
    fn a_device_with_two_owners_is_seen() {
        let mut rows = rows();
        for id in [1, 2] {
            let row = rows.allocs.get_mut(&alloc_id(id)).expect("it is there");
            row.holds.devices = vec!["nvidia/gpu/x/a".into()];
        }
        breaks::<NoNodeOversubscribed>(&[calm(rows)]);
    }
}

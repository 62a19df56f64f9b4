use std::collections::BTreeMap;

use model::{AllocId, NodeId, Text};

use crate::{NodeView, Observation, Property, Rows, handover::Handover, last_shown::LastShown};

/// A port of a node's address has one owner, from the plan until the client says that the owner is over; and on the
/// machine itself no two allocations listen on it.
#[derive(Default)]
pub struct NoPortShared {
    last_shown: LastShown,
}

impl Property for NoPortShared {
    fn name(&self) -> &'static str {
        "I5 no port shared"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for (_, rows) in self.last_shown.fresh(seen) {
            for node in rows.nodes.keys() {
                check_rows(rows, *node)?;
            }
        }
        seen.nodes.iter().try_for_each(check_machine)
    }
}

fn check_rows(rows: &Rows, node: NodeId) -> Result<(), String> {
    let handover = Handover::on(rows, node);
    let owned = handover.two_owners(|row| {
        let alone = row.holds.ports.iter().filter(|port| !port.shared);
        alone.map(|port| (port.address.clone(), port.port)).collect()
    });
    match owned {
        None => Ok(()),
        Some(((address, port), one, other)) => Err(format!(
            "{address}:{port} of node {node} belongs to {one} and {other} at index {}",
            rows.index
        )),
    }
}

fn check_machine(machine: &NodeView) -> Result<(), String> {
    let mut owners: BTreeMap<(&Text, u16), AllocId> = BTreeMap::new();
    for (address, port, alloc) in &machine.listeners {
        let first = *owners.entry((address, *port)).or_insert(*alloc);
        if first != *alloc {
            return Err(format!("{first} and {alloc} listen on {address}:{port} of {}", machine.agent));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{ClientStatus, DesiredStatus};

    use super::*;
    use crate::{
        AllocRow, OwnedPort,
        fixture::{alloc_id, breaks, calm, holds, rows},
    };

    /// The rows with one port for each of the two allocations of node 1.
    fn with_ports(ports: [u16; 2], change: impl FnOnce(&mut AllocRow)) -> Observation {
        let mut rows = rows();
        for (id, port) in [1, 2].into_iter().zip(ports) {
            let row = rows.allocs.get_mut(&alloc_id(id)).expect("it is there");
            row.holds.ports = vec![OwnedPort { address: "10.0.0.1".into(), port, shared: false }];
        }
        change(rows.allocs.get_mut(&alloc_id(2)).expect("it is there"));
        calm(rows)
    }

    #[test]
    fn ports_of_their_own_are_fine() {
        holds::<NoPortShared>(&[with_ports([80, 81], |_| ())]);
        holds::<NoPortShared>(&[with_ports([80, 80], |row| row.client = ClientStatus::Complete)]);
        holds::<NoPortShared>(&[with_ports([80, 80], |row| row.holds.ports[0].shared = true)]);
    }

    #[test]
    fn a_port_with_two_owners_is_seen() {
        breaks::<NoPortShared>(&[with_ports([80, 80], |_| ())]);
        // Being told to stop is not being gone.
        breaks::<NoPortShared>(&[with_ports([80, 80], |row| row.desired = DesiredStatus::Stop)]);
        breaks::<NoPortShared>(&[with_ports([80, 81], |row| {
            let again = row.holds.ports[0].clone();
            row.holds.ports.push(again);
        })]);
    }

    #[test]
    fn a_port_that_is_handed_over_is_fine() {
        let mut seen = with_ports([80, 80], |row| row.desired = DesiredStatus::Stop);
        crate::fixture::change(&mut seen, |rows| {
            rows.allocs.get_mut(&alloc_id(1)).expect("it is there").takes_over = vec![alloc_id(2)];
        });
        holds::<NoPortShared>(&[seen]);
    }

    #[test]
    fn two_listeners_on_a_machine_are_seen() {
        let listening = |owners: [u128; 2]| {
            let mut seen = calm(rows());
            seen.nodes[0].listeners = owners.map(|id| ("0.0.0.0".into(), 80, alloc_id(id))).into();
            seen
        };
        holds::<NoPortShared>(&[listening([1, 1])]);
        breaks::<NoPortShared>(&[listening([1, 2])]);
    }
}

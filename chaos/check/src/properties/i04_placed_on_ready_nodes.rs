use std::sync::Arc;

use crate::{Observation, Property, Rows};

/// Nothing is placed on a node that takes no work: one that is down, out of reach, closed or being emptied.
#[derive(Default)]
pub struct PlacedOnReadyNodes;

impl Property for PlacedOnReadyNodes {
    fn name(&self) -> &'static str {
        "I4 nodes that take no work get none"
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        for (id, row) in &rows.allocs {
            let Some(node) = rows.nodes.get(&row.node) else { continue };
            // The node's record has not changed since, so it was like this when the allocation came.
            if !node.schedulable && row.create_index > node.modify_index {
                return Err(format!(
                    "{id} of {} was placed at index {} on node {}, which is {:?} and takes no work since {}",
                    row.job, row.create_index, row.node, node.status, node.modify_index
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{alloc_id, breaks, calm, change, holds, node_id, rows};

    fn closed_at(index: u64) -> Observation {
        let mut seen = calm(rows());
        change(&mut seen, |rows| {
            let node = rows.nodes.get_mut(&node_id(1)).expect("it is there");
            (node.schedulable, node.modify_index) = (false, index);
            rows.allocs.get_mut(&alloc_id(1)).expect("it is there").create_index = 11;
        });
        seen
    }

    #[test]
    fn a_placement_on_a_closed_node_is_seen() {
        holds::<PlacedOnReadyNodes>(&[calm(rows()), closed_at(12)]);
        breaks::<PlacedOnReadyNodes>(&[closed_at(10)]);
    }
}

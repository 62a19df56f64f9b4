use std::collections::BTreeMap;

use crate::{Observation, Property, StateHash};

/// Hashes that are remembered; servers keep a thousand each.
const REMEMBERED_MAX: usize = 20_000;

/// The hash of everything that was applied is the same on all servers at every index.
#[derive(Default)]
pub struct StatesEqual {
    hashes: BTreeMap<u64, (StateHash, u64)>,
}

impl Property for StatesEqual {
    fn name(&self) -> &'static str {
        "I11 states are equal"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for server in &seen.servers {
            for (index, hash) in &server.hashes {
                let (known, who) = *self.hashes.entry(*index).or_insert((*hash, server.id));
                if known != *hash {
                    return Err(format!("servers {who} and {} differ at index {index}", server.id));
                }
            }
        }
        while self.hashes.len() > REMEMBERED_MAX {
            self.hashes.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds, three_servers};

    fn with_hashes(hashes: [&[(u64, u8)]; 3]) -> Observation {
        let mut seen = three_servers();
        for (server, hashes) in seen.servers.iter_mut().zip(hashes) {
            server.hashes = hashes.iter().map(|(index, byte)| (*index, [*byte; 32])).collect();
        }
        seen
    }

    #[test]
    fn servers_at_different_indexes_are_fine() {
        holds::<StatesEqual>(&[with_hashes([&[(1, 1), (2, 2)], &[(1, 1)], &[(3, 3)]])]);
    }

    #[test]
    fn a_difference_is_seen_also_later() {
        breaks::<StatesEqual>(&[with_hashes([&[(2, 2)], &[(2, 9)], &[]])]);
        breaks::<StatesEqual>(&[with_hashes([&[(2, 2)], &[], &[]]), with_hashes([&[], &[], &[(2, 9)]])]);
    }
}

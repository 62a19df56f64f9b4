use std::collections::BTreeMap;

use crate::{Observation, Property, Role};

/// In each term at most one server ever leads.
#[derive(Default)]
pub struct OneLeaderPerTerm {
    leaders: BTreeMap<u64, u64>,
}

impl Property for OneLeaderPerTerm {
    fn name(&self) -> &'static str {
        "I1 one leader per term"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for server in &seen.servers {
            let Some(raft) = server.raft.as_ref().filter(|raft| raft.role == Role::Leader) else { continue };
            let first = *self.leaders.entry(raft.term).or_insert(server.id);
            if first != server.id {
                return Err(format!("servers {first} and {} both led term {}", server.id, raft.term));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, holds, three_servers};

    #[test]
    fn leaders_of_different_terms_are_fine() {
        let mut later = three_servers();
        let raft = later.servers[1].raft.as_mut().expect("it is in Raft");
        (raft.role, raft.term) = (Role::Leader, 3);
        holds::<OneLeaderPerTerm>(&[three_servers(), later]);
    }

    #[test]
    fn a_second_leader_is_seen_also_when_the_first_one_is_gone() {
        let mut later = three_servers();
        later.servers[1].raft.as_mut().expect("it is in Raft").role = Role::Leader;
        later.servers.remove(0);
        breaks::<OneLeaderPerTerm>(&[three_servers(), later]);
    }
}

use std::collections::{BTreeMap, BTreeSet};

use model::Text;

use crate::{Observation, Property};

/// So many voters or fewer: taking a dead one out helps nobody then, since as many must agree as before.
const SMALL: usize = 3;

/// Of three voters or fewer, none is taken out unless its agent left, or began anew under another number: whoever is only dead
/// or cut off may come back with what it acknowledged.
#[derive(Default)]
pub struct VotersAreKept {
    voters: BTreeSet<u64>,
    agents: BTreeMap<u64, Text>,
    /// The latest number that was seen of each agent.
    latest: BTreeMap<Text, u64>,
    /// Agents that left at any time since they became voters.
    left: BTreeSet<Text>,
}

impl Property for VotersAreKept {
    fn name(&self) -> &'static str {
        "I1 voters are kept"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for server in &seen.servers {
            self.agents.insert(server.id, server.agent.clone());
            // Numbers only grow from one life of an agent to the next.
            let latest = self.latest.entry(server.agent.clone()).or_insert(server.id);
            *latest = server.id.max(*latest);
        }
        self.left.extend(seen.agents.iter().filter(|agent| agent.left).map(|agent| agent.name.clone()));
        let rafts = seen.servers.iter().filter_map(|server| server.raft.as_ref());
        let newest = rafts.filter(|raft| raft.voters.len() == 1).max_by_key(|raft| raft.applied);
        let Some(voters) = newest.map(|raft| &raft.voters[0]).filter(|voters| !voters.is_empty()) else {
            return Ok(());
        };
        let gone: Vec<u64> = self.voters.difference(voters).copied().collect();
        let (many, before) = (self.voters.len(), std::mem::replace(&mut self.voters, voters.clone()));
        for id in gone.into_iter().filter(|_| many <= SMALL) {
            let Some(agent) = self.agents.get(&id) else { continue };
            let anew = self.latest.get(agent).is_some_and(|latest| *latest != id);
            if !anew && !self.left.contains(agent) {
                return Err(format!("{agent} (server {id}) votes no more, of {before:?}, and never left"));
            }
        }
        for id in voters {
            // One that left and was taken in again has to leave again before it may go.
            if let Some(agent) = self.agents.get(id) {
                let is_back =
                    seen.agents.iter().any(|view| view.name == *agent && !view.left && view.running);
                if is_back && !before.contains(id) {
                    self.left.remove(agent);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AgentView, RaftView,
        fixture::{breaks, holds, server, three_servers},
    };

    fn with_voters(voters: &[u64], term: u64) -> Observation {
        let mut seen = three_servers();
        for server in &mut seen.servers {
            let raft = server.raft.as_mut().expect("it is in Raft");
            raft.voters = vec![voters.iter().copied().collect()];
            raft.applied = Some(crate::LogPoint { term, index: 10 * term });
        }
        let agent = |server: &crate::ServerView| AgentView {
            name: server.agent.clone(),
            running: true,
            left: false,
            reachable: true,
        };
        seen.agents = seen.servers.iter().map(agent).collect();
        seen
    }

    #[test]
    fn a_voter_that_is_taken_out_for_nothing_is_seen() {
        holds::<VotersAreKept>(&[with_voters(&[1, 2, 3], 2), with_voters(&[1, 2, 3], 3)]);
        breaks::<VotersAreKept>(&[with_voters(&[1, 2, 3], 2), with_voters(&[1, 2], 3)]);
    }

    #[test]
    fn one_that_left_may_go() {
        let mut leaves = with_voters(&[1, 2, 3], 2);
        leaves.agents[2].left = true;
        holds::<VotersAreKept>(&[leaves, with_voters(&[1, 2], 3)]);
    }

    #[test]
    fn one_that_began_anew_may_go() {
        let mut anew = with_voters(&[1, 2, 3], 3);
        let mut view = server(7, RaftView::default());
        view.agent = "server-3".into();
        anew.servers[2] = view;
        let mut after = anew.clone();
        for server in &mut after.servers[..2] {
            server.raft.as_mut().expect("it is in Raft").voters = vec![[1, 2, 7].into()];
        }
        holds::<VotersAreKept>(&[with_voters(&[1, 2, 3], 2), anew, after]);
    }
}

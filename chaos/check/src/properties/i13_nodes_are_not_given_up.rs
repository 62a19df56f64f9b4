use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{NodeId, NodeStatus, Text};

use crate::{History, Observation, Property, Rows, observation::Moment};

/// How long everything that a node's session hangs on must have been well before the node may not be given up.
const SETTLED_AFTER: Duration = Duration::from_secs(25);
/// An interruption that no node is given up for: the shortest grace is 1.5 s since a node was last heard, and it may not
/// have been heard for a while before.
const BORNE: Duration = Duration::from_millis(500);

/// A node that runs and is within reach does not count as down or out of reach, also when one server fails; and neither does
/// one the moment that its session breaks. After the last fault every one that runs is ready.
#[derive(Default)]
pub struct NodesAreNotGivenUp {
    /// Since when each agent is as it is: well or not.
    agents: BTreeMap<Text, Standing>,
    /// Nodes that counted as ready at the last observation.
    ready: BTreeSet<NodeId>,
}

#[derive(Clone, Copy)]
struct Standing {
    well: bool,
    since: Moment,
    /// It was well for long enough before the present interruption.
    was_settled: bool,
}

impl Property for NodesAreNotGivenUp {
    fn name(&self) -> &'static str {
        "I13 nodes that are well are not given up"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        self.follow(seen);
        Ok(())
    }

    fn changed(&mut self, seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        let is_ready = |id: &NodeId| rows.nodes.get(id).is_some_and(|node| node.status == NodeStatus::Ready);
        let fell: Vec<NodeId> = self.ready.iter().copied().filter(|id| !is_ready(id)).collect();
        self.ready = rows.nodes.keys().copied().filter(is_ready).collect();
        let gone =
            |id: &NodeId| rows.nodes.get(id).is_none_or(|node| node.status == NodeStatus::Initializing);
        for id in fell.into_iter().filter(|id| !gone(id)) {
            let Some(agent) = seen.node(id).map(|node| &node.agent) else { continue };
            if let Some(fault) = self.fault(seen, agent) {
                return Err(format!("{agent} counts as {:?}: {fault}", rows.nodes[&id].status));
            }
        }
        Ok(())
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        for machine in &last.nodes {
            let well = last.agent(&machine.agent).is_some_and(|agent| agent.running && agent.reachable);
            match rows.nodes.get(&machine.id) {
                _ if !well => {}
                None => return Err(format!("{} runs, and nobody knows its node", machine.agent)),
                Some(node) if node.status == NodeStatus::Ready => {}
                Some(node) => return Err(format!("{} runs and counts as {:?}", machine.agent, node.status)),
            }
        }
        Ok(())
    }
}

impl NodesAreNotGivenUp {
    fn follow(&mut self, seen: &Observation) {
        for agent in &seen.agents {
            let well = agent.running && agent.reachable && !agent.left;
            let fresh = Standing { well, since: seen.at, was_settled: false };
            let known = self.agents.entry(agent.name.clone()).or_insert(fresh);
            if known.well != well {
                let was_settled = known.well && seen.at.saturating_sub(known.since) > SETTLED_AFTER;
                *known = Standing { well, since: seen.at, was_settled };
            }
            // Who leaves says so, and is believed at once.
            known.was_settled &= !agent.left;
        }
    }

    /// Says why a node may not be given up; none when it may.
    fn fault(&self, seen: &Observation, agent: &Text) -> Option<&'static str> {
        let of = |name: &Text| self.agents.get(name);
        let settled =
            |standing: &Standing| standing.well && seen.at.saturating_sub(standing.since) > SETTLED_AFTER;
        let is_client = |name: &Text| seen.nodes.iter().any(|node| node.agent == *name);
        let servers: Vec<&Standing> = seen
            .agents
            .iter()
            .filter(|agent| !is_client(&agent.name))
            .filter_map(|agent| of(&agent.name))
            .collect();
        let unsettled = servers.iter().filter(|server| !settled(server)).count();
        let node = of(agent)?;
        // The others find a leader among themselves, and the node another server.
        let one_may_fail = unsettled == 0 || (unsettled == 1 && servers.len() > 2);
        if settled(node) && one_may_fail {
            return Some("it is well and within reach since long, and so are the servers but one at most");
        }
        let just_broke = !node.well && node.was_settled && seen.at.saturating_sub(node.since) < BORNE;
        (just_broke && unsettled == 0).then_some("it was well until less than half a second ago")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        AgentView,
        fixture::{breaks, calm, change, holds, node_id, rows, seconds},
    };

    fn at(second: u64) -> Observation {
        let mut seen = calm(rows());
        seen.at = seconds(second);
        let more = ["server-2", "server-3"].map(|name| AgentView {
            name: name.into(),
            running: true,
            left: false,
            reachable: true,
        });
        seen.agents.extend(more);
        change(&mut seen, |rows| rows.index += second);
        seen
    }

    fn down(mut seen: Observation) -> Observation {
        change(&mut seen, |rows| {
            rows.nodes.get_mut(&node_id(1)).expect("it is there").status = NodeStatus::Down;
        });
        seen
    }

    fn without(mut seen: Observation, agents: &[&str]) -> Observation {
        for agent in seen.agents.iter_mut().filter(|agent| agents.contains(&agent.name.as_str())) {
            agent.running = false;
        }
        seen
    }

    #[test]
    fn a_well_node_that_counts_as_down_is_seen() {
        breaks::<NodesAreNotGivenUp>(&[at(1), at(30), down(at(31))]);
        holds::<NodesAreNotGivenUp>(&[at(1), at(10), down(at(11))]);
    }

    #[test]
    fn a_node_that_runs_and_is_not_ready_at_the_end_is_seen() {
        let ends = |seen: Observation| NodesAreNotGivenUp::default().end(&seen, &History::default());
        assert_eq!(ends(at(1)), Ok(()));
        ends(down(at(1))).expect_err("it runs");
        assert_eq!(ends(without(down(at(1)), &["client-1"])), Ok(()));
        let mut unknown = at(1);
        change(&mut unknown, |rows| _ = rows.nodes.remove(&node_id(1)));
        ends(unknown).expect_err("it runs");
    }

    #[test]
    fn one_server_may_fail_and_two_are_an_excuse() {
        let failing =
            |agents: &[&str]| [at(1), without(at(30), agents), down(without(at(35), agents))].to_vec();
        breaks::<NodesAreNotGivenUp>(&failing(&["server-2"]));
        holds::<NodesAreNotGivenUp>(&failing(&["server-2", "server-3"]));
    }

    #[test]
    fn a_node_is_not_down_the_moment_that_it_is_not_heard() {
        let broken = |until: u64| {
            let mut last = down(without(at(31), &["client-1"]));
            last.at = seconds(30) + Duration::from_millis(until);
            [at(1), at(29), without(at(30), &["client-1"]), last]
        };
        breaks::<NodesAreNotGivenUp>(&broken(100));
        holds::<NodesAreNotGivenUp>(&broken(2_000));
        let mut leaves = broken(100);
        leaves.iter_mut().skip(2).for_each(|seen| seen.agents[1].left = true);
        holds::<NodesAreNotGivenUp>(&leaves);
    }
}

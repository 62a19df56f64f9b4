use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::Text;

use crate::{History, MemberTable, Observation, Property, observation::Moment};

/// How long two agents must have been up and within reach of everyone before one may not take the other for failed.
const SETTLED_AFTER: Duration = Duration::from_secs(30);

/// An agent that runs and can be reached is not taken to have failed, who left does not come back, and after the last
/// fault every agent sees the same members: those that run.
#[derive(Default)]
pub struct MembersAgree {
    /// Since when each agent runs and can be reached.
    well_since: BTreeMap<Text, Moment>,
}

impl Property for MembersAgree {
    fn name(&self) -> &'static str {
        "I13 members agree"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        for agent in &seen.agents {
            if agent.running && agent.reachable && !agent.left {
                self.well_since.entry(agent.name.clone()).or_insert(seen.at);
            } else {
                self.well_since.remove(&agent.name);
            }
        }
        let settled = |name: &Text| {
            let since = self.well_since.get(name);
            since.is_some_and(|since| seen.at.saturating_sub(*since) > SETTLED_AFTER)
        };
        for table in seen.members.iter().filter(|table| settled(&table.agent)) {
            if let Some(name) = table.failed.iter().find(|name| settled(name)) {
                return Err(format!("{} takes {name} for failed, and it is well", table.agent));
            }
        }
        Ok(())
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let there: BTreeSet<Text> = last
            .agents
            .iter()
            .filter(|agent| agent.running && !agent.left)
            .map(|agent| agent.name.clone())
            .collect();
        last.members
            .iter()
            .filter(|table| there.contains(&table.agent))
            .try_for_each(|table| same(table, &there))
    }
}

fn same(table: &MemberTable, there: &BTreeSet<Text>) -> Result<(), String> {
    let missing: Vec<&Text> = there.difference(&table.alive).collect();
    let ghosts: Vec<&Text> = table.alive.difference(there).collect();
    if missing.is_empty() && ghosts.is_empty() {
        return Ok(());
    }
    Err(format!("{} does not see {missing:?} and sees {ghosts:?}, which are not there", table.agent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{breaks, calm, end, holds, names, rows, seconds};

    fn with_tables() -> Observation {
        let mut seen = calm(rows());
        let everyone = names(["server-1", "client-1", "client-2"]);
        let table = |agent: &Text| MemberTable {
            agent: agent.clone(),
            alive: everyone.clone(),
            ..MemberTable::default()
        };
        seen.members = everyone.iter().map(table).collect();
        seen
    }

    #[test]
    fn a_member_that_one_agent_misses_is_seen() {
        assert_eq!(end::<MembersAgree>(&with_tables()), Ok(()));
        let mut seen = with_tables();
        seen.members[1].alive.remove("server-1");
        end::<MembersAgree>(&seen).expect_err("it is there");
    }

    #[test]
    fn a_member_that_left_and_came_back_is_seen() {
        let mut seen = with_tables();
        (seen.agents[2].left, seen.agents[2].running) = (true, false);
        end::<MembersAgree>(&seen).expect_err("it left");
        for table in &mut seen.members {
            table.alive.remove("client-2");
        }
        assert_eq!(end::<MembersAgree>(&seen), Ok(()));
    }

    #[test]
    fn a_false_alarm_is_seen_once_everyone_had_time() {
        let mut accused = with_tables();
        accused.members[0].failed.insert("client-2".into());
        holds::<MembersAgree>(std::slice::from_ref(&accused));
        let mut later = accused.clone();
        later.at += seconds(31);
        breaks::<MembersAgree>(&[accused.clone(), later.clone()]);
        let mut cut_off = accused.clone();
        cut_off.agents[2].reachable = false;
        holds::<MembersAgree>(&[cut_off, later]);
    }
}

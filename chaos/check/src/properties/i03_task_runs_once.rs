use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{AllocId, JobKey, JobType, Text};

use crate::{NodeView, Observation, Property, Rows, observation::Moment};

/// How long more tasks than wanted may really run: their clients are told at once and end them in this time.
const STOPPING_GRACE: Duration = Duration::from_secs(60);

/// A task of an allocation runs at most once and only on the allocation's node; of a group, within reach of the
/// servers, no more than its count really run.
///
/// Machines whose agent is down, paused or cut off are left out of the count: what runs there may have been replaced.
#[derive(Default)]
pub struct TaskRunsOnce {
    excess: BTreeMap<(JobKey, Text), Moment>,
}

impl Property for TaskRunsOnce {
    fn name(&self) -> &'static str {
        "I3 tasks really run once"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let mut running: BTreeMap<(AllocId, &Text), (&Text, &Text)> = BTreeMap::new();
        for machine in &seen.nodes {
            for task in &machine.tasks {
                let here = (&machine.agent, &task.launch);
                if let Some((agent, launch)) = running.insert((task.alloc, &task.task), here) {
                    return Err(format!(
                        "task {} of allocation {} runs twice: as {launch} on {agent}, as {} on {}",
                        task.task, task.alloc, task.launch, machine.agent
                    ));
                }
            }
        }
        let Some(rows) = seen.newest_rows() else { return Ok(()) };
        seen.nodes.iter().try_for_each(|machine| on_its_node(rows, machine))?;
        self.check_counts(seen, rows)
    }
}

fn on_its_node(rows: &Rows, machine: &NodeView) -> Result<(), String> {
    for task in &machine.tasks {
        let Some(row) = rows.allocs.get(&task.alloc) else { continue };
        if row.node != machine.id {
            return Err(format!(
                "allocation {} is of node {} and runs on {}",
                task.alloc, row.node, machine.id
            ));
        }
    }
    Ok(())
}

impl TaskRunsOnce {
    fn check_counts(&mut self, seen: &Observation, rows: &Rows) -> Result<(), String> {
        let within_reach = |machine: &&NodeView| {
            seen.agent(&machine.agent).is_some_and(|agent| agent.running && agent.reachable)
        };
        let mut groups: BTreeMap<(&JobKey, &Text), (BTreeSet<AllocId>, usize)> = BTreeMap::new();
        for task in seen.nodes.iter().filter(within_reach).flat_map(|machine| &machine.tasks) {
            let Some(row) = rows.allocs.get(&task.alloc) else { continue };
            let Some(job) = rows.jobs.get(&row.job) else { continue };
            match job.kind {
                JobType::Service | JobType::Batch => {}
                JobType::System | JobType::Sysbatch => continue,
            }
            let group = job.groups.get(&row.group).filter(|_| !job.stopped);
            let most = group.map_or(0, |group| group.count + group.canaries);
            let (allocs, bound) = groups.entry((&row.job, &row.group)).or_default();
            allocs.insert(task.alloc);
            *bound = usize::try_from(most).unwrap_or(usize::MAX);
        }
        groups.retain(|_, (allocs, most)| allocs.len() > *most);
        self.excess.retain(|(key, group), _| groups.contains_key(&(key, group)));
        for ((key, group), (allocs, most)) in groups {
            let since = *self.excess.entry((key.clone(), group.clone())).or_insert(seen.at);
            let faults = seen.calm_for().is_none_or(|calm| calm < STOPPING_GRACE);
            if !faults && seen.at.saturating_sub(since) > STOPPING_GRACE {
                return Err(format!(
                    "{} of {key} group {group} really run since {since:?}, {most} may",
                    allocs.len()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{alloc, alloc_id, breaks, calm, change, holds, rows, seconds, task};

    #[test]
    fn what_the_rows_say_may_run() {
        holds::<TaskRunsOnce>(&[calm(rows())]);
    }

    #[test]
    fn a_second_launch_is_seen_here_and_elsewhere() {
        for machine in [0, 1] {
            let mut seen = calm(rows());
            seen.nodes[machine].tasks.push(task(1, "again"));
            assert!(breaks::<TaskRunsOnce>(&[seen]).contains("runs twice"));
        }
    }

    #[test]
    fn an_allocation_on_another_node_is_seen() {
        let mut seen = calm(rows());
        let moved = seen.nodes[1].tasks.remove(0);
        seen.nodes[0].tasks.push(moved);
        breaks::<TaskRunsOnce>(&[seen]);
    }

    #[test]
    fn one_too_many_may_run_while_it_is_stopped_or_cut_off() {
        let mut seen = calm(rows());
        change(&mut seen, |rows| _ = rows.allocs.insert(alloc_id(4), alloc(2, 0)));
        seen.nodes[1].tasks.push(task(4, "d"));
        let mut later = seen.clone();
        later.at += seconds(61);
        let mut cut_off = later.clone();
        cut_off.agents[2].reachable = false;
        holds::<TaskRunsOnce>(&[seen.clone(), cut_off]);
        breaks::<TaskRunsOnce>(&[seen, later]);
    }
}

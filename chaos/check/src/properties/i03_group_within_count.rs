use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{AllocId, ClientStatus, JobKey, JobType, NodeId, NodeStatus, Text};

use crate::{AllocRow, Observation, Property, Rows, observation::Moment};

/// How long more than wanted may stand in the state with nothing left to decide: a change that a client reported is
/// committed before the evaluation that acts on it.
const EXCESS_GRACE: Duration = Duration::from_secs(10);

/// The servers want no more of a group than its count and canaries: nothing is placed beyond that, and what came back
/// beyond it is stopped. A system job has one on a node.
#[derive(Default)]
pub struct GroupWithinCount {
    /// Since when a group has too many, nothing of its job being undecided.
    excess: BTreeMap<(JobKey, Text), Moment>,
}

impl Property for GroupWithinCount {
    fn name(&self) -> &'static str {
        "I3 groups stay within their count"
    }

    fn step(&mut self, seen: &Observation) -> Result<(), String> {
        let Some(rows) = seen.newest_rows() else { return Ok(()) };
        let groups = wanted(rows);
        let too_many = groups.iter().filter(|((key, group), allocs)| {
            let most = most(rows, key, group);
            most.is_some_and(|most| allocs.len() > most) && !rows.undecided(key)
        });
        let too_many: BTreeMap<_, _> = too_many.map(|(name, allocs)| (name.clone(), allocs.len())).collect();
        self.excess.retain(|name, _| too_many.contains_key(name));
        for (name, found) in too_many {
            let since = *self.excess.entry(name.clone()).or_insert(seen.at);
            if seen.at.saturating_sub(since) > EXCESS_GRACE {
                let (key, group) = &name;
                return Err(format!(
                    "{found} allocations of {key} group {group} are wanted since {since:?} and nothing is to be decided"
                ));
            }
        }
        Ok(())
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        let groups = wanted(rows);
        groups.iter().try_for_each(|(name, allocs)| placed_beyond(rows, name, allocs))?;
        groups.values().try_for_each(|allocs| two_on_a_node(allocs))
    }
}

type ByGroup<'a> = BTreeMap<(JobKey, Text), Vec<(AllocId, &'a AllocRow)>>;

/// Lists what is wanted and within reach, by group. What is out of reach may have been replaced.
fn wanted(rows: &Rows) -> ByGroup<'_> {
    let mut groups = ByGroup::new();
    for (id, row) in rows.allocs.iter().filter(|(_, row)| row.wanted() && row.client != ClientStatus::Unknown)
    {
        let ready = rows.nodes.get(&row.node).is_some_and(|node| node.status == NodeStatus::Ready);
        if ready {
            groups.entry((row.job.clone(), row.group.clone())).or_default().push((*id, row));
        }
    }
    groups
}

/// Returns how many of a group there may be; none when its job's own count does not bound them.
fn most(rows: &Rows, key: &JobKey, group: &Text) -> Option<usize> {
    let job = rows.jobs.get(key)?;
    match job.kind {
        JobType::Service | JobType::Batch => {}
        JobType::System | JobType::Sysbatch => return None,
    }
    if job.stopped {
        return Some(0);
    }
    let group = job.groups.get(group)?;
    Some(usize::try_from(group.count + group.canaries).unwrap_or(usize::MAX))
}

/// Whoever placed the last one saw all others that were there and the specification, so they are not too many together.
fn placed_beyond(
    rows: &Rows,
    (key, group): &(JobKey, Text),
    allocs: &[(AllocId, &AllocRow)],
) -> Result<(), String> {
    let (Some(most), Some(job)) = (most(rows, key, group), rows.jobs.get(key)) else { return Ok(()) };
    let last = allocs.iter().map(|(_, row)| row.create_index).max().unwrap_or(0);
    let settled = allocs.iter().filter(|(_, row)| !row.was_unknown).count();
    if last > job.job_index && settled > most && !rows.undecided(key) {
        let ids: Vec<String> = allocs.iter().map(|(id, _)| id.short()).collect();
        return Err(format!(
            "{settled} allocations of {key} group {group} were placed, {most} may be: {} at index {}",
            ids.join(", "),
            rows.index
        ));
    }
    Ok(())
}

fn two_on_a_node(allocs: &[(AllocId, &AllocRow)]) -> Result<(), String> {
    let mut nodes: BTreeMap<NodeId, AllocId> = BTreeMap::new();
    for (id, row) in allocs.iter().filter(|(_, row)| !row.was_unknown) {
        match row.kind {
            JobType::Service | JobType::Batch => continue,
            JobType::System | JobType::Sysbatch => {}
        }
        if let Some(other) = nodes.insert(row.node, *id) {
            return Err(format!(
                "node {} has both {other} and {id} of {} group {}",
                row.node, row.job, row.group
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{DesiredStatus, EvalStatus};

    use super::*;
    use crate::fixture::{
        alloc, alloc_id, breaks, calm, change, eval_id, holds, key, node_id, rows, seconds,
    };

    fn with_a_fourth(change: impl FnOnce(&mut AllocRow)) -> Rows {
        let (mut rows, mut fourth) = (rows(), alloc(2, 3));
        fourth.create_index = 16;
        change(&mut fourth);
        rows.allocs.insert(alloc_id(4), fourth);
        rows
    }

    #[test]
    fn what_is_stopped_over_or_out_of_reach_does_not_count() {
        for rows in [
            rows(),
            with_a_fourth(|row| row.desired = DesiredStatus::Stop),
            with_a_fourth(|row| row.client = ClientStatus::Failed),
            with_a_fourth(|row| row.client = ClientStatus::Unknown),
        ] {
            holds::<GroupWithinCount>(&[calm(rows)]);
        }
        let mut canary = with_a_fourth(|row| row.canary = true);
        canary.jobs.get_mut(&key()).expect("the job").groups.get_mut("web").expect("the group").canaries = 1;
        holds::<GroupWithinCount>(&[calm(canary)]);
    }

    #[test]
    fn one_too_many_that_was_placed_is_seen_at_once() {
        breaks::<GroupWithinCount>(&[calm(with_a_fourth(|_| ()))]);
    }

    #[test]
    fn a_count_that_came_down_gives_time_to_stop_the_rest() {
        let mut seen = calm(rows());
        change(&mut seen, |rows| {
            let job = rows.jobs.get_mut(&key()).expect("the job");
            job.job_index = 18;
            job.groups.get_mut("web").expect("the group").count = 2;
            rows.evals.get_mut(&eval_id(1)).expect("the evaluation").status = EvalStatus::Pending;
        });
        let mut decided = seen.clone();
        change(&mut decided, |rows| {
            rows.evals.get_mut(&eval_id(1)).expect("the evaluation").status = EvalStatus::Complete;
        });
        let mut later = decided.clone();
        later.at += seconds(30);
        let mut much_later = seen.clone();
        much_later.at += seconds(30);
        holds::<GroupWithinCount>(&[seen.clone(), much_later]);
        breaks::<GroupWithinCount>(&[seen, decided, later]);
    }

    #[test]
    fn one_placed_after_the_job_was_stopped_is_seen() {
        let mut seen = calm(rows());
        change(&mut seen, |rows| rows.jobs.get_mut(&key()).expect("the job").stopped = true);
        breaks::<GroupWithinCount>(&[seen]);
    }

    #[test]
    fn two_of_a_system_job_on_a_node_are_seen() {
        let mut rows = rows();
        rows.allocs.values_mut().for_each(|row| row.kind = JobType::System);
        rows.jobs.get_mut(&key()).expect("the job").kind = JobType::System;
        let mut apart = rows.clone();
        apart.allocs.remove(&alloc_id(2));
        holds::<GroupWithinCount>(&[calm(apart)]);
        assert!(breaks::<GroupWithinCount>(&[calm(rows)]).contains(&node_id(1).to_string()));
    }
}

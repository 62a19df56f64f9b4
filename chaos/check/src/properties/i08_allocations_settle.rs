use std::{collections::BTreeMap, sync::Arc};

use model::{ClientStatus, DeploymentId, DesiredStatus, JobKey, JobType, NodeStatus, Text};

use crate::{AllocRow, History, NodeView, Observation, Property, Rows, rows::waits_for_a_person};

/// After the last fault every allocation is over or really runs on a node that is there, and every service runs as
/// often as it should, or an evaluation says why not.
///
/// While healthy canaries wait for a person, nothing is added to what ran beside them when they began, and nothing of it is
/// missing.
#[derive(Default)]
pub struct AllocationsSettle {
    /// How many ran of a group beside its canaries when they were first seen.
    beside: BTreeMap<(DeploymentId, Text), usize>,
}

impl Property for AllocationsSettle {
    fn name(&self) -> &'static str {
        "I8 allocations settle"
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        self.beside.retain(|(id, _), _| rows.deployments.contains_key(id));
        for (key, job) in rows.jobs.iter().filter(|(_, job)| job.kind == JobType::Service) {
            for name in job.groups.keys() {
                let Some((deployment, _)) = rows.canaries(key, name) else { continue };
                self.beside.entry((deployment, name.clone())).or_insert_with(|| {
                    let beside = |row: &&AllocRow| {
                        let canary = row.canary && row.story.deployment == Some(deployment);
                        row.job == *key && row.group == *name && row.wanted() && !canary
                    };
                    rows.allocs.values().filter(beside).count()
                });
            }
        }
        Ok(())
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        for (id, row) in rows.allocs.iter().filter(|(_, row)| !row.client.is_terminal()) {
            let machine = last.node(row.node);
            if let Some(fault) = unsettled(last, rows, row, machine) {
                return Err(format!("allocation {id} of {} on node {} {fault}", row.job, row.node));
            }
            let runs = |machine: &NodeView| machine.tasks.iter().any(|task| task.alloc == *id);
            if row.client == ClientStatus::Running && machine.is_some_and(|machine| !runs(machine)) {
                return Err(format!("allocation {id} of {} is said to run and does not", row.job));
            }
        }
        rows.jobs.keys().try_for_each(|key| self.as_often_as_wanted(rows, key))
    }
}

impl AllocationsSettle {
    fn as_often_as_wanted(&self, rows: &Rows, key: &JobKey) -> Result<(), String> {
        let job = &rows.jobs[key];
        let excused = job.template || job.stopped || job.rollout_failed || rows.waits(key);
        if job.kind != JobType::Service || excused {
            return Ok(());
        }
        for (name, group) in &job.groups {
            let of_group = |row: &&AllocRow| row.job == *key && row.group == *name && counts(row);
            let running = || rows.allocs.values().filter(of_group);
            let count = usize::try_from(group.count).unwrap_or(usize::MAX);
            let waiting = rows.canaries(key, name).filter(|(_, progress)| waits_for_a_person(progress));
            let (what, found, wanted) = match waiting {
                None => ("run", running().count(), count),
                Some((deployment, progress)) => {
                    let is_aside = |row: &&AllocRow| row.canary && row.story.deployment == Some(deployment);
                    let canaries = running().filter(is_aside).count();
                    let asked = usize::try_from(progress.desired_canaries).unwrap_or(usize::MAX);
                    if canaries < asked {
                        ("canaries", canaries, asked)
                    } else {
                        let began = self.beside.get(&(deployment, name.clone()));
                        let beside = running().count() - canaries;
                        ("run beside canaries", beside, count.min(began.copied().unwrap_or(0)))
                    }
                }
            };
            if found < wanted {
                return Err(format!(
                    "{found} of {wanted} of {key} group {name} {what}, and nothing says why"
                ));
            }
        }
        Ok(())
    }
}

fn unsettled(
    last: &Observation,
    rows: &Rows,
    row: &AllocRow,
    machine: Option<&NodeView>,
) -> Option<&'static str> {
    let agent = machine.and_then(|machine| last.agent(&machine.agent));
    match (row.desired, row.client) {
        (_, ClientStatus::Unknown) => Some("is unknown"),
        (_, ClientStatus::Pending) => Some("never started"),
        (DesiredStatus::Stop | DesiredStatus::Evict, _) => Some("should stop and did not"),
        _ if rows.nodes.get(&row.node).is_none_or(|node| node.status != NodeStatus::Ready) => {
            Some("runs on a node that is not ready")
        }
        _ if agent.is_some_and(|agent| !agent.running) => Some("runs on a node whose agent is gone"),
        _ => None,
    }
}

/// Tells whether an allocation counts for its group: it is wanted, or failed so often that its policy gives up.
fn counts(row: &AllocRow) -> bool {
    let failed = row.client == ClientStatus::Failed && row.desired == DesiredStatus::Run;
    let policy = row.terms().and_then(|terms| terms.reschedule.as_ref());
    row.wanted() || failed && row.story.next.is_none() && policy.is_some_and(|policy| !policy.unlimited)
}

#[cfg(test)]
mod tests {
    use model::{DeploymentGroup, EvalStatus};

    use super::*;
    use crate::fixture::{
        alloc, alloc_id, calm, change, deployment, end, eval_id, holds, node_id, rows, task,
    };

    fn broken(spoil: impl FnOnce(&mut Rows)) {
        let mut seen = calm(rows());
        change(&mut seen, spoil);
        end::<AllocationsSettle>(&seen).expect_err("this is not settled");
    }

    fn first(rows: &mut Rows) -> &mut AllocRow {
        rows.allocs.get_mut(&alloc_id(1)).expect("it is there")
    }

    #[test]
    fn what_should_run_and_runs_is_settled() {
        assert_eq!(end::<AllocationsSettle>(&calm(rows())), Ok(()));
    }

    #[test]
    fn what_is_neither_over_nor_running_is_seen() {
        broken(|rows| first(rows).client = ClientStatus::Pending);
        broken(|rows| first(rows).client = ClientStatus::Unknown);
        broken(|rows| first(rows).desired = DesiredStatus::Stop);
        broken(|rows| rows.nodes.get_mut(&node_id(2)).expect("it is there").status = NodeStatus::Down);
    }

    #[test]
    fn a_service_with_too_few_is_seen_unless_something_waits() {
        broken(|rows| first(rows).client = ClientStatus::Failed);
        let mut seen = calm(rows());
        change(&mut seen, |rows| {
            first(rows).client = ClientStatus::Failed;
            rows.evals.get_mut(&eval_id(1)).expect("it is there").status = EvalStatus::Blocked;
        });
        assert_eq!(end::<AllocationsSettle>(&seen), Ok(()));
        let mut seen = calm(rows());
        change(&mut seen, |rows| {
            first(rows).client = ClientStatus::Failed;
            rows.jobs.values_mut().for_each(|job| job.rollout_failed = true);
        });
        assert_eq!(end::<AllocationsSettle>(&seen), Ok(()));
    }

    #[test]
    fn what_does_not_really_run_is_seen() {
        let mut seen = calm(rows());
        seen.nodes[1].tasks.clear();
        end::<AllocationsSettle>(&seen).expect_err("its task is gone");
        let mut seen = calm(rows());
        seen.agents[2].running = false;
        end::<AllocationsSettle>(&seen).expect_err("its agent is gone");
    }

    /// Two of three run, and so does the one canary of the next version, which waits to be taken over.
    fn with_a_canary(healthy: u32) -> Observation {
        let mut seen = calm(rows());
        seen.nodes[0].tasks.push(task(4, "d"));
        change(&mut seen, |rows| {
            let progress = DeploymentGroup { desired_canaries: 1, healthy, ..DeploymentGroup::default() };
            let deployment = deployment(progress);
            rows.jobs.values_mut().for_each(|job| job.version = deployment.job_version);
            let mut canary = alloc(1, 0);
            (canary.canary, canary.story.deployment) = (true, Some(deployment.id));
            rows.allocs.insert(alloc_id(4), canary);
            rows.allocs.remove(&alloc_id(3));
            rows.deployments.insert(deployment.id, Arc::new(deployment));
        });
        seen.nodes[1].tasks.clear();
        seen
    }

    #[test]
    fn what_ran_beside_canaries_that_wait_for_a_person_has_to_stay() {
        let before = with_a_canary(1);
        assert_eq!(end::<AllocationsSettle>(&before), Ok(()));
        let mut fewer = before.clone();
        change(&mut fewer, |rows| {
            rows.index += 1;
            rows.allocs.remove(&alloc_id(2));
        });
        let property = holds::<AllocationsSettle>(&[before.clone(), fewer.clone()]);
        let said = property.end(&fewer, &History::default()).expect_err("one is missing");
        assert!(said.contains("1 of 2"), "{said}");
        let mut gone = before;
        change(&mut gone, |rows| _ = rows.allocs.remove(&alloc_id(4)));
        end::<AllocationsSettle>(&gone).expect_err("the canary is missing");
        let mut sick = with_a_canary(0);
        change(&mut sick, |rows| _ = rows.allocs.remove(&alloc_id(2)));
        end::<AllocationsSettle>(&sick).expect_err("nobody is waited for");
    }
}

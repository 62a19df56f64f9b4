use std::{collections::BTreeMap, sync::Arc};

use model::{AllocId, ClientStatus, Deployment, DeploymentId, JobType, NodeStatus, TaskGroup, Text};

use crate::{AllocRow, Observation, Property, Rows};

/// How the scheduler says that an allocation made place for its job's next version.
const UPDATING: &str = "alloc is being updated due to job update";

/// An update replaces no more of a group at once than `max_parallel` says and nothing without a successor; where it has
/// canaries, no more of them than asked for, nothing else before they are taken over, and they are taken over only when
/// they are healthy.
#[derive(Default)]
pub struct UpdatesInTurn {
    /// Groups whose canaries were seen to be taken over.
    promoted: BTreeMap<(DeploymentId, Text), u64>,
}

impl Property for UpdatesInTurn {
    fn name(&self) -> &'static str {
        "I3 updates go on in turn"
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        rows.allocs.iter().try_for_each(|(id, row)| has_successor(rows, *id, row))?;
        at_most_in_parallel(rows)?;
        at_most_canaries(rows)?;
        self.promoted_when_healthy(rows)
    }
}

/// Finds the allocation that this one was placed for because its job changed.
fn replaced<'a>(rows: &'a Rows, id: AllocId, row: &AllocRow) -> Option<&'a AllocRow> {
    let before = rows.allocs.get(&row.story.previous?)?;
    (before.story.why == UPDATING && before.story.next == Some(id)).then_some(before)
}

/// The deployment that an allocation was placed by.
fn placed_by<'a>(rows: &'a Rows, row: &AllocRow) -> Option<&'a Deployment> {
    let deployment = rows.deployments.get(&row.story.deployment?)?;
    (row.create_index >= deployment.create_index).then_some(deployment)
}

fn has_successor(rows: &Rows, id: AllocId, row: &AllocRow) -> Result<(), String> {
    if row.story.why == UPDATING && row.story.next.is_none() {
        return Err(format!(
            "allocation {id} of {} was stopped for an update and nothing took its place, at index {}",
            row.job, rows.index
        ));
    }
    Ok(())
}

fn strategy(row: &AllocRow) -> Option<&model::UpdateStrategy> {
    let group: &TaskGroup = row.terms()?;
    group.update.as_ref().filter(|update| update.max_parallel > 0)
}

/// Counts, for each deployment, what took the place of another and is not known to be healthy or not.
fn at_most_in_parallel(rows: &Rows) -> Result<(), String> {
    let mut under_way: BTreeMap<(DeploymentId, &Text), u32> = BTreeMap::new();
    for (id, row) in &rows.allocs {
        let (Some(deployment), Some(strategy)) = (placed_by(rows, row), strategy(row)) else { continue };
        if replaced(rows, *id, row).is_none() {
            continue;
        }
        let waits = deployment
            .groups
            .get(&row.group)
            .is_some_and(|group| group.desired_canaries > 0 && !group.promoted);
        if waits && row.kind == JobType::Service {
            return Err(format!(
                "allocation {id} of {} group {} took another's place before the canaries were taken over",
                row.job, row.group
            ));
        }
        // What is out of reach is waited for by nobody, and may come back beside others.
        let within_reach = rows.nodes.get(&row.node).is_some_and(|node| node.status == NodeStatus::Ready);
        if row.wanted() && within_reach && !row.was_unknown && row.story.healthy.is_none() {
            let count = under_way.entry((deployment.id, &row.group)).or_default();
            *count += 1;
            if *count > strategy.max_parallel {
                return Err(format!(
                    "an update of {} group {} replaces {count} at once, {} may be, at index {}",
                    row.job, row.group, strategy.max_parallel, rows.index
                ));
            }
        }
    }
    Ok(())
}

fn at_most_canaries(rows: &Rows) -> Result<(), String> {
    for deployment in rows.deployments.values().filter(|deployment| deployment.status.is_active()) {
        for (name, group) in &deployment.groups {
            if group.desired_canaries == 0 || group.promoted {
                continue;
            }
            let canary = |row: &&AllocRow| {
                let here = row.story.deployment == Some(deployment.id) && row.group == *name;
                here && row.canary && row.wanted() && !row.was_unknown && row.kind == JobType::Service
            };
            let found = rows.allocs.values().filter(canary).count();
            if found > usize::try_from(group.desired_canaries).unwrap_or(usize::MAX) {
                return Err(format!(
                    "{found} canaries of {} group {name} are there, {} were asked for",
                    deployment.job, group.desired_canaries
                ));
            }
        }
    }
    Ok(())
}

impl UpdatesInTurn {
    fn promoted_when_healthy(&mut self, rows: &Rows) -> Result<(), String> {
        self.promoted.retain(|(id, _), _| rows.deployments.contains_key(id));
        for deployment in rows.deployments.values() {
            let taken_over = |group: &model::DeploymentGroup| group.desired_canaries > 0 && group.promoted;
            for (name, group) in deployment.groups.iter().filter(|(_, group)| taken_over(group)) {
                let name = (deployment.id, name.clone());
                if self.promoted.insert(name, rows.index).is_some() {
                    continue;
                }
                // One whose row was collected meanwhile may have been healthy.
                let well = |id: &&AllocId| {
                    rows.allocs.get(*id).is_none_or(|row| {
                        row.story.healthy == Some(true) || row.client == ClientStatus::Unknown
                    })
                };
                let healthy = group.placed_canaries.iter().filter(well).count();
                if healthy < usize::try_from(group.desired_canaries).unwrap_or(usize::MAX) {
                    return Err(format!(
                        "{} canaries of {} were taken over and {healthy} of them were healthy",
                        group.desired_canaries, deployment.job
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use model::{DeploymentGroup, DesiredStatus};
    use serde_json::json;

    use super::*;
    use crate::fixture::{alloc, alloc_id, breaks, calm, change, deployment, holds, node_id, rows_of};

    /// Allocation 1 gave its place to 11, which is not known to be healthy.
    fn rolling() -> Observation {
        let mut seen = calm(rows_of(&json!({"Update": {"MaxParallel": 1, "Canary": 1}})));
        change(&mut seen, |rows| {
            let deployment = deployment(DeploymentGroup::default());
            rows.deployments.insert(deployment.id, Arc::new(deployment));
        });
        change(&mut seen, |rows| replace(rows, 1));
        seen
    }

    fn replace(rows: &mut Rows, number: u128) {
        let before = rows.allocs.get_mut(&alloc_id(number)).expect("it is there");
        before.desired = DesiredStatus::Stop;
        (before.story.why, before.story.next) = (UPDATING.into(), Some(alloc_id(number + 10)));
        let mut next = alloc(1, 0);
        (next.spec, next.create_index) = (before.spec.clone(), 18);
        next.story.previous = Some(alloc_id(number));
        next.story.deployment = Some(DeploymentId::from_random(9));
        next.story.healthy = None;
        rows.allocs.insert(alloc_id(number + 10), next);
    }

    fn progress(rows: &mut Rows) -> &mut DeploymentGroup {
        let deployment = rows.deployments.values_mut().next().expect("there is one");
        Arc::make_mut(deployment).groups.get_mut("web").expect("it has the group")
    }

    #[test]
    fn one_after_the_other_is_fine() {
        let first = rolling();
        let mut second = first.clone();
        change(&mut second, |rows| {
            rows.index += 1;
            rows.allocs.get_mut(&alloc_id(11)).expect("it is there").story.healthy = Some(true);
            replace(rows, 2);
        });
        holds::<UpdatesInTurn>(&[first, second]);
    }

    #[test]
    fn one_more_than_may_be_is_seen() {
        let mut seen = rolling();
        change(&mut seen, |rows| replace(rows, 2));
        let said = breaks::<UpdatesInTurn>(&[seen]);
        assert!(said.contains("replaces 2 at once"), "{said}");
    }

    #[test]
    fn one_on_a_node_out_of_reach_is_not_waited_for() {
        let mut seen = rolling();
        change(&mut seen, |rows| {
            replace(rows, 2);
            rows.allocs.get_mut(&alloc_id(12)).expect("it is there").node = node_id(2);
            rows.nodes.get_mut(&node_id(2)).expect("it is there").status = NodeStatus::Disconnected;
        });
        holds::<UpdatesInTurn>(&[seen]);
    }

    #[test]
    fn one_that_only_moved_to_the_next_version_where_it_is_does_not_count() {
        let mut seen = rolling();
        change(&mut seen, |rows| {
            replace(rows, 2);
            rows.allocs.get_mut(&alloc_id(12)).expect("it is there").create_index = 12;
        });
        holds::<UpdatesInTurn>(&[seen]);
    }

    #[test]
    fn a_stop_without_a_successor_is_seen() {
        let mut seen = rolling();
        change(&mut seen, |rows| rows.allocs.get_mut(&alloc_id(1)).expect("it").story.next = None);
        breaks::<UpdatesInTurn>(&[seen]);
    }

    #[test]
    fn nothing_is_replaced_before_the_canaries_are_taken_over() {
        let mut seen = rolling();
        change(&mut seen, |rows| progress(rows).desired_canaries = 1);
        breaks::<UpdatesInTurn>(std::slice::from_ref(&seen));
        change(&mut seen, |rows| {
            progress(rows).promoted = true;
            progress(rows).placed_canaries = vec![alloc_id(3)];
        });
        holds::<UpdatesInTurn>(&[seen]);
    }

    #[test]
    fn sick_or_too_many_canaries_are_seen() {
        let mut sick = rolling();
        change(&mut sick, |rows| {
            let progress = progress(rows);
            (progress.desired_canaries, progress.promoted) = (1, true);
            progress.placed_canaries = vec![alloc_id(11)];
        });
        let said = breaks::<UpdatesInTurn>(&[sick]);
        assert!(said.contains("0 of them"), "{said}");
        let mut many = rolling();
        change(&mut many, |rows| {
            progress(rows).desired_canaries = 1;
            for number in [1, 11] {
                rows.allocs.remove(&alloc_id(number));
            }
            for number in [2, 3] {
                let row = rows.allocs.get_mut(&alloc_id(number)).expect("it is there");
                row.canary = true;
                row.story.deployment = Some(DeploymentId::from_random(9));
            }
        });
        let said = breaks::<UpdatesInTurn>(&[many]);
        assert!(said.contains("2 canaries"), "{said}");
    }
}

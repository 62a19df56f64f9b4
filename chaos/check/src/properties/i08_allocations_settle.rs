use model::{ClientStatus, DesiredStatus, JobType, NodeStatus};

use crate::{AllocRow, History, NodeView, Observation, Property, Rows};

/// After the last fault every allocation is over or really runs on a node that is there, and every service runs as
/// often as it should, or an evaluation says why not.
#[derive(Default)]
pub struct AllocationsSettle;

impl Property for AllocationsSettle {
    fn name(&self) -> &'static str {
        "I8 allocations settle"
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
        rows.jobs.keys().try_for_each(|key| as_often_as_wanted(rows, key))
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

fn as_often_as_wanted(rows: &Rows, key: &model::JobKey) -> Result<(), String> {
    let job = &rows.jobs[key];
    let excused = job.template || job.stopped || job.rollout_failed || rows.waits(key);
    if job.kind != JobType::Service || excused {
        return Ok(());
    }
    for (name, group) in &job.groups {
        let running = rows.allocs.values().filter(|row| row.job == *key && row.group == *name && counts(row));
        let found = running.count();
        if found < usize::try_from(group.count).unwrap_or(usize::MAX) {
            return Err(format!(
                "{found} of {} of {key} group {name} run, and nothing says why",
                group.count
            ));
        }
    }
    Ok(())
}

/// Tells whether an allocation counts for its group: it is wanted, or failed so often that its policy gives up.
fn counts(row: &AllocRow) -> bool {
    let failed = row.client == ClientStatus::Failed && row.desired == DesiredStatus::Run;
    let policy = row.terms().and_then(|terms| terms.reschedule.as_ref());
    row.wanted() || failed && row.story.next.is_none() && policy.is_some_and(|policy| !policy.unlimited)
}

#[cfg(test)]
mod tests {
    use model::EvalStatus;

    use super::*;
    use crate::fixture::{alloc_id, calm, change, end, eval_id, node_id, rows};

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
}

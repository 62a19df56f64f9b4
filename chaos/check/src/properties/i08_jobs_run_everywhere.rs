use model::{ClientStatus, JobKey, JobType, NodeId, NodeStatus, Text};

use crate::{AllocRow, History, JobRow, NodeRow, Observation, Property, Rows};

/// After the last fault every batch job has or had as many allocations as it should, and every system job one on every node
/// that takes work, or an evaluation says why not. One of a system job that a user stopped is placed again when its job or its
/// node is looked at for another reason, and not before.
#[derive(Default)]
pub struct JobsRunEverywhere;

impl Property for JobsRunEverywhere {
    fn name(&self) -> &'static str {
        "I8 batch and system jobs are there"
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let Some(rows) = last.newest_rows() else { return Ok(()) };
        for (key, job) in &rows.jobs {
            if job.template || job.stopped || job.rollout_failed || rows.waits(key) {
                continue;
            }
            for (name, group) in &job.groups {
                match job.kind {
                    JobType::Batch => enough_were_there(rows, key, job, (name, group.count))?,
                    JobType::System if group.count > 0 && goes_anywhere(job) => {
                        one_each(last, rows, key, name)?;
                    }
                    JobType::Service | JobType::System | JobType::Sysbatch => {}
                }
            }
        }
        Ok(())
    }
}

/// What came to an end was not for nothing, whatever that end was.
fn enough_were_there(
    rows: &Rows,
    key: &JobKey,
    job: &JobRow,
    (name, count): (&Text, u32),
) -> Result<(), String> {
    let counts = |row: &&AllocRow| {
        let over = row.client.is_terminal() && row.client != ClientStatus::Lost;
        let counts = row.wanted() || over && row.version == job.version;
        row.job == *key && row.group == *name && counts
    };
    let found = rows.allocs.values().filter(counts).count();
    if found < usize::try_from(count).unwrap_or(usize::MAX) {
        return Err(format!("{found} of {count} of {key} group {name} run or ran, and nothing says why"));
    }
    Ok(())
}

fn one_each(last: &Observation, rows: &Rows, key: &JobKey, name: &Text) -> Result<(), String> {
    let has = |node: &NodeId| {
        let here = |row: &AllocRow| row.job == *key && row.group == *name && row.node == *node;
        let here = || rows.allocs.iter().filter(|(_, row)| here(row));
        let latest = here().max_by_key(|(_, row)| row.create_index);
        here().any(|(_, row)| row.wanted()) || latest.is_some_and(|(id, _)| last.stopped_by_hand.contains(id))
    };
    let takes_work = |node: &NodeRow| node.status == NodeStatus::Ready && node.schedulable;
    let mut nodes = rows.nodes.iter().filter(|(_, node)| takes_work(node));
    match nodes.find(|(node, _)| !has(node)) {
        Some((node, _)) => {
            Err(format!("{key} group {name} does not run on node {node}, and nothing says why"))
        }
        None => Ok(()),
    }
}

/// Tells whether a job may run on every node; false when that can not be seen.
fn goes_anywhere(job: &JobRow) -> bool {
    let Some(spec) = job.spec.as_ref().map(|job| &job.spec) else { return false };
    let picks = spec.groups.iter().any(|group| {
        !group.constraints.is_empty() || group.tasks.iter().any(|task| !task.constraints.is_empty())
    });
    spec.constraints.is_empty() && !picks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fixture::{alloc_id, calm, change, end, node_id, rows_of};

    fn of_kind(kind: JobType, spoil: impl FnOnce(&mut Rows)) -> Result<(), String> {
        let mut seen = calm(rows_of(&json!({})));
        change(&mut seen, |rows| {
            rows.jobs.values_mut().for_each(|job| job.kind = kind);
            rows.allocs.values_mut().for_each(|row| row.kind = kind);
            spoil(rows);
        });
        end::<JobsRunEverywhere>(&seen)
    }

    #[test]
    fn a_batch_job_with_too_few_is_seen_and_one_that_is_done_is_fine() {
        of_kind(JobType::Batch, |rows| _ = rows.allocs.remove(&alloc_id(1))).expect_err("one is missing");
        let done = |rows: &mut Rows| {
            rows.allocs.get_mut(&alloc_id(1)).expect("it is there").client = ClientStatus::Complete;
        };
        assert_eq!(of_kind(JobType::Batch, done), Ok(()));
    }

    #[test]
    fn a_node_without_its_system_job_is_seen() {
        assert_eq!(of_kind(JobType::System, |_| {}), Ok(()));
        of_kind(JobType::System, |rows| _ = rows.allocs.remove(&alloc_id(3))).expect_err("node 2 has none");
        let closed = of_kind(JobType::System, |rows| {
            rows.allocs.remove(&alloc_id(3));
            rows.nodes.get_mut(&node_id(2)).expect("it is there").schedulable = false;
        });
        assert_eq!(closed, Ok(()));
    }
}

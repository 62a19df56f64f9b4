use std::sync::Arc;

use model::{DeploymentStatus, DesiredStatus};

use crate::{AllocRow, Observation, Property, Rows};

/// What is over stays over: an allocation that its client says has ended never runs again, one that the servers stopped is
/// never wanted again, a deployment or an evaluation that came to its end does not go on, and a job's version never falls.
#[derive(Default)]
pub struct OverStaysOver {
    before: Option<Arc<Rows>>,
}

impl Property for OverStaysOver {
    fn name(&self) -> &'static str {
        "I3 what is over stays over"
    }

    fn changed(&mut self, _seen: &Observation, rows: &Arc<Rows>) -> Result<(), String> {
        let Some(before) = self.before.replace(rows.clone()) else { return Ok(()) };
        for (id, row) in &rows.allocs {
            if let Some(what) = before.allocs.get(id).and_then(|before| came_back(before, row)) {
                return Err(format!("allocation {id} of {} {what}", row.job));
            }
        }
        for (id, deployment) in &rows.deployments {
            let known = before.deployments.get(id).map(|before| before.status);
            if known.is_some_and(|status| is_over(status) && status != deployment.status) {
                return Err(format!(
                    "deployment {id} of {} was {known:?} and is {:?}",
                    deployment.job, deployment.status
                ));
            }
        }
        for (id, eval) in &rows.evals {
            let ended = before.evals.get(id).is_some_and(|before| before.status.is_terminal());
            if ended && !eval.status.is_terminal() {
                return Err(format!("evaluation {id} of {} goes on after its end", eval.job));
            }
        }
        for (key, job) in &rows.jobs {
            // A job that was purged and came back begins anew.
            let older = |before: &&crate::JobRow| {
                before.version > job.version && before.create_index == job.create_index
            };
            if let Some(before) = before.jobs.get(key).filter(older) {
                return Err(format!("{key} went from version {} to {}", before.version, job.version));
            }
        }
        Ok(())
    }
}

fn came_back(before: &AllocRow, row: &AllocRow) -> Option<String> {
    if before.client.is_terminal() && !row.client.is_terminal() {
        return Some(format!("was {:?} and is {:?}", before.client, row.client));
    }
    let stopped = before.desired != DesiredStatus::Run;
    (stopped && row.desired == DesiredStatus::Run).then(|| "was stopped and is wanted again".to_owned())
}

fn is_over(status: DeploymentStatus) -> bool {
    match status {
        DeploymentStatus::Failed | DeploymentStatus::Successful | DeploymentStatus::Cancelled => true,
        DeploymentStatus::Running
        | DeploymentStatus::Paused
        | DeploymentStatus::Pending
        | DeploymentStatus::Blocked
        | DeploymentStatus::Initializing
        | DeploymentStatus::Unblocking => false,
    }
}

#[cfg(test)]
mod tests {
    use model::{ClientStatus, DeploymentGroup, EvalStatus};

    use super::*;
    use crate::fixture::{alloc_id, breaks, calm, change, deployment, eval_id, holds, key, rows};

    /// Two states, made from the rows one after the other.
    fn two(first: impl FnOnce(&mut Rows), then: impl FnOnce(&mut Rows)) -> [Observation; 2] {
        let mut before = calm(rows());
        change(&mut before, first);
        let mut after = before.clone();
        change(&mut after, |rows| {
            rows.index += 1;
            then(rows);
        });
        [before, after]
    }

    fn one(rows: &mut Rows) -> &mut AllocRow {
        rows.allocs.get_mut(&alloc_id(1)).expect("it is there")
    }

    #[test]
    fn an_allocation_that_comes_back_is_seen() {
        let ends = |rows: &mut Rows| one(rows).client = ClientStatus::Failed;
        holds::<OverStaysOver>(&two(|_| (), ends));
        breaks::<OverStaysOver>(&two(ends, |rows| one(rows).client = ClientStatus::Running));
        let stops = |rows: &mut Rows| one(rows).desired = DesiredStatus::Stop;
        holds::<OverStaysOver>(&two(|_| (), stops));
        breaks::<OverStaysOver>(&two(stops, |rows| one(rows).desired = DesiredStatus::Run));
    }

    #[test]
    fn a_deployment_an_evaluation_and_a_job_that_go_back_are_seen() {
        let with = |status: DeploymentStatus| {
            move |rows: &mut Rows| {
                let deployment = deployment(DeploymentGroup::default());
                let deployment = model::Deployment { status, ..deployment };
                rows.deployments.insert(deployment.id, Arc::new(deployment));
            }
        };
        holds::<OverStaysOver>(&two(with(DeploymentStatus::Running), with(DeploymentStatus::Failed)));
        breaks::<OverStaysOver>(&two(with(DeploymentStatus::Failed), with(DeploymentStatus::Running)));
        breaks::<OverStaysOver>(&two(
            |_| (),
            |rows| {
                rows.evals.get_mut(&eval_id(1)).expect("it is there").status = EvalStatus::Pending;
            },
        ));
        let newer = |rows: &mut Rows| rows.jobs.get_mut(&key()).expect("the job").version = 4;
        let older = |rows: &mut Rows| rows.jobs.get_mut(&key()).expect("the job").version = 3;
        breaks::<OverStaysOver>(&two(newer, older));
        holds::<OverStaysOver>(&two(newer, |rows| {
            older(rows);
            rows.jobs.get_mut(&key()).expect("the job").create_index = 19;
        }));
    }
}

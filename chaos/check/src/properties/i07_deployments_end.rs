use std::time::Duration;

use model::{Deployment, DeploymentGroup, DeploymentStatus, Timestamp};

use crate::{History, Observation, Property, rows::waits_for_a_person};

/// A deadline further off is not waited for: many give ten minutes, and a clock that was wrong may have given a year.
const NEAR: Duration = Duration::from_secs(30);

/// After the last fault every deployment with a deadline comes to its end, or waits for a person to take its healthy canaries
/// over.
#[derive(Default)]
pub struct DeploymentsEnd;

impl Property for DeploymentsEnd {
    fn name(&self) -> &'static str {
        "I7 deployments end"
    }

    fn end(&self, last: &Observation, _history: &History) -> Result<(), String> {
        let (Some(rows), Some(wall)) = (last.newest_rows(), last.wall) else { return Ok(()) };
        for (id, deployment) in &rows.deployments {
            if deployment.status == DeploymentStatus::Running && must_end(deployment, wall) {
                return Err(format!(
                    "deployment {id} of {} version {} still goes on",
                    deployment.job, deployment.job_version
                ));
            }
        }
        Ok(())
    }
}

fn must_end(deployment: &Deployment, wall: Timestamp) -> bool {
    let in_reach = |group: &DeploymentGroup| {
        !group.require_progress_by.is_zero() && group.require_progress_by <= wall.after(NEAR)
    };
    deployment.groups.values().any(in_reach) && !deployment.groups.values().any(waits_for_a_person)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fixture::{at, calm, change, deployment, end, rows};

    fn going_on(group: DeploymentGroup) -> Observation {
        let mut seen = calm(rows());
        seen.wall = Some(at(1_000));
        change(&mut seen, |rows| {
            let deployment = deployment(group);
            rows.deployments.insert(deployment.id, Arc::new(deployment));
        });
        seen
    }

    fn due(at: Timestamp) -> DeploymentGroup {
        let progress_deadline = Duration::from_secs(60);
        DeploymentGroup { require_progress_by: at, progress_deadline, ..DeploymentGroup::default() }
    }

    #[test]
    fn one_that_goes_on_is_seen_whether_its_time_is_over_or_not() {
        end::<DeploymentsEnd>(&going_on(due(at(900)))).expect_err("it is late");
        end::<DeploymentsEnd>(&going_on(due(at(1_020)))).expect_err("it has to end soon");
        assert_eq!(end::<DeploymentsEnd>(&going_on(due(at(1_050)))), Ok(()));
    }

    #[test]
    fn one_that_waits_for_a_person_may() {
        let canary = DeploymentGroup { desired_canaries: 1, healthy: 1, ..due(at(900)) };
        assert_eq!(end::<DeploymentsEnd>(&going_on(canary.clone())), Ok(()));
        let by_itself = DeploymentGroup { auto_promote: true, ..canary };
        end::<DeploymentsEnd>(&going_on(by_itself)).expect_err("nobody is waited for");
    }
}

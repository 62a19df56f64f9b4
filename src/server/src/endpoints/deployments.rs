//! Deployments that someone moves by hand.

use control::deployments::fail;
use model::{AllocId, DeploymentId, DeploymentStatus, EvalId, EvalTrigger, Evaluation, Text};
use protocol::{Command, DeploymentUpdate};
use state::Snapshot;

use super::RequestError;
use crate::Server;

const FAILED_BY_USER: &str = "Deployment marked as failed";
const PAUSED_BY_USER: &str = "Deployment is paused";
const RUNNING: &str = "Deployment is running";
const RUNNING_NEEDS_PROMOTION: &str = "Deployment is running but requires manual promotion";
const FAILED_BY_ALLOC: &str = "Failed due to unhealthy allocations";

/// What a change of a deployment came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeploymentChanged {
    /// The evaluation that it caused, if one.
    pub eval_id: Option<EvalId>,
    /// At which index.
    pub index: u64,
    /// The version that the job went back to, if it did.
    pub reverted_to: Option<u64>,
}

impl Server {
    /// Takes over the healthy canaries of some groups, or of all.
    ///
    /// # Errors
    ///
    /// When the deployment is over, or has no healthy canaries to take over.
    pub async fn promote_deployment(
        &self,
        id: DeploymentId,
        groups: Option<Vec<Text>>,
    ) -> Result<DeploymentChanged, RequestError> {
        let (_, eval) = self.deployment_eval(id).await?;
        let eval_id = eval.as_ref().map(|eval| eval.id);
        let eval = eval.map(Box::new);
        let command = Command::PromoteDeployment { id, groups, eval, now: self.now() };
        let submitted = self.submit(&command).await?;
        Ok(DeploymentChanged { eval_id, index: submitted.index, reverted_to: None })
    }

    /// Gives a deployment up; its job goes back to the last stable version if it says so.
    ///
    /// # Errors
    ///
    /// When the deployment is over.
    pub async fn fail_deployment(&self, id: DeploymentId) -> Result<DeploymentChanged, RequestError> {
        let (snapshot, _) = self.deployment_eval(id).await?;
        let deployment = snapshot.deployment(id).cloned().ok_or_else(not_found)?;
        let command = self.with_moment(|moment| fail(&snapshot, &deployment, FAILED_BY_USER, moment));
        let (eval_id, reverted_to) = match &command {
            Command::UpdateDeployment { eval, job, .. } => {
                (eval.as_ref().map(|eval| eval.id), job.as_ref().map(|job| job.version))
            }
            _ => (None, None),
        };
        let submitted = self.submit(&command).await?;
        Ok(DeploymentChanged { eval_id, index: submitted.index, reverted_to })
    }

    /// Stops a deployment for now, or lets it go on.
    ///
    /// # Errors
    ///
    /// When the deployment is over.
    pub async fn pause_deployment(
        &self,
        id: DeploymentId,
        pause: bool,
    ) -> Result<DeploymentChanged, RequestError> {
        let (snapshot, eval) = self.deployment_eval(id).await?;
        let deployment = snapshot.deployment(id).ok_or_else(not_found)?;
        let (status, description) = match (pause, deployment.requires_promotion()) {
            (true, _) => (DeploymentStatus::Paused, PAUSED_BY_USER),
            (false, true) => (DeploymentStatus::Running, RUNNING_NEEDS_PROMOTION),
            (false, false) => (DeploymentStatus::Running, RUNNING),
        };
        // A paused deployment has nothing to be looked at.
        let eval = eval.filter(|_| !pause);
        let eval_id = eval.as_ref().map(|eval| eval.id);
        let update = DeploymentUpdate { id, status, description: description.into() };
        let command =
            Command::UpdateDeployment { update, job: None, eval: eval.map(Box::new), now: self.now() };
        let submitted = self.submit(&command).await?;
        Ok(DeploymentChanged { eval_id, index: submitted.index, reverted_to: None })
    }

    /// Takes in what a user says of the health of allocations. Unhealthy ones fail the deployment.
    ///
    /// # Errors
    ///
    /// When the deployment is over, or an allocation is not of it.
    pub async fn set_alloc_health(
        &self,
        id: DeploymentId,
        healthy: Vec<AllocId>,
        unhealthy: Vec<AllocId>,
    ) -> Result<DeploymentChanged, RequestError> {
        let (snapshot, eval) = self.deployment_eval(id).await?;
        let deployment = snapshot.deployment(id).cloned().ok_or_else(not_found)?;
        let fails = !unhealthy.is_empty() && deployment.status.is_active();
        let failed =
            fails.then(|| self.with_moment(|moment| fail(&snapshot, &deployment, FAILED_BY_ALLOC, moment)));
        let (update, job, eval) = match failed {
            Some(Command::UpdateDeployment { update, job, eval, .. }) => (Some(update), job, eval),
            _ => (None, None, eval.map(Box::new)),
        };
        let eval_id = eval.as_ref().map(|eval| eval.id);
        let reverted_to = job.as_ref().map(|job| job.version);
        let command = Command::SetAllocHealth { id, healthy, unhealthy, update, job, eval, now: self.now() };
        let submitted = self.submit(&command).await?;
        Ok(DeploymentChanged { eval_id, index: submitted.index, reverted_to })
    }

    /// Returns the state in which the deployment was found, and the evaluation that a change of it causes.
    async fn deployment_eval(
        &self,
        id: DeploymentId,
    ) -> Result<(Snapshot, Option<Evaluation>), RequestError> {
        self.catch_up().await?;
        let snapshot = self.snapshot();
        let deployment = snapshot.deployment(id).ok_or_else(not_found)?;
        let job = snapshot.job(&deployment.job).cloned();
        let eval = job.map(|job| {
            let mut eval = self.new_eval(&job, EvalTrigger::DeploymentWatcher);
            eval.deployment_id = Some(id);
            eval
        });
        Ok((snapshot, eval))
    }
}

fn not_found() -> RequestError {
    RequestError::NotFound("deployment not found".to_owned())
}

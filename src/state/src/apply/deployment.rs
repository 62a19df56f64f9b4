use std::collections::BTreeMap;

use model::{
    AllocHealth, AllocId, Allocation, Deployment, DeploymentId, DeploymentStatus, Evaluation, Job, Text,
    Timestamp,
};
use protocol::DeploymentUpdate;

use super::Writer;
use crate::Refusal;

impl Writer<'_> {
    pub(super) fn update_deployment(
        &mut self,
        update: &DeploymentUpdate,
        job: Option<&Job>,
        eval: Option<&Evaluation>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let known = self.state.deployment(update.id).ok_or(Refusal::DeploymentNotFound)?;
        if !known.status.is_active() {
            return Err(Refusal::DeploymentOver { verb: Text::new_static(verb(update.status)) });
        }
        self.set_deployment_status(update, now);
        let key = job.map(|job| {
            self.put_version(job, now);
            job.key.clone()
        });
        match key {
            Some(key) => {
                self.outcome_with_eval(&key, eval);
            }
            None => self.put_evals(eval),
        }
        Ok(())
    }

    /// Does what follows from a health that a user told.
    pub(super) fn follow_health(
        &mut self,
        update: Option<&DeploymentUpdate>,
        job: Option<&Job>,
        eval: Option<&Evaluation>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match update {
            Some(update) => self.update_deployment(update, job, eval, now)?,
            None => self.put_evals(eval),
        }
        Ok(())
    }

    /// Sets a deployment's status; one that is over stays so. Success makes the job's version stable.
    pub(super) fn set_deployment_status(&mut self, update: &DeploymentUpdate, now: Timestamp) {
        let Some(known) = self.state.deployment(update.id).filter(|known| known.status.is_active()) else {
            return;
        };
        let (key, version, create_index) = (known.job.clone(), known.job_version, known.job_create_index);
        let resumed = known.status == DeploymentStatus::Paused && update.status == DeploymentStatus::Running;
        self.edit_deployment(update.id, now, |deployment| {
            deployment.status = update.status;
            deployment.status_description = update.description.clone();
            if resumed {
                // The time in which it was paused does not count against it.
                restart_deadlines(deployment, now);
            }
        });
        let same_job = self.state.job(&key).is_some_and(|job| job.create_index == create_index);
        if update.status == DeploymentStatus::Successful && same_job {
            // A version that is kept no more has nothing to mark.
            let _ = self.mark_job_stable(&key, version, true);
        }
    }

    /// Counts an allocation that a deployment placed.
    pub(super) fn count_placed(
        &mut self,
        id: DeploymentId,
        group: &Text,
        canary: Option<AllocId>,
        now: Timestamp,
    ) {
        self.edit_deployment(id, now, |deployment| {
            let Some(group) = deployment.groups.get_mut(group) else { return };
            group.placed += 1;
            group.placed_canaries.extend(canary);
            // Canaries may have waited for a person for longer than that when one of them is lost and replaced.
            let waited = canary.is_some() && group.require_progress_by < now;
            if (group.require_progress_by.is_zero() || waited) && !group.progress_deadline.is_zero() {
                group.require_progress_by = now.after(group.progress_deadline);
            }
        });
    }

    /// Counts an allocation whose health in a deployment became known or changed.
    pub(super) fn count_health(
        &mut self,
        id: DeploymentId,
        group: &Text,
        before: Option<bool>,
        after: Option<bool>,
        now: Timestamp,
    ) {
        self.edit_deployment(id, now, |deployment| {
            let Some(group) = deployment.groups.get_mut(group) else { return };
            match before {
                Some(true) => group.healthy = group.healthy.saturating_sub(1),
                Some(false) => group.unhealthy = group.unhealthy.saturating_sub(1),
                None => {}
            }
            match after {
                Some(true) => {
                    group.healthy += 1;
                    if !group.progress_deadline.is_zero() {
                        group.require_progress_by = now.after(group.progress_deadline);
                    }
                }
                Some(false) => group.unhealthy += 1,
                None => {}
            }
        });
    }

    pub(super) fn promote_deployment(
        &mut self,
        id: DeploymentId,
        groups: Option<&[Text]>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let known = self.state.deployment(id).ok_or(Refusal::DeploymentNotFound)?;
        if !known.status.is_active() {
            return Err(Refusal::DeploymentOver { verb: Text::new_static("promote") });
        }
        let wanted = |name: &Text| groups.is_none_or(|groups| groups.contains(name));
        let promoted: Vec<_> = known
            .groups
            .iter()
            .filter(|(name, group)| wanted(name) && group.desired_canaries > 0 && !group.promoted)
            .map(|(name, _)| name.clone())
            .collect();
        if promoted.is_empty() {
            return Err(Refusal::NothingToPromote);
        }
        self.check_canaries(known, &promoted)?;
        let canaries: Vec<_> =
            promoted.iter().flat_map(|name| known.groups[name].placed_canaries.iter().copied()).collect();
        for id in canaries {
            self.edit_alloc(id, now, |alloc| {
                if let Some(health) = &mut alloc.extra_mut().health {
                    health.canary = false;
                }
            });
        }
        self.edit_deployment(id, now, |deployment| {
            for name in &promoted {
                if let Some(group) = deployment.groups.get_mut(name) {
                    group.promoted = true;
                    if !group.progress_deadline.is_zero() {
                        group.require_progress_by = now.after(group.progress_deadline);
                    }
                }
            }
            if !deployment.requires_promotion() {
                deployment.status_description = "Deployment is running".into();
            }
        });
        Ok(())
    }

    /// Decides whether enough canaries of each group are healthy.
    fn check_canaries(&self, deployment: &Deployment, groups: &[Text]) -> Result<(), Refusal> {
        let mut short = Vec::new();
        for name in groups {
            let group = &deployment.groups[name];
            let healthy = |id: &&AllocId| {
                let alloc = self.state.alloc(**id).filter(|alloc| !alloc.terminal());
                alloc
                    .is_some_and(|alloc| alloc.extra().health.and_then(|health| health.healthy) == Some(true))
            };
            let count = group.placed_canaries.iter().filter(healthy).count();
            if count < group.desired_canaries as usize {
                short.push(format!(
                    "\t* Task group {name:?} has {count}/{} healthy allocations",
                    group.desired_canaries
                ));
            }
        }
        if short.is_empty() || mutants::on!("promotion-unchecked") {
            return Ok(());
        }
        let count = if short.len() == 1 {
            "1 error occurred".to_owned()
        } else {
            format!("{} errors occurred", short.len())
        };
        Err(Refusal::CanariesNotHealthy { lines: format!("{count}:\n{}\n\n", short.join("\n")) })
    }

    pub(super) fn set_alloc_health(
        &mut self,
        id: DeploymentId,
        healthy: &[AllocId],
        unhealthy: &[AllocId],
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let known = self.state.deployment(id).ok_or(Refusal::DeploymentNotFound)?;
        if !known.status.is_active() {
            return Err(Refusal::DeploymentOver { verb: Text::new_static("set health of allocations for") });
        }
        // One that is named as both is unhealthy.
        let said = healthy.iter().map(|id| (*id, true)).chain(unhealthy.iter().map(|id| (*id, false)));
        let said: BTreeMap<_, _> = said.collect();
        for (alloc_id, is_healthy) in said {
            let position = self.state.allocs.position(alloc_id);
            let row = position.map(|position| (position, self.state.allocs.at(position)));
            let row = row.filter(|(_, alloc)| alloc.extra().deployment == Some(id));
            let (position, row) = row.ok_or(Refusal::NotOfDeployment { id: alloc_id })?;
            if row.extra().health.and_then(|health| health.healthy) == Some(is_healthy) {
                continue;
            }
            let health = AllocHealth { healthy: Some(is_healthy), timestamp: now, ..AllocHealth::default() };
            let mut alloc = Allocation::clone(row);
            alloc.alloc_modify_index = self.index;
            self.put_alloc_with_health(position, alloc, health, now);
        }
        Ok(())
    }
}

fn restart_deadlines(deployment: &mut Deployment, now: Timestamp) {
    for group in deployment.groups.values_mut() {
        if !group.require_progress_by.is_zero() {
            group.require_progress_by = now.after(group.progress_deadline);
        }
    }
}

/// Returns what was asked for, in the words of the refusal that programs match on.
fn verb(status: DeploymentStatus) -> &'static str {
    match status {
        DeploymentStatus::Failed => "fail",
        DeploymentStatus::Paused => "pause",
        DeploymentStatus::Running => "resume",
        DeploymentStatus::Cancelled => "cancel",
        DeploymentStatus::Unblocking => "unblock",
        DeploymentStatus::Successful
        | DeploymentStatus::Pending
        | DeploymentStatus::Blocked
        | DeploymentStatus::Initializing => "change",
    }
}

use std::{collections::BTreeMap, sync::Arc};

use model::{
    Allocation, ClientStatus, Deployment, DeploymentGroup, DeploymentId, DeploymentStatus, EvalTrigger,
    Evaluation, Job, JobType, TaskGroup, Text, Timestamp, UpdateStrategy,
};
use protocol::DeploymentUpdate;

use super::{Reconciled, Scene, later, texts};

/// The deployment of the version that is reconciled, and what becomes of it.
pub(super) struct Rollout {
    /// The one of this version, active or failed.
    pub(super) current: Option<Arc<Deployment>>,
    /// An earlier one: of another version, or over.
    pub(super) old: Option<Arc<Deployment>>,
    /// Groups of the current one or of one that begins.
    groups: BTreeMap<Text, DeploymentGroup>,
    begins: bool,
    changed: bool,
    complete: bool,
    updates: Vec<DeploymentUpdate>,
}

impl Rollout {
    /// Finds the deployment that counts, and cancels one that does not any more.
    pub(super) fn find(scene: &Scene<'_>) -> Self {
        let latest = scene.snapshot.deployments_by_job(&scene.eval.job).next_back().cloned();
        let mut rollout = Self {
            current: None,
            old: None,
            groups: BTreeMap::new(),
            begins: false,
            changed: false,
            complete: true,
            updates: Vec::new(),
        };
        let Some(latest) = latest else { return rollout };
        let job = scene.job.filter(|job| !job.stop);
        let current = job.is_some_and(|job| {
            job.create_index == latest.job_create_index && job.version == latest.job_version
        });
        if latest.status.is_active() && !current {
            let description = if job.is_none() { texts::JOB_STOPPED } else { texts::NEWER_VERSION };
            rollout.update(latest.id, DeploymentStatus::Cancelled, description);
        }
        if current
            && latest.status != DeploymentStatus::Successful
            && latest.status != DeploymentStatus::Cancelled
        {
            rollout.groups = latest.groups.clone();
            rollout.current = Some(latest);
        } else {
            rollout.old = Some(latest);
        }
        rollout
    }

    fn update(&mut self, id: DeploymentId, status: DeploymentStatus, description: &'static str) {
        self.updates.push(DeploymentUpdate { id, status, description: Text::new_static(description) });
    }

    /// Tells whether nothing of the deployment may go on for now.
    pub(super) fn is_paused(&self) -> bool {
        self.current.as_ref().is_some_and(|deployment| match deployment.status {
            DeploymentStatus::Paused
            | DeploymentStatus::Pending
            | DeploymentStatus::Blocked
            | DeploymentStatus::Initializing => true,
            DeploymentStatus::Running
            | DeploymentStatus::Failed
            | DeploymentStatus::Successful
            | DeploymentStatus::Cancelled
            | DeploymentStatus::Unblocking => false,
        })
    }

    /// Tells whether the deployment was given up.
    pub(super) fn is_failed(&self) -> bool {
        self.current.as_ref().is_some_and(|deployment| deployment.status == DeploymentStatus::Failed)
    }

    /// Tells whether an allocation belongs to the current deployment.
    pub(super) fn has(&self, alloc: &Allocation) -> bool {
        self.current.as_ref().is_some_and(|deployment| alloc.extra().deployment == Some(deployment.id))
    }

    /// Tells whether an allocation belongs to the current deployment while that may still move.
    pub(super) fn holds_back(&self, alloc: &Allocation) -> bool {
        self.has(alloc) && self.current.as_ref().is_some_and(|deployment| deployment.status.is_active())
    }

    /// Finds a group's progress.
    pub(super) fn group(&self, name: &str) -> Option<&DeploymentGroup> {
        self.groups.get(name)
    }

    /// Returns a group's progress, fresh if it has none.
    pub(super) fn group_or_new(
        &mut self,
        group: &TaskGroup,
        strategy: &UpdateStrategy,
        wanted: u32,
    ) -> &mut DeploymentGroup {
        self.groups.entry(group.name.clone()).or_insert_with(|| DeploymentGroup {
            auto_revert: strategy.auto_revert,
            auto_promote: strategy.auto_promote,
            progress_deadline: strategy.progress_deadline,
            require_progress_by: Timestamp::ZERO,
            desired_total: wanted,
            ..DeploymentGroup::default()
        })
    }

    /// Tells whether canaries of a group wait to be taken over.
    pub(super) fn is_canarying(&self, name: &str) -> bool {
        self.group(name).is_some_and(|group| group.desired_canaries > 0 && !group.promoted)
    }

    /// Asks for canaries of a group.
    pub(super) fn want_canaries(
        &mut self,
        group: &TaskGroup,
        strategy: &UpdateStrategy,
        wanted: u32,
        canaries: u32,
    ) {
        let progress = self.group_or_new(group, strategy, wanted);
        if progress.desired_canaries != canaries {
            progress.desired_canaries = canaries;
            self.changed = self.current.is_some();
        }
    }

    /// Wants another number of allocations of a group in the deployment that goes on.
    pub(super) fn want_total(&mut self, group: &TaskGroup, wanted: u32) {
        let active = self.current.as_ref().is_some_and(|deployment| deployment.status.is_active());
        if let Some(progress) = self.groups.get_mut(&group.name)
            && active
            && progress.desired_total != wanted
        {
            progress.desired_total = wanted;
            self.changed = true;
        }
    }

    /// Begins a deployment for a group if its changes need one.
    pub(super) fn begin(&mut self, group: &TaskGroup, strategy: &UpdateStrategy, wanted: u32, changes: bool) {
        if self.current.is_none() && wanted > 0 && changes {
            self.group_or_new(group, strategy, wanted);
            self.begins = true;
        }
    }

    /// Notes whether a group has nothing left to do.
    pub(super) fn note_group(&mut self, group: &TaskGroup, nothing_left: bool) {
        let healthy = self.group(&group.name).is_none_or(|progress| {
            progress.healthy >= progress.desired_total.max(progress.desired_canaries)
                && (progress.desired_canaries == 0 || progress.promoted)
        });
        self.complete &= nothing_left && healthy;
    }

    /// Writes down what becomes of the deployment.
    pub(super) fn finish(mut self, scene: &mut Scene<'_>, reconciled: &mut Reconciled) {
        let job = scene.job.filter(|job| !job.stop).cloned();
        if let (Some(job), true) = (&job, self.begins) {
            let deployment = self.new_deployment(scene, job);
            reconciled.joins = Some(deployment.id);
            reconciled.current_deployment = Some(deployment.id);
            reconciled.deployment = Some(deployment);
        } else if let Some(current) = self.current.clone() {
            reconciled.current_deployment = Some(current.id);
            // What moves once all is healthy is no part of it any more.
            let complete = current.status.is_active() && self.complete;
            reconciled.joins = (current.status.is_active() && !complete).then_some(current.id);
            if complete {
                self.update(current.id, DeploymentStatus::Successful, texts::SUCCESSFUL);
                reconciled.followups.extend(look_at_failed(scene, &current));
            } else if self.changed {
                let mut deployment = Deployment::clone(&current);
                deployment.groups = self.groups.clone();
                deployment.status_description = Text::new_static(description(&deployment));
                reconciled.deployment = Some(deployment);
            }
        } else {
            reconciled.current_deployment = self.old.as_ref().map(|deployment| deployment.id);
        }
        reconciled.deployment_updates = self.updates;
    }

    fn new_deployment(&self, scene: &mut Scene<'_>, job: &Job) -> Deployment {
        let mut deployment = Deployment {
            id: DeploymentId::from_random(scene.chance.random_u128()),
            job: job.key.clone(),
            job_version: job.version,
            job_modify_index: job.modify_index,
            job_spec_modify_index: job.job_modify_index,
            job_create_index: job.create_index,
            eval_priority: scene.eval.priority,
            groups: self.groups.clone(),
            status: DeploymentStatus::Running,
            status_description: Text::default(),
            create_index: 0,
            modify_index: 0,
            create_time: scene.now,
            modify_time: scene.now,
        };
        deployment.status_description = Text::new_static(description(&deployment));
        deployment
    }
}

/// What failed after it was healthy was held back as long as its deployment went on. That is over, and its policy decides.
fn look_at_failed(scene: &mut Scene<'_>, complete: &Deployment) -> Option<Evaluation> {
    let waits = |alloc: &Arc<Allocation>| {
        let failed = alloc.client_status == ClientStatus::Failed && !alloc.server_terminal();
        failed && alloc.extra().next.is_none()
    };
    let any = scene.kind == JobType::Service && scene.snapshot.allocs_by_deployment(complete.id).any(waits);
    any.then(|| later(scene, EvalTrigger::RetryFailedAlloc, Timestamp::ZERO, ""))
}

fn description(deployment: &Deployment) -> &'static str {
    let mut waiting =
        deployment.groups.values().filter(|group| group.desired_canaries > 0 && !group.promoted);
    match (deployment.requires_promotion(), waiting.all(|group| group.auto_promote)) {
        (false, _) => texts::RUNNING,
        (true, true) => texts::AWAITS_PROMOTION,
        (true, false) => texts::NEEDS_PROMOTION,
    }
}

/// Returns the strategy of a group whose changes roll out.
pub(super) fn strategy(group: &TaskGroup) -> Option<&UpdateStrategy> {
    group.update.as_ref().filter(|update| update.max_parallel > 0)
}

use std::sync::Arc;

use model::{Allocation, ClientStatus, Job, JobType, NodeStatus, TaskGroup, Timestamp};

use super::{
    Scene,
    deployment::Rollout,
    reschedule::{self, Due},
};

/// A group's allocations, by what their nodes say and what was asked of them.
#[derive(Debug, Default)]
pub(super) struct ByNode {
    /// Nothing about their nodes stands against them.
    pub(super) kept: Vec<Arc<Allocation>>,
    /// To be moved.
    pub(super) migrating: Vec<Arc<Allocation>>,
    /// Their nodes are gone.
    pub(super) lost: Vec<Arc<Allocation>>,
    /// Their nodes went out of reach just now.
    pub(super) disconnecting: Vec<Arc<Allocation>>,
    /// Out of reach, and replaced meanwhile or not to be.
    pub(super) unknown: Vec<Arc<Allocation>>,
    /// Their nodes came back.
    pub(super) reconnecting: Vec<Arc<Allocation>>,
}

impl ByNode {
    /// Sorts allocations.
    pub(super) fn sort(scene: &Scene<'_>, group: &TaskGroup, all: Vec<Arc<Allocation>>) -> Self {
        let mut sorted = Self::default();
        let lost_after = group.disconnect.as_ref().and_then(|disconnect| disconnect.lost_after);
        for alloc in all {
            if alloc.terminal() {
                sorted.kept.push(alloc);
                continue;
            }
            let status = scene.snapshot.node(alloc.node_id).map(|node| node.status);
            let unknown = alloc.client_status == ClientStatus::Unknown;
            let list = match status {
                None | Some(NodeStatus::Down) => &mut sorted.lost,
                Some(NodeStatus::Disconnected) => match lost_after {
                    Some(lost_after) if unknown => {
                        let over = unknown_since(&alloc).after(lost_after) <= scene.now;
                        if over { &mut sorted.lost } else { &mut sorted.unknown }
                    }
                    Some(_) if alloc.client_status == ClientStatus::Running => &mut sorted.disconnecting,
                    Some(_) | None => &mut sorted.lost,
                },
                Some(NodeStatus::Ready | NodeStatus::Initializing) => {
                    if alloc.extra().transition.migrate == Some(true) {
                        &mut sorted.migrating
                    } else if unknown {
                        &mut sorted.reconnecting
                    } else {
                        &mut sorted.kept
                    }
                }
            };
            list.push(alloc);
        }
        sorted
    }
}

/// Returns when an allocation went out of reach.
pub(super) fn unknown_since(alloc: &Allocation) -> Timestamp {
    let unknown =
        |(status, at): &(ClientStatus, Timestamp)| (*status == ClientStatus::Unknown).then_some(*at);
    alloc.extra().states.iter().rev().find_map(unknown).unwrap_or(alloc.modify_time)
}

/// Allocations of a group that nothing about their nodes stands against, by whether they count.
#[derive(Debug, Default)]
pub(super) struct ByFate {
    /// Count: they run, will run, are done (batch), or failed for good.
    pub(super) kept: Vec<Arc<Allocation>>,
    /// Failed and to be replaced at once.
    pub(super) replace_now: Vec<Arc<Allocation>>,
    /// Failed, kept until their time comes.
    pub(super) replace_later: Vec<(Arc<Allocation>, Timestamp)>,
}

impl ByFate {
    /// Sorts allocations.
    pub(super) fn sort(scene: &Scene<'_>, job: &Job, rollout: &Rollout, all: Vec<Arc<Allocation>>) -> Self {
        let mut sorted = Self::default();
        for alloc in all {
            match fate(scene, job, &alloc) {
                Fate::Dropped => {}
                Fate::Kept => sorted.kept.push(alloc),
                Fate::Replaceable => match due(scene, rollout, &alloc) {
                    Due::Never => sorted.kept.push(alloc),
                    Due::Now => sorted.replace_now.push(alloc),
                    Due::At(at) => {
                        sorted.replace_later.push((alloc.clone(), at));
                        sorted.kept.push(alloc);
                    }
                },
            }
        }
        sorted
    }
}

enum Fate {
    Dropped,
    Kept,
    /// Failed, or asked to run elsewhere.
    Replaceable,
}

fn fate(scene: &Scene<'_>, job: &Job, alloc: &Allocation) -> Fate {
    let batch = scene.kind == JobType::Batch;
    if alloc.server_terminal() {
        // One that was moved is replaced, however it ended, and so is one that made room for another job.
        let extra = alloc.extra();
        let left = extra.next.is_some() || extra.preempted_by.is_some();
        // One that a drain ended had its time: it is over for good, also while its tasks still stop.
        let drained = extra.transition.migrate_disable_placement == Some(true);
        let counts = batch && (is_done(alloc) || drained) && is_current(alloc, job) && !left;
        return if counts { Fate::Kept } else { Fate::Dropped };
    }
    let forced = alloc.extra().transition.force_reschedule == Some(true);
    match alloc.client_status {
        // Nothing is wrong with it: somebody wants it rescheduled all the same.
        ClientStatus::Pending | ClientStatus::Running if forced && alloc.extra().next.is_none() => {
            Fate::Replaceable
        }
        ClientStatus::Pending | ClientStatus::Running | ClientStatus::Unknown => Fate::Kept,
        ClientStatus::Lost => Fate::Dropped,
        ClientStatus::Complete if batch && is_current(alloc, job) => Fate::Kept,
        ClientStatus::Complete => Fate::Dropped,
        // A batch job's later version runs from the start.
        ClientStatus::Failed if batch && !is_current(alloc, job) => Fate::Dropped,
        ClientStatus::Failed if alloc.extra().next.is_some() => Fate::Dropped,
        ClientStatus::Failed => Fate::Replaceable,
    }
}

fn due(scene: &Scene<'_>, rollout: &Rollout, alloc: &Allocation) -> Due {
    let asked = alloc.extra().transition.reschedule == Some(true);
    let forced = alloc.extra().transition.force_reschedule == Some(true);
    // What fails in a deployment is the deployment's matter while it goes on.
    if rollout.holds_back(alloc) && !asked && !forced {
        return Due::Never;
    }
    // The policy is that of its own version: the next one, such as the one that a job is taken back to, replaces it as
    // an update.
    let due = reschedule::due(alloc, alloc.task_group().reschedule.as_ref(), scene.now);
    match due {
        Due::At(_) if alloc.extra().followup_eval == Some(scene.eval.id) => Due::Now,
        // Another evaluation has it already.
        Due::At(_) if alloc.extra().followup_eval.is_some_and(|id| is_pending(scene, id)) => Due::Never,
        Due::Never | Due::Now | Due::At(_) => due,
    }
}

fn is_pending(scene: &Scene<'_>, id: model::EvalId) -> bool {
    scene.snapshot.eval(id).is_some_and(|eval| !eval.status.is_terminal())
}

/// Tells whether an allocation ran to a good end.
pub(super) fn is_done(alloc: &Allocation) -> bool {
    alloc.client_status == ClientStatus::Complete
        && !alloc.task_states.is_empty()
        && alloc.task_states.iter().all(model::TaskState::successful)
}

/// Tells whether an allocation is of this version of its job.
pub(super) fn is_current(alloc: &Allocation, job: &Job) -> bool {
    alloc.job.version == job.version && alloc.job.create_index == job.create_index
}

//! What a job wants against what it has: decides what stops, stays, moves and is missing. Knows nothing of room.

mod deployment;
mod difference;
mod disconnect;
mod group;
mod names;
pub(crate) mod reschedule;
mod sort;
mod system;
pub(crate) mod texts;

use std::{collections::BTreeMap, sync::Arc};

use model::{
    AllocId, Allocation, Deployment, DesiredStatus, DesiredUpdates, EvalId, EvalTrigger, Evaluation, Job,
    JobType, NodeId, TaskGroup, Text, Timestamp,
};
use protocol::{DeploymentUpdate, Stop};
use state::Snapshot;

use crate::Chance;

/// What is looked at.
pub(crate) struct Scene<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// None when the job was purged.
    pub(crate) job: Option<&'a Arc<Job>>,
    pub(crate) kind: JobType,
    pub(crate) eval: &'a Evaluation,
    pub(crate) now: Timestamp,
    pub(crate) chance: &'a mut dyn Chance,
    pub(crate) nodes: &'a mut dyn Nodes,
}

/// What reconciling asks of nodes: nothing about room.
pub(crate) trait Nodes {
    /// Tells whether an allocation's node meets what a group demands.
    fn meets(&mut self, alloc: &Allocation, job: &Job, group: &TaskGroup) -> bool;

    /// Lists the nodes that a system job's group belongs on, in the order of their ids.
    fn eligible(&mut self, job: &Job, group: &TaskGroup) -> Vec<NodeId>;
}

/// What is to happen, before room is looked for.
#[derive(Debug, Default)]
pub(crate) struct Reconciled {
    pub(crate) groups: Vec<GroupChanges>,
    /// One that begins, or goes on with other counts.
    pub(crate) deployment: Option<Deployment>,
    /// The one that placements join.
    pub(crate) joins: Option<model::DeploymentId>,
    pub(crate) deployment_updates: Vec<DeploymentUpdate>,
    pub(crate) followups: Vec<Evaluation>,
    /// The deployment that the evaluation is noted with.
    pub(crate) current_deployment: Option<model::DeploymentId>,
}

/// What is to happen to one group.
#[derive(Debug, Default)]
pub(crate) struct GroupChanges {
    pub(crate) name: Text,
    pub(crate) stops: Vec<Stop>,
    pub(crate) in_place: Vec<Arc<Allocation>>,
    /// To be replaced; a replacement may use the room of the one that it replaces.
    pub(crate) destructive: Vec<Arc<Allocation>>,
    pub(crate) wants: Vec<Want>,
    pub(crate) desired: DesiredUpdates,
}

/// An allocation that is missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Want {
    /// The number in its name.
    pub(crate) index: u32,
    /// The one that it replaces.
    pub(crate) previous: Option<Arc<Allocation>>,
    /// The one before failed, and stops when this one is placed.
    pub(crate) reschedule: bool,
    pub(crate) canary: bool,
    /// A version other than the current one.
    pub(crate) job: Option<Arc<Job>>,
    /// The node that it must be on; system jobs.
    pub(crate) node: Option<NodeId>,
}

/// Decides what is to happen to a job.
pub(crate) fn reconcile(scene: &mut Scene<'_>) -> Reconciled {
    let allocs: Vec<Arc<Allocation>> = scene.snapshot.allocs_by_job(&scene.eval.job).cloned().collect();
    let unheard: Vec<Arc<Allocation>> =
        allocs.iter().filter(|alloc| never_ends(scene.snapshot, alloc)).cloned().collect();
    let mut by_group: BTreeMap<Text, Vec<Arc<Allocation>>> = BTreeMap::new();
    for alloc in allocs {
        match by_group.get_mut(&alloc.task_group().name) {
            Some(group) => group.push(alloc),
            None => _ = by_group.insert(alloc.task_group().name.clone(), vec![alloc]),
        }
    }
    let mut rollout = deployment::Rollout::find(scene);
    let mut reconciled = Reconciled::default();
    let job = scene
        .job
        .filter(|job| (!job.stop || mutants::on!("reconcile-stopped-runs-on")) && !job.is_template())
        .cloned();
    if let Some(job) = &job {
        for (at, group) in job.spec.groups.iter().enumerate() {
            let all = by_group.remove(&group.name).unwrap_or_default();
            let changes = match scene.kind {
                JobType::Service | JobType::Batch => {
                    group::Group::new(scene, job, at, &mut rollout).reconcile(all, &mut reconciled.followups)
                }
                JobType::System | JobType::Sysbatch => system::reconcile(scene, job, at, &mut rollout, all),
            };
            reconciled.groups.push(changes);
        }
    }
    for (name, all) in by_group {
        reconciled.groups.push(stop_all(scene.snapshot, name, &all));
    }
    if let (None, Some(known)) = (&job, scene.job) {
        // A stopped job is still shown with all of its groups.
        for group in &known.spec.groups {
            if !reconciled.groups.iter().any(|changes| changes.name == group.name) {
                reconciled.groups.push(GroupChanges { name: group.name.clone(), ..GroupChanges::default() });
            }
        }
    }
    give_up(&mut reconciled.groups, &unheard);
    rollout.finish(scene, &mut reconciled);
    reconciled
}

/// Tells whether an allocation was told to stop on a node that went down before its client said that it did: nobody will.
fn never_ends(snapshot: &Snapshot, alloc: &Allocation) -> bool {
    alloc.server_terminal()
        && alloc.occupies()
        && snapshot.node(alloc.node_id).is_none_or(|node| node.is_down())
}

/// Counts allocations as lost that were told to stop already. They are neither missing nor too many.
fn give_up(groups: &mut Vec<GroupChanges>, unheard: &[Arc<Allocation>]) {
    for alloc in unheard {
        let name = &alloc.task_group().name;
        let given_up = Stop { desired: alloc.desired, ..lost(alloc) };
        match groups.iter_mut().find(|changes| changes.name == *name) {
            Some(changes) => changes.stops.push(given_up),
            None => {
                let (name, stops) = (name.clone(), vec![given_up]);
                groups.push(GroupChanges { name, stops, ..GroupChanges::default() });
            }
        }
    }
}

/// Stops everything of a group that the job does not have, or does not want any more.
fn stop_all(snapshot: &Snapshot, name: Text, all: &[Arc<Allocation>]) -> GroupChanges {
    let mut changes = GroupChanges { name, ..GroupChanges::default() };
    for alloc in all.iter().filter(|alloc| !alloc.server_terminal() && !alloc.client_status.is_terminal()) {
        let gone = snapshot.node(alloc.node_id).is_none_or(|node| node.is_down());
        changes.stops.push(if gone { lost(alloc) } else { stop(alloc, texts::NOT_NEEDED) });
        changes.desired.stop += 1;
    }
    changes
}

/// Stops an allocation.
fn stop(alloc: &Allocation, description: &'static str) -> Stop {
    Stop {
        id: alloc.id,
        desired: DesiredStatus::Stop,
        description: Text::new_static(description),
        client_status: None,
        followup_eval: None,
        preempted_by: None,
        last_reschedule: Text::default(),
    }
}

/// Gives an allocation up whose node is gone.
fn lost(alloc: &Allocation) -> Stop {
    Stop { client_status: Some(model::ClientStatus::Lost), ..stop(alloc, texts::LOST) }
}

/// Leaves an allocation wanted and ties it to the evaluation that will look at it again.
fn wait_for(alloc: &Allocation, followup: EvalId) -> Stop {
    Stop {
        desired: alloc.desired,
        description: alloc.desired_description.clone(),
        followup_eval: Some(followup),
        ..stop(alloc, "")
    }
}

/// Makes an evaluation of the same job for later.
fn later(
    scene: &mut Scene<'_>,
    trigger: EvalTrigger,
    at: Timestamp,
    description: &'static str,
) -> Evaluation {
    let id = EvalId::from_random(scene.chance.random_u128());
    let (job, priority) =
        (scene.eval.job.clone(), scene.job.map_or(scene.eval.priority, |job| job.spec.priority));
    Evaluation {
        status_description: Text::new_static(description),
        wait_until: at,
        previous_eval: Some(scene.eval.id),
        job_modify_index: scene.job.map_or(0, |job| job.modify_index),
        snapshot_index: scene.snapshot.index(),
        ..Evaluation::pending(id, job, scene.kind, priority, trigger, scene.now)
    }
}

/// Removes some from a list.
fn without(allocs: Vec<Arc<Allocation>>, ids: &std::collections::BTreeSet<AllocId>) -> Vec<Arc<Allocation>> {
    if ids.is_empty() {
        return allocs;
    }
    allocs.into_iter().filter(|alloc| !ids.contains(&alloc.id)).collect()
}

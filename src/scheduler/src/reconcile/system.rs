//! One group of a system or sysbatch job: one allocation on each node that it belongs on.

use std::{collections::BTreeMap, sync::Arc};

use model::{Allocation, ClientStatus, Job, JobType, NodeId, NodeStatus, TaskGroup};

use super::{
    GroupChanges, Scene, Want,
    deployment::{self, Rollout},
    difference::needs_replacement,
    lost,
    sort::is_current,
    stop, texts,
};

/// Decides what is to happen to one group of a system or sysbatch job.
pub(super) fn reconcile(
    scene: &mut Scene<'_>,
    job: &Arc<Job>,
    at: usize,
    rollout: &mut Rollout,
    all: Vec<Arc<Allocation>>,
) -> GroupChanges {
    let group = &job.spec.groups[at];
    let mut changes = GroupChanges { name: group.name.clone(), ..GroupChanges::default() };
    if group.count == 0 {
        stop_everywhere(scene, &all, &mut changes);
        return changes;
    }
    let had_running = all.iter().any(|alloc| is_current(alloc, job));
    let mut on_node: BTreeMap<NodeId, Vec<Arc<Allocation>>> = BTreeMap::new();
    for alloc in all {
        on_node.entry(alloc.node_id).or_default().push(alloc);
    }
    let eligible = scene.nodes.eligible(job, group);
    let mut destructive = Vec::new();
    let mut part = Vec::new();
    for node in &eligible {
        let allocs = on_node.remove(node).unwrap_or_default();
        let live = live_one(allocs, &mut changes, (job, group), rollout);
        match live {
            Existing::Live(alloc) => {
                sort_one(scene, job, group, alloc, &mut changes, &mut destructive, &mut part)
            }
            Existing::Done => changes.desired.ignore += 1,
            Existing::Outdated(alloc) => destructive.push(alloc),
            Existing::Over(previous) => {
                changes.wants.push(Want { previous, node: Some(*node), ..Want::default() });
                changes.desired.place += 1;
            }
        }
    }
    // The rest is on nodes that the group does not belong on, or not any more.
    for alloc in on_node.into_values().flatten().filter(|alloc| !alloc.terminal()) {
        if let Some(stays) = leave(scene, (job, group), alloc, &mut changes) {
            part.push(stays);
        }
    }
    let wanted = u32::try_from(eligible.len()).unwrap_or(u32::MAX);
    roll(scene, group, rollout, &mut changes, destructive, &part);
    finish(scene, group, rollout, &changes, wanted, had_running);
    changes
}

enum Existing {
    /// It runs or will run.
    Live(Arc<Allocation>),
    /// It ran to an end that counts, or failed and is not tried again.
    Done,
    /// It ran to an end that another version of its job begins anew.
    Outdated(Arc<Allocation>),
    /// There is none, or one that is over.
    Over(Option<Arc<Allocation>>),
}

/// Picks the allocation that counts on a node; others that run are stopped.
fn live_one(
    mut allocs: Vec<Arc<Allocation>>,
    changes: &mut GroupChanges,
    (job, group): (&Job, &TaskGroup),
    rollout: &Rollout,
) -> Existing {
    allocs.sort_by_key(|alloc| (alloc.job.version, alloc.create_index, alloc.id));
    let (over, mut live): (Vec<_>, Vec<_>) = allocs.into_iter().partition(|alloc| alloc.terminal());
    if let Some(alloc) = live.pop() {
        for other in live {
            changes.stops.push(stop(&other, texts::NOT_NEEDED));
            changes.desired.stop += 1;
        }
        return Existing::Live(alloc);
    }
    let ended = |alloc: &&Arc<Allocation>| {
        job.spec.kind == JobType::Sysbatch
            && alloc.client_status.is_terminal()
            && alloc.client_status != ClientStatus::Lost
            && !alloc.server_terminal()
    };
    // What ran to its end does so again when its tasks are others, not for every word that changes about its job.
    let outdated = |alloc: &Arc<Allocation>| {
        !is_current(alloc, job) && needs_replacement((&alloc.job, alloc.task_group()), (job, group))
    };
    if let Some(last) = over.iter().rfind(ended) {
        return if outdated(last) { Existing::Outdated(last.clone()) } else { Existing::Done };
    }
    // What failed in a failed deployment would fail again.
    let given_up = |alloc: &Arc<Allocation>| {
        rollout.is_failed()
            && rollout.has(alloc)
            && alloc.client_status == ClientStatus::Failed
            && !alloc.server_terminal()
    };
    if over.iter().any(given_up) {
        return Existing::Done;
    }
    Existing::Over(over.into_iter().next_back().filter(|alloc| alloc.extra().next.is_none()))
}

fn sort_one(
    scene: &mut Scene<'_>,
    job: &Arc<Job>,
    group: &TaskGroup,
    alloc: Arc<Allocation>,
    changes: &mut GroupChanges,
    destructive: &mut Vec<Arc<Allocation>>,
    part: &mut Vec<Arc<Allocation>>,
) {
    if alloc.extra().transition.migrate == Some(true) {
        // Someone stopped it by hand: it is placed again when its job or node is looked at next, and not before.
        changes.stops.push(stop(&alloc, texts::NODE_TAINTED));
        changes.desired.migrate += 1;
        return;
    }
    if is_current(&alloc, job) {
        changes.desired.ignore += 1;
        part.push(alloc);
    } else if needs_replacement((&alloc.job, alloc.task_group()), (job, group))
        || !scene.nodes.meets(&alloc, job, group)
    {
        destructive.push(alloc);
    } else {
        changes.desired.in_place_update += 1;
        changes.in_place.push(alloc.clone());
        part.push(alloc);
    }
}

/// Decides about an allocation on a node that is not among those that the group belongs on. Returns one that stays and whose
/// health is still to be waited for.
fn leave(
    scene: &mut Scene<'_>,
    (job, group): (&Job, &TaskGroup),
    alloc: Arc<Allocation>,
    changes: &mut GroupChanges,
) -> Option<Arc<Allocation>> {
    let node = scene.snapshot.node(alloc.node_id);
    let status = node.map(|node| node.status);
    let stopped = match (node, status) {
        (None, _) | (_, Some(NodeStatus::Down)) => Some(lost(&alloc)),
        (Some(_), Some(NodeStatus::Disconnected)) => None,
        (Some(_), _) if alloc.extra().transition.migrate == Some(true) => {
            Some(stop(&alloc, texts::NODE_TAINTED))
        }
        // A node that takes nothing else keeps what it has, as long as it meets the group's demands.
        (Some(node), _) if !node.schedulable() && scene.nodes.meets(&alloc, job, group) => None,
        (Some(_), _) => Some(stop(&alloc, texts::NOT_NEEDED)),
    };
    match stopped {
        Some(stop) => {
            changes.stops.push(stop);
            changes.desired.stop += 1;
            None
        }
        None => {
            changes.desired.ignore += 1;
            (status != Some(NodeStatus::Disconnected) && is_current(&alloc, job)).then_some(alloc)
        }
    }
}

/// Lets as many updates happen as may be under way.
fn roll(
    scene: &Scene<'_>,
    group: &TaskGroup,
    rollout: &mut Rollout,
    changes: &mut GroupChanges,
    mut destructive: Vec<Arc<Allocation>>,
    part: &[Arc<Allocation>],
) {
    let strategy = deployment::strategy(group).filter(|_| scene.kind == JobType::System);
    let mut limit = destructive.len();
    if let Some(strategy) = strategy {
        let health = |alloc: &Arc<Allocation>| alloc.extra().health.and_then(|health| health.healthy);
        let mut of_rollout = part.iter().filter(|alloc| rollout.has(alloc));
        let unsure = of_rollout.clone().filter(|alloc| health(alloc).is_none()).count();
        let unhealthy = of_rollout.any(|alloc| health(alloc) == Some(false));
        limit = match rollout.is_paused() || rollout.is_failed() || unhealthy {
            true => 0,
            false => (strategy.max_parallel as usize).saturating_sub(unsure),
        };
        let promoted = rollout.group(&group.name).is_some_and(|progress| progress.promoted);
        if strategy.canary > 0 && !promoted && !destructive.is_empty() {
            limit = limit.min(canaries_left(group, strategy.canary, rollout, destructive.len()));
        }
    }
    let waiting = destructive.split_off(limit.min(destructive.len()));
    changes.desired.ignore += waiting.len() as u64;
    changes.desired.destructive_update += destructive.len() as u64;
    changes.destructive = destructive;
}

/// For system jobs canaries are a share, in percent, of the nodes that change.
fn canaries_left(group: &TaskGroup, percent: u32, rollout: &mut Rollout, changing: usize) -> usize {
    let Some(strategy) = deployment::strategy(group) else { return 0 };
    let placed = rollout.group(&group.name).map_or(0, |progress| progress.placed_canaries.len());
    let known = rollout.group(&group.name).map_or(0, |progress| progress.desired_canaries as usize);
    let wanted = if known > 0 { known } else { (changing * percent as usize).div_ceil(100) };
    rollout.want_canaries(group, strategy, u32::try_from(changing).unwrap_or(u32::MAX), wanted as u32);
    wanted.saturating_sub(placed)
}

fn finish(
    scene: &Scene<'_>,
    group: &TaskGroup,
    rollout: &mut Rollout,
    changes: &GroupChanges,
    wanted: u32,
    had_running: bool,
) {
    if scene.kind != JobType::System {
        return;
    }
    let updates = changes.desired.destructive_update + changes.desired.in_place_update > 0;
    if let Some(strategy) = deployment::strategy(group) {
        rollout.want_total(group, wanted);
        rollout.begin(group, strategy, wanted, updates || !had_running);
    }
    // Updates that wait for others keep the deployment from its end: it is not healthy in full before.
    rollout.note_group(group, !updates && changes.wants.is_empty());
}

fn stop_everywhere(scene: &Scene<'_>, all: &[Arc<Allocation>], changes: &mut GroupChanges) {
    for alloc in all.iter().filter(|alloc| !alloc.terminal()) {
        let gone = scene.snapshot.node(alloc.node_id).is_none_or(|node| node.is_down());
        changes.stops.push(if gone { lost(alloc) } else { stop(alloc, texts::NOT_NEEDED) });
        changes.desired.stop += 1;
    }
}

use std::{collections::BTreeSet, sync::Arc};

use model::{AllocId, Allocation, ClientStatus, DesiredStatus, EvalTrigger, Evaluation, Job, TaskGroup};
use protocol::Stop;

use super::{
    GroupChanges, Scene, Want, later,
    sort::{ByNode, is_current},
    stop, texts,
};

/// Marks allocations whose nodes went out of reach, and asks for replacements unless the group wants none.
pub(super) fn disconnect(
    scene: &mut Scene<'_>,
    group: &TaskGroup,
    disconnecting: &[Arc<Allocation>],
    changes: &mut GroupChanges,
    followups: &mut Vec<Evaluation>,
) {
    let Some(disconnect) = group.disconnect.as_ref().filter(|_| !disconnecting.is_empty()) else { return };
    let at = scene.now.after(disconnect.lost_after.unwrap_or_default());
    let followup = later(scene, EvalTrigger::MaxDisconnectTimeout, at, texts::DISCONNECT_TIMEOUT);
    for alloc in disconnecting {
        changes.stops.push(Stop {
            desired: DesiredStatus::Run,
            client_status: Some(ClientStatus::Unknown),
            followup_eval: Some(followup.id),
            ..stop(alloc, texts::UNKNOWN)
        });
        changes.desired.disconnect += 1;
        if disconnect.replace != Some(false) {
            changes.wants.push(Want { index: alloc.index, previous: Some(alloc.clone()), ..Want::default() });
            changes.desired.place += 1;
        }
    }
    followups.push(followup);
}

/// Decides, for allocations that came back, whether they or those that took their place stay. Their place has whoever was
/// placed for them, and whoever has their number by now: what was placed for them may have been replaced or gone out of reach,
/// too.
///
/// Returns those that came back and stay; others that do not are taken off `by_node`.
pub(super) fn reconnect(
    job: &Job,
    group: &TaskGroup,
    by_node: &mut ByNode,
    is_aside: impl Fn(&Allocation) -> bool,
    changes: &mut GroupChanges,
) -> Vec<Arc<Allocation>> {
    let mut stay: Vec<Arc<Allocation>> = Vec::new();
    for back in std::mem::take(&mut by_node.reconnecting) {
        let mut stays = is_current(&back, job);
        let rivals = by_node.kept.iter().chain(&by_node.migrating).chain(&stay);
        let rivals = rivals.filter(|alloc| {
            let placed_for_it = alloc.extra().previous == Some(back.id);
            let has_its_number = alloc.index == back.index && is_current(alloc, job);
            can_stay(alloc) && (placed_for_it || has_its_number) && is_aside(alloc) == is_aside(&back)
        });
        let mut beaten: BTreeSet<AllocId> = BTreeSet::new();
        for rival in rivals {
            stays = stays && is_chosen(group, &back, rival);
            if stays && !mutants::on!("reconnect-keeps-both") {
                beaten.insert(rival.id);
            }
        }
        if !stays {
            changes.stops.push(stop(&back, texts::RECONNECTED));
            changes.desired.stop += 1;
            continue;
        }
        for list in [&mut by_node.kept, &mut by_node.migrating, &mut stay] {
            for loser in list.extract_if(.., |alloc| beaten.contains(&alloc.id)) {
                changes.stops.push(stop(&loser, texts::RECONNECTED));
                changes.desired.stop += 1;
            }
        }
        stay.push(back);
    }
    changes.desired.reconnect += stay.len() as u64;
    stay
}

/// Tells whether an allocation runs, will run or is about to be replaced.
fn can_stay(alloc: &Allocation) -> bool {
    let failed = alloc.client_status == ClientStatus::Failed && alloc.extra().next.is_none();
    !alloc.server_terminal() && (failed || !alloc.client_status.is_terminal())
}

/// Tells whether one that came back is to stay rather than another one with its place: the older of the two is the original.
fn is_chosen(group: &TaskGroup, back: &Allocation, rival: &Allocation) -> bool {
    let leaves =
        rival.client_status == ClientStatus::Failed || rival.extra().transition.migrate == Some(true);
    if leaves {
        return true;
    }
    let is_original = (back.create_index, back.id) < (rival.create_index, rival.id);
    let (original, replacement) = if is_original { (back, rival) } else { (rival, back) };
    is_original != replacement_wins(group, original, replacement)
}

fn replacement_wins(group: &TaskGroup, original: &Allocation, replacement: &Allocation) -> bool {
    let strategy =
        group.disconnect.as_ref().map(|disconnect| disconnect.reconcile.clone()).unwrap_or_default();
    match strategy.as_str() {
        "keep_original" => false,
        "keep_replacement" => true,
        "longest_running" => started_at(replacement) < started_at(original),
        _ => score(replacement) > score(original),
    }
}

fn started_at(alloc: &Allocation) -> i64 {
    let started = alloc.task_states.iter().map(|state| state.started_at.0).filter(|at| *at > 0);
    started.min().unwrap_or(i64::MAX)
}

fn score(alloc: &Allocation) -> f64 {
    let own = |metrics: &Arc<model::AllocMetric>| {
        metrics.scores.iter().find(|score| score.node_id == alloc.node_id).map(|score| score.normalised)
    };
    alloc.metrics.as_ref().and_then(own).unwrap_or(0.0)
}

use std::{collections::BTreeSet, sync::Arc};

use model::{AllocId, Allocation, ClientStatus, DesiredStatus, EvalTrigger, Evaluation, Job, TaskGroup};
use protocol::Stop;

use super::{GroupChanges, Scene, Want, later, sort::is_current, stop, texts};

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

/// Decides, for allocations that came back, whether they or their replacements stay.
///
/// Returns those that came back and stay; replacements that do not are taken off `kept`.
pub(super) fn reconnect(
    job: &Job,
    group: &TaskGroup,
    reconnecting: Vec<Arc<Allocation>>,
    kept: &mut Vec<Arc<Allocation>>,
    changes: &mut GroupChanges,
) -> Vec<Arc<Allocation>> {
    let mut stay = Vec::new();
    let mut gone: BTreeSet<AllocId> = BTreeSet::new();
    for original in reconnecting {
        let replacement = kept.iter().find(|alloc| {
            alloc.extra().previous == Some(original.id) && !alloc.terminal() && !gone.contains(&alloc.id)
        });
        let winner = match replacement {
            _ if !is_current(&original, job) => Winner::Replacement,
            None => Winner::Original,
            Some(replacement) => choose(group, &original, replacement),
        };
        match winner {
            Winner::Original => {
                if let Some(replacement) = replacement.filter(|_| !mutants::on!("reconnect-keeps-both")) {
                    changes.stops.push(stop(replacement, texts::RECONNECTED));
                    changes.desired.stop += 1;
                    gone.insert(replacement.id);
                }
                changes.desired.reconnect += 1;
                stay.push(original);
            }
            Winner::Replacement => {
                changes.stops.push(stop(&original, texts::RECONNECTED));
                changes.desired.stop += 1;
            }
        }
    }
    kept.retain(|alloc| !gone.contains(&alloc.id));
    stay
}

enum Winner {
    Original,
    Replacement,
}

fn choose(group: &TaskGroup, original: &Allocation, replacement: &Allocation) -> Winner {
    let strategy =
        group.disconnect.as_ref().map(|disconnect| disconnect.reconcile.clone()).unwrap_or_default();
    let replacement_wins = match strategy.as_str() {
        "keep_original" => false,
        "keep_replacement" => true,
        "longest_running" => started_at(replacement) < started_at(original),
        _ => score(replacement) > score(original),
    };
    if replacement_wins { Winner::Replacement } else { Winner::Original }
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

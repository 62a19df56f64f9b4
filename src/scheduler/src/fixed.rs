//! Places allocations whose nodes are given: those of system jobs.

use std::sync::Arc;

use model::{AllocId, AllocMetric, Allocation, NodeId, SchedulerAlgorithm, Text};

use crate::{
    Chance,
    ask::Ask,
    feasibility::Candidates,
    place::Choice,
    score::{Fit, Parts},
    table::{InFlight, NodeTable, Room, Slot},
};

/// Scores that the metric shows.
const SHOWN_SCORES: usize = 5;

/// One allocation and its node.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) node: NodeId,
    pub(crate) previous: Option<&'a Arc<Allocation>>,
    /// The one before is stopped for it, and its room may be used.
    pub(crate) replaces: bool,
}

/// What came of it.
pub(crate) struct Outcome<'a> {
    pub(crate) choices: Vec<(Choice, Wanted<'a>)>,
    pub(crate) metric: AllocMetric,
    pub(crate) failures: usize,
    pub(crate) failure: AllocMetric,
}

/// Places each allocation on its node if there is room.
pub(crate) fn place<'a>(
    table: &mut NodeTable,
    chance: &mut dyn Chance,
    ask: &Ask,
    algorithm: SchedulerAlgorithm,
    candidates: &Candidates,
    wanted: &[Wanted<'a>],
) -> Outcome<'a> {
    // Each node is a question of its own: a metric tells of one.
    let mut metric = AllocMetric {
        nodes_evaluated: 1,
        nodes_filtered: 0,
        class_filtered: Default::default(),
        constraint_filtered: Default::default(),
        node_pool: Text::default(),
        ..candidates.metric.clone()
    };
    let mut failure = AllocMetric { nodes_evaluated: 0, ..metric.clone() };
    let (mut choices, mut failures) = (Vec::with_capacity(wanted.len()), 0);
    for &wanted in wanted {
        let Some(slot) = table.slot(wanted.node) else { continue };
        let lender = wanted.previous.filter(|alloc| wanted.replaces && alloc.occupies());
        failure.nodes_evaluated += 1;
        match accept(table, chance, ask, algorithm, slot, lender.map(|alloc| &**alloc)) {
            Ok(choice) => {
                if metric.scores.len() < SHOWN_SCORES {
                    let mut score = choice.parts.show(table, slot, false);
                    // Only the fit is asked for where there is nothing to choose.
                    score.parts.truncate(1);
                    metric.scores.push(score);
                }
                choices.push((choice, wanted));
            }
            Err((dimension, missing)) => {
                failures += 1;
                explain(&mut failure, table, slot, dimension, missing);
            }
        }
    }
    Outcome { choices, metric, failures, failure }
}

fn accept(
    table: &mut NodeTable,
    chance: &mut dyn Chance,
    ask: &Ask,
    algorithm: SchedulerAlgorithm,
    slot: Slot,
    lender: Option<&Allocation>,
) -> Result<Choice, (Text, u64)> {
    let node = table.node(slot).clone();
    let room = ask.room_on(&node);
    let lent = lender.map(|alloc| Room::of(&alloc.resources).min(room)).unwrap_or_default();
    let at = slot as usize;
    let dimensions = [
        ("cpu", room.cpu, table.free_cpu[at] + lent.cpu),
        ("memory", room.memory, table.free_memory[at] + lent.memory),
        ("disk", room.disk, table.free_disk[at] + lent.disk),
    ];
    for (name, wanted, free) in dimensions {
        if free < wanted {
            return Err((Text::new_static(name), (i64::from(wanted) - i64::from(free)).unsigned_abs()));
        }
    }
    let row = table.row(slot);
    let others = row.allocs - u32::from(lender.is_some()).min(row.allocs);
    if node.max_allocs > 0 && others >= node.max_allocs {
        return Err(("max allocation exceeded".into(), 0));
    }
    let resources = match ask.shared() {
        Some(shared) => shared.clone(),
        None => {
            let share = row
                .exclusive
                .choose(&node, ask, lender.map(|alloc| &*alloc.resources), chance)
                .map_err(|text| (text, 0))?;
            Arc::new(ask.resources(&node, share))
        }
    };
    // What the one before lends is handed over: it is counted no more beside the one that takes its place.
    table.lend(slot, lent);
    let parts = Parts { fit: Fit { room, algorithm }.score(table, slot), ..Parts::default() };
    let id = AllocId::from_random(chance.random_u128());
    let previous = lender.map(|alloc| alloc.id);
    table.place(slot, InFlight { id, resources: resources.clone(), previous });
    Ok(Choice { id, slot, resources, lender: None, parts })
}

fn explain(failure: &mut AllocMetric, table: &NodeTable, slot: Slot, dimension: Text, missing: u64) {
    let class = &table.node(slot).node_class;
    failure.nodes_exhausted += 1;
    if !class.is_empty() {
        *failure.class_exhausted.entry(class.clone()).or_default() += 1;
    }
    if missing > 0 {
        let least = failure.nearest_miss.entry(dimension.clone()).or_insert(missing);
        *least = missing.min(*least);
    }
    *failure.dimension_exhausted.entry(dimension).or_default() += 1;
}

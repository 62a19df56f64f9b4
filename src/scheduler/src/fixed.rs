//! Places allocations whose nodes are given: those of system jobs.

use std::sync::Arc;

use model::{AllocId, AllocMetric, AllocatedResources, Allocation, NodeId, SchedulerAlgorithm, Text};

use crate::{
    Chance,
    ask::Ask,
    feasibility::Candidates,
    place::Choice,
    preempt::{Need, Preemption, Victims, room_of},
    score::{Fit, Parts},
    table::{InFlight, NodeTable, Slot},
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

/// One pass over given nodes for one group.
pub(crate) struct Pass<'a> {
    pub(crate) table: &'a mut NodeTable,
    pub(crate) chance: &'a mut dyn Chance,
    pub(crate) ask: &'a Ask,
    pub(crate) algorithm: SchedulerAlgorithm,
    pub(crate) candidates: &'a Candidates,
    /// The right to displace less important jobs, if there is one.
    pub(crate) preemption: Option<&'a mut Preemption>,
}

impl Pass<'_> {
    /// Places each allocation on its node if there is room.
    pub(crate) fn run<'a>(mut self, wanted: &[Wanted<'a>]) -> Outcome<'a> {
        // Each node is a question of its own: a metric tells of one.
        let mut metric = AllocMetric {
            nodes_evaluated: 1,
            nodes_filtered: 0,
            class_filtered: Default::default(),
            constraint_filtered: Default::default(),
            node_pool: Text::default(),
            ..self.candidates.metric.clone()
        };
        let mut failure = AllocMetric { nodes_evaluated: 0, ..metric.clone() };
        let (mut choices, mut failures) = (Vec::with_capacity(wanted.len()), 0);
        for &wanted in wanted {
            let Some(slot) = self.table.slot(wanted.node) else { continue };
            let lender = wanted.previous.filter(|alloc| wanted.replaces && alloc.occupies());
            let lender = lender.map(|alloc| &**alloc);
            failure.nodes_evaluated += 1;
            let choice = self
                .accept(slot, lender, Vec::new())
                .or_else(|short| self.displace(slot, lender).ok_or(short));
            match choice {
                Ok(choice) => {
                    if metric.scores.len() < SHOWN_SCORES {
                        let mut score = choice.parts.show(self.table, slot, false);
                        // Only the fit is asked for where there is nothing to choose.
                        score.parts.retain(|(_, part)| *part != 0.0);
                        metric.scores.push(score);
                    }
                    choices.push((choice, wanted));
                }
                Err((dimension, missing)) => {
                    failures += 1;
                    explain(&mut failure, self.table, slot, dimension, missing);
                }
            }
        }
        Outcome { choices, metric, failures, failure }
    }

    /// Places one where less important allocations make room for it.
    fn displace(&mut self, slot: Slot, lender: Option<&Allocation>) -> Option<Choice> {
        let preemption = self.preemption.as_deref().filter(|preemption| preemption.is_possible())?;
        let held = lender.map(|alloc| &*alloc.resources);
        let need = Need { slot, ask: self.ask, lender: held, free: self.table.free(slot) };
        let Victims(victims) = preemption.victims(self.table, need)?;
        let choice = self.accept(slot, lender, victims).ok()?;
        if let Some(preemption) = &mut self.preemption {
            preemption.take(&choice.preempted);
        }
        Some(choice)
    }

    /// Puts an allocation on a node if it has room; what these hold there counts as free.
    fn accept(
        &mut self,
        slot: Slot,
        lender: Option<&Allocation>,
        preempted: Vec<Arc<Allocation>>,
    ) -> Result<Choice, (Text, u64)> {
        let (table, ask) = (&mut *self.table, self.ask);
        let held: Vec<&AllocatedResources> = lender
            .into_iter()
            .chain(preempted.iter().map(|alloc| &**alloc))
            .map(|alloc| &*alloc.resources)
            .collect();
        let node = table.node(slot);
        let room = ask.room_on(node);
        let lent = room_of(held.iter().copied()).min(room);
        let free = table.free(slot).plus(lent);
        let dimensions = [
            ("cpu", room.cpu, free.cpu),
            ("memory", room.memory, free.memory),
            ("disk", room.disk, free.disk),
        ];
        for (name, wanted, free) in dimensions {
            if free < wanted {
                let missing = (i64::from(wanted) - i64::from(free)).unsigned_abs();
                return Err((Text::new_static(name), missing));
            }
        }
        let row = table.row(slot);
        let others = (row.allocs as usize).saturating_sub(held.len());
        if node.max_allocs > 0 && others >= node.max_allocs as usize {
            return Err(("max allocation exceeded".into(), 0));
        }
        let resources = match ask.shared() {
            Some(shared) => shared.clone(),
            None => {
                let share = row.exclusive.choose(node, ask, &held, self.chance).map_err(|text| (text, 0))?;
                Arc::new(ask.resources(node, share))
            }
        };
        // What the ones before lend is handed over: it is counted no more beside the one that takes their place.
        table.lend(slot, lent);
        let fit = Fit { room, algorithm: self.algorithm }.score(table, slot);
        let id = AllocId::from_random(self.chance.random_u128());
        let preemption = if preempted.is_empty() { 0.0 } else { Victims(preempted.clone()).score() };
        let parts = Parts { fit, preemption, ..Parts::default() };
        let lenders = lender.into_iter().map(|alloc| alloc.id).chain(preempted.iter().map(|alloc| alloc.id));
        let lenders = lenders.collect();
        table.place(slot, InFlight { id, resources: resources.clone(), lenders });
        Ok(Choice { id, slot, resources, lender: None, preempted, parts })
    }
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

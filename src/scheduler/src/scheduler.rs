use std::collections::BTreeMap;

use model::{AllocId, Evaluation, Timestamp};
use protocol::Plan;
use state::{Changes, Snapshot};

use crate::{
    evaluate::{self, Subject},
    feasibility::Feasibility,
    table::{NodeTable, Slot},
};

/// Makes plans, on a table of nodes that it keeps between rounds.
///
/// There is one in a region, on the leader. Whoever owns it
/// - calls [`rebuild`](Self::rebuild) once it leads,
/// - calls [`follow`](Self::follow) with the changes of each command that was applied, in order,
/// - calls [`round`](Self::round) and proposes the plans as one command, and may do so again before it is committed,
/// - calls [`withdraw`](Self::withdraw) for plans that were rejected, [`abandon`](Self::abandon) when it does not know.
///
/// A job must not be looked at again while a plan of it is in flight: its placements are counted on their nodes, but the
/// job's own allocations come from the snapshot.
#[derive(Default)]
pub struct Scheduler {
    pub(crate) table: NodeTable,
    pub(crate) feasibility: Feasibility,
}

/// How much one round may do.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// The round ends after the plan that reaches this many placements. A plan is never split: one group of more makes a
    /// longer round.
    pub placements_max: usize,
}

/// What a round takes from outside.
pub struct Context<'a> {
    /// The time that plans are made at.
    pub now: Timestamp,
    /// Where ids, ports and the order of equals come from.
    pub chance: &'a mut dyn Chance,
}

/// A source of numbers. The same numbers and the same snapshot give the same plans.
pub trait Chance {
    /// Draws 64 bits.
    fn random_u64(&mut self) -> u64;

    /// Draws 128 bits.
    fn random_u128(&mut self) -> u128 {
        u128::from(self.random_u64()) << 64 | u128::from(self.random_u64())
    }
}

impl<F: FnMut() -> u64> Chance for F {
    fn random_u64(&mut self) -> u64 {
        self()
    }
}

impl Scheduler {
    /// Makes a scheduler that knows no nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the table of nodes anew; forgets what is in flight.
    pub fn rebuild(&mut self, snapshot: &Snapshot) {
        self.table.rebuild(snapshot);
        self.feasibility.clear();
    }

    /// Follows what a command changed. `snapshot` must show the command, and may be later.
    pub fn follow(&mut self, snapshot: &Snapshot, changes: &Changes) {
        self.table.follow(snapshot, changes);
    }

    /// Makes a plan of each evaluation in order, until the budget is spent. Evaluations without a plan were not looked
    /// at; a plan tells its evaluation by id.
    pub fn round(
        &mut self,
        snapshot: &Snapshot,
        evals: &[Evaluation],
        budget: Budget,
        context: &mut Context<'_>,
    ) -> Vec<Plan> {
        let mut plans = Vec::with_capacity(evals.len());
        let mut placed = 0;
        for eval in evals {
            if placed >= budget.placements_max {
                break;
            }
            let subject = Subject { snapshot, eval, job: snapshot.job(&eval.job) };
            let plan = evaluate::evaluate(self, &subject, context);
            placed += plan.placements.len();
            plans.push(plan);
        }
        plans
    }

    /// Forgets the placements of plans that will not be committed.
    pub fn withdraw<'a>(&mut self, snapshot: &Snapshot, plans: impl IntoIterator<Item = &'a Plan>) {
        // Plans of a round share nodes, and each node is counted anew: once is enough.
        let mut by_slot: BTreeMap<Slot, Vec<AllocId>> = BTreeMap::new();
        for placement in plans.into_iter().flat_map(|plan| &plan.placements) {
            if let Some(slot) = self.table.slot(placement.node_id) {
                by_slot.entry(slot).or_default().push(placement.id);
            }
        }
        for (slot, ids) in by_slot {
            self.table.withdraw(snapshot, slot, &ids);
        }
    }

    /// Forgets everything that is in flight.
    pub fn abandon(&mut self, snapshot: &Snapshot) {
        self.table.abandon(snapshot);
    }

    /// Counts the nodes that the table knows.
    pub fn node_count(&self) -> usize {
        self.table.nodes().count()
    }
}

//! Places at the expense of less important jobs, where there is no room otherwise.

use model::AllocatedResources;

use super::{Choice, Put, Running, Wish};
use crate::{
    preempt::{Need, Victims, room_of},
    score::{Fit, Parts, mean_with_spread},
    table::{Room, Slot},
};

/// What it takes to place one on a node, as far as it decides between nodes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Sum of the score's parts but the spread.
    sum: f32,
    /// How many parts that is.
    parts: u8,
}

impl Running<'_> {
    /// Places one where the least important allocations make room for it.
    pub(super) fn displace(&mut self, wish: &Wish) -> Option<Choice> {
        if !self.pass.preemption.as_ref().is_some_and(|preemption| preemption.is_possible()) {
            return None;
        }
        if self.costs.is_none() {
            let costs = (0..self.sums.len()).map(|at| self.cost(at)).collect();
            self.costs = Some(costs);
        }
        loop {
            let at = self.cheapest(wish)?;
            // Who gave way elsewhere meanwhile may be spared here.
            let choice = self.victims(at).and_then(|victims| self.accept_with(at, wish, victims));
            let cost = if choice.is_some() { self.cost(at) } else { None };
            if let Some(costs) = &mut self.costs {
                costs[at] = cost;
            }
            if choice.is_some() {
                return choice;
            }
        }
    }

    fn cost(&mut self, at: usize) -> Option<Cost> {
        let victims = self.victims(at)?;
        let (sum, parts) = self.parts_with(at, &victims).sum();
        sum.is_finite().then_some(Cost { sum, parts })
    }

    /// Finds the node with the best score among those that the rules leave.
    fn cheapest(&self, wish: &Wish) -> Option<usize> {
        let costs = self.costs.as_ref()?;
        let mut best: Option<(f32, u32, usize)> = None;
        for (at, cost) in costs.iter().enumerate() {
            let Some(cost) = cost else { continue };
            let slot = self.pass.candidates.slots[at];
            let bucket = self.bucket(at);
            if self.pass.rules.is_closed(bucket) || self.is_taken(slot) {
                continue;
            }
            let penalty = if wish.penalised.contains(&slot) { -1.0 } else { 0.0 };
            let count = cost.parts + u8::from(penalty != 0.0);
            let total = mean_with_spread(cost.sum + penalty, count, self.pass.rules.boost(bucket));
            let tie = self.tie(at);
            if best.is_none_or(|(found, than, _)| total > found || (total == found && tie < than)) {
                best = Some((total, tie, at));
            }
        }
        best.map(|(_, _, at)| at)
    }

    fn victims(&self, at: usize) -> Option<Victims> {
        let slot = self.pass.candidates.slots[at];
        let lender = self.lender(slot).map(|lender| self.pass.lenders[lender].resources);
        let free = self.free_without_loans(slot);
        let need = Need { slot, ask: self.pass.ask, lender, free };
        self.pass.preemption.as_ref()?.victims(self.pass.table, need)
    }

    /// Returns what is free on a node without what its next lender lends.
    fn free_without_loans(&self, slot: Slot) -> Room {
        self.pass.table.free(slot).minus(self.lent.get(&slot).copied().unwrap_or_default())
    }

    fn parts_with(&mut self, at: usize, victims: &Victims) -> Parts {
        let slot = self.pass.candidates.slots[at];
        let room = self.pass.ask.room_on(self.pass.table.node(slot));
        let lender = self.lender(slot).map(|lender| self.pass.lenders[lender].resources);
        let held = room_of(lender.into_iter().chain(victims.resources()));
        let free = self.free_without_loans(slot).plus(held);
        let fit = Fit { room, algorithm: self.pass.algorithm };
        Parts {
            fit: fit.score_with(self.pass.table, slot, free),
            preemption: victims.score(),
            ..self.parts_of(at)
        }
    }

    fn accept_with(&mut self, at: usize, wish: &Wish, victims: Victims) -> Option<Choice> {
        let slot = self.pass.candidates.slots[at];
        let lender = self.lender(slot);
        let lenders = lender.map(|lender| self.pass.lenders[lender].resources);
        let held: Vec<&AllocatedResources> = lenders.into_iter().chain(victims.resources()).collect();
        let resources = self.resources(slot, &held).ok()?;
        let parts = self.parts_with(at, &victims);
        // What the next lender lends is lent already; the others lend what is missing yet.
        let room = self.pass.ask.room_on(self.pass.table.node(slot));
        let lent = room_of(held.iter().copied()).min(room);
        let before = self.lent.get(&slot).copied().unwrap_or_default();
        self.pass.table.lend(slot, lent.minus(before));
        if let Some(preemption) = &mut self.pass.preemption {
            preemption.take(&victims.0);
        }
        Some(self.put(at, wish, Put { lender, preempted: victims.0, resources, parts }))
    }
}

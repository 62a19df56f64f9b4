use std::collections::{BTreeMap, BTreeSet};

use model::{AllocId, DesiredStatus, NodeId};

use crate::{AllocRow, Rows};

/// Who takes over from whom on one node.
///
/// An allocation that the servers stopped holds what it holds until its client says that it is over. Meanwhile the one
/// that takes its place is there too, and starts only when it is gone: the two never hold more than the larger of them,
/// and may own the same port.
pub(crate) struct Handover<'a> {
    rows: BTreeMap<AllocId, &'a AllocRow>,
    /// By the one that stops.
    heirs: BTreeMap<AllocId, AllocId>,
}

impl<'a> Handover<'a> {
    pub(crate) fn on(rows: &'a Rows, node: NodeId) -> Self {
        let rows = rows.holding_on(node);
        let mut heirs = BTreeMap::new();
        for (id, row) in &rows {
            for before in &row.takes_over {
                let stops = rows.get(before).is_some_and(|before| before.desired != DesiredStatus::Run);
                if stops {
                    // What one leaves, it leaves to one.
                    heirs.entry(*before).or_insert(*id);
                }
            }
        }
        Self { rows, heirs }
    }

    /// Adds up one thing that they hold: for each line of allocations, what its largest moment takes.
    pub(crate) fn sum(&self, amount: impl Fn(&AllocRow) -> u64 + Copy) -> u64 {
        let last = self.rows.keys().filter(|id| !self.heirs.contains_key(id));
        last.map(|id| self.line(*id, amount, self.rows.len())).sum()
    }

    fn line(&self, id: AllocId, amount: impl Fn(&AllocRow) -> u64 + Copy, depth: usize) -> u64 {
        let own = amount(self.rows[&id]);
        if depth == 0 {
            return own;
        }
        let before = self.heirs.iter().filter(|(_, heir)| **heir == id);
        own.max(before.map(|(before, _)| self.line(*before, amount, depth - 1)).sum())
    }

    /// Finds two that own one thing though neither takes over from the other, or one that owns it twice.
    pub(crate) fn two_owners<T: Clone + Ord>(
        &self,
        things: impl Fn(&AllocRow) -> Vec<T>,
    ) -> Option<(T, AllocId, AllocId)> {
        let mut owners: BTreeMap<T, Vec<AllocId>> = BTreeMap::new();
        for (id, row) in &self.rows {
            for thing in things(row) {
                let owners = owners.entry(thing.clone()).or_default();
                let conflict = owners.iter().find(|other| !self.related(**other, *id));
                if let Some(other) = conflict {
                    return Some((thing, *other, *id));
                }
                owners.push(*id);
            }
        }
        None
    }

    fn related(&self, one: AllocId, other: AllocId) -> bool {
        one != other && (self.inherits(one, other) || self.inherits(other, one))
    }

    fn inherits(&self, from: AllocId, to: AllocId) -> bool {
        let mut passed = BTreeSet::new();
        let mut next = self.heirs.get(&from);
        while let Some(heir) = next.filter(|heir| passed.insert(**heir)) {
            if *heir == to {
                return true;
            }
            next = self.heirs.get(heir);
        }
        false
    }
}

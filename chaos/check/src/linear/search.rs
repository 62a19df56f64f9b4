use std::collections::HashSet;

use super::register::Register;
use crate::{Action, Operation, Outcome, observation::Moment};

/// What the search found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Linearizable,
    Not { explained: usize, stuck: String },
    GaveUp,
}

/// Operations that a report names.
const STUCK_SHOWN_MAX: usize = 4;

/// Looks for an order, as Wing and Gong did, and never looks twice at the same operations with the same outcome, as Lowe
/// does: what was taken and the job that came of it are remembered.
pub(super) fn search(operations: &[&Operation], steps_max: u64) -> Verdict {
    let mut search = Search::new(operations, steps_max);
    search.run()
}

struct Search<'a> {
    /// In the order of their starts.
    operations: Vec<&'a Operation>,
    seen: HashSet<(Taken, Register)>,
    steps: u64,
    steps_max: u64,
    /// The longest order so far: answers explained, what was taken, the job.
    best: (usize, Taken, Register),
}

/// Which operations an order has, a bit for each.
type Taken = Box<[u64]>;

/// One place in the search: an order so far, and what may come next in it.
struct Place {
    taken: Taken,
    register: Register,
    explained: usize,
    /// Not tried yet; the last one is the next.
    next: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(operations: &[&'a Operation], steps_max: u64) -> Self {
        // A read without an answer says nothing and does nothing.
        let says = |operation: &&&Operation| {
            operation.outcome != Outcome::Unknown || operation.action != Action::Read
        };
        let mut operations: Vec<_> = operations.iter().filter(says).copied().collect();
        operations.sort_by_key(|operation| (operation.start, operation.end));
        let none: Taken = vec![0; operations.len().div_ceil(64)].into();
        let best = (0, none, Register::default());
        Self { operations, seen: HashSet::new(), steps: 0, steps_max, best }
    }

    fn run(&mut self) -> Verdict {
        let answered =
            self.operations.iter().filter(|operation| operation.outcome != Outcome::Unknown).count();
        let (_, taken, register) = self.best.clone();
        let next = self.candidates(&taken);
        let mut path = vec![Place { taken, register, explained: 0, next }];
        while let Some(place) = path.last_mut() {
            if place.explained == answered {
                return Verdict::Linearizable;
            }
            let Some(index) = place.next.pop() else {
                path.pop();
                continue;
            };
            self.steps += 1;
            if self.steps > self.steps_max {
                return Verdict::GaveUp;
            }
            let operation = self.operations[index];
            let Some(register) = place.register.step(operation.action, &operation.outcome) else { continue };
            let unknown = operation.outcome == Outcome::Unknown;
            if unknown && register == place.register {
                // Done or not, it makes no difference here; it may still make one later.
                continue;
            }
            let mut taken = place.taken.clone();
            taken[index / 64] |= 1 << (index % 64);
            let explained = place.explained + usize::from(!unknown);
            if !self.seen.insert((taken.clone(), register)) {
                continue;
            }
            if explained > self.best.0 {
                self.best = (explained, taken.clone(), register);
            }
            let next = self.candidates(&taken);
            path.push(Place { taken, register, explained, next });
        }
        Verdict::Not { explained: self.best.0, stuck: self.stuck() }
    }

    /// Lists what may come next: whatever started before the first of the others was answered. Unknown ones come to be
    /// tried last, for most of them never happened or can wait.
    fn candidates(&self, taken: &Taken) -> Vec<usize> {
        let mut deadline = Moment::MAX;
        let (mut answered, mut unknown) = (Vec::new(), Vec::new());
        for (index, operation) in self.operations.iter().enumerate() {
            if operation.start > deadline {
                break;
            }
            if taken[index / 64] & (1 << (index % 64)) != 0 {
                continue;
            }
            if operation.outcome == Outcome::Unknown {
                unknown.push(index);
            } else {
                deadline = deadline.min(operation.end);
                answered.push(index);
            }
        }
        // An operation that was looked at before the deadline came down may have started after it.
        let in_time = |index: &usize| self.operations[*index].start <= deadline;
        answered.retain(in_time);
        unknown.retain(in_time);
        answered.sort_by_key(|index| std::cmp::Reverse(self.operations[*index].end));
        unknown.reverse();
        unknown.extend(answered);
        unknown
    }

    /// Says what the longest order leaves unexplained.
    fn stuck(&self) -> String {
        let (_, taken, register) = &self.best;
        let mut next = self.candidates(taken);
        next.reverse();
        let shown = next.into_iter().take(STUCK_SHOWN_MAX).map(|index| {
            let operation = self.operations[index];
            format!(
                "user {} {:?} from {:?} to {:?}: {:?}",
                operation.user, operation.action, operation.start, operation.end, operation.outcome
            )
        });
        format!("{} (the job then was {register:?})", shown.collect::<Vec<_>>().join("; "))
    }
}

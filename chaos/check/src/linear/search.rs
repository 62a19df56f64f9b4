use std::collections::HashMap;

use super::register::{NEVER_SEEN, Register};
use crate::{Action, Operation, Outcome, Reply, observation::Moment};

/// What the search found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Linearizable,
    Not { explained: usize, stuck: String },
    GaveUp,
}

/// Operations that a report names.
const STUCK_SHOWN_MAX: usize = 4;

/// Unknown operations that an order has in a row, at most. What one of them did to the job the next one mostly undoes: a
/// registration, a change of its count and a stop leave all that several can; one more may have been what a checked index meant.
const UNKNOWN_RUN_MAX: u8 = 4;

/// Looks for an order, as Wing and Gong did, and never looks twice at the same operations with the same outcome, as Lowe
/// does: what was taken and the job that came of it are remembered. Of unknown operations that do the same only the first
/// that is left is tried, and nothing is looked at that was seen with fewer of them taken.
pub(super) fn search(operations: &[&Operation], steps_max: u64) -> Verdict {
    let mut search = Search::new(operations, steps_max);
    search.run()
}

struct Search<'a> {
    /// Those whose answer came, in the order of their starts.
    answered: Vec<&'a Operation>,
    /// The others: what they do, and when those that do the same were started, in that order.
    unknown: Vec<(Action, Vec<Moment>)>,
    seen: HashMap<(Taken, Register, u8), Vec<(Used, u64)>>,
    steps: u64,
    steps_max: u64,
    /// The longest order so far: answers explained, what was taken, the job.
    best: (usize, Taken, Used, Register),
}

/// Which answered operations an order has, a bit for each.
type Taken = Box<[u64]>;

/// How many unknown operations of each kind an order has.
type Used = Box<[u32]>;

/// What may come next.
#[derive(Clone, Copy)]
enum Next {
    /// An answered operation, by its place.
    Answered(usize),
    /// The first that is left of a kind of unknown ones.
    Unknown(usize),
}

/// One place in the search: an order so far, and what may come next in it.
struct Place {
    taken: Taken,
    used: Used,
    register: Register,
    explained: usize,
    /// How many unknown operations it ends with.
    run: u8,
    /// Not tried yet; the last one is the next.
    next: Vec<Next>,
}

impl<'a> Search<'a> {
    fn new(operations: &[&'a Operation], steps_max: u64) -> Self {
        let (mut answered, mut silent): (Vec<_>, Vec<_>) =
            operations.iter().copied().partition(|operation| operation.outcome != Outcome::Unknown);
        // A read without an answer says nothing and does nothing.
        silent.retain(|operation| operation.action != Action::Read);
        answered.sort_by_key(|operation| (operation.start, operation.end));
        silent.sort_by_key(|operation| operation.start);
        let told = Told::of(operations);
        let mut unknown: Vec<(Action, Vec<Moment>)> = Vec::new();
        for operation in silent {
            let action = told.kind_of(operation.action);
            match unknown.iter_mut().find(|(known, _)| *known == action) {
                Some((_, starts)) => starts.push(operation.start),
                None => unknown.push((action, vec![operation.start])),
            }
        }
        let none: Taken = vec![0; answered.len().div_ceil(64)].into();
        let best = (0, none, vec![0; unknown.len()].into(), Register::default());
        Self { answered, unknown, seen: HashMap::new(), steps: 0, steps_max, best }
    }

    fn run(&mut self) -> Verdict {
        let (_, taken, used, register) = self.best.clone();
        let next = self.candidates(&taken, &used, 0);
        let mut path = vec![Place { taken, used, register, explained: 0, run: 0, next }];
        while let Some(place) = path.last_mut() {
            if place.explained == self.answered.len() {
                return Verdict::Linearizable;
            }
            let Some(next) = place.next.pop() else {
                path.pop();
                continue;
            };
            self.steps += 1;
            if self.steps > self.steps_max {
                return Verdict::GaveUp;
            }
            let (action, outcome) = match next {
                Next::Answered(index) => (self.answered[index].action, &self.answered[index].outcome),
                Next::Unknown(kind) => (self.unknown[kind].0, &Outcome::Unknown),
            };
            let Some(register) = place.register.step(action, outcome) else { continue };
            let (mut taken, mut used) = (place.taken.clone(), place.used.clone());
            let (explained, run) = match next {
                // Done or not, it makes no difference here; it may still make one later.
                Next::Unknown(_) if register == place.register => continue,
                Next::Unknown(kind) => {
                    used[kind] += 1;
                    (place.explained, place.run + 1)
                }
                Next::Answered(index) => {
                    taken[index / 64] |= 1 << (index % 64);
                    (place.explained + 1, 0)
                }
            };
            if !self.is_new(&taken, &used, register, run) {
                continue;
            }
            if explained > self.best.0 {
                self.best = (explained, taken.clone(), used.clone(), register);
            }
            let next = self.candidates(&taken, &used, run);
            path.push(Place { taken, used, register, explained, run, next });
        }
        Verdict::Not { explained: self.best.0, stuck: self.stuck() }
    }

    /// Remembers a place. False for one that can do nothing that another could not: with the same answers explained and the
    /// same job, no fewer indexes used up, and no more unknown operations left.
    fn is_new(&mut self, taken: &Taken, used: &Used, register: Register, run: u8) -> bool {
        let (job, floor) = register.apart();
        let known = self.seen.entry((taken.clone(), job, run)).or_default();
        let covers = |(other, other_floor): &(Used, u64)| {
            *other_floor <= floor && other.iter().zip(used).all(|(other, mine)| other <= mine)
        };
        if known.iter().any(covers) {
            return false;
        }
        known.push((used.clone(), floor));
        true
    }

    /// Lists what may come next: whatever started before the first of the others was answered. Unknown ones come to be
    /// tried last, for most of them never happened or can wait.
    fn candidates(&self, taken: &Taken, used: &Used, run: u8) -> Vec<Next> {
        let mut deadline = Moment::MAX;
        let mut answered = Vec::new();
        for (index, operation) in self.answered.iter().enumerate() {
            if operation.start > deadline {
                break;
            }
            if taken[index / 64] & (1 << (index % 64)) == 0 {
                deadline = deadline.min(operation.end);
                answered.push(index);
            }
        }
        // An operation that was looked at before the deadline came down may have started after it.
        answered.retain(|index| self.answered[*index].start <= deadline);
        answered.sort_by_key(|index| std::cmp::Reverse(self.answered[*index].end));
        let kinds = self.unknown.iter().zip(used).enumerate();
        let left = kinds.filter(|(_, ((_, starts), used))| {
            starts.get(**used as usize).is_some_and(|start| *start <= deadline)
        });
        let unknown = left.map(|(kind, _)| Next::Unknown(kind)).filter(|_| run < UNKNOWN_RUN_MAX);
        unknown.chain(answered.into_iter().map(Next::Answered)).collect()
    }

    /// Says what the longest order leaves unexplained.
    fn stuck(&self) -> String {
        let (_, taken, used, register) = &self.best;
        let mut next = self.candidates(taken, used, 0);
        next.reverse();
        let shown = next.into_iter().take(STUCK_SHOWN_MAX).map(|next| match next {
            Next::Answered(index) => {
                let operation = self.answered[index];
                format!(
                    "user {} {:?} from {:?} to {:?}: {:?}",
                    operation.user, operation.action, operation.start, operation.end, operation.outcome
                )
            }
            Next::Unknown(kind) => {
                let (action, starts) = &self.unknown[kind];
                format!("{action:?}, {} times without an answer", starts.len())
            }
        });
        format!("{} (the job then was {register:?})", shown.collect::<Vec<_>>().join("; "))
    }
}

/// The markers that somebody was told of, or that more than one registration has.
struct Told(HashMap<u64, usize>);

impl Told {
    fn of(operations: &[&Operation]) -> Self {
        let mut told: HashMap<u64, usize> = HashMap::new();
        for operation in operations {
            if let Action::Register { marker, .. } = operation.action {
                *told.entry(marker).or_default() += 1;
            }
            if let Outcome::Done(Reply { seen: Some(seen), .. }) = operation.outcome {
                *told.entry(seen.marker).or_default() += 1;
            }
        }
        told.retain(|_, times| *times > 1);
        Self(told)
    }

    /// What an unknown operation does, as far as anyone could tell: which specification it was that nobody ever saw makes
    /// no difference.
    fn kind_of(&self, action: Action) -> Action {
        match action {
            Action::Register { marker, count, check_index } if !self.0.contains_key(&marker) => {
                Action::Register { marker: NEVER_SEEN, count, check_index }
            }
            other => other,
        }
    }
}

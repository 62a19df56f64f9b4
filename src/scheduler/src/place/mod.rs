//! Chooses nodes for many allocations of one group in one pass over the nodes.

mod displace;
mod explain;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
};

use model::{AllocId, AllocMetric, AllocatedResources, Allocation, SchedulerAlgorithm, TaskGroup, Text};

use crate::{
    Chance,
    ask::Ask,
    feasibility::Candidates,
    preempt::Preemption,
    rules::{Buckets, DistinctHosts, JobUse, Rules},
    score::{Affinities, Fit, Parts, mean_with_spread},
    table::{InFlight, NodeTable, Room, Slot},
};

/// Picks that may be turned down before the nodes are put in order: a look at all of them costs about as much as this
/// many times the ordering's share.
const TURNED_DOWN_MAX: u32 = 3;

/// The largest number of parts that a node's score has before a wish is looked at, and one: fit, anti-affinity,
/// affinity, devices.
const PARTS: u32 = 5;

/// What is wanted of one placement.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    /// Where it should be if it can.
    pub(crate) preferred: Option<Slot>,
    /// Where it failed before.
    pub(crate) penalised: Vec<Slot>,
}

/// Where one allocation goes.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) id: AllocId,
    pub(crate) slot: Slot,
    pub(crate) resources: Arc<AllocatedResources>,
    /// The one that it replaces where it is, by position among the lenders.
    pub(crate) lender: Option<usize>,
    /// Less important ones that make room for it there.
    pub(crate) preempted: Vec<Arc<Allocation>>,
    pub(crate) parts: Parts,
}

/// An allocation that is to be replaced: its replacement may use its room.
pub(crate) struct Lender<'a> {
    pub(crate) id: AllocId,
    pub(crate) slot: Slot,
    pub(crate) resources: &'a AllocatedResources,
}

/// One pass over the nodes for one group.
pub(crate) struct Pass<'a> {
    pub(crate) table: &'a mut NodeTable,
    pub(crate) chance: &'a mut dyn Chance,
    pub(crate) candidates: &'a Candidates,
    pub(crate) ask: &'a Ask,
    pub(crate) group: &'a TaskGroup,
    pub(crate) algorithm: SchedulerAlgorithm,
    pub(crate) affinities: Option<Affinities>,
    pub(crate) rules: Rules,
    pub(crate) used: &'a mut JobUse,
    pub(crate) lenders: &'a [Lender<'a>],
    /// The right to displace less important jobs, if there is one.
    pub(crate) preemption: Option<&'a mut Preemption>,
}

/// What a pass came to.
pub(crate) struct Outcome {
    /// In the order of the wishes; those after the last could not be placed.
    pub(crate) choices: Vec<Choice>,
    /// How the choices came about.
    pub(crate) metric: AllocMetric,
    /// Why the next one could not be placed.
    pub(crate) failure: Option<AllocMetric>,
}

impl Pass<'_> {
    /// Places as many as there is room for, in order.
    pub(crate) fn run(self, wishes: &[Wish]) -> Outcome {
        Running::new(self).run(wishes)
    }
}

struct Running<'a> {
    pass: Pass<'a>,
    /// By position among the candidates: sum of the parts but the spread; minus infinity when out of question.
    sums: Vec<f32>,
    /// How many parts that is.
    parts: Vec<u8>,
    /// Which bucket of the rules.
    buckets: Buckets,
    heaps: Option<Heaps>,
    /// Where ties begin: so that equal nodes are not always taken from the front.
    offset: u32,
    /// By slot: lenders that no placement took the room of yet; the first lends it.
    lending: BTreeMap<Slot, Vec<usize>>,
    /// Room to take back when the pass ends, unless a placement took it.
    lent: BTreeMap<Slot, Room>,
    /// The best node of all, until something is placed.
    first: Option<usize>,
    /// What it would cost to place one more on each node, once that was asked.
    costs: Option<Vec<Option<displace::Cost>>>,
}

impl<'a> Running<'a> {
    fn new(pass: Pass<'a>) -> Self {
        let count = pass.candidates.slots.len().max(1) as u64;
        let offset = u32::try_from(pass.chance.random_u64() % count).expect("below a number of slots");
        let mut lending: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
        for (at, lender) in pass.lenders.iter().enumerate().rev() {
            lending.entry(lender.slot).or_default().push(at);
        }
        let (sums, parts, buckets, lent) = (Vec::new(), Vec::new(), Buckets::One, BTreeMap::new());
        let mut running =
            Self { pass, sums, parts, buckets, heaps: None, offset, lending, lent, first: None, costs: None };
        let slots: Vec<Slot> = running.lending.keys().copied().collect();
        slots.into_iter().for_each(|slot| running.lend(slot));
        running.score_all();
        running
    }

    fn run(mut self, wishes: &[Wish]) -> Outcome {
        let metric = self.survey();
        let mut choices = Vec::with_capacity(wishes.len());
        let mut failure = None;
        if wishes.len() > 1 {
            self.build_heaps();
        }
        for wish in wishes {
            match self.place(wish).or_else(|| self.displace(wish)) {
                Some(choice) => choices.push(choice),
                None => {
                    failure = Some(self.explain());
                    break;
                }
            }
        }
        for (slot, room) in std::mem::take(&mut self.lent) {
            self.pass.table.take_back(slot, room);
        }
        Outcome { choices, metric, failure }
    }

    fn score_all(&mut self) {
        let pass = &mut self.pass;
        let slots = &pass.candidates.slots;
        let fit = Fit { room: pass.ask.room, algorithm: pass.algorithm };
        if pass.ask.cores == 0 {
            fit.score_all(pass.table, slots, &mut self.sums);
        } else {
            let of = |slot: &Slot| {
                Fit { room: pass.ask.room_on(pass.table.node(*slot)), ..fit }.score(pass.table, *slot)
            };
            self.sums = slots.iter().map(of).collect();
        }
        self.parts = vec![1; slots.len()];
        self.buckets = pass.rules.sort(pass.table, pass.candidates);
        if let Some(affinities) = &mut pass.affinities {
            for (at, &slot) in slots.iter().enumerate() {
                let score = affinities.score(pass.table, slot);
                if score != 0.0 {
                    self.sums[at] += score;
                    self.parts[at] += 1;
                }
            }
        }
        if pass.ask.prefers_devices() {
            for (at, &slot) in slots.iter().enumerate() {
                let score = pass.table.row(slot).exclusive.device_score(pass.table.node(slot), pass.ask);
                if score != 0.0 {
                    self.sums[at] += score;
                    self.parts[at] += 1;
                }
            }
        }
        let group = &pass.group.name;
        let count = pass.group.count;
        let excluded: Vec<Slot> = match pass.rules.distinct_hosts {
            DistinctHosts::No => Vec::new(),
            DistinctHosts::InGroup => pass.used.of_group(group).map(|(slot, _)| slot).collect(),
            DistinctHosts::InJob => pass.used.of_job().map(|(slot, _)| slot).collect(),
        };
        for (slot, there) in pass.used.of_group(group) {
            if let Ok(at) = slots.binary_search(&slot) {
                self.sums[at] += anti_affinity(there, count);
                self.parts[at] += 1;
            }
        }
        for slot in excluded {
            if let Ok(at) = slots.binary_search(&slot) {
                self.sums[at] = f32::NEG_INFINITY;
            }
        }
    }

    /// Scores one node anew.
    fn parts_of(&mut self, at: usize) -> Parts {
        let slot = self.pass.candidates.slots[at];
        let pass = &mut self.pass;
        let node = pass.table.node(slot);
        let room = pass.ask.room_on(node);
        let there = pass.used.on(slot, &pass.group.name);
        let devices = if pass.ask.prefers_devices() {
            pass.table.row(slot).exclusive.device_score(node, pass.ask)
        } else {
            0.0
        };
        Parts {
            fit: Fit { room, algorithm: pass.algorithm }.score(pass.table, slot),
            anti_affinity: anti_affinity(there, pass.group.count),
            penalty: 0.0,
            affinity: pass.affinities.as_mut().map_or(0.0, |affinities| affinities.score(pass.table, slot)),
            devices,
            preemption: 0.0,
            spread: self.pass.rules.boost(self.bucket(at)),
        }
    }

    fn bucket(&self, at: usize) -> u32 {
        self.buckets.of(self.pass.candidates, at)
    }

    fn tie(&self, at: usize) -> u32 {
        let count = self.sums.len() as u32;
        (at as u32 + count - self.offset) % count
    }

    fn place(&mut self, wish: &Wish) -> Option<Choice> {
        if let Some(choice) = self.place_preferred(wish) {
            return Some(choice);
        }
        let mut turned_down = 0;
        let mut aside: Vec<usize> = Vec::new();
        let choice = loop {
            let best = self.best(&aside);
            let picked = match self.best_penalised(wish, &mut aside, best) {
                Pick::At(at) => at,
                Pick::Again => continue,
                Pick::Nothing => break None,
            };
            match self.accept(picked, wish) {
                Ok(choice) => break Some(choice),
                Err(_) => {
                    aside.retain(|at| *at != picked);
                    self.exclude(picked);
                    turned_down += 1;
                    if turned_down > TURNED_DOWN_MAX && self.heaps.is_none() {
                        self.build_heaps();
                    }
                }
            }
        };
        for at in aside {
            self.push(at);
        }
        choice
    }

    fn place_preferred(&mut self, wish: &Wish) -> Option<Choice> {
        let at = self.pass.candidates.slots.binary_search(&wish.preferred?).ok()?;
        if self.sums[at] == f32::NEG_INFINITY || self.pass.rules.is_closed(self.bucket(at)) {
            return None;
        }
        self.accept(at, wish).ok()
    }

    /// Sets nodes with a penalty aside and compares them, with it, with the best other.
    fn best_penalised(&mut self, wish: &Wish, aside: &mut Vec<usize>, best: Option<usize>) -> Pick {
        if wish.penalised.is_empty() {
            return best.map_or(Pick::Nothing, Pick::At);
        }
        if let Some(at) = best
            && wish.penalised.contains(&self.pass.candidates.slots[at])
        {
            aside.push(at);
            return Pick::Again;
        }
        let mut picked = best.map(|at| (self.total(at, 0.0), at));
        for &at in aside.iter() {
            let total = self.total(at, -1.0);
            if picked.is_none_or(|(found, _)| total > found) {
                picked = Some((total, at));
            }
        }
        picked.map_or(Pick::Nothing, |(_, at)| Pick::At(at))
    }

    fn total(&self, at: usize, penalty: f32) -> f32 {
        let count = self.parts[at] + u8::from(penalty != 0.0);
        mean_with_spread(self.sums[at] + penalty, count, self.pass.rules.boost(self.bucket(at)))
    }

    /// Finds the best node that is not set aside.
    fn best(&mut self, aside: &[usize]) -> Option<usize> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match self.heaps.take() {
            Some(mut heaps) => {
                let best = heaps.best(self, aside);
                self.heaps = Some(heaps);
                best
            }
            None => self.scan(aside),
        }
    }

    fn scan(&self, aside: &[usize]) -> Option<usize> {
        let mut best: Option<(f32, u32, usize)> = None;
        let simple = self.pass.rules.is_simple();
        for at in 0..self.sums.len() {
            if self.sums[at] == f32::NEG_INFINITY {
                continue;
            }
            let total = if simple { self.sums[at] / f32::from(self.parts[at]) } else { self.total(at, 0.0) };
            if best.is_some_and(|(found, _, _)| total < found) {
                continue;
            }
            if aside.contains(&at) || self.pass.rules.is_closed(self.bucket(at)) {
                continue;
            }
            let tie = self.tie(at);
            if best.is_none_or(|(found, than, _)| total > found || tie < than) {
                best = Some((total, tie, at));
            }
        }
        best.map(|(_, _, at)| at)
    }

    fn build_heaps(&mut self) {
        let mut entries: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        for at in 0..self.sums.len() {
            if self.sums[at] > f32::NEG_INFINITY {
                let heap = self.bucket(at) * PARTS + u32::from(self.parts[at]);
                entries.entry(heap).or_default().push(self.entry(at));
            }
        }
        self.heaps =
            Some(Heaps(entries.into_iter().map(|(key, entries)| (key, BinaryHeap::from(entries))).collect()));
    }

    fn entry(&self, at: usize) -> Entry {
        Entry { sum: self.sums[at], tie: self.tie(at), at: at as u32 }
    }

    fn push(&mut self, at: usize) {
        if self.sums[at] == f32::NEG_INFINITY {
            return;
        }
        let (heap, entry) = (self.bucket(at) * PARTS + u32::from(self.parts[at]), self.entry(at));
        if let Some(heaps) = &mut self.heaps {
            heaps.0.entry(heap).or_default().push(entry);
        }
    }

    fn exclude(&mut self, at: usize) {
        self.sums[at] = f32::NEG_INFINITY;
    }

    /// Puts an allocation on a node if what is exclusive there can be had.
    fn accept(&mut self, at: usize, wish: &Wish) -> Result<Choice, Text> {
        self.first = None;
        let slot = self.pass.candidates.slots[at];
        let lender = self.lender(slot);
        let held: Vec<&AllocatedResources> =
            lender.iter().map(|&lender| self.pass.lenders[lender].resources).collect();
        let resources = self.resources(slot, &held)?;
        let parts = self.parts_of(at);
        Ok(self.put(at, wish, Put { lender, preempted: Vec::new(), resources, parts }))
    }

    fn put(&mut self, at: usize, wish: &Wish, put: Put) -> Choice {
        let Put { lender, preempted, resources, mut parts } = put;
        let slot = self.pass.candidates.slots[at];
        if wish.penalised.contains(&slot) {
            parts.penalty = -1.0;
        }
        let id = AllocId::from_random(self.pass.chance.random_u128());
        let previous = lender.map(|lender| self.pass.lenders[lender].id);
        let lenders = previous.into_iter().chain(preempted.iter().map(|alloc| alloc.id)).collect();
        self.pass.table.place(slot, InFlight { id, resources: resources.clone(), lenders });
        self.pass.used.add(slot, &self.pass.group.name);
        if !self.pass.rules.is_simple() {
            let bucket = self.bucket(at);
            self.pass.rules.count(bucket);
        }
        if lender.is_some() {
            self.hand_over(slot);
        }
        if self.pass.rules.distinct_hosts == DistinctHosts::No {
            let (sum, parts) = self.parts_of(at).sum();
            self.sums[at] = sum;
            self.parts[at] = parts;
            self.push(at);
        } else {
            self.exclude(at);
        }
        Choice { id, slot, resources, lender, preempted, parts }
    }

    /// Chooses what a placement holds on a node; what these hold there counts as free.
    fn resources(
        &mut self,
        slot: Slot,
        held: &[&AllocatedResources],
    ) -> Result<Arc<AllocatedResources>, Text> {
        let pass = &mut self.pass;
        let row = pass.table.row(slot);
        let node = pass.table.node(slot);
        let others = (row.allocs as usize).saturating_sub(held.len());
        if node.max_allocs > 0 && others >= node.max_allocs as usize {
            return Err("max allocation exceeded".into());
        }
        if let Some(shared) = pass.ask.shared() {
            return Ok(shared.clone());
        }
        let share = row.exclusive.choose(node, pass.ask, held, pass.chance)?;
        Ok(Arc::new(pass.ask.resources(node, share)))
    }

    /// Finds the next lender on a node.
    fn lender(&self, slot: Slot) -> Option<usize> {
        self.lending.get(&slot).and_then(|lenders| lenders.last().copied())
    }

    fn lent_room(&self, slot: Slot) -> Option<Room> {
        let lender = *self.lending.get(&slot)?.last()?;
        let wanted = self.pass.ask.room_on(self.pass.table.node(slot));
        Some(Room::of(self.pass.lenders[lender].resources).min(wanted))
    }

    /// Lends the room of the next lender on a node: a node never takes more replacements at the expense of lenders than
    /// it has lenders, and each fits into what its own one holds and what is free.
    fn lend(&mut self, slot: Slot) {
        if let Some(room) = self.lent_room(slot) {
            self.pass.table.lend(slot, room);
            self.lent.insert(slot, room);
        }
    }

    /// A placement took the room that the first lender lent: it stays lent, and the next one may lend.
    fn hand_over(&mut self, slot: Slot) {
        self.lent.remove(&slot);
        if let Some(lenders) = self.lending.get_mut(&slot) {
            lenders.pop();
        }
        self.lend(slot);
    }
}

/// What is put on a node.
struct Put {
    lender: Option<usize>,
    preempted: Vec<Arc<Allocation>>,
    resources: Arc<AllocatedResources>,
    parts: Parts,
}

enum Pick {
    At(usize),
    Again,
    Nothing,
}

/// Nodes in order, by bucket and number of parts: within one heap the order of sums is the order of scores, whatever
/// the spread adds.
struct Heaps(BTreeMap<u32, BinaryHeap<Entry>>);

impl Heaps {
    fn best(&mut self, running: &Running<'_>, aside: &[usize]) -> Option<usize> {
        let mut best: Option<(f32, u32, usize)> = None;
        for (key, heap) in &mut self.0 {
            if running.pass.rules.is_closed(key / PARTS) {
                continue;
            }
            // An entry is stale when its node was scored anew or set aside: another one of it came or will come.
            while let Some(top) = heap.peek() {
                let at = top.at as usize;
                let stale = running.sums[at] != top.sum || u32::from(running.parts[at]) != key % PARTS;
                if !stale && !aside.contains(&at) {
                    break;
                }
                heap.pop();
            }
            let Some(top) = heap.peek() else { continue };
            let total = running.total(top.at as usize, 0.0);
            if best.is_none_or(|(found, than, _)| total > found || (total == found && top.tie < than)) {
                best = Some((total, top.tie, top.at as usize));
            }
        }
        best.map(|(_, _, at)| at)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    sum: f32,
    tie: u32,
    at: u32,
}

impl Eq for Entry {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sum.total_cmp(&other.sum).then_with(|| other.tie.cmp(&self.tie))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn anti_affinity(there: u32, count: u32) -> f32 {
    if there == 0 { 0.0 } else { -((there + 1) as f32) / count.max(1) as f32 }
}

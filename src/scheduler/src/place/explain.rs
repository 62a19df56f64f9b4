//! Why placements came about, or did not.

use model::{AllocMetric, Text};

use super::Running;
use crate::{
    rules::{Buckets, DistinctHosts},
    score::mean_with_spread,
    table::{NodeTable, Slot},
};

/// Best nodes that a metric shows.
const SHOWN_SCORES: usize = 5;

/// The dimensions of countable capacity, in the order in which they are looked at.
const DIMENSIONS: [&str; 3] = ["cpu", "memory", "disk"];

/// Nodes without room, counted without a look at their names.
#[derive(Default)]
struct Shortage {
    by_class: Vec<[u32; 3]>,
    least: [Option<i32>; 3],
}

impl Shortage {
    fn count(&mut self, class: u32, dimension: usize, missing: i32) {
        if self.by_class.len() <= class as usize {
            self.by_class.resize(class as usize + 1, [0; 3]);
        }
        self.by_class[class as usize][dimension] += 1;
        let least = self.least[dimension].get_or_insert(missing);
        *least = missing.min(*least);
    }

    fn write_down(&self, table: &NodeTable, metric: &mut AllocMetric) {
        for (class, counts) in (0..).zip(&self.by_class) {
            let sum: u32 = counts.iter().sum();
            metric.nodes_exhausted += sum;
            let name = table.node_class(class);
            if sum > 0 && !name.is_empty() {
                *metric.class_exhausted.entry(name.clone()).or_default() += sum;
            }
            for (dimension, count) in DIMENSIONS.iter().zip(counts).filter(|(_, count)| **count > 0) {
                *metric.dimension_exhausted.entry(Text::new_static(dimension)).or_default() += count;
            }
        }
        for (dimension, least) in DIMENSIONS.iter().zip(self.least) {
            if let Some(least) = least.and_then(|least| u64::try_from(least).ok()) {
                metric.nearest_miss.insert(Text::new_static(dimension), least);
            }
        }
    }
}

/// What a look at all nodes found.
#[derive(Default)]
struct Survey {
    best: Best,
    shortage: Shortage,
    /// Nodes that are out of question for another reason.
    odd: Vec<usize>,
}

/// The best few nodes, best first.
#[derive(Default)]
struct Best(Vec<(f32, usize)>);

impl Best {
    /// Puts a node in its place; returns the score that the next one must pass.
    fn offer(&mut self, total: f32, at: usize) -> f32 {
        let place = self.0.partition_point(|(found, _)| *found >= total);
        self.0.insert(place, (total, at));
        self.0.truncate(SHOWN_SCORES);
        if self.0.len() < SHOWN_SCORES { f32::NEG_INFINITY } else { self.0[SHOWN_SCORES - 1].0 }
    }
}

/// How closely a node is looked at to explain it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Depth {
    /// Countable capacity.
    Room,
    /// Ports, cores and devices too.
    All,
}

impl Running<'_> {
    /// Looks at all nodes once: finds the best, and says how the placements of this pass come about.
    pub(super) fn survey(&mut self) -> AllocMetric {
        let mut metric = self.pass.candidates.metric.clone();
        let mut seen = Survey::default();
        let candidates = self.pass.candidates;
        // One loop for each way of finding a bucket: it runs over all nodes for every decision.
        match &self.buckets {
            Buckets::One => self.scan_all(&mut seen, |_| 0),
            Buckets::OfClass(buckets) => {
                self.scan_all(&mut seen, |at| buckets[candidates.class_of[at] as usize] as usize);
            }
            Buckets::OfEach(buckets) => self.scan_all(&mut seen, |at| buckets[at] as usize),
        }
        let Survey { best, shortage, odd } = seen;
        shortage.write_down(self.pass.table, &mut metric);
        for at in odd {
            self.explain_one(at, &mut metric, Depth::Room);
        }
        self.first = best.0.first().map(|(_, at)| *at);
        let has_spreads = self.pass.rules.has_spreads();
        for (_, at) in best.0 {
            let parts = self.parts_of(at);
            metric.scores.push(parts.show(self.pass.table, self.pass.candidates.slots[at], has_spreads));
        }
        metric
    }

    #[inline(always)]
    fn scan_all(&self, seen: &mut Survey, bucket: impl Fn(usize) -> usize) {
        let boosts = self.pass.rules.boosts();
        let (sums, parts) = (self.sums.as_slice(), &self.parts[..self.sums.len()]);
        let offset = (self.offset as usize).min(sums.len());
        let mut worst = f32::NEG_INFINITY;
        // The offset decides between equals: the first that is seen stays ahead.
        for range in [offset..sums.len(), 0..offset] {
            for at in range {
                let total = mean_with_spread(sums[at], parts[at], boosts[bucket(at)]);
                if total > worst {
                    worst = seen.best.offer(total, at);
                } else if total == f32::NEG_INFINITY || total.is_nan() {
                    // No room, or ruled out by what was placed.
                    if sums[at] > f32::NEG_INFINITY || !self.is_short(at, &mut seen.shortage) {
                        seen.odd.push(at);
                    }
                }
            }
        }
    }

    /// Counts a node that is short of countable capacity.
    fn is_short(&self, at: usize, shortage: &mut Shortage) -> bool {
        if self.pass.ask.cores > 0 {
            return false;
        }
        let (slot, class) = (self.pass.candidates.slots[at] as usize, self.pass.candidates.class_of[at]);
        let (table, room) = (&*self.pass.table, self.pass.ask.room);
        let missing = [
            room.cpu - table.free_cpu[slot],
            room.memory - table.free_memory[slot],
            room.disk - table.free_disk[slot],
        ];
        match missing.iter().position(|missing| *missing > 0) {
            Some(dimension) => {
                shortage.count(class, dimension, missing[dimension]);
                true
            }
            None => false,
        }
    }

    /// Says why nothing more can be placed.
    pub(super) fn explain(&mut self) -> AllocMetric {
        let mut metric = self.pass.candidates.metric.clone();
        for at in 0..self.sums.len() {
            self.explain_one(at, &mut metric, Depth::All);
        }
        metric
    }

    fn explain_one(&mut self, at: usize, metric: &mut AllocMetric, depth: Depth) {
        let slot = self.pass.candidates.slots[at];
        let node = self.pass.table.node(slot).clone();
        if let Some(reason) = self.ruled_out(at, slot) {
            metric.nodes_filtered += 1;
            *metric.constraint_filtered.entry(reason).or_default() += 1;
            if !node.node_class.is_empty() {
                *metric.class_filtered.entry(node.node_class.clone()).or_default() += 1;
            }
            return;
        }
        let Some((dimension, missing)) = self.short_of(slot, depth) else { return };
        if missing > 0 {
            let least = metric.nearest_miss.entry(dimension.clone()).or_insert(missing);
            *least = missing.min(*least);
        }
        metric.nodes_exhausted += 1;
        *metric.dimension_exhausted.entry(dimension).or_default() += 1;
        if !node.node_class.is_empty() {
            *metric.class_exhausted.entry(node.node_class.clone()).or_default() += 1;
        }
    }

    fn ruled_out(&self, at: usize, slot: Slot) -> Option<Text> {
        if self.is_taken(slot) {
            return Some("distinct_hosts".into());
        }
        let bucket = self.bucket(at);
        self.pass.rules.is_closed(bucket).then(|| self.pass.rules.why_closed(bucket))
    }

    /// Tells whether the job may not have another one on a node.
    pub(super) fn is_taken(&self, slot: Slot) -> bool {
        let used = &self.pass.used;
        match self.pass.rules.distinct_hosts {
            DistinctHosts::No => false,
            DistinctHosts::InGroup => used.on(slot, &self.pass.group.name) > 0,
            DistinctHosts::InJob => used.has(slot),
        }
    }

    /// Finds what a node is short of, and by how much where that can be counted.
    fn short_of(&mut self, slot: Slot, depth: Depth) -> Option<(Text, u64)> {
        let at = slot as usize;
        let table = &*self.pass.table;
        let room = self.pass.ask.room_on(table.node(slot));
        let dimensions = [
            (room.cpu, table.free_cpu[at]),
            (room.memory, table.free_memory[at]),
            (room.disk, table.free_disk[at]),
        ];
        for (name, (wanted, free)) in DIMENSIONS.into_iter().zip(dimensions) {
            if free < wanted {
                let missing = i64::from(wanted) - i64::from(free);
                return Some((Text::new_static(name), missing.unsigned_abs()));
            }
        }
        match depth {
            Depth::Room => None,
            Depth::All => {
                let lender = self.lender(slot).map(|lender| self.pass.lenders[lender].resources);
                self.resources(slot, &lender.into_iter().collect::<Vec<_>>()).err().map(|text| (text, 0))
            }
        }
    }
}

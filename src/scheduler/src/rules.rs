//! What a placement means for the next one of its job: distinct hosts, distinct properties, spreads.

use std::collections::BTreeMap;

use model::{Constraint, Job, Node, SpreadTarget, TaskGroup, Text};

use crate::{
    condition::{Target, truth},
    feasibility::{Candidates, constraints},
    table::{NodeTable, Slot},
};

/// Where a job's allocations are, without those that are about to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobUse {
    /// By node and group name: how many.
    by_slot: BTreeMap<Slot, Vec<(Text, u32)>>,
}

impl JobUse {
    /// Counts an allocation.
    pub(crate) fn add(&mut self, slot: Slot, group: &Text) {
        let groups = self.by_slot.entry(slot).or_default();
        match groups.iter_mut().find(|(name, _)| name == group) {
            Some((_, count)) => *count += 1,
            None => groups.push((group.clone(), 1)),
        }
    }

    /// Lists the nodes that have some of a group, with how many.
    pub(crate) fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = (Slot, u32)> + 'a {
        self.by_slot.iter().filter_map(move |(slot, groups)| {
            groups.iter().find(|(name, _)| name == group).map(|(_, count)| (*slot, *count))
        })
    }

    /// Lists the nodes that have some of the job, with how many.
    pub(crate) fn of_job(&self) -> impl Iterator<Item = (Slot, u32)> + '_ {
        self.by_slot.iter().map(|(slot, groups)| (*slot, groups.iter().map(|(_, count)| count).sum()))
    }

    /// Tells whether some of the job is on a node.
    pub(crate) fn has(&self, slot: Slot) -> bool {
        self.by_slot.contains_key(&slot)
    }

    /// Returns how many of a group are on a node.
    pub(crate) fn on(&self, slot: Slot, group: &str) -> u32 {
        let groups = self.by_slot.get(&slot);
        groups.and_then(|groups| groups.iter().find(|(name, _)| name == group)).map_or(0, |(_, count)| *count)
    }
}

/// Whether allocations must be on nodes of their own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DistinctHosts {
    /// They need not.
    No,
    /// Those of one group.
    InGroup,
    /// Those of one job.
    InJob,
}

/// The rules of one group, with what they count.
pub(crate) struct Rules {
    pub(crate) distinct_hosts: DistinctHosts,
    dimensions: Vec<Dimension>,
    weights: i32,
    count: u32,
    buckets: Vec<Bucket>,
}

/// Which bucket each candidate is in.
pub(crate) enum Buckets {
    /// There are no rules that tell nodes apart.
    One,
    /// By class.
    OfClass(Vec<u32>),
    /// By position among the candidates.
    OfEach(Vec<u32>),
}

impl Buckets {
    /// Returns the bucket of the candidate at a position.
    #[inline]
    pub(crate) fn of(&self, candidates: &Candidates, at: usize) -> u32 {
        match self {
            Self::One => 0,
            Self::OfClass(buckets) => buckets[candidates.class_of[at] as usize],
            Self::OfEach(buckets) => buckets[at],
        }
    }
}

/// Nodes that are alike for every rule.
#[derive(Clone, Debug)]
struct Bucket {
    /// By dimension: position of its value; none when it has none.
    values: Vec<Option<usize>>,
    boost: f32,
    closed: bool,
}

/// One attribute whose values are counted.
struct Dimension {
    target: Target,
    kind: Kind,
    values: Vec<Text>,
    counts: Vec<u32>,
    boosts: Vec<f32>,
    /// For nodes that do not have the attribute.
    boost_when_missing: f32,
}

enum Kind {
    /// At most so many a value; the text that users see.
    Property { most: u32, in_job: bool, text: Text },
    /// Wanted shares, or even when there are none.
    Spread { weight: i32, targets: Vec<SpreadTarget> },
}

impl Rules {
    /// Reads the rules of a group and counts what the job already has.
    pub(crate) fn new(table: &NodeTable, job: &Job, group: &TaskGroup, used: &JobUse) -> Self {
        let mut rules = Self {
            distinct_hosts: distinct_hosts(job, group),
            dimensions: Vec::new(),
            weights: 0,
            count: group.count,
            buckets: Vec::new(),
        };
        for constraint in constraints(job, group).filter(|found| found.operator == "distinct_property") {
            let in_job = job.spec.constraints.contains(constraint);
            rules.dimensions.push(Dimension::property(constraint, in_job, &job.spec.region));
        }
        for spread in job.spec.spreads.iter().chain(&group.spreads) {
            rules.weights += spread.weight;
            let kind = Kind::Spread { weight: spread.weight, targets: spread.targets.clone() };
            rules.dimensions.push(Dimension::new(Target::parse(&spread.attribute, &job.spec.region), kind));
        }
        for dimension in &mut rules.dimensions {
            dimension.count_used(table, used, &group.name);
        }
        rules
    }

    /// Tells whether nodes must be told apart at all.
    pub(crate) fn is_simple(&self) -> bool {
        self.dimensions.is_empty()
    }

    /// Tells whether there are spreads.
    pub(crate) fn has_spreads(&self) -> bool {
        self.dimensions.iter().any(|dimension| matches!(dimension.kind, Kind::Spread { .. }))
    }

    /// Sorts nodes into buckets: whole classes where no rule looks at what is unique to a node.
    pub(crate) fn sort(&mut self, table: &NodeTable, candidates: &Candidates) -> Buckets {
        self.buckets.clear();
        if self.is_simple() {
            return Buckets::One;
        }
        let mut known: BTreeMap<Vec<Option<usize>>, u32> = BTreeMap::new();
        let unique = self.dimensions.iter().any(|dimension| dimension.target.is_unique());
        let buckets = if unique {
            let of = |slot: &Slot| self.bucket_of(table.node(*slot), &mut known);
            Buckets::OfEach(candidates.slots.iter().map(of).collect())
        } else {
            let mut of_class = vec![0; table.class_count()];
            for &(class, slot) in &candidates.examples {
                of_class[class as usize] = self.bucket_of(table.node(slot), &mut known);
            }
            Buckets::OfClass(of_class)
        };
        self.weigh();
        buckets
    }

    fn bucket_of(&mut self, node: &Node, known: &mut BTreeMap<Vec<Option<usize>>, u32>) -> u32 {
        let values: Vec<Option<usize>> =
            self.dimensions.iter_mut().map(|dimension| dimension.value_of(node)).collect();
        let next = u32::try_from(known.len()).expect("fewer buckets than nodes");
        *known.entry(values).or_insert_with_key(|values| {
            self.buckets.push(Bucket { values: values.clone(), boost: 0.0, closed: false });
            next
        })
    }

    /// Returns what each bucket's nodes gain by the spreads; not a number for nodes that may take no more.
    pub(crate) fn boosts(&self) -> Vec<f32> {
        if self.is_simple() {
            return vec![0.0];
        }
        self.buckets.iter().map(|bucket| if bucket.closed { f32::NAN } else { bucket.boost }).collect()
    }

    /// Returns what a bucket's nodes gain by the spreads.
    pub(crate) fn boost(&self, bucket: u32) -> f32 {
        self.buckets.get(bucket as usize).map_or(0.0, |bucket| bucket.boost)
    }

    /// Tells whether a bucket's nodes may take no more.
    pub(crate) fn is_closed(&self, bucket: u32) -> bool {
        self.buckets.get(bucket as usize).is_some_and(|bucket| bucket.closed)
    }

    /// Says why a bucket is closed.
    pub(crate) fn why_closed(&self, bucket: u32) -> Text {
        let Some(bucket) = self.buckets.get(bucket as usize) else { return Text::default() };
        let mut dimensions = self.dimensions.iter().zip(&bucket.values);
        dimensions.find_map(|(dimension, value)| dimension.why_closed(*value)).unwrap_or_default()
    }

    /// Counts a placement in a bucket.
    pub(crate) fn count(&mut self, bucket: u32) {
        let Some(bucket) = self.buckets.get(bucket as usize) else { return };
        for (dimension, value) in self.dimensions.iter_mut().zip(&bucket.values) {
            if let Some(value) = value {
                dimension.counts[*value] += 1;
            }
        }
        self.weigh();
    }

    fn weigh(&mut self) {
        for dimension in &mut self.dimensions {
            dimension.weigh(self.count, self.weights);
        }
        for bucket in &mut self.buckets {
            bucket.boost = 0.0;
            bucket.closed = false;
            for (dimension, value) in self.dimensions.iter().zip(&bucket.values) {
                bucket.boost += value.map_or(dimension.boost_when_missing, |value| dimension.boosts[value]);
                bucket.closed |= dimension.why_closed(*value).is_some();
            }
        }
    }
}

impl Dimension {
    fn new(target: Target, kind: Kind) -> Self {
        Self {
            target,
            kind,
            values: Vec::new(),
            counts: Vec::new(),
            boosts: Vec::new(),
            boost_when_missing: 0.0,
        }
    }

    fn property(constraint: &Constraint, in_job: bool, region: &str) -> Self {
        let most = constraint.right.parse().unwrap_or(1).max(1);
        let kind = Kind::Property { most, in_job, text: constraint.left.clone() };
        Self::new(Target::parse(&constraint.left, region), kind)
    }

    fn count_used(&mut self, table: &NodeTable, used: &JobUse, group: &str) {
        let counts: Vec<(Slot, u32)> = match self.kind {
            Kind::Property { in_job: true, .. } => used.of_job().collect(),
            Kind::Property { .. } | Kind::Spread { .. } => used.of_group(group).collect(),
        };
        for (slot, count) in counts {
            if let Some(value) = self.value_of(&table.node(slot).clone()) {
                self.counts[value] += count;
            }
        }
    }

    /// Returns the position of a node's value.
    fn value_of(&mut self, node: &Node) -> Option<usize> {
        let value = self.target.on_node(node)?;
        let known = self.values.iter().position(|known| *known == *value);
        Some(known.unwrap_or_else(|| {
            self.values.push(Text::from(&*value));
            self.counts.push(0);
            self.boosts.push(0.0);
            self.values.len() - 1
        }))
    }

    fn why_closed(&self, value: Option<usize>) -> Option<Text> {
        let Kind::Property { most, text, .. } = &self.kind else { return None };
        match value {
            None => Some(format!("missing property {text:?}").into()),
            Some(value) if self.counts[value] >= *most => {
                let (name, count) = (&self.values[value], self.counts[value]);
                Some(format!("distinct_property: {text}={name} used by {count} allocs").into())
            }
            Some(_) => None,
        }
    }

    fn weigh(&mut self, wanted: u32, weights: i32) {
        let Kind::Spread { weight, targets } = &self.kind else { return };
        self.boost_when_missing = -1.0;
        if targets.is_empty() {
            self.boosts = even(&self.counts);
            return;
        }
        let share = if weights == 0 { 0.0 } else { *weight as f32 / weights as f32 };
        let listed: u32 = targets.iter().map(|target| target.percent).sum();
        let remainder = (listed < 100).then(|| 100 - listed);
        let percent = |value: &Text| {
            targets.iter().find(|target| target.value == *value).map(|target| target.percent).or(remainder)
        };
        let mut lowest = -1.0_f32;
        let mut boosts: Vec<Option<f32>> = Vec::with_capacity(self.values.len());
        for (value, used) in self.values.iter().zip(&self.counts) {
            let boost = match percent(value) {
                None => Some(-1.0),
                Some(0) => None,
                Some(percent) => {
                    let desired = percent as f32 / 100.0 * wanted as f32;
                    let boost = (desired - (used + 1) as f32) / desired * share;
                    lowest = lowest.min(boost);
                    Some(boost)
                }
            };
            boosts.push(boost);
        }
        // A value that nothing is wanted on is as bad as the worst of those that something is wanted on.
        self.boosts = boosts.into_iter().map(|boost| boost.unwrap_or(lowest)).collect();
    }
}

/// Favours the values that are used least.
fn even(counts: &[u32]) -> Vec<f32> {
    let used: Vec<u32> = counts.iter().copied().filter(|count| *count > 0).collect();
    let (Some(&least), Some(&most)) = (used.iter().min(), used.iter().max()) else {
        return vec![0.0; counts.len()];
    };
    let (low, high) = (least as f32, most as f32);
    let boost = |count: &u32| match *count {
        0 => 1.0,
        count if count != least => (low - count as f32) / low,
        _ if least == most => -1.0,
        _ => (high - low) / low,
    };
    counts.iter().map(boost).collect()
}

fn distinct_hosts(job: &Job, group: &TaskGroup) -> DistinctHosts {
    let asks = |constraint: &Constraint| {
        let value = constraint.right.as_str();
        constraint.operator == "distinct_hosts" && (value.is_empty() || truth(value) == Some(true))
    };
    if job.spec.constraints.iter().any(asks) {
        DistinctHosts::InJob
    } else if group.constraints.iter().any(asks) {
        DistinctHosts::InGroup
    } else {
        DistinctHosts::No
    }
}

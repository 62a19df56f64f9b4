use std::{ops::Deref, sync::Arc};

use imbl::OrdMap;
use model::{AllocId, AllocatedResources, AllocatedTask, Allocation, Job, Node, NodeId, Usage};

use crate::{
    fits::available,
    ordered::{Ordered, short_hash},
};

/// Allocations by id, in the order of their creation, by job and by node.
#[derive(Clone, Debug, Default)]
pub struct AllocTable {
    rows: Ordered<Allocation>,
    /// Positions by node, in order. A node has hundreds of allocations at most, so a plain list is copied in no time
    /// and takes a quarter of the memory that a set would.
    by_node: OrdMap<NodeId, Arc<OnNode>>,
    /// The job versions that allocations hold and how many hold each, so that siblings share one.
    jobs: OrdMap<VersionKey, (Arc<Job>, u32)>,
}

/// The allocations of a node.
#[derive(Clone, Debug, Default)]
struct OnNode {
    positions: Vec<u64>,
    held: Held,
}

/// What the allocations of a node hold together, kept up with every change: a plan that touches a thousand nodes must not
/// look at all that is on them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Held {
    usage: Usage,
    count: u32,
    /// Of these, those that hold what has one owner, or that may be lent something: sums say nothing about them.
    special: u32,
}

impl Held {
    /// Returns what these resources add to the sums; none when they hold more than amounts.
    pub(crate) fn plain(resources: &AllocatedResources) -> Option<Usage> {
        let owned = |task: &AllocatedTask| !task.cores.is_empty() || !task.devices.is_empty();
        let plain = resources.ports.is_empty() && !resources.tasks.iter().any(owned);
        plain.then(|| resources.usage())
    }

    /// Counts one more that holds amounts only.
    pub(crate) fn add(&mut self, usage: Usage) {
        self.usage.add(usage);
        self.count += 1;
    }

    /// Tells whether all of it fits on a node, as [`crate::fits`] would say. False also where sums can not tell.
    pub(crate) fn surely_fits(&self, node: &Node) -> bool {
        let has = available(node);
        self.special == 0
            && (node.max_allocs == 0 || self.count <= node.max_allocs)
            && self.usage.cpu_shares <= has.cpu_shares
            && self.usage.memory_mb <= has.memory_mb
            && self.usage.disk_mb <= has.disk_mb
    }

    fn of(alloc: &Allocation) -> Self {
        if !alloc.occupies() {
            return Self::default();
        }
        let heir = alloc.extra.as_ref().is_some_and(|it| it.previous.is_some() || !it.preempted.is_empty());
        match Self::plain(&alloc.resources).filter(|_| !heir) {
            Some(usage) => Self { usage, count: 1, special: 0 },
            None => Self { usage: Usage::default(), count: 1, special: 1 },
        }
    }

    fn change(&mut self, before: Option<&Allocation>, after: Option<&Allocation>) {
        if let Some(before) = before.map(Self::of) {
            self.usage.sub(before.usage);
            self.count -= before.count;
            self.special -= before.special;
        }
        if let Some(after) = after.map(Self::of) {
            self.usage.add(after.usage);
            self.count += after.count;
            self.special += after.special;
        }
    }
}

/// Identifies one version of one job: short hash of the key, create index, version.
type VersionKey = (u64, u64, u64);

impl Deref for AllocTable {
    type Target = Ordered<Allocation>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl AllocTable {
    /// Lists the allocations of a node in the order of (create index, id).
    pub fn iter_by_node(&self, node: NodeId) -> impl DoubleEndedIterator<Item = &Arc<Allocation>> {
        let positions = self.by_node.get(&node).map_or(&[][..], |on_node| &on_node.positions);
        positions.iter().map(|position| self.rows.at(*position))
    }

    /// Returns what the allocations of a node hold together.
    pub(crate) fn held_on(&self, node: NodeId) -> Held {
        self.by_node.get(&node).map(|on_node| on_node.held).unwrap_or_default()
    }

    /// Lists the job versions that allocations were placed with.
    pub fn placed_jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.iter().map(|(_, (job, _))| job)
    }

    /// Puts an allocation in, or in the place of the one with its id, which is returned.
    pub(crate) fn insert(
        &mut self,
        row: Allocation,
        ordinal: Option<u64>,
    ) -> (Arc<Allocation>, Option<Arc<Allocation>>) {
        match self.rows.position(row.id) {
            Some(position) => {
                let (after, before) = self.replace(position, row);
                (after, Some(before))
            }
            None => (self.add(row, ordinal), None),
        }
    }

    /// Puts an allocation in with an id that no other one has.
    pub(crate) fn add(&mut self, mut row: Allocation, ordinal: Option<u64>) -> Arc<Allocation> {
        hold_job(&mut self.jobs, &mut row.job);
        let row = Arc::new(row);
        let position = self.rows.add(row.clone(), ordinal);
        let on_node = Arc::make_mut(self.by_node.entry(row.node_id).or_default());
        let at = on_node.positions.partition_point(|known| *known < position);
        on_node.positions.insert(at, position);
        on_node.held.change(None, Some(&row));
        row
    }

    /// Puts an allocation in the place of the one with its id, which is at this position, and returns both.
    pub(crate) fn replace(
        &mut self,
        position: u64,
        mut row: Allocation,
    ) -> (Arc<Allocation>, Arc<Allocation>) {
        let slot = self.rows.slot_at(position).expect("every id's position has a row");
        debug_assert_eq!(slot.id, row.id, "a row is replaced by one with its id");
        // Most changes leave the job as it is, and then so is who holds it.
        let same_job = Arc::ptr_eq(&slot.job, &row.job);
        if !same_job {
            hold_job(&mut self.jobs, &mut row.job);
        }
        let row = Arc::new(row);
        let before = std::mem::replace(slot, row.clone());
        debug_assert_eq!(before.node_id, row.node_id, "an allocation stays on its node");
        if !same_job {
            release_job(&mut self.jobs, &before.job);
        }
        // Most of what clients say does not change what is held.
        if Held::of(&before) != Held::of(&row) {
            let known = self.by_node.get_mut(&row.node_id);
            let on_node = Arc::make_mut(known.expect("an allocation is listed by its node"));
            on_node.held.change(Some(&before), Some(&row));
        }
        (row, before)
    }

    /// Takes an allocation out.
    pub(crate) fn remove(&mut self, id: AllocId) -> Option<Arc<Allocation>> {
        let (position, row) = self.rows.remove(id)?;
        let on_node =
            Arc::make_mut(self.by_node.get_mut(&row.node_id).expect("an allocation is listed by its node"));
        on_node.positions.retain(|known| *known != position);
        on_node.held.change(Some(&row), None);
        if on_node.positions.is_empty() {
            self.by_node.remove(&row.node_id);
        }
        release_job(&mut self.jobs, &row.job);
        Some(row)
    }
}

fn hold_job(jobs: &mut OrdMap<VersionKey, (Arc<Job>, u32)>, job: &mut Arc<Job>) {
    let key = version_key(job);
    match jobs.get_mut(&key) {
        Some((shared, holders)) => {
            *holders += 1;
            *job = shared.clone();
        }
        None => {
            jobs.insert(key, (job.clone(), 1));
        }
    }
}

fn release_job(jobs: &mut OrdMap<VersionKey, (Arc<Job>, u32)>, job: &Job) {
    let key = version_key(job);
    let (_, holders) = jobs.get_mut(&key).expect("an allocation's job is held");
    *holders -= 1;
    if *holders == 0 {
        jobs.remove(&key);
    }
}

fn version_key(job: &Job) -> VersionKey {
    (short_hash(&job.key), job.create_index, job.version)
}

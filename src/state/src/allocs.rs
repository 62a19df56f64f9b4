use std::{ops::Deref, sync::Arc};

use imbl::OrdMap;
use model::{AllocId, Allocation, Job, NodeId};

use crate::ordered::{Ordered, short_hash};

/// Allocations by id, in the order of their creation, by job and by node.
#[derive(Clone, Debug, Default)]
pub struct AllocTable {
    rows: Ordered<Allocation>,
    /// Positions by node, in order. A node has hundreds of allocations at most, so a plain list is copied in no time
    /// and takes a quarter of the memory that a set would.
    by_node: OrdMap<NodeId, Arc<Vec<u64>>>,
    /// The job versions that allocations hold and how many hold each, so that siblings share one.
    jobs: OrdMap<VersionKey, (Arc<Job>, u32)>,
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
        let positions = self.by_node.get(&node).map_or(&[][..], |positions| positions);
        positions.iter().map(|position| self.rows.at(*position))
    }

    /// Lists the job versions that allocations were placed with.
    pub fn placed_jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.iter().map(|(_, (job, _))| job)
    }

    /// Puts an allocation in, or in the place of the one with its id, which is returned.
    pub(crate) fn insert(
        &mut self,
        mut row: Allocation,
        ordinal: Option<u64>,
    ) -> (Arc<Allocation>, Option<Arc<Allocation>>) {
        self.hold_job(&mut row.job);
        let row = Arc::new(row);
        let (position, before) = self.rows.insert(row.clone(), ordinal);
        match &before {
            Some(before) => {
                debug_assert_eq!(before.node_id, row.node_id, "an allocation stays on its node");
                self.release_job(&before.job);
            }
            None => {
                let positions = Arc::make_mut(self.by_node.entry(row.node_id).or_default());
                let at = positions.partition_point(|known| *known < position);
                positions.insert(at, position);
            }
        }
        (row, before)
    }

    /// Takes an allocation out.
    pub(crate) fn remove(&mut self, id: AllocId) -> Option<Arc<Allocation>> {
        let (position, row) = self.rows.remove(id)?;
        let positions =
            Arc::make_mut(self.by_node.get_mut(&row.node_id).expect("an allocation is listed by its node"));
        positions.retain(|known| *known != position);
        if positions.is_empty() {
            self.by_node.remove(&row.node_id);
        }
        self.release_job(&row.job);
        Some(row)
    }

    fn hold_job(&mut self, job: &mut Arc<Job>) {
        let key = version_key(job);
        match self.jobs.get_mut(&key) {
            Some((shared, holders)) => {
                *holders += 1;
                *job = shared.clone();
            }
            None => {
                self.jobs.insert(key, (job.clone(), 1));
            }
        }
    }

    fn release_job(&mut self, job: &Job) {
        let key = version_key(job);
        let (_, holders) = self.jobs.get_mut(&key).expect("an allocation's job is held");
        *holders -= 1;
        if *holders == 0 {
            self.jobs.remove(&key);
        }
    }
}

fn version_key(job: &Job) -> VersionKey {
    (short_hash(&job.key), job.create_index, job.version)
}

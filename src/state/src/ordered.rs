use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};
use model::{AllocId, Allocation, Deployment, DeploymentId, EvalId, Evaluation, JobKey};

use crate::IdPrefix;

/// Bits of a row's position that tell apart the rows of one commit.
///
/// A commit holds some thousands of rows, far below 2^24; 2^40 commits last 34 years at a thousand a second.
const ORDINAL_BITS: u32 = 24;

/// A row that has an id, belongs to a job and is listed in the order of its creation.
pub trait OrderedRow {
    /// Identifies the row.
    type Id: Copy + Ord;

    /// Returns the row's id.
    fn id(&self) -> Self::Id;

    /// Returns the job that the row belongs to.
    fn job(&self) -> &JobKey;

    /// Returns the index of the row's creation.
    fn create_index(&self) -> u64;

    /// Returns the ids that a prefix covers.
    fn id_range(prefix: &IdPrefix) -> std::ops::RangeInclusive<Self::Id>;
}

/// Rows by id, in the order of their creation and by job.
///
/// A row has a short position, its create index and a number within that commit, and the indexes hold positions: an
/// index entry takes 16 bytes. The numbers follow the ids, so the order is that of (create index, id).
#[derive(Clone, Debug)]
pub struct Ordered<R: OrderedRow> {
    positions: OrdMap<R::Id, u64>,
    rows: OrdMap<u64, Arc<R>>,
    by_job: OrdSet<(u64, u64)>,
}

impl<R: OrderedRow> Default for Ordered<R> {
    fn default() -> Self {
        Self { positions: OrdMap::new(), rows: OrdMap::new(), by_job: OrdSet::new() }
    }
}

impl<R: OrderedRow> Ordered<R> {
    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Tells whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Finds a row.
    pub fn get(&self, id: R::Id) -> Option<&Arc<R>> {
        self.rows.get(self.positions.get(&id)?)
    }

    /// Lists the rows in the order of (create index, id).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<R>> {
        self.rows.iter().map(|(_, row)| row)
    }

    /// Lists the rows from (create index, id) on, in the order of (create index, id).
    pub fn iter_from(&self, create_index: u64, id: R::Id) -> impl Iterator<Item = &Arc<R>> {
        self.rows.range(self.seek(create_index, id)..).map(|(_, row)| row)
    }

    /// Lists the rows up to (create index, id) and including it, in the reverse order of (create index, id).
    pub fn iter_back_from(&self, create_index: u64, id: R::Id) -> impl Iterator<Item = &Arc<R>> {
        let at = self.seek(create_index, id);
        let exact = self.rows.get(&at).is_some_and(|row| row.id() == id);
        let end = if exact { at + 1 } else { at };
        self.rows.range(..end).rev().map(|(_, row)| row)
    }

    /// Lists the rows in the order of their ids.
    pub fn iter_by_id(&self) -> impl DoubleEndedIterator<Item = &Arc<R>> {
        self.positions.iter().map(|(_, position)| &self.rows[position])
    }

    /// Lists the rows whose id begins so, in the order of their ids.
    pub fn iter_by_prefix(&self, prefix: &IdPrefix) -> impl DoubleEndedIterator<Item = &Arc<R>> {
        self.positions.range(R::id_range(prefix)).map(|(_, position)| &self.rows[position])
    }

    /// Lists the rows of a job in the order of (create index, id).
    pub fn iter_by_job<'a>(
        &'a self,
        job: &JobKey,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<R>> + use<'a, R> {
        let job = job.clone();
        let hash = short_hash(&job);
        // Two jobs may share the short hash; the row itself tells them apart.
        self.by_job
            .range((hash, 0)..=(hash, u64::MAX))
            .map(|(_, position)| &self.rows[position])
            .filter(move |row| *row.job() == job)
    }

    /// Returns the row at a position that an index holds.
    pub(crate) fn at(&self, position: u64) -> &Arc<R> {
        &self.rows[&position]
    }

    /// Returns the position of the row with an id.
    pub(crate) fn position(&self, id: R::Id) -> Option<u64> {
        self.positions.get(&id).copied()
    }

    /// Returns the row at a position, to be replaced by another one with its id.
    pub(crate) fn slot_at(&mut self, position: u64) -> Option<&mut Arc<R>> {
        self.rows.get_mut(&position)
    }

    /// Returns the row with an id, to be replaced by another one with that id.
    pub(crate) fn slot(&mut self, id: R::Id) -> Option<&mut Arc<R>> {
        self.rows.get_mut(self.positions.get(&id)?)
    }

    /// Puts a row in, or in the place of the one with its id, which is returned.
    ///
    /// Rows of one commit must come in the order of their ids.
    pub(crate) fn insert(&mut self, row: Arc<R>) -> Option<Arc<R>> {
        match self.slot(row.id()) {
            Some(slot) => Some(std::mem::replace(slot, row)),
            None => {
                self.add(row, None);
                None
            }
        }
    }

    /// Puts a row in with an id that no other one has, and returns its position.
    ///
    /// Rows of one commit must come in the order of their ids, unless `ordinal` says where they go.
    pub(crate) fn add(&mut self, row: Arc<R>, ordinal: Option<u64>) -> u64 {
        let first = row.create_index() << ORDINAL_BITS;
        let end = (row.create_index() + 1) << ORDINAL_BITS;
        let position = match ordinal {
            Some(ordinal) => first + ordinal,
            None => self.rows.range(first..end).next_back().map_or(first, |(position, _)| position + 1),
        };
        assert!(position < end, "one commit made more rows than a table can number");
        let known = self.positions.insert(row.id(), position);
        assert!(known.is_none(), "a row was added that is there");
        self.by_job.insert((short_hash(row.job()), position));
        let before = self.rows.insert(position, row);
        assert!(before.is_none(), "two rows of one commit were given the same number");
        position
    }

    /// Takes a row out and returns it with the position that it had.
    pub(crate) fn remove(&mut self, id: R::Id) -> Option<(u64, Arc<R>)> {
        let position = self.positions.remove(&id)?;
        let row = self.rows.remove(&position).expect("every id's position has a row");
        self.by_job.remove(&(short_hash(row.job()), position));
        Some((position, row))
    }

    fn seek(&self, create_index: u64, id: R::Id) -> u64 {
        if let Some(&position) = self.positions.get(&id) {
            return position;
        }
        // The row is gone: go on with the first one that would follow it.
        let first = create_index << ORDINAL_BITS;
        let end = create_index.saturating_add(1) << ORDINAL_BITS;
        self.rows.range(first..end).find(|(_, row)| row.id() > id).map_or(end, |(position, _)| *position)
    }
}

/// Returns 64 bits that stand for a key in an index; the same in one process, never stored.
pub(crate) fn short_hash<T: Hash>(key: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

macro_rules! ordered_row {
    ($row:ty, $id:ident, $job:expr) => {
        impl OrderedRow for $row {
            type Id = $id;

            fn id(&self) -> $id {
                self.id
            }

            fn job(&self) -> &JobKey {
                let job: fn(&$row) -> &JobKey = $job;
                job(self)
            }

            fn create_index(&self) -> u64 {
                self.create_index
            }

            fn id_range(prefix: &IdPrefix) -> std::ops::RangeInclusive<$id> {
                $id(prefix.first())..=$id(prefix.last())
            }
        }
    };
}

ordered_row!(Allocation, AllocId, |row| &row.job.key);
ordered_row!(Evaluation, EvalId, |row| &row.job);
ordered_row!(Deployment, DeploymentId, |row| &row.job);

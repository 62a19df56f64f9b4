use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{ClusterMarker, Counts, Found, LogRead, LogStore, Settled, StoreError};
use crate::{
    error::{Loss, OpenError},
    types::{LogPoint, Record, VoteRecord},
};

/// A disk that exists in memory: for development mode, where nothing is kept, and for simulations, where it outlives
/// the server that writes to it and can fail on demand.
///
/// Writes are pending until a sync. A crash loses what is pending.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    /// What a reader sees.
    current: Content,
    /// What a crash leaves.
    synced: Content,
    pending: Vec<Op>,
    /// The last entry that a sync acknowledged; it stands for the mark file.
    acknowledged: Option<LogPoint>,
    fail_syncs: u32,
    deadly: Option<DeadlyWrite>,
    snapshots: BTreeMap<LogPoint, Bytes>,
    counts: Counts,
}

/// What the next append does when the machine dies in it.
struct DeadlyWrite {
    kept_permille: u32,
    died: Box<dyn FnOnce() + Send>,
}

#[derive(Default)]
struct Content {
    entries: BTreeMap<u64, Record>,
    purged: Option<LogPoint>,
    vote: Option<VoteRecord>,
    committed: Option<LogPoint>,
    cluster: Option<ClusterMarker>,
}

#[derive(Clone)]
enum Op {
    Insert(Record),
    RemoveAfter(Option<u64>),
    Purge(LogPoint),
    Vote(VoteRecord),
    Committed(LogPoint),
    Cluster(ClusterMarker),
}

impl Content {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Insert(record) => {
                self.entries.insert(record.point.index, record);
            }
            Op::RemoveAfter(None) => self.entries.clear(),
            Op::RemoveAfter(Some(keep)) => {
                self.entries.split_off(&(keep + 1));
            }
            Op::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(upto);
            }
            Op::Vote(vote) => self.vote = Some(vote),
            Op::Committed(committed) => self.committed = Some(committed),
            Op::Cluster(cluster) => self.cluster = Some(cluster),
        }
    }

    fn last(&self) -> Option<LogPoint> {
        self.entries.last_key_value().map(|(_, record)| record.point).or(self.purged)
    }
}

impl MemoryDisk {
    /// Makes an empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses everything that was not synced, as the end of the machine would. The server that used the disk must be gone.
    pub fn crash(&self) {
        let mut disk = self.lock();
        let disk = &mut *disk;
        disk.pending.clear();
        disk.current = Content {
            entries: disk.synced.entries.clone(),
            purged: disk.synced.purged,
            vote: disk.synced.vote,
            committed: disk.synced.committed,
            cluster: disk.synced.cluster,
        };
    }

    /// Makes the next syncs fail; their writes stay pending.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().fail_syncs = count;
    }

    /// Has the machine die in the next append: a part of its entries, from the first on, is on the disk, none of it is
    /// acknowledged, and `died` is called.
    pub fn die_in_next_append(&self, kept_permille: u32, died: impl FnOnce() + Send + 'static) {
        self.lock().deadly = Some(DeadlyWrite { kept_permille, died: Box::new(died) });
    }

    /// Takes back the failures that were asked for and have not happened.
    pub fn mend(&self) {
        let mut disk = self.lock();
        disk.fail_syncs = 0;
        disk.deadly = None;
    }

    /// Damages the disk: the last `count` synced entries vanish, behind the back of the mark.
    pub fn lose_synced(&self, count: usize) {
        let mut disk = self.lock();
        for _ in 0..count {
            disk.synced.entries.pop_last();
        }
        drop(disk);
        self.crash();
    }

    pub(crate) fn put_snapshot(&self, at: LogPoint, bytes: Bytes, keep: usize) {
        let mut disk = self.lock();
        disk.snapshots.insert(at, bytes);
        while disk.snapshots.len() > keep {
            disk.snapshots.pop_first();
        }
    }

    pub(crate) fn snapshots(&self) -> Vec<(LogPoint, Bytes)> {
        self.lock().snapshots.iter().rev().map(|(at, bytes)| (*at, bytes.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log on a [`MemoryDisk`].
pub struct MemoryLog {
    disk: MemoryDisk,
}

impl MemoryLog {
    /// Opens the log on a disk.
    ///
    /// # Errors
    ///
    /// [`OpenError::LostEntries`] when the disk holds less than it once acknowledged.
    pub fn open(disk: MemoryDisk) -> Result<Self, OpenError> {
        let inner = disk.lock();
        let found = inner.current.last();
        if let Some(acknowledged) = inner.acknowledged
            && found.is_none_or(|last| last.index < acknowledged.index)
        {
            return Err(OpenError::LostEntries(Box::new(Loss {
                reason: "the log is shorter than it was".to_owned(),
                acknowledged: Some(acknowledged),
                found,
                vote: inner.current.vote,
                cluster: inner.current.cluster,
            })));
        }
        drop(inner);
        Ok(Self { disk })
    }

    fn write(&mut self, op: Op) {
        let mut disk = self.disk.lock();
        disk.current.apply(op.clone());
        disk.pending.push(op);
    }

    fn die(&mut self, records: &[Record], kept_permille: u32, died: Box<dyn FnOnce() + Send>) -> StoreError {
        let kept = records.len() * kept_permille as usize / 1_000;
        {
            let mut disk = self.disk.lock();
            let disk = &mut *disk;
            for op in disk.pending.drain(..) {
                disk.synced.apply(op);
            }
            for record in &records[..kept] {
                disk.synced.apply(Op::Insert(record.clone()));
            }
        }
        died();
        StoreError::Io { source: std::io::Error::other("the machine died in this write") }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        let mut disk = self.disk.lock();
        let disk = &mut *disk;
        disk.counts.log_syncs += 1;
        if disk.fail_syncs > 0 {
            disk.fail_syncs -= 1;
            return Err(StoreError::Io { source: std::io::Error::other("the sync was made to fail") });
        }
        for op in disk.pending.drain(..) {
            disk.synced.apply(op);
        }
        disk.acknowledged = disk.synced.last();
        Ok(())
    }
}

impl LogStore for MemoryLog {
    fn found(&self) -> Found {
        let disk = self.disk.lock();
        let content = &disk.current;
        Found {
            first: content
                .entries
                .first_key_value()
                .map_or_else(|| content.purged.map_or(0, |purged| purged.index + 1), |(index, _)| *index),
            purged: content.purged,
            last: content.last(),
            vote: content.vote,
            committed: content.committed.min(content.last()),
            cluster: content.cluster,
        }
    }

    fn append(&mut self, records: &[Record], committed: Option<LogPoint>) -> Result<(), StoreError> {
        let mut next = self.disk.lock().current.last().map(|last| last.index + 1);
        for record in records {
            if let Some(expected) = next
                && expected != record.point.index
            {
                return Err(StoreError::Gap { at: record.point.index, expected });
            }
            next = Some(record.point.index + 1);
        }
        let deadly = self.disk.lock().deadly.take();
        if let Some(DeadlyWrite { kept_permille, died }) = deadly {
            return Err(self.die(records, kept_permille, died));
        }
        for record in records {
            self.write(Op::Insert(record.clone()));
        }
        if let Some(committed) = committed {
            self.write(Op::Committed(committed));
        }
        self.sync()?;
        let counts = &mut self.disk.lock().counts;
        counts.groups += 1;
        counts.entries += records.len() as u64;
        Ok(())
    }

    fn truncate_after(&mut self, keep: Option<u64>) -> Result<(), StoreError> {
        self.write(Op::RemoveAfter(keep));
        self.sync()
    }

    fn purge(&mut self, upto: LogPoint) -> Result<(), StoreError> {
        if self.disk.lock().current.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        self.write(Op::Purge(upto));
        self.sync()
    }

    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), StoreError> {
        self.write(Op::Vote(vote));
        self.sync()
    }

    fn save_cluster(&mut self, cluster: ClusterMarker) -> Result<(), StoreError> {
        self.write(Op::Cluster(cluster));
        self.sync()
    }

    fn save_committed(&mut self, committed: LogPoint) -> Result<(), StoreError> {
        self.write(Op::Committed(committed));
        Ok(())
    }

    fn settle(&mut self) -> Result<Settled, StoreError> {
        Ok(Settled::Done)
    }

    fn settle_if_late(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(MemoryReader(self.disk.clone()))
    }

    fn counts(&self) -> Counts {
        self.disk.lock().counts
    }
}

struct MemoryReader(MemoryDisk);

impl LogRead for MemoryReader {
    fn read(&self, from: u64, to: u64) -> Result<Vec<Record>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        Ok(self.0.lock().current.entries.range(from..to).map(|(_, record)| record.clone()).collect())
    }
}

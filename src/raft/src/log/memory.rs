use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
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
    /// No room is left for anything.
    full: bool,
    /// What each call takes.
    slowness: Duration,
    /// The entry in which a bit is another one than was written.
    rotten: Option<u64>,
    /// Counts the syncs that changed what a crash leaves, and the damages.
    changes: u64,
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

    /// Takes back the failures that were asked for and have not happened. What is damaged stays so.
    pub fn mend(&self) {
        let mut disk = self.lock();
        disk.fail_syncs = 0;
        disk.deadly = None;
        disk.full = false;
        disk.slowness = Duration::ZERO;
    }

    /// Leaves no room for anything, or gives it back.
    pub fn fill(&self, is_full: bool) {
        self.lock().full = is_full;
    }

    /// Lets each call take so long. It shows in [`crate::IoMode::Task`] only.
    pub fn slow_down(&self, each: Duration) {
        self.lock().slowness = each;
    }

    /// Damages the disk: flips a bit of the synced entry that lies so far into the log. The log's store finds that out
    /// when it reads the entry or is opened; see the storage sweep for whether the real one does.
    pub fn flip_bit_of_entry(&self, permille: u32) {
        let mut disk = self.lock();
        let place = disk.synced.entries.len() * permille.min(999) as usize / 1_000;
        disk.rotten = disk.synced.entries.keys().nth(place).copied().or(disk.rotten);
        disk.changes += 1;
    }

    /// Damages the disk: flips a bit of the latest snapshot, so far into it.
    pub fn flip_bit_of_snapshot(&self, permille: u32) {
        let mut disk = self.lock();
        let Some(mut latest) = disk.snapshots.last_entry() else { return };
        let mut bytes = latest.get().to_vec();
        let place = bytes.len() * permille.min(999) as usize / 1_000;
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << (permille % 8);
        }
        latest.insert(Bytes::from(bytes));
    }

    /// Counts what changed of that which a crash leaves: while it stands still, [`Self::durable`] is the same.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Shows what a crash would leave: the entries, each with a checksum of what it says, and the vote.
    pub fn durable(&self) -> (Vec<(LogPoint, u64)>, Option<VoteRecord>) {
        let disk = self.lock();
        let entry = |record: &Record| (record.point, record.payload.checksum());
        (disk.synced.entries.values().map(entry).collect(), disk.synced.vote)
    }

    /// Damages the disk: the last `count` synced entries vanish, behind the back of the mark.
    pub fn lose_synced(&self, count: usize) {
        let mut disk = self.lock();
        for _ in 0..count {
            disk.synced.entries.pop_last();
        }
        disk.changes += 1;
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
        if let Some(index) = inner.rotten.filter(|index| inner.current.entries.contains_key(index)) {
            let reason = format!("entry {index} is not what was written");
            return Err(OpenError::Damaged { reason, mark: inner.acknowledged });
        }
        drop(inner);
        Ok(Self { disk })
    }

    /// Refuses when there is no room.
    fn need_room(&self) -> Result<(), StoreError> {
        if self.disk.lock().full {
            return Err(StoreError::from(std::io::Error::from(std::io::ErrorKind::StorageFull)));
        }
        Ok(())
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
            disk.changes += 1;
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
        disk.changes += 1;
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
        self.need_room()?;
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
        self.need_room()?;
        self.write(Op::RemoveAfter(keep));
        self.sync()
    }

    fn purge(&mut self, upto: LogPoint) -> Result<(), StoreError> {
        if self.disk.lock().current.purged.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        self.need_room()?;
        self.write(Op::Purge(upto));
        self.sync()
    }

    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), StoreError> {
        self.need_room()?;
        self.write(Op::Vote(vote));
        self.sync()
    }

    fn save_cluster(&mut self, cluster: ClusterMarker) -> Result<(), StoreError> {
        self.need_room()?;
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

    fn delay(&self) -> Duration {
        self.disk.lock().slowness
    }
}

struct MemoryReader(MemoryDisk);

impl LogRead for MemoryReader {
    fn read(&self, from: u64, to: u64) -> Result<Vec<Record>, StoreError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let disk = self.0.lock();
        if let Some(index) = disk.rotten.filter(|index| (from..to).contains(index)) {
            return Err(StoreError::Corrupt { index, reason: "a bit is another one".to_owned() });
        }
        Ok(disk.current.entries.range(from..to).map(|(_, record)| record.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Payload;

    fn written(entries: u64) -> (MemoryDisk, MemoryLog) {
        let disk = MemoryDisk::new();
        let mut log = MemoryLog::open(disk.clone()).expect("an empty disk opens");
        log.append(&records(0, entries), None).expect("there is room");
        (disk, log)
    }

    fn records(from: u64, to: u64) -> Vec<Record> {
        let record = |index| Record { point: LogPoint { term: 1, index }, payload: Payload::Blank };
        (from..to).map(record).collect()
    }

    #[test]
    fn a_full_disk_takes_nothing_and_keeps_what_it_has() {
        let (disk, mut log) = written(3);
        disk.fill(true);
        let vote = VoteRecord { term: 2, node: 1, committed: false };
        assert!(matches!(log.append(&records(3, 4), None), Err(StoreError::Full { .. })));
        assert!(matches!(log.save_vote(vote), Err(StoreError::Full { .. })));
        disk.crash();
        assert_eq!(disk.durable().0.len(), 3);
        disk.mend();
        let mut log = MemoryLog::open(disk.clone()).expect("nothing is lost");
        log.append(&records(3, 4), None).expect("there is room again");
        assert_eq!(disk.durable().0.len(), 4);
    }

    #[test]
    fn a_flipped_bit_is_noticed_when_the_entry_is_read_and_when_the_log_is_opened() {
        let (disk, log) = written(4);
        disk.flip_bit_of_entry(500);
        let reader = log.reader();
        assert!(matches!(reader.read(0, 4), Err(StoreError::Corrupt { index: 2, .. })));
        assert_eq!(reader.read(0, 2).expect("those before are whole").len(), 2);
        disk.crash();
        let opened = MemoryLog::open(disk).map(drop);
        assert!(opened.is_err_and(|error| error.must_rejoin()));
    }

    #[test]
    fn what_is_durable_shows_what_each_entry_says() {
        let (disk, mut log) = written(1);
        let before = disk.changes();
        let says = |text: &'static str, index| Record {
            point: LogPoint { term: 1, index },
            payload: Payload::Command(Bytes::from_static(text.as_bytes())),
        };
        log.append(&[says("one", 1), says("other", 2), says("one", 3)], None).expect("there is room");
        assert!(disk.changes() > before);
        let (entries, _) = disk.durable();
        assert_eq!(entries[1].1, entries[3].1);
        assert_ne!(entries[1].1, entries[2].1);
    }
}

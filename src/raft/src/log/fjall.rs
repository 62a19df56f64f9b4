use std::{
    fs, io,
    ops::Range,
    panic,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use tracing::warn;

use super::{
    ChainHash, ClusterMarker, Counts, Found, LogRead, LogStore, Settled, StoreError,
    attempts::{ATTEMPTS_FILE, Attempt},
    decode_entry, encode_entry,
    mark::{Mark, MarkError, MarkFile},
};
use crate::{
    error::{Loss, OpenError},
    types::{LogPoint, Record, VoteRecord},
};

/// One memtable; a raft log is short and written once.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// All journals together. Two rotations' worth: more only slows the next start.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// Blocks read back; followers that lag far behind are rare.
const CACHE_BYTES: u64 = 8 << 20;
/// Keys of purged entries removed at a time: in a quiet moment, or along with an append, which they must not delay.
const REMOVE_QUIET: u64 = 4096;
const REMOVE_BUSY: u64 = 512;
/// Groups after which the mark is synced although the log is busy (see [`MarkSync::Behind`]).
const MARK_LAG_GROUPS_MAX: u32 = 16;

const MARK_FILE: &str = "mark";
const LOG_DIR: &str = "log";
const LOST_DIR: &str = "lost";
const ENTRY_PREFIX: u8 = b'e';
const KEY_VOTE: &[u8] = b"m/vote";
const KEY_PURGED: &[u8] = b"m/purged";
const KEY_COMMITTED: &[u8] = b"m/committed";
const FACT_VERSION: u8 = 1;

/// When the mark of an append is synced. It is always written before the append is acknowledged, so it survives the
/// end of the process either way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MarkSync {
    /// Before the append is acknowledged: a second sync on the way of every write.
    BeforeAck,
    /// When the log is quiet, at the latest after a few groups. A power cut within that window **and** a damaged journal
    /// behind the last synced mark together would go unnoticed.
    Behind,
}

/// The log in a fjall database, guarded by checksums, a hash chain and a mark outside the database.
///
/// fjall cuts its journal at the first bad entry when it opens, without a word. So this store checks every entry at
/// open and compares the last one with the mark: a log that is shorter than it once was, or different, does not open.
pub struct FjallLog {
    // Order matters: handles into the database go before it.
    keyspace: Keyspace,
    database: Database,
    mark: MarkFile,
    mark_sync: MarkSync,
    mark_lag: u32,
    /// Shared with the readers, so that they do not see what is purged and not yet removed.
    first: Arc<AtomicU64>,
    /// Purged entries whose keys are still there.
    doomed: Range<u64>,
    last: Option<(LogPoint, ChainHash)>,
    purged: Option<(LogPoint, ChainHash)>,
    vote: Option<(VoteRecord, u64)>,
    committed: Option<LogPoint>,
    counts: Counts,
}

/// Puts the log of a server that lost entries aside, so that it may start empty.
///
/// The caller must come back under another peer id: the old one may have voted. The files of an earlier call are removed.
///
/// # Errors
///
/// What the file system said; then some of the files may have been moved.
pub fn wipe(dir: &Path) -> io::Result<()> {
    let lost = dir.join(LOST_DIR);
    if lost.exists() {
        fs::remove_dir_all(&lost)?;
    }
    fs::create_dir_all(&lost)?;
    for name in [LOG_DIR, MARK_FILE, ATTEMPTS_FILE, crate::snapshot::SNAPSHOT_DIR] {
        let from = dir.join(name);
        if from.exists() {
            fs::rename(&from, lost.join(name))?;
        }
    }
    fs::File::open(dir)?.sync_all()
}

impl FjallLog {
    /// Opens the log in `dir`, or makes one when there is none.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. No error changes anything on disk that a later call would need.
    pub fn open(dir: &Path, mark_sync: MarkSync) -> Result<Self, OpenError> {
        fs::create_dir_all(dir).map_err(|source| OpenError::Directory { path: dir.to_owned(), source })?;
        let Some(attempt) = Attempt::begin(dir) else {
            let reason = "the process ended each time that the log engine read its files".to_owned();
            return Err(OpenError::Damaged { reason, mark: None });
        };
        // The engine asserts while it reads its files; damage must be an answer all the same.
        let opened = panic::catch_unwind(|| Self::open_and_check(dir, mark_sync)).unwrap_or_else(|_| {
            Err(OpenError::Damaged {
                reason: "the log engine panicked while it read its files".to_owned(),
                mark: None,
            })
        });
        attempt.finish();
        opened
    }

    fn open_and_check(dir: &Path, mark_sync: MarkSync) -> Result<Self, OpenError> {
        let path = dir.join(LOG_DIR);
        let existed = path.exists();
        let mark_path = dir.join(MARK_FILE);
        let mark = match MarkFile::open(&mark_path) {
            Ok(Some(mark)) => mark,
            Ok(None) if existed && Self::has_entries(&path)? => {
                return Err(OpenError::MarkMissing { path: mark_path });
            }
            Ok(None) => MarkFile::create(&mark_path)
                .map_err(|source| OpenError::Directory { path: mark_path, source })?,
            Err(source) => return Err(OpenError::Mark { path: mark_path, source }),
        };
        if !existed && (mark.mark().last.is_some() || mark.mark().vote.is_some()) {
            return Err(lost(&mark.mark(), None, "the log's directory is gone".to_owned()));
        }
        let (database, keyspace) = open_engine(&path, &mark.mark())?;
        let mut log = Self {
            keyspace,
            database,
            mark,
            mark_sync,
            mark_lag: 0,
            first: Arc::new(AtomicU64::new(0)),
            doomed: 0..0,
            last: None,
            purged: None,
            vote: None,
            committed: None,
            counts: Counts::default(),
        };
        log.load()?;
        log.compare_with_mark()?;
        Ok(log)
    }

    fn has_entries(path: &Path) -> Result<bool, OpenError> {
        let (_database, keyspace) = open_engine(path, &Mark::default())?;
        keyspace
            .first_key_value()
            .map(|guard| guard.key().map(|_| ()))
            .transpose()
            .map(|first| first.is_some())
            .map_err(|error| OpenError::Damaged { reason: error.to_string(), mark: None })
    }

    /// Reads and checks everything. A raft log is short, and a damaged one must not vote even once.
    fn load(&mut self) -> Result<(), OpenError> {
        let known = self.mark.mark();
        let damaged =
            |reason: String| OpenError::Damaged { reason, mark: known.last.map(|(point, _)| point) };
        self.vote = self.fact(KEY_VOTE).map_err(damaged)?;
        self.committed = self.fact(KEY_COMMITTED).map_err(damaged)?;
        let purged: Option<(LogPoint, [u8; 16])> = self.fact(KEY_PURGED).map_err(damaged)?;
        self.purged = purged.map(|(point, hash)| (point, ChainHash(hash)));
        self.last = self.purged;
        let mut held = 0u64;
        for guard in self.keyspace.prefix([ENTRY_PREFIX]) {
            let (key, value) = guard.into_inner().map_err(|error| damaged(error.to_string()))?;
            let index = index_of(&key).ok_or_else(|| damaged("a key is not an index".to_owned()))?;
            if self.purged.is_some_and(|(point, _)| index <= point.index) {
                let start = if self.doomed.is_empty() { index } else { self.doomed.start };
                self.doomed = start..index + 1;
                continue;
            }
            let (record, previous) =
                decode_entry(&value).map_err(|error| damaged(format!("entry {index}: {error}")))?;
            if record.point.index != index {
                return Err(damaged(format!("entry {} stands at {index}", record.point.index)));
            }
            match self.last {
                Some((last, hash))
                    if last.index + 1 != index
                        || (hash != previous && !mutants::on!("raft-chain-unchecked")) =>
                {
                    return Err(damaged(format!("entry {index} does not follow entry {}", last.index)));
                }
                None if index != 0 && previous != ChainHash::default() => {
                    return Err(damaged(format!("the log starts at {index} and nothing tells why")));
                }
                Some(_) | None => {}
            }
            if held == 0 {
                self.set_first(index);
            }
            held += 1;
            self.last = Some((record.point, ChainHash::of(&value)));
        }
        if held == 0 {
            self.set_first(self.last.map_or(0, |(point, _)| point.index + 1));
        }
        Ok(())
    }

    /// The log is always written before the mark, except when it is shortened: then the mark goes first. So a log
    /// that has less than its mark says did not crash, it lost something.
    fn compare_with_mark(&mut self) -> Result<(), OpenError> {
        let mark = self.mark.mark();
        let found = self.last.map(|(point, _)| point);
        if let Some((point, hash)) = mark.last.filter(|_| !mutants::on!("raft-trusts-short-log")) {
            if found.is_none_or(|last| last.index < point.index) {
                return Err(lost(&mark, found, "the log is shorter than it was".to_owned()));
            }
            if let Some(actual) = self
                .hash_at(point.index)
                .map_err(|error| OpenError::Damaged { reason: error.to_string(), mark: Some(point) })?
                && actual != hash
            {
                return Err(lost(
                    &mark,
                    found,
                    format!("entry {} is not the one that was written", point.index),
                ));
            }
        }
        let votes = self.vote.map_or(0, |(_, number)| number);
        if mark.vote.is_some_and(|(_, number)| number > votes) {
            return Err(lost(&mark, found, "the last vote is gone".to_owned()));
        }
        let cluster = mark.cluster;
        if mark.last != self.last || mark.vote != self.vote {
            let current = Mark { sequence: 0, last: self.last, vote: self.vote, cluster };
            self.mark.write(current).and_then(|()| self.mark.sync()).map_err(|source| OpenError::Mark {
                path: PathBuf::from(MARK_FILE),
                source: MarkError::Io(source),
            })?;
        }
        Ok(())
    }

    /// Finds the hash of an entry; `None` when it was purged and its hash with it.
    fn hash_at(&self, index: u64) -> Result<Option<ChainHash>, StoreError> {
        if let Some((point, hash)) = self.purged
            && index <= point.index
        {
            return Ok((index == point.index).then_some(hash));
        }
        if let Some((point, hash)) = self.last
            && point.index == index
        {
            return Ok(Some(hash));
        }
        let value = self.keyspace.get(key_of(index)).map_err(engine)?;
        let value = value.ok_or_else(|| StoreError::Corrupt { index, reason: "it is gone".to_owned() })?;
        Ok(Some(ChainHash::of(&value)))
    }

    fn point_at(&self, index: u64) -> Result<LogPoint, StoreError> {
        let value = self.keyspace.get(key_of(index)).map_err(engine)?;
        let value = value.ok_or_else(|| StoreError::Corrupt { index, reason: "it is gone".to_owned() })?;
        let (record, _) =
            decode_entry(&value).map_err(|error| StoreError::Corrupt { index, reason: error.to_string() })?;
        Ok(record.point)
    }

    fn first(&self) -> u64 {
        self.first.load(Ordering::Acquire)
    }

    fn set_first(&self, first: u64) {
        self.first.store(first, Ordering::Release);
    }

    /// Adds the removal of some purged entries to a batch; a crash at any time leaves the rest to the next open.
    fn remove_doomed(&mut self, batch: &mut OwnedWriteBatch, count: u64) {
        let stop = self.doomed.end.min(self.doomed.start.saturating_add(count));
        for index in self.doomed.start..stop {
            batch.remove_weak(&self.keyspace, key_of(index));
        }
        self.doomed.start = stop;
    }

    fn batch(&self, mode: PersistMode) -> OwnedWriteBatch {
        self.database.batch().durability(Some(mode))
    }

    fn commit_synced(&mut self, batch: OwnedWriteBatch) -> Result<(), StoreError> {
        batch.commit().map_err(engine)?;
        self.counts.log_syncs += 1;
        Ok(())
    }

    fn fact<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, String> {
        let Some(value) = self.keyspace.get(key).map_err(|error| error.to_string())? else { return Ok(None) };
        open_fact(&value).map(Some).map_err(|reason| format!("{}: {reason}", String::from_utf8_lossy(key)))
    }

    fn current_mark(&self) -> Mark {
        Mark { sequence: 0, last: self.last, vote: self.vote, cluster: self.mark.mark().cluster }
    }

    fn sync_mark(&mut self) -> Result<(), StoreError> {
        self.mark.sync()?;
        self.mark_lag = 0;
        self.counts.mark_syncs += 1;
        Ok(())
    }

    fn write_mark_synced(&mut self, mark: Mark) -> Result<(), StoreError> {
        self.mark.write(mark)?;
        self.sync_mark()
    }
}

impl LogStore for FjallLog {
    fn found(&self) -> Found {
        let last = self.last.map(|(point, _)| point);
        Found {
            first: self.first(),
            purged: self.purged.map(|(point, _)| point),
            last,
            vote: self.vote.map(|(vote, _)| vote),
            committed: self.committed.min(last),
            cluster: self.mark.mark().cluster,
        }
    }

    fn append(&mut self, records: &[Record], committed: Option<LogPoint>) -> Result<(), StoreError> {
        let Some(head) = records.first() else { return Ok(()) };
        let mut tail = self.last;
        let mut batch = self.batch(PersistMode::SyncData);
        for record in records {
            if let Some((last, _)) = tail
                && last.index + 1 != record.point.index
            {
                return Err(StoreError::Gap { at: record.point.index, expected: last.index + 1 });
            }
            let value = encode_entry(record, tail.map_or(ChainHash::default(), |(_, hash)| hash));
            tail = Some((record.point, ChainHash::of(&value)));
            batch.insert(&self.keyspace, key_of(record.point.index), value);
        }
        if let Some(committed) = committed {
            batch.insert(&self.keyspace, KEY_COMMITTED, seal_fact(&committed));
            self.committed = Some(committed);
        }
        self.remove_doomed(&mut batch, REMOVE_BUSY.max(records.len() as u64 * 2));
        self.commit_synced(batch)?;
        if self.last.is_none() {
            self.set_first(head.point.index);
        }
        self.last = tail;
        self.counts.groups += 1;
        self.counts.entries += records.len() as u64;
        self.mark.write(self.current_mark())?;
        self.mark_lag += 1;
        if self.mark_sync == MarkSync::BeforeAck {
            self.sync_mark()?;
        }
        Ok(())
    }

    fn truncate_after(&mut self, keep: Option<u64>) -> Result<(), StoreError> {
        let Some((last, _)) = self.last else { return Ok(()) };
        let from = keep.map_or(self.first(), |index| index + 1).max(self.first());
        if from > last.index {
            return Ok(());
        }
        let tail = match keep {
            Some(index) if index >= self.first() => {
                let hash = self.hash_at(index)?;
                let hash =
                    hash.ok_or_else(|| StoreError::Corrupt { index, reason: "its hash is gone".to_owned() })?;
                Some((self.point_at(index)?, hash))
            }
            Some(_) | None => self.purged,
        };
        // A mark that says too little is harmless; one that says too much would look like a loss.
        if !mutants::on!("raft-mark-outlives-tail") {
            self.write_mark_synced(Mark { last: tail, ..self.current_mark() })?;
        }
        let mut batch = self.batch(PersistMode::SyncData);
        for index in from..=last.index {
            batch.remove(&self.keyspace, key_of(index));
        }
        self.commit_synced(batch)?;
        self.last = tail;
        Ok(())
    }

    fn purge(&mut self, upto: LogPoint) -> Result<(), StoreError> {
        if self.purged.is_some_and(|(point, _)| upto.index <= point.index) {
            return Ok(());
        }
        let last = self.last.map(|(point, _)| point);
        let first = self.first();
        let held = last.is_some_and(|last| last.index >= upto.index) && upto.index >= first;
        let hash = if held { self.hash_at(upto.index)? } else { None };
        let purged = (upto, hash.unwrap_or_else(|| ChainHash::anchor(upto)));
        // Saying that they are gone is enough: removing many keys would hold up the writes that wait.
        let mut batch = self.batch(PersistMode::SyncData);
        batch.insert(&self.keyspace, KEY_PURGED, seal_fact(&(purged.0, purged.1.0)));
        self.commit_synced(batch)?;
        let end = last.map_or(0, |last| last.index.min(upto.index) + 1);
        if end > first {
            let start = if self.doomed.is_empty() { first } else { self.doomed.start };
            self.doomed = start..end;
        }
        self.purged = Some(purged);
        self.set_first(upto.index + 1);
        if last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(purged);
            self.write_mark_synced(self.current_mark())?;
        }
        Ok(())
    }

    fn save_vote(&mut self, vote: VoteRecord) -> Result<(), StoreError> {
        let number = self.vote.map_or(0, |(_, number)| number) + 1;
        if mutants::on!("raft-vote-in-memory") {
            self.vote = Some((vote, number));
            return Ok(());
        }
        let mut batch = self.batch(PersistMode::SyncData);
        batch.insert(&self.keyspace, KEY_VOTE, seal_fact(&(vote, number)));
        self.commit_synced(batch)?;
        self.vote = Some((vote, number));
        self.write_mark_synced(self.current_mark())
    }

    fn save_cluster(&mut self, cluster: ClusterMarker) -> Result<(), StoreError> {
        self.write_mark_synced(Mark { cluster: Some(cluster), ..self.current_mark() })
    }

    fn save_committed(&mut self, committed: LogPoint) -> Result<(), StoreError> {
        let mut batch = self.batch(PersistMode::Buffer);
        batch.insert(&self.keyspace, KEY_COMMITTED, seal_fact(&committed));
        batch.commit().map_err(engine)?;
        self.committed = Some(committed);
        Ok(())
    }

    fn settle(&mut self) -> Result<Settled, StoreError> {
        if self.mark.dirty() {
            self.sync_mark()?;
        }
        if self.doomed.is_empty() {
            return Ok(Settled::Done);
        }
        let mut batch = self.batch(PersistMode::Buffer);
        self.remove_doomed(&mut batch, REMOVE_QUIET);
        batch.commit().map_err(engine)?;
        Ok(Settled::More)
    }

    fn settle_if_late(&mut self) -> Result<(), StoreError> {
        if self.mark_lag >= MARK_LAG_GROUPS_MAX { self.sync_mark() } else { Ok(()) }
    }

    fn reader(&self) -> Arc<dyn LogRead> {
        Arc::new(FjallReader { keyspace: self.keyspace.clone(), first: self.first.clone() })
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}

struct FjallReader {
    keyspace: Keyspace,
    first: Arc<AtomicU64>,
}

impl LogRead for FjallReader {
    fn read(&self, from: u64, to: u64) -> Result<Vec<Record>, StoreError> {
        let mut records: Vec<Record> = Vec::new();
        let from = from.max(self.first.load(Ordering::Acquire));
        if from >= to {
            return Ok(records);
        }
        for guard in self.keyspace.range(key_of(from)..key_of(to)) {
            let value = guard.value().map_err(engine)?;
            let next = records.last().map_or(from, |record| record.point.index + 1);
            let corrupt = |reason: String| StoreError::Corrupt { index: next, reason };
            let (record, _) = decode_entry(&value).map_err(|error| corrupt(error.to_string()))?;
            if !records.is_empty() && record.point.index != next {
                return Err(corrupt(format!("entry {} stands where it should be", record.point.index)));
            }
            records.push(record);
        }
        Ok(records)
    }
}

fn open_engine(path: &Path, mark: &Mark) -> Result<(Database, Keyspace), OpenError> {
    let open = || {
        let database = Database::builder(path)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = database.keyspace("raft", options)?;
        Ok::<_, fjall::Error>((database, keyspace))
    };
    open().map_err(|error| match error {
        fjall::Error::Locked => OpenError::InUse { path: path.to_owned() },
        error => {
            warn!(%error, "the log engine does not open");
            OpenError::Damaged { reason: error.to_string(), mark: mark.last.map(|(point, _)| point) }
        }
    })
}

fn lost(mark: &Mark, found: Option<LogPoint>, reason: String) -> OpenError {
    OpenError::LostEntries(Box::new(Loss {
        reason,
        acknowledged: mark.last.map(|(point, _)| point),
        found,
        vote: mark.vote.map(|(vote, _)| vote),
        cluster: mark.cluster,
    }))
}

fn key_of(index: u64) -> [u8; 9] {
    let mut key = [ENTRY_PREFIX; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> Option<u64> {
    let eight: [u8; 8] = key.get(1..)?.try_into().ok()?;
    Some(u64::from_be_bytes(eight))
}

/// Wraps a small fact in version and checksum.
fn seal_fact<T: serde::Serialize>(fact: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(fact).expect("numbers always encode");
    let mut out = vec![FACT_VERSION];
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

fn open_fact<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let Some((head, body)) = bytes.split_at_checked(5) else { return Err("too short".to_owned()) };
    if head[0] != FACT_VERSION {
        return Err(format!("version {} is unknown", head[0]));
    }
    if head[1..] != crc32fast::hash(body).to_le_bytes() {
        return Err("the checksum does not match".to_owned());
    }
    postcard::from_bytes(body).map_err(|error| error.to_string())
}

/// Finds the system's own error below the engine's, so that a full disk is told from a broken one.
fn engine(error: fjall::Error) -> StoreError {
    let reason = error.to_string();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return io::Error::new(io.kind(), reason).into();
        }
        source = inner.source();
    }
    StoreError::Engine { reason }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::Payload;

    fn record(index: u64, text: &'static str) -> Record {
        Record {
            point: LogPoint { term: 1, index },
            payload: Payload::Command(Bytes::from_static(text.as_bytes())),
        }
    }

    #[test]
    fn a_sound_entry_of_another_history_does_not_fit_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = FjallLog::open(dir.path(), MarkSync::BeforeAck).expect("an empty directory opens");
        let entries = [record(0, "first"), record(1, "second"), record(2, "third")];
        log.append(&entries, None).expect("the disk works");
        let first = log.hash_at(0).expect("it is there").expect("it has a hash");
        // Its checksum is right and it follows the entry before; only the next one does not follow it.
        let other = encode_entry(&record(1, "another"), first);
        log.keyspace.insert(key_of(1), other).expect("the disk works");
        log.database.persist(PersistMode::SyncAll).expect("the disk works");
        drop(log);
        let error = FjallLog::open(dir.path(), MarkSync::BeforeAck).err().expect("the chain is broken");
        assert!(
            matches!(&error, OpenError::Damaged { reason, .. } if reason.contains("does not follow")),
            "{error}"
        );
    }
}

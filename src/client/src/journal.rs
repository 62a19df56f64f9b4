//! What a client remembers across a kill: one append-only file, written by one thread, synced in groups.
//!
//! Every change is an [`Entry`]; a writer gets a promise that is kept once the entry is on the disk. A record that is
//! damaged is dropped and everything after it too: what an entry describes is found again on the machine, or fails
//! alone. The damaged file is put aside and the loss is said aloud. So is a file that looks whole and is shorter than it
//! was, or an older one: a mark beside it says how long it is. The file is written anew when more than half of it is
//! out of date.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use model::{AllocId, AllocRecord, Job, JobKey, TaskState};
use runtime::Env;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use self::mark::{Mark, State};
use crate::restart::Tracker;

mod mark;

/// First bytes of the file: what it is, and the version of its records.
const MAGIC: &[u8; 8] = b"WFCLNT\x00\x01";

/// Entries waiting for the disk. A client writes a handful for each allocation, so this many is thousands of
/// allocations at once; beyond it writers wait.
const QUEUE_MAX: usize = 4_096;

/// Bytes written in one go. One sync of a megabyte costs three of a small record.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// A file smaller than this is not worth writing anew.
const COMPACT_MIN: u64 = 8 << 20;

/// One change.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(clippy::large_enum_variant)]
pub enum Entry {
    /// A job that allocations name.
    Job(Arc<Job>),
    /// An allocation, as the servers last described it.
    Alloc(AllocRecord),
    /// A task of an allocation.
    Task(AllocId, TaskRow),
    /// An allocation is gone, with everything that was made for it.
    Forget(AllocId),
}

/// What is remembered of a task.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct TaskRow {
    /// Its life so far.
    pub state: TaskState,
    /// Its restarts so far.
    pub restarts: Tracker,
    /// Counts launches; written before the launch begins.
    pub launch: u64,
    /// How its driver finds it again, as JSON; none before it runs and after it ended.
    pub handle: Option<String>,
}

/// Everything that is remembered of one allocation.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// The allocation.
    pub alloc: AllocRecord,
    /// Its job.
    pub job: Arc<Job>,
    /// Its tasks, by name.
    pub tasks: BTreeMap<model::Text, TaskRow>,
}

/// Names a job version for good.
type JobRef = (JobKey, u64, u64);

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file can not be read or made.
    #[error("could not open {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a journal, or one of a later build.
    #[error("{path} is not a client journal that this build can read: move it away to start without it")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// What was lost of a journal that is damaged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// Bytes from the first damaged record on.
    pub lost: usize,
    /// Where the damaged file is.
    pub aside: PathBuf,
}

/// An open journal, and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// Where changes are handed in.
    pub journal: Journal,
    /// What is remembered.
    pub remembered: Vec<Remembered>,
    /// What was lost, if something was.
    pub damage: Option<Damage>,
}

/// Where changes are handed in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: Option<mpsc::Sender<Handed>>,
}

/// Changes, and who is told once they are on the disk.
type Handed = (Vec<Entry>, oneshot::Sender<()>);

/// The disk refused a change, and the agent is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the client's journal is closed")]
pub struct Closed;

impl Journal {
    /// A journal that remembers nothing, for agents whose tasks end with them.
    pub fn nowhere() -> Self {
        Self { queue: None }
    }

    /// Opens the journal in `dir` and returns what it holds. What is damaged is cut off, kept beside it and reported.
    ///
    /// # Errors
    ///
    /// When the file can not be read or made, or is of a later build.
    pub fn open(env: &Env, dir: &Path) -> Result<Opened, OpenError> {
        let path = dir.join("client.journal");
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut disk =
            Disk::open(&path).map_err(io)?.ok_or_else(|| OpenError::Foreign { path: path.clone() })?;
        let remembered = disk.tables.remembered();
        let damage = disk.put_aside().map_err(io)?;
        if let Some(damage) = &damage {
            tracing::error!(
                bytes = damage.lost,
                aside = %damage.aside.display(),
                "the client's journal is damaged; what it said from there on is found on the machine, or begins anew"
            );
        }
        disk.compact().map_err(io)?;
        let (queue, entries) = mpsc::channel(QUEUE_MAX);
        let shutdown = env.shutdown().clone();
        env.work_off("client-journal", entries, move |first, queue| match disk.write(first, queue) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                tracing::error!(%error, "client journal can not be written; stopping the agent");
                shutdown.fire();
                ControlFlow::Break(())
            }
        });
        Ok(Opened { journal: Self { queue: Some(queue) }, remembered, damage })
    }

    /// Writes changes and waits until they are on the disk.
    ///
    /// # Errors
    ///
    /// When the disk refused this change or an earlier one.
    pub async fn write(&self, entries: Vec<Entry>) -> Result<(), Closed> {
        let Some(queue) = &self.queue else { return Ok(()) };
        let (done, written) = oneshot::channel();
        queue.send((entries, done)).await.map_err(|_| Closed)?;
        written.await.map_err(|_| Closed)
    }
}

/// What the file holds, as a whole.
#[derive(Default)]
struct Tables {
    jobs: BTreeMap<JobRef, Arc<Job>>,
    allocs: BTreeMap<AllocId, AllocRecord>,
    tasks: BTreeMap<(AllocId, model::Text), TaskRow>,
}

impl Tables {
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Job(job) => {
                self.jobs.insert((job.key.clone(), job.create_index, job.version), job);
            }
            Entry::Alloc(alloc) => {
                self.allocs.insert(alloc.id, alloc);
            }
            Entry::Task(id, row) => {
                self.tasks.insert((id, row.state.name.clone()), row);
            }
            Entry::Forget(id) => {
                self.allocs.remove(&id);
                let from = (id, model::Text::default());
                let names: Vec<_> = self
                    .tasks
                    .range(from..)
                    .take_while(|((of, _), _)| *of == id)
                    .map(|(key, _)| key.clone())
                    .collect();
                for name in names {
                    self.tasks.remove(&name);
                }
            }
        }
    }

    /// Lists the entries that make these tables. Jobs that no allocation names any more are left out.
    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let named: std::collections::BTreeSet<JobRef> = self.allocs.values().map(job_ref).collect();
        let jobs = self
            .jobs
            .iter()
            .filter(move |(key, _)| named.contains(*key))
            .map(|(_, job)| Entry::Job(job.clone()));
        let allocs = self.allocs.values().cloned().map(Entry::Alloc);
        let tasks = self.tasks.iter().map(|((id, _), row)| Entry::Task(*id, row.clone()));
        jobs.chain(allocs).chain(tasks)
    }

    fn remembered(&self) -> Vec<Remembered> {
        let mut all = Vec::new();
        for alloc in self.allocs.values() {
            let Some(job) = self.jobs.get(&job_ref(alloc)) else {
                tracing::warn!(alloc_id = %alloc.id, "journal has an allocation without its job; forgetting it");
                continue;
            };
            let from = (alloc.id, model::Text::default());
            let tasks = self.tasks.range(from..).take_while(|((id, _), _)| *id == alloc.id);
            let tasks = tasks.map(|((_, name), row)| (name.clone(), row.clone())).collect();
            all.push(Remembered { alloc: alloc.clone(), job: job.clone(), tasks });
        }
        all
    }
}

fn job_ref(alloc: &AllocRecord) -> JobRef {
    (alloc.job.clone(), alloc.job_create_index, alloc.job_version)
}

/// The file and what it holds.
struct Disk {
    path: PathBuf,
    file: File,
    mark: Mark,
    /// The checksum of the whole file, as far as it is written.
    sum: crc32fast::Hasher,
    length: u64,
    length_when_compact: u64,
    /// What is behind the last whole record; none when the file ends there and agrees with its mark.
    lost: Option<usize>,
    tables: Tables,
}

impl Disk {
    /// Opens or makes the file; none when it is something else.
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let mark = Mark::open(&path.with_extension("journal.mark"))?;
        // A journal always has its head, so that an empty file is one that was cut.
        if !path.exists() {
            replace(path, MAGIC)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let mut tables = Tables::default();
        let mut rest = &bytes[..];
        if !bytes.is_empty() {
            let Some(records) = bytes.strip_prefix(MAGIC.as_slice()) else { return Ok(None) };
            rest = records;
            while let Some((entry, after)) = read_record(rest) {
                tables.apply(entry);
                rest = after;
            }
        }
        let damaged = bytes.is_empty() || !rest.is_empty() || mark.contradicts(&bytes);
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes);
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            mark,
            sum,
            length: bytes.len() as u64,
            length_when_compact: bytes.len() as u64,
            lost: damaged.then_some(rest.len()),
            tables,
        }))
    }

    fn state(&self) -> State {
        State { length: self.length, sum: self.sum.clone().finalize() }
    }

    /// Keeps a damaged file for whoever wants to look, in the place of the one before.
    fn put_aside(&self) -> io::Result<Option<Damage>> {
        let Some(lost) = self.lost else { return Ok(None) };
        let aside = self.path.with_extension("journal.damaged");
        std::fs::copy(&self.path, &aside)?;
        Ok(Some(Damage { lost, aside }))
    }

    /// Writes what was handed in, and what waits behind it, with one sync.
    fn write(&mut self, first: Handed, queue: &mut mpsc::Receiver<Handed>) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some((entries, done)) = next {
            for entry in entries {
                write_record(&mut bytes, &entry);
                self.tables.apply(entry);
            }
            waiting.push(done);
            next = if bytes.len() < GROUP_BYTES_MAX { queue.try_recv().ok() } else { None };
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.sum.update(&bytes);
        self.mark.write(self.state())?;
        for done in waiting {
            // A writer that stopped waiting has no use for the news.
            let _ = done.send(());
        }
        if self.length > COMPACT_MIN && self.length > self.length_when_compact * 2 {
            self.compact()?;
        }
        Ok(())
    }

    /// Writes the file anew with only what counts.
    fn compact(&mut self) -> io::Result<()> {
        let mut bytes = MAGIC.to_vec();
        for entry in self.tables.entries() {
            write_record(&mut bytes, &entry);
        }
        let mut sum = crc32fast::Hasher::new();
        sum.update(&bytes);
        let next = State { length: bytes.len() as u64, sum: sum.clone().finalize() };
        self.mark.announce(self.state(), next)?;
        replace(&self.path, &bytes)?;
        self.mark.write(next)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        (self.length, self.sum) = (next.length, sum);
        self.length_when_compact = self.length.max(COMPACT_MIN / 2);
        Ok(())
    }
}

/// Replaces a file durably: after a crash it is the old one or the new one.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("journal.new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// Writes length, checksum and content. Field names are written too, so that fields can be added.
fn write_record(out: &mut Vec<u8>, entry: &Entry) {
    let body = rmp_serde::to_vec_named(entry).expect("a journal entry holds nothing that can not be written");
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
}

/// Reads one record; none at the end, and where something is damaged.
fn read_record(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let length = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let sum = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let body = bytes.get(8..8usize.checked_add(length)?)?;
    if crc32fast::hash(body) != sum && !mutants::on!("client-journal-unchecked") {
        return None;
    }
    let entry = rmp_serde::from_slice(body).ok()?;
    Some((entry, &bytes[8 + length..]))
}

#[cfg(test)]
mod tests {
    use model::{TaskRunState, Timestamp};
    use runtime::{Shutdown, WallClock};

    use super::*;

    fn row(name: &str, launch: u64) -> TaskRow {
        let state = TaskState {
            name: name.into(),
            state: TaskRunState::Running,
            failed: false,
            restarts: 0,
            last_restart: Timestamp::ZERO,
            started_at: Timestamp(5),
            finished_at: Timestamp::ZERO,
            events: Box::new([]),
        };
        TaskRow { state, restarts: Tracker::default(), launch, handle: Some("{}".to_owned()) }
    }

    fn fixture() -> (Arc<Job>, AllocRecord) {
        let document = serde_json::json!({"ID": "j", "Type": "batch", "TaskGroups": [{"Name": "g", "Tasks": [{"Name": "t"}]}]});
        let job = Job {
            key: JobKey::new("default", "j"),
            spec: Arc::new(model::JobSpec::from_document(&document).expect("a small job")),
            version: 0,
            stop: false,
            stable: false,
            status: model::JobStatus::Pending,
            status_description: "".into(),
            submit_time: Timestamp(1),
            create_index: 3,
            modify_index: 3,
            job_modify_index: 3,
            version_tag: None,
            parent: None,
        };
        let job = Arc::new(job);
        let alloc = AllocRecord {
            id: AllocId::from_random(7),
            eval_id: model::EvalId::from_random(8),
            node_id: model::NodeId::from_random(9),
            job: job.key.clone(),
            job_create_index: 3,
            job_version: 0,
            group: 0,
            index: 0,
            desired: model::DesiredStatus::Run,
            client_status: model::ClientStatus::Pending,
            desired_description: "".into(),
            client_description: "".into(),
            resources: Arc::default(),
            metrics: None,
            task_states: Arc::new([]),
            extra: None,
            create_index: 4,
            modify_index: 4,
            alloc_modify_index: 4,
            create_time: Timestamp(1),
            modify_time: Timestamp(1),
        };
        (job, alloc)
    }

    fn env() -> Env {
        Env::with(WallClock::System, 1, Shutdown::new())
    }

    #[tokio::test]
    async fn what_was_written_is_there_after_a_kill() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let (job, alloc) = fixture();
        let Opened { journal, remembered, damage } =
            Journal::open(&env(), dir.path()).expect("a new journal");
        assert_eq!((remembered, damage), (Vec::new(), None));
        let entries =
            vec![Entry::Job(job.clone()), Entry::Alloc(alloc.clone()), Entry::Task(alloc.id, row("t", 1))];
        journal.write(entries).await.expect("room on the disk");
        journal.write(vec![Entry::Task(alloc.id, row("t", 2))]).await.expect("room on the disk");
        let Opened { journal: again, remembered: found, .. } =
            Journal::open(&env(), dir.path()).expect("the same journal");
        let tasks = BTreeMap::from([("t".into(), row("t", 2))]);
        assert_eq!(found, [Remembered { alloc: alloc.clone(), job, tasks }]);
        again.write(vec![Entry::Forget(alloc.id)]).await.expect("room on the disk");
        let found = Journal::open(&env(), dir.path()).expect("the same journal").remembered;
        assert!(found.is_empty());
    }

    #[tokio::test]
    async fn a_torn_tail_costs_only_what_was_torn() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let (job, alloc) = fixture();
        let journal = Journal::open(&env(), dir.path()).expect("a new journal").journal;
        journal.write(vec![Entry::Job(job), Entry::Alloc(alloc.clone())]).await.expect("room on the disk");
        journal.write(vec![Entry::Task(alloc.id, row("t", 1))]).await.expect("room on the disk");
        let path = dir.path().join("client.journal");
        let bytes = std::fs::read(&path).expect("the journal");
        std::fs::write(&path, &bytes[..bytes.len() - 3]).expect("room on the disk");
        let opened = Journal::open(&env(), dir.path()).expect("the same journal");
        assert_eq!(opened.remembered.len(), 1);
        assert!(opened.remembered[0].tasks.is_empty());
        let damage = opened.damage.expect("it says that something is lost");
        assert_eq!(std::fs::read(damage.aside).expect("it is kept"), bytes[..bytes.len() - 3]);
        assert_eq!(Journal::open(&env(), dir.path()).expect("it was written anew").damage, None);
    }

    #[tokio::test]
    async fn a_journal_that_was_emptied_is_not_taken_for_a_new_one() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let fresh = Journal::open(&env(), dir.path()).expect("a new journal");
        assert_eq!(fresh.damage, None);
        std::fs::write(dir.path().join("client.journal"), b"").expect("room on the disk");
        assert!(Journal::open(&env(), dir.path()).expect("it is made anew").damage.is_some());
    }

    #[tokio::test]
    async fn a_journal_that_is_shorter_or_older_than_it_was_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = dir.path().join("client.journal");
        let (job, alloc) = fixture();
        let journal = Journal::open(&env(), dir.path()).expect("a new journal").journal;
        journal.write(vec![Entry::Job(job), Entry::Alloc(alloc.clone())]).await.expect("room on the disk");
        let older = std::fs::read(&path).expect("the journal");
        journal.write(vec![Entry::Task(alloc.id, row("t", 1))]).await.expect("room on the disk");
        // The earlier file ends at the end of a record, so nothing in it tells.
        std::fs::write(&path, older).expect("room on the disk");
        let opened = Journal::open(&env(), dir.path()).expect("it opens");
        assert!(opened.damage.is_some());
        assert_eq!(Journal::open(&env(), dir.path()).expect("it was written anew").damage, None);
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = dir.path().join("client.journal");
        std::fs::write(&path, b"something else").expect("room on the disk");
        assert!(matches!(Journal::open(&env(), dir.path()), Err(OpenError::Foreign { .. })));
        assert_eq!(std::fs::read(&path).expect("the file"), b"something else");
    }
}

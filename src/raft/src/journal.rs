//! Stands between openraft and the log store: one thread that writes, many readers, recent entries in memory.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use openraft::{
    LogState, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};
use runtime::Env;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc as waiting, oneshot};

use crate::{
    config::IoMode,
    error::Fault,
    fault::FaultCell,
    log::{ClusterMarker, Counts, LogRead, LogStore, Settled, StoreError},
    types::{Entry, LogId, LogPoint, Record, Types, Vote, entry_weight, log_id, point, vote, vote_record},
};

/// Requests on their way to the log thread. openraft sends a batch at a time, so this is far more than it has in
/// flight; at the limit it waits.
const QUEUE_MAX: usize = 1024;
/// Bytes made durable by one sync. Above a megabyte the sync itself is no longer what costs.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Entries in one message to a follower, in bytes; more only delays the first of them.
const READ_BYTES_MAX: usize = 1 << 20;
/// Recent entries kept in memory, in bytes, for applying and for followers that keep up.
const WINDOW_BYTES_MAX: usize = 16 << 20;
/// How long the log must be quiet before the mark catches up: longer than one writer takes between two proposals.
const SETTLE_AFTER: Duration = Duration::from_millis(2);

/// The log as openraft sees it. Clones share everything.
#[derive(Clone)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    access: Access,
}

#[derive(Clone)]
enum Access {
    Queue { queue: Queue, permits: Arc<Semaphore> },
    Inline(Arc<Mutex<Option<Writer>>>),
}

/// The way to whoever writes.
#[derive(Clone)]
enum Queue {
    Thread(mpsc::Sender<Request>),
    Task(waiting::UnboundedSender<Request>),
}

impl Queue {
    fn send(&self, request: Request) -> io::Result<()> {
        match self {
            Self::Thread(queue) => queue.send(request).map_err(|_| closed()),
            Self::Task(queue) => queue.send(request).map_err(|_| closed()),
        }
    }
}

struct Shared {
    window: Mutex<Window>,
    reader: Mutex<Option<Arc<dyn LogRead>>>,
    fault: FaultCell,
    env: Env,
    counts: Mutex<Counts>,
}

/// The facts about the log, and its end.
#[derive(Default)]
struct Window {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The index of the first entry of the log, here or in the store.
    first: u64,
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogPoint>,
    /// Whether `committed` changed since it was last written.
    committed_moved: bool,
    cluster: Option<ClusterMarker>,
    /// The index behind the last durable entry.
    durable_end: u64,
}

enum Change {
    Vote(crate::types::VoteRecord),
    TruncateAfter(Option<u64>),
    Purge(LogPoint),
    Cluster(ClusterMarker),
}

struct Append {
    records: Vec<Record>,
    done: IOFlushed<Types>,
}

enum Work {
    Append(Append),
    Change { change: Change, reply: oneshot::Sender<io::Result<()>> },
    Close { reply: oneshot::Sender<()> },
}

struct Request {
    work: Work,
    /// Held until the work is taken up: it bounds the queue.
    _permit: OwnedSemaphorePermit,
}

impl Journal {
    pub(crate) fn start(store: Box<dyn LogStore>, io: IoMode, fault: FaultCell, env: &Env) -> Self {
        let found = store.found();
        let window = Window {
            first: found.first,
            purged: found.purged.map(log_id),
            last: found.last.map(log_id),
            vote: found.vote.map(vote),
            committed: found.committed,
            cluster: found.cluster,
            durable_end: found.last.map_or(0, |last| last.index + 1),
            ..Window::default()
        };
        let shared = Arc::new(Shared {
            window: Mutex::new(window),
            reader: Mutex::new(Some(store.reader())),
            fault,
            env: env.clone(),
            counts: Mutex::new(store.counts()),
        });
        let writer = Writer { store, shared: shared.clone() };
        let access = match io {
            IoMode::Inline => Access::Inline(Arc::new(Mutex::new(Some(writer)))),
            IoMode::Thread => {
                let (queue, requests) = mpsc::channel();
                // The thread ends by itself when the last handle is gone, so nobody needs to join it.
                drop(env.thread("raft-log", move || writer.run(&requests)));
                Access::Queue { queue: Queue::Thread(queue), permits: Arc::new(Semaphore::new(QUEUE_MAX)) }
            }
            IoMode::Task => {
                let (queue, requests) = waiting::unbounded_channel();
                // As above; the permits bound the queue.
                drop(env.spawn("raft-log", writer.run_in_turns(requests)));
                Access::Queue { queue: Queue::Task(queue), permits: Arc::new(Semaphore::new(QUEUE_MAX)) }
            }
        };
        Self { shared, access }
    }

    pub(crate) fn counts(&self) -> Counts {
        *lock(&self.shared.counts)
    }

    pub(crate) fn cluster(&self) -> Option<ClusterMarker> {
        self.shared.window().cluster
    }

    /// Tells whether nothing was ever written.
    pub(crate) fn is_empty(&self) -> bool {
        let window = self.shared.window();
        window.last.is_none() && window.vote.is_none()
    }

    pub(crate) async fn save_cluster(&self, cluster: ClusterMarker) -> io::Result<()> {
        self.change(Change::Cluster(cluster)).await?;
        self.shared.window().cluster = Some(cluster);
        Ok(())
    }

    /// Writes what is left, closes the store and waits for that. Later calls fail.
    pub(crate) async fn close(&self) {
        match &self.access {
            Access::Queue { .. } => {
                let (reply, closed) = oneshot::channel();
                if self.send(Work::Close { reply }).await.is_ok() {
                    // An error means that the thread is gone already.
                    let _ = closed.await;
                }
            }
            Access::Inline(writer) => {
                if let Some(mut writer) = lock(writer).take() {
                    writer.settle();
                }
            }
        }
        *lock(&self.shared.reader) = None;
    }

    async fn send(&self, work: Work) -> io::Result<()> {
        let Access::Queue { queue, permits } = &self.access else { return Err(closed()) };
        let permit = permits.clone().acquire_owned().await.map_err(|_| closed())?;
        queue.send(Request { work, _permit: permit })
    }

    async fn change(&self, change: Change) -> io::Result<()> {
        if let Access::Inline(writer) = &self.access {
            return lock(writer).as_mut().ok_or_else(closed)?.change(change);
        }
        let (reply, done) = oneshot::channel();
        self.send(Work::Change { change, reply }).await?;
        done.await.map_err(|_| closed())?
    }

    /// Reads entries, from memory where they are recent.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (mut entries, missing) = {
            let window = self.shared.window();
            let start = from.max(window.first);
            let end = to.min(window.last.as_ref().map_or(0, |last| last.index + 1));
            if start >= end {
                return Ok(Vec::new());
            }
            let head = window.entries.front().map_or(end, |entry| entry.log_id.index);
            if start >= head {
                return Ok(window.slice(start, end, bytes_max));
            }
            (window.slice(head.min(end), end, bytes_max), start..head.min(end))
        };
        let reader = lock(&self.shared.reader).clone().ok_or_else(closed)?;
        let work = move || reader.read(missing.start, missing.end).map(|records| (records, missing));
        let outcome = match &self.access {
            Access::Inline(_) | Access::Queue { queue: Queue::Task(_), .. } => work(),
            Access::Queue { queue: Queue::Thread(_), .. } => {
                self.shared.env.spawn_blocking(work).await.map_err(io::Error::other)?
            }
        };
        let (records, missing) = outcome.map_err(|error| self.shared.fault.report(Fault::from(&error)))?;
        let gone = self.shared.window().first;
        let first = records.first().map_or(missing.end, |record| record.point.index);
        let next = records.last().map_or(missing.end, |record| record.point.index + 1);
        // Entries may be missing at the start only when they were purged meanwhile.
        if next != missing.end || (first != missing.start && first > gone) {
            let reason = format!("entries {}..{} are gone", missing.start, missing.end);
            return Err(self.shared.fault.report(Fault::Damaged { reason }));
        }
        let mut all = Vec::with_capacity(records.len() + entries.len());
        let mut budget = bytes_max;
        for record in records {
            let weight = record.weight();
            if weight > budget && !all.is_empty() {
                return Ok(all);
            }
            budget = budget.saturating_sub(weight);
            all.push(record.into_entry().map_err(io::Error::other)?);
        }
        if budget > 0 {
            all.append(&mut entries);
        }
        Ok(all)
    }
}

impl Window {
    /// Copies entries, which are cheap to copy, as far as the budget goes and at least one.
    fn slice(&self, from: u64, to: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(head) = self.entries.front().map(|entry| entry.log_id.index) else { return Vec::new() };
        // What is before the window is read from the store.
        let Some(skip) = from.checked_sub(head) else { return Vec::new() };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let take = usize::try_from(to - from).unwrap_or(usize::MAX);
        let mut budget = bytes_max;
        let mut out = Vec::new();
        for entry in self.entries.iter().skip(skip).take(take) {
            let weight = entry_weight(entry);
            if weight > budget && !out.is_empty() {
                break;
            }
            budget = budget.saturating_sub(weight);
            out.push(entry.clone());
        }
        out
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry_weight(&entry);
        if self.last.is_none() {
            self.first = entry.log_id.index;
        }
        self.last = Some(entry.log_id);
        self.entries.push_back(entry);
    }

    fn truncate_after(&mut self, keep: Option<LogId>) {
        if keep >= self.last {
            return;
        }
        let end = keep.as_ref().map_or(0, |keep| keep.index + 1);
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= end) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= entry_weight(&entry);
            }
        }
        self.last = keep.max(self.purged);
        self.durable_end = self.durable_end.min(end);
    }

    fn purge(&mut self, upto: LogId) {
        while self.entries.front().is_some_and(|entry| entry.log_id.index <= upto.index) {
            self.drop_front();
        }
        self.last = self.last.max(Some(upto));
        self.purged = self.purged.max(Some(upto));
        self.first = self.first.max(upto.index + 1);
        self.durable_end = self.durable_end.max(upto.index + 1);
    }

    /// Forgets what the store can give back. What is not durable yet exists here alone.
    fn trim(&mut self) {
        while self.bytes > WINDOW_BYTES_MAX
            && self.entries.front().is_some_and(|entry| entry.log_id.index < self.durable_end)
        {
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry_weight(&entry);
        }
    }
}

impl Shared {
    fn window(&self) -> MutexGuard<'_, Window> {
        lock(&self.window)
    }
}

/// Owns the store. It takes requests in order, and makes as many appends durable with one sync as wait for it.
struct Writer {
    store: Box<dyn LogStore>,
    shared: Arc<Shared>,
}

impl Writer {
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        let mut held = None;
        loop {
            let request = match held.take() {
                Some(request) => request,
                None => match requests.recv_timeout(SETTLE_AFTER) {
                    Ok(request) => request,
                    Err(RecvTimeoutError::Timeout) => match self.settle() {
                        Settled::More => continue,
                        Settled::Done => {
                            let Ok(request) = requests.recv() else { return };
                            request
                        }
                    },
                    Err(RecvTimeoutError::Disconnected) => {
                        self.settle();
                        return;
                    }
                },
            };
            match request.work {
                Work::Append(append) => {
                    held = self.append_with_those_waiting(append, || requests.try_recv().ok());
                }
                Work::Change { change, reply } => self.change_and_answer(change, reply),
                Work::Close { reply } => return self.close(reply),
            }
        }
    }

    /// The same as a task, which waits for as long as a simulated disk takes.
    async fn run_in_turns(mut self, mut requests: waiting::UnboundedReceiver<Request>) {
        let mut held = None;
        loop {
            let Some(request) = (match held.take() {
                Some(request) => Some(request),
                None => requests.recv().await,
            }) else {
                self.settle();
                return;
            };
            let delay = self.store.delay();
            if !delay.is_zero() {
                self.shared.env.sleep(delay).await;
            }
            match request.work {
                Work::Append(append) => {
                    held = self.append_with_those_waiting(append, || requests.try_recv().ok());
                    self.settle();
                }
                Work::Change { change, reply } => self.change_and_answer(change, reply),
                Work::Close { reply } => return self.close(reply),
            }
        }
    }

    fn change_and_answer(&mut self, change: Change, reply: oneshot::Sender<io::Result<()>>) {
        let outcome = self.change(change);
        // The asker may be gone; what it asked for is done all the same.
        let _ = reply.send(outcome);
    }

    fn close(mut self, reply: oneshot::Sender<()>) {
        self.settle();
        *lock(&self.shared.reader) = None;
        drop(self);
        // The asker may have given up waiting.
        let _ = reply.send(());
    }

    /// Gathers the appends that wait, up to a budget, and returns the request that ended the gathering.
    fn append_with_those_waiting(
        &mut self,
        first: Append,
        mut waiting: impl FnMut() -> Option<Request>,
    ) -> Option<Request> {
        let mut bytes: usize = first.records.iter().map(Record::weight).sum();
        let mut group = vec![first];
        let mut next = None;
        while bytes < GROUP_BYTES_MAX {
            match waiting() {
                Some(Request { work: Work::Append(append), .. }) => {
                    bytes += append.records.iter().map(Record::weight).sum::<usize>();
                    group.push(append);
                }
                Some(request) => {
                    next = Some(request);
                    break;
                }
                None => break,
            }
        }
        self.append(group);
        next
    }

    fn append(&mut self, group: Vec<Append>) {
        let mut records = Vec::new();
        let mut done = Vec::with_capacity(group.len());
        for append in group {
            records.extend(append.records);
            done.push(append.done);
        }
        let outcome = self.healthy().and_then(|()| {
            let committed = self.take_committed();
            let outcome = self.store.append(&records, committed);
            outcome.map_err(|error| self.fail(&error))
        });
        if outcome.is_ok() {
            let mut window = self.shared.window();
            if let Some(last) = records.last() {
                window.durable_end = window.durable_end.max(last.point.index + 1);
            }
            window.trim();
        }
        *lock(&self.shared.counts) = self.store.counts();
        for callback in done {
            callback.io_completed(
                outcome.as_ref().map(|_| ()).map_err(|error| io::Error::other(error.to_string())),
            );
        }
        if outcome.is_ok()
            && let Err(error) = self.store.settle_if_late()
        {
            // The entries are durable; the failure counts from the next write on.
            let _ = self.fail(&error);
        }
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.healthy()?;
        let outcome = match change {
            Change::Vote(vote) => self.store.save_vote(vote),
            Change::TruncateAfter(keep) => self.store.truncate_after(keep),
            Change::Purge(upto) => self.store.purge(upto),
            Change::Cluster(cluster) => self.store.save_cluster(cluster),
        };
        *lock(&self.shared.counts) = self.store.counts();
        outcome.map_err(|error| self.fail(&error))
    }

    /// Does what can wait, in a quiet moment.
    fn settle(&mut self) -> Settled {
        if self.healthy().is_err() {
            return Settled::Done;
        }
        let outcome = match self.take_committed() {
            Some(committed) => self.store.save_committed(committed),
            None => Ok(()),
        };
        let settled = outcome.and_then(|()| self.store.settle()).unwrap_or_else(|error| {
            // Whoever writes next is told; nobody waits for this.
            let _ = self.fail(&error);
            Settled::Done
        });
        *lock(&self.shared.counts) = self.store.counts();
        settled
    }

    fn take_committed(&self) -> Option<LogPoint> {
        let mut window = self.shared.window();
        if !std::mem::take(&mut window.committed_moved) {
            return None;
        }
        window.committed
    }

    /// After a failed write or sync nothing more is written: what the disk holds then is not known.
    fn healthy(&self) -> io::Result<()> {
        match self.shared.fault.get() {
            Some(fault) => Err(io::Error::other(fault.to_string())),
            None => Ok(()),
        }
    }

    fn fail(&self, error: &StoreError) -> io::Error {
        self.shared.fault.report(Fault::from(error))
    }
}

impl RaftLogReader<Types> for Journal {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.window().vote)
    }
}

impl RaftLogStorage<Types> for Journal {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let window = self.shared.window();
        Ok(LogState { last_purged_log_id: window.purged, last_log_id: window.last })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.change(Change::Vote(vote_record(vote))).await?;
        self.shared.window().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let mut window = self.shared.window();
        window.committed = committed.as_ref().map(point);
        window.committed_moved = true;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.window().committed.map(log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let records = entries.iter().map(Record::from_entry).collect();
        let append = Append { records, done: callback };
        match &self.access {
            Access::Inline(writer) => {
                let mut writer = lock(writer);
                let writer = writer.as_mut().ok_or_else(closed)?;
                self.shared.push(entries);
                writer.append(vec![append]);
                writer.settle();
                Ok(())
            }
            Access::Queue { queue, permits } => {
                let permit = permits.clone().acquire_owned().await.map_err(|_| closed())?;
                // From here on nothing waits: the entries are readable and on their way, or neither.
                self.shared.push(entries);
                queue.send(Request { work: Work::Append(append), _permit: permit })
            }
        }
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.change(Change::TruncateAfter(last_log_id.as_ref().map(|keep| keep.index))).await?;
        self.shared.window().truncate_after(last_log_id);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.change(Change::Purge(point(&log_id))).await?;
        self.shared.window().purge(log_id);
        Ok(())
    }
}

impl Shared {
    fn push(&self, entries: Vec<Entry>) {
        let mut window = self.window();
        for entry in entries {
            window.push(entry);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")
}

//! The replicated state machine: its trait, and what openraft needs around it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{Stream, StreamExt};
use openraft::{
    EntryPayload, RaftSnapshotBuilder, Snapshot,
    storage::{EntryResponder, RaftStateMachine},
};
use runtime::Env;
use tokio::sync::watch;

use crate::{
    config::IoMode,
    error::Fault,
    fault::FaultCell,
    snapshot::{BlockReader, BlockWriter, SnapshotData, SnapshotStore},
    types::{LogId, Reply, SnapshotMeta, StoredMembership, Types, point},
    wire::WireMeta,
};

/// Writes one captured state.
pub type WriteSnapshot = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// What a cluster agrees on. Every server holds one and feeds it the same commands in the same order.
pub trait StateMachine: Send + Sync + 'static {
    /// What the proposer gets back.
    type Response: Send + 'static;

    /// Applies a command that a quorum agreed on. The result may depend on nothing but earlier commands.
    ///
    /// Indexes grow and have gaps: entries that concern replication alone are not passed on.
    ///
    /// # Errors
    ///
    /// [`Halt`] when the state machine can not go on. The server stops, and meets the same entry when it starts again.
    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Self::Response, Halt>;

    /// Captures the state as it is, at once, and returns what writes it later, beside further commands.
    fn snapshot(&self) -> WriteSnapshot;

    /// Replaces the state by one that was captured here or on another server.
    ///
    /// # Errors
    ///
    /// When the state can not be read; the server stops.
    fn restore(&mut self, reader: &mut dyn io::Read) -> io::Result<()>;
}

/// Why a state machine can not go on: a broken invariant, or a command from a later version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Halt(pub String);

/// A state machine of any type. Behind a pointer, so that openraft is compiled once, in this crate, and not again in
/// each that names a type of its own.
pub(crate) trait Replica: Send + Sync {
    /// As [`StateMachine::apply`].
    fn apply(&self, index: u64, command: &[u8]) -> Result<Reply, Halt>;
    /// As [`StateMachine::snapshot`].
    fn snapshot(&self) -> WriteSnapshot;
    /// As [`StateMachine::restore`].
    fn restore(&self, reader: &mut dyn io::Read) -> io::Result<()>;
}

impl<S: StateMachine> Replica for Mutex<S> {
    fn apply(&self, index: u64, command: &[u8]) -> Result<Reply, Halt> {
        lock(self).apply(index, command).map(Reply::new)
    }

    fn snapshot(&self) -> WriteSnapshot {
        lock(self).snapshot()
    }

    fn restore(&self, reader: &mut dyn io::Read) -> io::Result<()> {
        lock(self).restore(reader)
    }
}

/// A state machine with what replication keeps about it.
pub(crate) struct Machine {
    state: Arc<dyn Replica>,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: Arc<SnapshotStore>,
    current: Arc<Mutex<Option<(SnapshotMeta, SnapshotData)>>>,
    io: IoMode,
    env: Env,
    fault: FaultCell,
    progress: watch::Sender<Option<u64>>,
}

impl Machine {
    pub(crate) fn new(
        state: Arc<dyn Replica>,
        snapshots: Arc<SnapshotStore>,
        current: Option<(SnapshotMeta, SnapshotData)>,
        io: IoMode,
        env: &Env,
        fault: FaultCell,
    ) -> Self {
        Self {
            state,
            applied: None,
            membership: StoredMembership::default(),
            snapshots,
            current: Arc::new(Mutex::new(current)),
            io,
            env: env.clone(),
            fault,
            progress: watch::Sender::new(None),
        }
    }

    /// Follows the index of the last applied entry.
    pub(crate) fn progress(&self) -> watch::Receiver<Option<u64>> {
        self.progress.subscribe()
    }

    fn builder(&self) -> SnapshotBuilder {
        SnapshotBuilder {
            write: Mutex::new(Some(self.state.snapshot())),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            snapshots: self.snapshots.clone(),
            current: self.current.clone(),
            io: self.io,
            env: self.env.clone(),
            fault: self.fault.clone(),
        }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + Send,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let index = entry.log_id.index;
            let reply = match entry.payload {
                EntryPayload::Blank => Reply::default(),
                EntryPayload::Normal(command) => self.state.apply(index, &command.0).map_err(|halt| {
                    self.fault.report(Fault::StateMachine { index, reason: halt.to_string() })
                })?,
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Reply::default()
                }
            };
            self.applied = Some(entry.log_id);
            self.progress.send_replace(Some(index));
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Self::SnapshotBuilder> {
        Some(self.builder())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.builder()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let (state, snapshots) = (self.state.clone(), self.snapshots.clone());
        let last = meta.last_log_id.as_ref().map(point);
        let work = move || {
            let kept = if snapshot.arrived() { snapshots.adopt(snapshot, last)? } else { snapshot };
            let (mut reader, _) = BlockReader::open(kept.open()?).map_err(io::Error::from)?;
            state.restore(&mut reader)?;
            Ok::<_, io::Error>(kept)
        };
        let kept = run(&self.env, self.io, work).await.map_err(|error| {
            let reason = format!("a snapshot could not be installed: {error}");
            self.fault.report(disk_fault(&error, reason))
        })?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *lock(&self.current) = Some((meta.clone(), kept));
        self.progress.send_replace(self.applied.as_ref().map(|applied| applied.index));
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::alias::SnapshotOf<Types, SnapshotData>>, io::Error> {
        Ok(lock(&self.current).clone().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one snapshot, beside the state machine.
pub(crate) struct SnapshotBuilder {
    /// Behind a lock only because openraft wants builders that could be shared.
    write: Mutex<Option<WriteSnapshot>>,
    meta: SnapshotMeta,
    snapshots: Arc<SnapshotStore>,
    current: Arc<Mutex<Option<(SnapshotMeta, SnapshotData)>>>,
    io: IoMode,
    env: Env,
    fault: FaultCell,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(
        &mut self,
    ) -> Result<openraft::alias::SnapshotOf<Types, SnapshotData>, io::Error> {
        let write =
            lock(&self.write).take().ok_or_else(|| io::Error::other("a snapshot builder builds once"))?;
        let snapshots = self.snapshots.clone();
        let meta = WireMeta::from(&self.meta);
        let work = move || {
            let last = meta.last;
            let mut writer = BlockWriter::new(snapshots.draft()?, &meta)?;
            write(&mut writer)?;
            snapshots.keep(writer.finish()?, last)
        };
        let data = run(&self.env, self.io, work).await.map_err(|error| {
            let reason = format!("a snapshot could not be written: {error}");
            self.fault.report(disk_fault(&error, reason))
        })?;
        let mut current = lock(&self.current);
        // A later one may have arrived from the leader meanwhile.
        if current.as_ref().is_none_or(|(meta, _)| meta.last_log_id <= self.meta.last_log_id) {
            *current = Some((self.meta.clone(), data.clone()));
        }
        Ok(Snapshot { meta: self.meta.clone(), snapshot: data })
    }
}

fn disk_fault(error: &io::Error, reason: String) -> Fault {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::DiskFull { reason },
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Fault::Damaged { reason },
        _ => Fault::Disk { reason },
    }
}

/// Runs blocking work where the mode says.
pub(crate) async fn run<T, F>(env: &Env, io: IoMode, work: F) -> io::Result<T>
where
    F: FnOnce() -> io::Result<T> + Send + 'static,
    T: Send + 'static,
{
    match io {
        IoMode::Inline | IoMode::Task => work(),
        IoMode::Thread => env.spawn_blocking(work).await.map_err(io::Error::other)?,
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::{
    RaftMetrics, ReadPolicy,
    async_runtime::{Instant, WatchReceiver},
    error::{
        ClientWriteError, Fatal, ForwardReason, ForwardToLeader, InitializeError, LinearizableReadError,
        RaftError,
    },
};
use runtime::Env;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    config::{Config, IoMode, Storage},
    error::{BootstrapError, ChangeError, Fault, OpenError, ProposeError, ReadError},
    fault::FaultCell,
    journal::Journal,
    leadership::{Leadership, follow},
    log::{ClusterMarker, Counts, FjallLog, LogStore, MemoryLog},
    machine::{Machine, StateMachine, lock, run},
    network::{AnyNetwork, Links, Network},
    snapshot::{SNAPSHOT_DIR, SnapshotData, SnapshotStore},
    types::{Command, LogPoint, Members, Peer, SnapshotMeta, Types, point},
};

mod members;
mod receive;
mod ticks;

type Inner = openraft::Raft<Types, Machine>;

/// A fresh leader holds proposals back until a quorum has confirmed its lease; this is how long a proposal waits
/// between two tries. The whole wait is bounded by so many of the longest election timeout: by then another one leads,
/// or the others starve for processor time and will confirm it when they get some.
const LEASE_RETRY: Duration = Duration::from_millis(2);
const LEASE_WAITS: u32 = 4;
/// Entries since the last snapshot, in thresholds, that make one due before its time: at a hundred thousand commands
/// a second the log would otherwise outgrow memory between two looks.
const SNAPSHOT_EARLY_FACTOR: u64 = 16;
/// How long openraft may take to show its first figures; it does so as soon as its task runs.
const START_WAIT: Duration = Duration::from_secs(30);
/// Time between looks for an early snapshot.
const SNAPSHOT_LOOK: Duration = Duration::from_secs(1);
/// One server's part in replication. A handle: clones share everything.
pub struct Raft<S: StateMachine> {
    shared: Arc<Shared<S>>,
}

struct Shared<S: StateMachine> {
    raft: Inner,
    me: Peer,
    state: Arc<Mutex<S>>,
    journal: Journal,
    snapshots: Arc<SnapshotStore>,
    fault: FaultCell,
    leadership: Arc<watch::Sender<Leadership>>,
    applied: watch::Receiver<Option<u64>>,
    config: Config,
    env: Env,
}

impl<S: StateMachine> Clone for Raft<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

/// How sure a read must be that the leader is still the leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadMode {
    /// A majority says so: a round trip, no clock.
    Quorum,
    /// A majority said so within the lease: no round trip, trusts that clocks run at nearly the same speed.
    Lease,
}

/// Where one server stands; for operators.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// Who leads.
    pub leadership: Leadership,
    /// Who takes part, as far as this server knows.
    pub members: Members,
    /// The index of the entry that made them so.
    pub members_index: u64,
    /// The last entry in the log.
    pub last_log: Option<u64>,
    /// The last entry that this server has and knows to be committed. Never goes back while the server runs.
    pub committed: Option<LogPoint>,
    /// The last entry that was applied.
    pub applied: Option<LogPoint>,
    /// The last entry that a snapshot covers.
    pub snapshot: Option<LogPoint>,
    /// The last entry that was removed from the log.
    pub purged: Option<LogPoint>,
    /// On the leader: up to where each other server has the log.
    pub matched: BTreeMap<u64, Option<LogPoint>>,
    /// On the leader: how long ago each other server answered it.
    pub answered: BTreeMap<u64, Duration>,
}

impl<S: StateMachine> Raft<S> {
    /// Opens this server's log and snapshots, restores the state machine and begins to take part.
    ///
    /// A server that was the only voter is elected at once. An empty one waits for [`Raft::bootstrap`] or for a leader.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; [`OpenError::must_rejoin`] tells what to do about it.
    pub async fn open<N: Network>(
        config: Config,
        me: Peer,
        state: S,
        network: Arc<N>,
        env: &Env,
    ) -> Result<Self, OpenError> {
        let storage = config.storage.clone();
        let mark_sync = config.mark_sync;
        let open = move || match storage {
            Storage::Directory(dir) => {
                let log = FjallLog::open(&dir, mark_sync)?;
                Ok((Box::new(log) as Box<dyn LogStore>, snapshots_in(&dir)?))
            }
            Storage::Memory(disk) => {
                let log = MemoryLog::open(disk.clone())?;
                Ok((Box::new(log) as Box<dyn LogStore>, SnapshotStore::Memory(disk)))
            }
        };
        let (store, snapshots) = match config.io {
            IoMode::Inline | IoMode::Task => open()?,
            IoMode::Thread => env.spawn_blocking(open).await.map_err(start_error)??,
        };
        Self::open_with(config, me, state, network, env, store, snapshots).await
    }

    async fn open_with(
        config: Config,
        me: Peer,
        state: S,
        network: Arc<dyn AnyNetwork>,
        env: &Env,
        store: Box<dyn LogStore>,
        snapshots: SnapshotStore,
    ) -> Result<Self, OpenError> {
        let fault = FaultCell::new();
        let found = store.found();
        let snapshots = Arc::new(snapshots);
        let current = current_snapshot(&snapshots, found.purged, config.io, env).await?;
        let journal = Journal::start(store, config.io, fault.clone(), env);
        let state = Arc::new(Mutex::new(state));
        let machine = Machine::new(state.clone(), snapshots.clone(), current, config.io, env, fault.clone());
        let applied = machine.progress();
        let links = Links { network, me: me.id, journal: journal.clone() };
        let openraft_config = config.for_openraft().validate().map_err(start_error)?;
        let raft = match start(me.id, openraft_config, links, journal.clone(), machine).await {
            Ok(raft) => raft,
            Err(error) => {
                journal.close().await;
                return Err(start_error(error));
            }
        };
        let leadership = follow(raft.metrics(), fault.clone(), env);
        let shared = Shared {
            raft,
            me,
            state,
            journal,
            snapshots,
            fault,
            leadership,
            applied,
            config,
            env: env.clone(),
        };
        let raft = Self { shared: Arc::new(shared) };
        raft.begin().await?;
        raft.watch_snapshots();
        raft.watch_ticks();
        info!(id = raft.shared.me.id, last = ?found.last, "replication started");
        Ok(raft)
    }

    /// Founds a cluster of `members`, which include this server.
    ///
    /// Several founders may each call it with the same members and marker. A server that has ever held anything refuses,
    /// whatever the caller believes.
    ///
    /// # Errors
    ///
    /// See [`BootstrapError`].
    pub async fn bootstrap(&self, members: &[Peer], cluster: ClusterMarker) -> Result<(), BootstrapError> {
        if !self.shared.journal.is_empty() {
            return Err(BootstrapError::NotEmpty);
        }
        let stopped = |reason: String| BootstrapError::Stopped { reason };
        self.shared.journal.save_cluster(cluster).await.map_err(|error| stopped(error.to_string()))?;
        let nodes: BTreeMap<u64, Peer> = members.iter().map(|peer| (peer.id, peer.clone())).collect();
        if nodes.len() != members.len() {
            return Err(BootstrapError::Members { reason: "two members have the same id".to_owned() });
        }
        self.shared.raft.initialize(nodes).await.map_err(|error| match error {
            RaftError::APIError(InitializeError::NotAllowed(_)) => BootstrapError::NotEmpty,
            RaftError::APIError(InitializeError::NotInMembers(error)) => {
                BootstrapError::Members { reason: error.to_string() }
            }
            RaftError::Fatal(fatal) => stopped(self.why_stopped(&fatal)),
        })
    }

    /// Tells whether this server has a log or a vote.
    pub fn has_state(&self) -> bool {
        !self.shared.journal.is_empty()
    }

    /// Names the cluster that this server belongs to, once it does.
    pub fn cluster(&self) -> Option<ClusterMarker> {
        self.shared.journal.cluster()
    }

    /// This server.
    pub fn me(&self) -> &Peer {
        &self.shared.me
    }

    /// Has a command agreed on and applied, and returns its index and the state machine's answer.
    ///
    /// Many may be under way at once; those that wait share a sync. Dropping the future does not take the command back.
    ///
    /// # Errors
    ///
    /// See [`ProposeError`], which tells for each case whether the command may take effect.
    pub async fn propose(&self, command: Bytes) -> Result<(u64, S::Response), ProposeError> {
        let max = self.shared.config.entry_bytes_max;
        if command.len() > max {
            return Err(ProposeError::TooLarge { size: command.len(), max });
        }
        let deadline = self.shared.env.now() + self.shared.config.election_max * LEASE_WAITS;
        loop {
            match self.shared.raft.client_write(Command(command.clone())).await {
                Ok(written) => {
                    let index = written.log_id.index;
                    let response = written.data.take::<S::Response>();
                    return Ok((
                        index,
                        response.expect("every command is answered by the state machine of this type"),
                    ));
                }
                Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                    let waits = forward.reason == ForwardReason::LeaseExpired;
                    if !waits || self.shared.env.now() >= deadline {
                        return Err(ProposeError::NotLeader { leader: self.forward(forward) });
                    }
                    self.shared.env.sleep(LEASE_RETRY).await;
                }
                Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                    return Err(ProposeError::Unknown);
                }
                Err(RaftError::APIError(error)) => {
                    return Err(ProposeError::Stopped { reason: error.to_string() });
                }
                Err(RaftError::Fatal(fatal)) => {
                    return Err(ProposeError::Stopped { reason: self.why_stopped(&fatal) });
                }
            }
        }
    }

    /// Tells whether this server believes that it leads.
    pub fn is_leader(&self) -> bool {
        self.shared.leadership.borrow().is_leader()
    }

    /// Tells who leads, if known; perhaps this server.
    pub fn leader(&self) -> Option<Peer> {
        match &*self.shared.leadership.borrow() {
            Leadership::Leader { .. } => Some(self.shared.me.clone()),
            Leadership::Follower { leader, .. } => Some(leader.clone()),
            Leadership::Unknown { .. } | Leadership::Stopped => None,
        }
    }

    /// Follows who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.subscribe()
    }

    /// Waits until this server, being the leader, has applied all that was committed before the call, and returns the
    /// index up to which that is so. A read of the state after it sees every write acknowledged before it.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub async fn barrier(&self, mode: ReadMode) -> Result<u64, ReadError> {
        match mode {
            ReadMode::Quorum => self.read_index(ReadPolicy::ReadIndex).await,
            // A leader whose lease ran out, or that has none yet, may still be the leader: the others can tell.
            ReadMode::Lease => match self.read_index(ReadPolicy::LeaseRead).await {
                Err(ReadError::NoQuorum) => self.read_index(ReadPolicy::ReadIndex).await,
                read => read,
            },
        }
    }

    async fn read_index(&self, policy: ReadPolicy) -> Result<u64, ReadError> {
        match self.shared.raft.ensure_linearizable(policy).await {
            Ok(read) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadError::NotLeader { leader: self.forward(forward) })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::NoQuorum),
            Err(RaftError::Fatal(fatal)) => Err(ReadError::Stopped { reason: self.why_stopped(&fatal) }),
        }
    }

    /// The index of the last applied entry.
    pub fn applied_index(&self) -> Option<u64> {
        *self.shared.applied.borrow()
    }

    /// Follows the index of the last applied entry.
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.shared.applied.clone()
    }

    /// Looks at the state machine, between two commands. Must be short: commands wait meanwhile.
    pub fn with_state<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&lock(&self.shared.state))
    }

    /// Begins a snapshot, and purges what it covers; returns before either is done.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Stopped`].
    pub async fn snapshot(&self) -> Result<(), ChangeError> {
        let begun = self.shared.raft.trigger().snapshot().await;
        begun.map_err(|fatal| ChangeError::Stopped { reason: self.why_stopped(&fatal) })
    }

    /// Tells where this server stands.
    pub fn status(&self) -> Status {
        let metrics = self.metrics();
        let membership = &metrics.membership_config;
        Status {
            leadership: Leadership::of(&metrics),
            members: Members::from_raft(membership.membership()),
            members_index: membership.log_id().as_ref().map_or(0, |at| at.index),
            last_log: metrics.last_log_index,
            // What others hold for committed may go back with the word of a new leader, who knows less of it at first.
            committed: metrics.local_committed.as_ref().map(point),
            applied: metrics.last_applied.as_ref().map(point),
            snapshot: metrics.snapshot.as_ref().map(point),
            purged: metrics.purged.as_ref().map(point),
            matched: metrics
                .replication
                .iter()
                .flatten()
                .map(|(id, matched)| (*id, matched.as_ref().map(point)))
                .collect(),
            answered: metrics
                .heartbeat
                .iter()
                .flatten()
                .filter_map(|(id, at)| Some((*id, (*at)?.elapsed())))
                .collect(),
        }
    }

    /// Tells how much this server has written since it was opened.
    pub fn log_counts(&self) -> Counts {
        self.shared.journal.counts()
    }

    /// The figures that `agent-info` shows under `raft`.
    pub fn stats(&self) -> BTreeMap<String, String> {
        let status = self.status();
        let counts = self.log_counts();
        let index = |at: Option<LogPoint>| at.map_or(0, |at| at.index).to_string();
        let term = match status.leadership {
            Leadership::Leader { term }
            | Leadership::Follower { term, .. }
            | Leadership::Unknown { term } => term,
            Leadership::Stopped => 0,
        };
        let voters = status.members.voter_ids();
        let state = match &status.leadership {
            Leadership::Leader { .. } => "Leader",
            Leadership::Stopped => "Shutdown",
            Leadership::Follower { .. } | Leadership::Unknown { .. } => "Follower",
        };
        let others = voters.iter().filter(|id| **id != self.shared.me.id).count();
        let pending = status.committed.map_or(0, |at| at.index)
            - status.applied.map_or(0, |at| at.index).min(status.committed.map_or(0, |at| at.index));
        [
            ("applied_index", index(status.applied)),
            ("commit_index", index(status.committed)),
            ("fsm_pending", pending.to_string()),
            ("last_log_index", status.last_log.unwrap_or(0).to_string()),
            ("last_snapshot_index", index(status.snapshot)),
            ("last_snapshot_term", status.snapshot.map_or(0, |at| at.term).to_string()),
            ("latest_configuration_index", status.members_index.to_string()),
            ("num_peers", others.to_string()),
            ("state", state.to_owned()),
            ("term", term.to_string()),
            ("log_groups", counts.groups.to_string()),
            ("log_entries", counts.entries.to_string()),
            ("log_syncs", counts.log_syncs.to_string()),
            ("mark_syncs", counts.mark_syncs.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// Follows the reason why this server stopped taking part, should there ever be one. The process must then end, with
    /// [`Fault::exit_code`].
    pub fn fault(&self) -> watch::Receiver<Option<Fault>> {
        self.shared.fault.watch()
    }

    /// Stops taking part because of something that the caller found; the first fault stays.
    pub async fn fail(&self, fault: Fault) {
        // The returned error is for openraft, which is told to stop here.
        let _ = self.shared.fault.report(fault);
        self.shutdown().await;
    }

    /// Stops taking part and closes the log. Proposals under way fail with [`ProposeError::Stopped`].
    pub async fn shutdown(&self) {
        if let Err(error) = self.shared.raft.shutdown().await {
            warn!(%error, "replication did not stop cleanly");
        }
        self.shared.journal.close().await;
    }

    fn metrics(&self) -> RaftMetrics<Types> {
        self.shared.raft.metrics().borrow_watched().clone()
    }

    /// Waits until openraft shows what it found on disk, and makes a server that is the only voter stand at once.
    async fn begin(&self) -> Result<(), OpenError> {
        let raft = &self.shared.raft;
        let voters =
            |state: &openraft::RaftState<Types>| state.membership_state.effective().voter_ids().collect();
        let voters: BTreeSet<u64> = raft.with_raft_state(voters).await.map_err(start_error)?;
        let shown =
            |metrics: &RaftMetrics<Types>| voters.iter().copied().eq(metrics.membership_config.voter_ids());
        raft.wait(Some(START_WAIT)).metrics(shown, "the members found on disk").await.map_err(start_error)?;
        if voters == BTreeSet::from([self.shared.me.id]) {
            raft.trigger().elect(false).await.map_err(start_error)?;
        }
        Ok(())
    }

    /// Begins a snapshot when enough entries have come since the last one and the interval is over.
    fn watch_snapshots(&self) {
        let shared = Arc::downgrade(&self.shared);
        let env = self.shared.env.clone();
        let shutdown = env.shutdown().clone();
        let (threshold, interval) =
            (self.shared.config.snapshot_threshold, self.shared.config.snapshot_interval);
        let sleeper = env.clone();
        env.spawn("raft-snapshots", async move {
            let mut looked = sleeper.now();
            loop {
                tokio::select! {
                    () = shutdown.wait() => return,
                    () = sleeper.sleep(SNAPSHOT_LOOK.min(interval)) => {}
                }
                let Some(shared) = shared.upgrade() else { return };
                let metrics = shared.raft.metrics().borrow_watched().clone();
                let next = |at: Option<u64>| at.map_or(0, |index| index + 1);
                let applied = next(metrics.last_applied.map(|at| at.index));
                let since = applied - next(metrics.snapshot.map(|at| at.index)).min(applied);
                let timely = sleeper.now() >= looked + interval;
                let due = if timely { threshold } else { threshold.saturating_mul(SNAPSHOT_EARLY_FACTOR) };
                if timely {
                    looked = sleeper.now();
                }
                if since < due {
                    continue;
                }
                debug!(since, "a snapshot is due");
                if shared.raft.trigger().snapshot().await.is_err() {
                    return;
                }
            }
        });
    }

    fn forward(&self, forward: ForwardToLeader<Types>) -> Option<Peer> {
        forward.leader_node.or_else(|| self.leader()).filter(|leader| leader.id != self.shared.me.id)
    }

    fn why_stopped(&self, fatal: &Fatal<Types>) -> String {
        self.shared.fault.get().map_or_else(|| fatal.to_string(), |fault| fault.to_string())
    }
}

fn snapshots_in(dir: &Path) -> Result<SnapshotStore, OpenError> {
    let path = dir.join(SNAPSHOT_DIR);
    SnapshotStore::directory(path.clone()).map_err(|source| OpenError::Directory { path, source })
}

/// Finds the snapshot to start from. openraft would go on from nothing if the log says that there was one and it is gone.
async fn current_snapshot(
    snapshots: &Arc<SnapshotStore>,
    purged: Option<LogPoint>,
    io: IoMode,
    env: &Env,
) -> Result<Option<(SnapshotMeta, SnapshotData)>, OpenError> {
    let looked = snapshots.clone();
    let current = run(env, io, move || looked.current()).await.map_err(start_error)?;
    let covered = current.as_ref().and_then(|(meta, _)| meta.last);
    if let Some(purged) = purged
        && covered.is_none_or(|last| last.index < purged.index)
    {
        return Err(OpenError::SnapshotMissing { purged });
    }
    match current {
        Some((meta, data)) => Ok(Some((meta.into_meta().map_err(start_error)?, data))),
        None => Ok(None),
    }
}

/// Starts openraft. The future is boxed so that its code, and with it all of openraft, is made in this crate.
fn start(
    me: u64,
    config: openraft::Config,
    links: Links,
    journal: Journal,
    machine: Machine,
) -> BoxFuture<'static, Result<Inner, Fatal<Types>>> {
    Box::pin(openraft::Raft::new(me, Arc::new(config), links, journal, machine))
}

fn start_error(error: impl ToString) -> OpenError {
    OpenError::Start { reason: error.to_string() }
}

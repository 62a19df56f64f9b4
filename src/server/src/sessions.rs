//! The nodes that are connected to this server: what they say goes into commits, what concerns them is pushed to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use model::{AllocId, Allocation, ClientStatus, Job, Node, NodeEvent, NodeId, NodeStatus};
use parking_lot::Mutex;
use protocol::{
    Command, Named, decode, encode,
    session::{AllocUpdate, Assignments, ClientMessage, FIRST_SESSION_HEADER, SESSION_HEADER, ServerMessage},
};
use runtime::{Env, Instant};
use state::{ChangedRow, Changes};
use tokio::sync::{Notify, broadcast, mpsc};
use transport::{
    Closed, Connection, Inbound, Incoming, Opened, Stream, StreamReader, StreamWriter,
    framed::{FrameReader, FrameWriter},
};
use uuid::Uuid;

use crate::{
    asks::{Answer, Ask},
    forward::{Again, settled},
    pace::{Pace, Waiting},
    probe,
    server::{Inner, SubmitError},
};

/// Largest message either way, as the client has it.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Time for a node to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// What answers under way get before sessions end because the state was replaced.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A node that has not been heard for so long is asked whether it is there, unless it is one that speaks seldom.
const QUIET_MIN: Duration = Duration::from_millis(1_000);

/// So many times the longest pause between two of its words lately.
const QUIET_PAUSES: u32 = 3;

/// Job versions that a node is sent beyond twice those of its last complete list, before it is sent another: both sides
/// forget the rest then. A list is as long as what is on the node, so it comes once in a thousand jobs that came and went.
const JOBS_BEYOND_LIST_MAX: usize = 1024;

/// What a client hears that asks whether this server is there: it is, and it knows a leader or not.
const HAS_LEADER: &[u8] = b"\x01";
const NO_LEADER: &[u8] = b"\x00";

/// Nodes connected to this server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    table: Arc<Mutex<Table>>,
    generations: Arc<AtomicU64>,
    changed: Arc<Notify>,
    pace: Pace,
}

#[derive(Debug, Default)]
struct Table {
    nodes: BTreeMap<NodeId, Entry>,
    /// When the nodes of sessions that ended were last heard in them, by the number of the session. Emptied by each report
    /// to the leader, which is made at once and each second.
    ended: BTreeMap<u64, Instant>,
}

/// A node's session.
#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    mailbox: Arc<Mailbox>,
    pulse: Arc<Mutex<Pulse>>,
    connection: Connection,
}

/// What changed for a node since it was last told. Holds at most its allocations.
#[derive(Debug, Default)]
struct Mailbox {
    dirty: Mutex<Dirty>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Dirty {
    everything: bool,
    /// It counted as gone, though its session is held here: the leader did not know of it.
    counted_gone: bool,
    allocs: BTreeSet<AllocId>,
}

/// When a node was heard in its session, and how often it usually is.
#[derive(Clone, Copy, Debug)]
struct Pulse {
    heard: Instant,
    /// The last two pauses between its words.
    pauses: [Duration; 2],
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self { heard: now, pauses: [Duration::ZERO; 2] }
    }

    fn beat(&mut self, now: Instant) {
        self.pauses = [now.saturating_duration_since(self.heard), self.pauses[0]];
        self.heard = now;
    }

    /// When silence is worth a look.
    fn quiet_at(&self) -> Instant {
        let longest = self.pauses[0].max(self.pauses[1]);
        self.heard + (longest * QUIET_PAUSES).max(QUIET_MIN)
    }
}

impl Sessions {
    /// Makes an empty table. Sessions are numbered from a random number on, so that those of an earlier run of this
    /// server are never taken for later ones.
    pub(crate) fn new(env: &Env) -> Self {
        let first = env.random_u64() >> 1;
        Self {
            table: Arc::default(),
            generations: Arc::new(AtomicU64::new(first)),
            changed: Arc::default(),
            pace: Pace::default(),
        }
    }

    /// Returns the connection to a node, if it is connected here.
    pub fn connection(&self, node: NodeId) -> Option<Connection> {
        self.table.lock().nodes.get(&node).map(|entry| entry.connection.clone())
    }

    /// Lists the connected nodes.
    pub fn connected(&self) -> Vec<NodeId> {
        self.table.lock().nodes.keys().copied().collect()
    }

    /// Returns how many nodes are connected.
    fn count(&self) -> usize {
        self.table.lock().nodes.len()
    }

    /// Notes that a node was heard outside of its session's own loop.
    pub(crate) fn beat(&self, node: NodeId, now: Instant) {
        if let Some(entry) = self.table.lock().nodes.get(&node) {
            entry.pulse.lock().beat(now);
        }
    }

    /// Lists the connected nodes with the numbers of their sessions, and when the nodes of sessions that ended since the last
    /// call were last heard. For one caller.
    pub(crate) fn take_changes(&self) -> (BTreeMap<NodeId, u64>, BTreeMap<u64, Instant>) {
        let mut table = self.table.lock();
        let held = table.nodes.iter().map(|(node, entry)| (*node, entry.generation)).collect();
        (held, std::mem::take(&mut table.ended))
    }

    fn open(&self, node: NodeId, connection: Connection, now: Instant) -> Entry {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let (mailbox, pulse) = (Arc::default(), Arc::new(Mutex::new(Pulse::new(now))));
        let entry = Entry { generation, mailbox, pulse, connection };
        if let Some(old) = self.table.lock().nodes.insert(node, entry.clone()) {
            old.connection.close(transport::CloseCode::Done, "replaced by a later session of this node");
        }
        self.changed.notify_one();
        entry
    }

    /// Forgets a session, unless a later one took its place. A node that ended it itself was heard by that.
    fn close(&self, node: NodeId, entry: &Entry, now: Instant) {
        let heard = match entry.connection.close_reason() {
            Some(Closed::ByPeer { .. } | Closed::Restarted) => now,
            Some(_) | None => entry.pulse.lock().heard,
        };
        let mut table = self.table.lock();
        if table.nodes.get(&node).is_some_and(|known| {
            known.generation == entry.generation || mutants::on!("session-closes-the-next")
        }) {
            table.nodes.remove(&node);
            table.ended.insert(entry.generation, heard);
            self.changed.notify_one();
        }
    }

    /// Waits until a session began or ended since the last call. For one caller.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn mark(&self, changes: &Changes) {
        let mut touched: BTreeMap<NodeId, Vec<AllocId>> = BTreeMap::new();
        let mut gone: Vec<NodeId> = Vec::new();
        for row in &changes.rows {
            match row {
                ChangedRow::Alloc { before, after } => {
                    if let Some((node, id)) = concerns_client(before.as_deref(), after.as_deref()) {
                        touched.entry(node).or_default().push(id);
                    }
                }
                ChangedRow::Node { after: Some(node), .. } if counts_as_gone(node.status) => {
                    gone.push(node.id);
                }
                _ => {}
            }
        }
        if touched.is_empty() && gone.is_empty() {
            return;
        }
        let table = self.table.lock();
        for entry in gone.iter().filter_map(|node| table.nodes.get(node)) {
            entry.mailbox.dirty.lock().counted_gone = true;
            entry.mailbox.ready.notify_one();
        }
        for (node, ids) in touched {
            if let Some(entry) = table.nodes.get(&node) {
                entry.mailbox.dirty.lock().allocs.extend(ids);
                entry.mailbox.ready.notify_one();
            }
        }
    }

    fn mark_everything(&self) {
        for entry in self.table.lock().nodes.values() {
            entry.mailbox.dirty.lock().everything = true;
            entry.mailbox.ready.notify_one();
        }
    }

    /// Ends every session that there is: the state was replaced, and may not know these nodes. They come back at once and
    /// register. What is being answered over these connections, such as the very request to replace the state, gets a
    /// moment for that.
    async fn end_all(self, env: Env) {
        let known: Vec<Entry> = self.table.lock().nodes.values().cloned().collect();
        env.sleep(LAST_WORDS).await;
        for entry in known {
            entry.connection.close(transport::CloseCode::Done, "the state was replaced; register again");
        }
    }

    /// Marks what changes for connected nodes, for as long as the hub lives.
    pub(crate) async fn dispatch(self, env: Env, mut changes: broadcast::Receiver<Arc<Changes>>) {
        loop {
            match changes.recv().await {
                Ok(changes) if changes.replaced() => {
                    env.spawn("sessions-anew", self.clone().end_all(env.clone()));
                }
                Ok(changes) => self.mark(&changes),
                Err(broadcast::error::RecvError::Lagged(_)) => self.mark_everything(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

fn counts_as_gone(status: NodeStatus) -> bool {
    matches!(status, NodeStatus::Disconnected | NodeStatus::Down)
}

/// Tells whose client a change of an allocation concerns: those by servers do, a client's own words do not.
fn concerns_client(before: Option<&Allocation>, after: Option<&Allocation>) -> Option<(NodeId, AllocId)> {
    match (before, after) {
        (Some(before), Some(after)) if before.alloc_modify_index == after.alloc_modify_index => None,
        (Some(_), Some(after)) if after.server_terminal() && mutants::on!("session-forgets-stops") => None,
        (_, Some(after)) => Some((after.node_id, after.id)),
        (Some(before), None) => Some((before.node_id, before.id)),
        (None, None) => None,
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("node did not say who it is in time")]
    Silent,
    #[error("node closed the session")]
    Closed,
    #[error("node speaks another protocol: {0}")]
    Decode(#[from] protocol::DecodeError),
    #[error("connection broke: {0}")]
    Frame(#[from] transport::framed::FrameError),
    #[error("{0}")]
    Refused(String),
    #[error("could not commit what the node said: {0}")]
    Submit(#[from] SubmitError),
    #[error("this server is too far behind the leader")]
    Behind,
    #[error("node counted as gone meanwhile; it has to say again what it runs")]
    CountedGone,
}

/// What can happen in a session.
enum Event {
    Frame(Option<Bytes>),
    Incoming(Option<Incoming>),
    /// Something changed for the node.
    Dirty,
    /// It is time to tell the node.
    Push,
    Quiet,
    Committed(u64, Result<u64, SubmitError>),
}

/// A node's words on their way into the state: which ones, and the index at which they are there.
type Committing = BoxFuture<'static, (u64, Result<u64, SubmitError>)>;

struct Session {
    inner: Arc<Inner>,
    node_id: NodeId,
    /// The client reads jobs in few bytes.
    packs: bool,
    mailbox: Arc<Mailbox>,
    pulse: Arc<Mutex<Pulse>>,
    writer: FrameWriter<StreamWriter>,
    /// The job versions that the node was sent, by a hash of what names them: there may be thousands on each of thousands
    /// of nodes.
    ///
    /// The node keeps them until it is sent a complete list, which carries again what it names.
    sent_jobs: BTreeSet<u64>,
    /// How many of them the last complete list carried.
    jobs_of_list: usize,
}

/// Serves one connection of a node until it ends.
pub(crate) async fn serve(inner: Arc<Inner>, opened: Opened, streams: mpsc::Sender<Stream>) {
    let Opened { connection, mut inbound } = opened;
    let stream = tokio::time::timeout(HELLO_TIMEOUT, first_stream(&mut inbound)).await;
    let Ok(Some(stream)) = stream else {
        connection.close(transport::CloseCode::Protocol, "no session was opened");
        return;
    };
    let packs = &**stream.header() == SESSION_HEADER;
    let (reader, writer) = stream.into_split();
    let mut reader = FrameReader::new(reader, MESSAGE_BYTES_MAX);
    let mut writer = FrameWriter::new(writer, MESSAGE_BYTES_MAX);
    let (node, allocs) = match hello(&mut reader, &connection).await {
        Ok(hello) => hello,
        Err(error) => {
            tracing::warn!(peer = %connection.remote_addr(), %error, "session of a node was refused");
            let refused = ServerMessage::Refused { reason: error.to_string().into() };
            // The node may be gone already.
            let _ = writer.send(encode(&refused)).await;
            connection.close(transport::CloseCode::Done, "refused");
            return;
        }
    };
    let node_id = node.id;
    let entry = inner.sessions.open(node_id, connection.clone(), inner.env.now());
    let (mailbox, pulse, sent_jobs) = (entry.mailbox.clone(), entry.pulse.clone(), BTreeSet::new());
    let jobs_of_list = 0;
    let mut session =
        Session { inner: inner.clone(), node_id, packs, mailbox, pulse, writer, sent_jobs, jobs_of_list };
    let ended = session.run(node, allocs, reader, inbound, streams).await;
    if let Err(error) = ended {
        tracing::info!(%node_id, %error, "session of a node ended");
    }
    connection.close(transport::CloseCode::Done, "session ended");
    inner.sessions.close(node_id, &entry, inner.env.now());
}

async fn first_stream(inbound: &mut Inbound) -> Option<Stream> {
    loop {
        match inbound.next().await? {
            Incoming::Stream(stream)
                if [SESSION_HEADER, FIRST_SESSION_HEADER].contains(&&**stream.header()) =>
            {
                return Some(stream);
            }
            Incoming::Stream(_) | Incoming::Request(_) | Incoming::Datagram(_) => {}
        }
    }
}

async fn hello(
    reader: &mut FrameReader<StreamReader>,
    connection: &Connection,
) -> Result<(Node, Vec<AllocUpdate>), Ended> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, reader.next()).await.map_err(|_| Ended::Silent)??;
    match decode(&first.ok_or(Ended::Closed)?)? {
        ClientMessage::Hello { node: Named(node), allocs } => {
            // A certificate speaks for one node; what it says of another is not believed.
            if let transport::Peer::Known { identity, .. } = connection.peer()
                && identity.node_id.to_string() != node.id.to_string()
                && identity.role == transport::Role::Client
                && !mutants::on!("session-for-any-node")
            {
                return Err(Ended::Refused(format!(
                    "certificate is for node {}, not {}",
                    identity.node_id, node.id
                )));
            }
            Ok((*node, allocs))
        }
        _ => Err(Ended::Refused("the first message of a session says who the node is".to_owned())),
    }
}

/// Has the leader commit what a node says of its allocations.
async fn commit(inner: &Inner, updates: Vec<AllocUpdate>) -> Result<u64, SubmitError> {
    inner.handed_in.commit(updates).await.map(|(_, index)| index)
}

impl Session {
    async fn run(
        &mut self,
        node: Node,
        allocs: Vec<AllocUpdate>,
        mut reader: FrameReader<StreamReader>,
        mut inbound: Inbound,
        streams: mpsc::Sender<Stream>,
    ) -> Result<(), Ended> {
        self.begin(node, allocs).await?;
        let mut committing: Option<Committing> = None;
        let mut pushing: Option<Waiting> = None;
        let mut pushed = self.inner.env.now();
        // Answers that were waited for above say that the node was there then.
        let mut asked = self.inner.env.now();
        loop {
            let quiet_at = self.pulse.lock().quiet_at().max(asked + QUIET_MIN);
            let event = {
                let commit = async {
                    match &mut committing {
                        Some(commit) => commit.await,
                        None => std::future::pending().await,
                    }
                };
                let push = async {
                    match &pushing {
                        Some(pushing) => self.inner.env.sleep_until(pushing.at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    (seq, result) = commit => Event::Committed(seq, result),
                    () = self.mailbox.ready.notified(), if pushing.is_none() => Event::Dirty,
                    () = push => Event::Push,
                    frame = reader.next() => Event::Frame(frame?),
                    incoming = inbound.next() => Event::Incoming(incoming),
                    () = self.inner.env.sleep_until(quiet_at) => Event::Quiet,
                }
            };
            if matches!(event, Event::Frame(Some(_)) | Event::Incoming(Some(_))) {
                self.pulse.lock().beat(self.inner.env.now());
            }
            match event {
                Event::Quiet => {
                    asked = self.inner.env.now();
                    let look = probe::verify(self.inner.clone(), self.node_id);
                    self.inner.env.spawn("session-probe", look);
                }
                Event::Committed(seq, result) => {
                    committing = None;
                    let index = result?;
                    self.writer.send(encode(&ServerMessage::Ack { seq, index })).await?;
                }
                Event::Dirty => {
                    let sessions = &self.inner.sessions;
                    pushing = Some(sessions.pace.begin(self.inner.env.now(), pushed, sessions.count()));
                }
                Event::Push => {
                    pushing = pushing.and_then(|waiting| self.push_over(waiting));
                    if pushing.is_none() {
                        self.push_changes().await?;
                        pushed = self.inner.env.now();
                    }
                }
                Event::Frame(None) | Event::Incoming(None) => return Err(Ended::Closed),
                Event::Frame(Some(frame)) => self.hear(decode(&frame)?, &mut committing).await?,
                Event::Incoming(Some(incoming)) => self.serve_incoming(incoming, &streams).await,
            }
        }
    }

    /// Decides whether what is for the node waits on.
    fn push_over(&self, waiting: Waiting) -> Option<Waiting> {
        let (sessions, count) = (&self.inner.sessions, self.mailbox.dirty.lock().allocs.len());
        sessions.pace.over(waiting, self.inner.env.now(), count, sessions.count())
    }

    async fn hear(&self, message: ClientMessage, committing: &mut Option<Committing>) -> Result<(), Ended> {
        match message {
            ClientMessage::Updates { .. } if committing.is_some() => {
                Err(Ended::Refused("one batch of updates may be under way".to_owned()))
            }
            ClientMessage::Updates { seq, updates } => {
                let inner = self.inner.clone();
                *committing = Some(Box::pin(async move { (seq, commit(&inner, updates).await) }));
                Ok(())
            }
            ClientMessage::NodeChanged { node: Named(node) } => self.register(*node).await,
            ClientMessage::Event { event } => self.note(event).await,
            ClientMessage::Leaving => Err(Ended::Closed),
            ClientMessage::Hello { .. } => {
                Err(Ended::Refused("a session says once who the node is".to_owned()))
            }
        }
    }

    /// Registers the node, takes what happened to its allocations, and tells it which ones it has.
    async fn begin(&mut self, node: Node, allocs: Vec<AllocUpdate>) -> Result<(), Ended> {
        self.register(node).await?;
        self.hand_in(allocs).await?;
        // What was marked before lies behind the registration, which this server has seen.
        *self.mailbox.dirty.lock() = Dirty { everything: true, ..Dirty::default() };
        let snapshot = self.inner.hub.snapshot();
        let cluster_id = snapshot.cluster_id().unwrap_or(Uuid::nil());
        self.writer.push(encode(&ServerMessage::Welcome { cluster_id, index: snapshot.index() }))?;
        self.push_changes().await
    }

    async fn serve_incoming(&self, incoming: Incoming, streams: &mpsc::Sender<Stream>) {
        match incoming {
            Incoming::Stream(stream) => {
                // Whoever serves streams is gone only when the server stops.
                let _ = streams.send(stream).await;
            }
            Incoming::Request(request) => {
                let leads = self.inner.raft.leader().is_some();
                let answer = if leads { HAS_LEADER } else { NO_LEADER };
                // Whoever asked may be gone.
                let _ = request.reply.send(Bytes::from_static(answer)).await;
            }
            Incoming::Datagram(_) => {}
        }
    }

    /// Has the leader write down what is news about the node, and waits until this server knows all that the leader knew:
    /// what an older state would tell the node could end what it runs.
    async fn register(&self, node: Node) -> Result<(), Ended> {
        if node.id != self.node_id {
            return Err(Ended::Refused("a session is about one node".to_owned()));
        }
        let ask = Ask::Register { node: Named(Box::new(node)) };
        match self.inner.at_leader(ask, Again::Harmless).await? {
            Answer::Done { entry, .. } if self.inner.wait_applied(entry).await => Ok(()),
            Answer::Done { .. } => Err(Ended::Behind),
            Answer::Denied { reason } => Err(Ended::Refused(reason)),
            answer => Err(settled(answer).map_or_else(Ended::Submit, |_| Ended::Behind)),
        }
    }

    /// Commits what the node says of its allocations where it is news.
    async fn hand_in(&self, allocs: Vec<AllocUpdate>) -> Result<(), Ended> {
        let snapshot = self.inner.hub.snapshot();
        let news: Vec<AllocUpdate> = allocs
            .into_iter()
            .filter(|update| {
                snapshot.alloc(update.id).is_some_and(|alloc| {
                    alloc.client_status != update.client_status
                        || *alloc.task_states != *update.task_states
                        || (update.health.is_some() && alloc.extra().health != update.health)
                })
            })
            .collect();
        if !news.is_empty() {
            commit(&self.inner, news).await?;
        }
        Ok(())
    }

    async fn note(&self, event: NodeEvent) -> Result<(), Ended> {
        let events = vec![(self.node_id, event)];
        self.inner.submit_harmless(&Command::NoteNodeEvents { events }).await?;
        Ok(())
    }

    async fn push_changes(&mut self) -> Result<(), Ended> {
        let dirty = std::mem::take(&mut *self.mailbox.dirty.lock());
        let snapshot = self.inner.hub.snapshot();
        // Its allocations count as unknown or lost now; what they really are, only a new session says.
        let missed = || snapshot.node(self.node_id).is_some_and(|node| counts_as_gone(node.status));
        if dirty.counted_gone || (dirty.everything && missed()) {
            return Err(Ended::CountedGone);
        }
        let mut assignments = Assignments { index: snapshot.index(), ..Assignments::default() };
        if dirty.everything || self.sent_jobs.len() > 2 * self.jobs_of_list + JOBS_BEYOND_LIST_MAX {
            assignments.complete = true;
            self.sent_jobs.clear();
            for alloc in snapshot.allocs_by_node(self.node_id) {
                // One that counts as lost may still run there, and then has to stop.
                if alloc.client_status.is_terminal() && alloc.client_status != ClientStatus::Lost {
                    assignments.kept.push(alloc.id);
                } else {
                    self.add(&mut assignments, alloc);
                }
            }
            self.jobs_of_list = self.sent_jobs.len();
        } else {
            for id in dirty.allocs {
                match snapshot.alloc(id) {
                    Some(alloc) => self.add(&mut assignments, alloc),
                    None => assignments.removed.push(id),
                }
            }
        }
        let message = match self.packs {
            true => ServerMessage::Packed(assignments.into()),
            false => ServerMessage::Allocs(assignments),
        };
        self.writer.send(encode(&message)).await?;
        Ok(())
    }

    fn add(&mut self, assignments: &mut Assignments, alloc: &Allocation) {
        let job: &Arc<Job> = &alloc.job;
        let mut hasher = DefaultHasher::new();
        (&job.key, job.create_index, job.version).hash(&mut hasher);
        if self.sent_jobs.insert(hasher.finish()) {
            assignments.jobs.push(job.clone());
        }
        let mut record = alloc.to_record();
        // The client knows its own tasks best, and has no use for how it was placed.
        record.metrics = None;
        record.task_states = Arc::new([]);
        assignments.allocs.push(record);
    }
}

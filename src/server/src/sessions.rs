//! The nodes that are connected to this server: what they say goes into commits, what concerns them is pushed to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use model::{AllocId, Allocation, ClientStatus, Job, JobKey, Node, NodeEvent, NodeId};
use parking_lot::Mutex;
use protocol::{
    Command, Named, decode, encode,
    session::{AllocUpdate, Assignments, ClientMessage, ServerMessage},
};
use runtime::Env;
use state::{ChangedRow, Changes};
use tokio::sync::{Notify, broadcast, mpsc};
use transport::{
    Connection, Inbound, Incoming, Opened, Stream, StreamReader, StreamWriter,
    framed::{FrameReader, FrameWriter},
};
use uuid::Uuid;

use crate::{
    asks::{Answer, Ask},
    forward::{Again, settled},
    server::{Inner, SubmitError},
};

/// First bytes of the stream that carries a session.
const SESSION_HEADER: &[u8] = b"session/1";

/// Largest message either way, as the client has it.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Time for a node to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// What answers under way get before sessions end because the state was replaced.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a client hears that asks whether this server is there: it is, and it knows a leader or not.
const HAS_LEADER: &[u8] = b"\x01";
const NO_LEADER: &[u8] = b"\x00";

/// Nodes connected to this server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    nodes: Arc<Mutex<BTreeMap<NodeId, Entry>>>,
    generations: Arc<AtomicU64>,
    changed: Arc<Notify>,
}

/// A node's session.
#[derive(Clone, Debug)]
struct Entry {
    generation: u64,
    mailbox: Arc<Mailbox>,
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
    allocs: BTreeSet<AllocId>,
}

impl Sessions {
    /// Makes an empty table. Sessions are numbered from a random number on, so that those of an earlier run of this
    /// server are never taken for later ones.
    pub(crate) fn new(env: &Env) -> Self {
        let first = env.random_u64() >> 1;
        Self { nodes: Arc::default(), generations: Arc::new(AtomicU64::new(first)), changed: Arc::default() }
    }

    /// Returns the connection to a node, if it is connected here.
    pub fn connection(&self, node: NodeId) -> Option<Connection> {
        self.nodes.lock().get(&node).map(|entry| entry.connection.clone())
    }

    /// Lists the connected nodes.
    pub fn connected(&self) -> Vec<NodeId> {
        self.nodes.lock().keys().copied().collect()
    }

    /// Lists the connected nodes with the numbers of their sessions.
    pub(crate) fn generations(&self) -> Vec<(NodeId, u64)> {
        self.nodes.lock().iter().map(|(node, entry)| (*node, entry.generation)).collect()
    }

    fn open(&self, node: NodeId, connection: Connection) -> (u64, Arc<Mailbox>) {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::default());
        let entry = Entry { generation, mailbox: mailbox.clone(), connection };
        if let Some(old) = self.nodes.lock().insert(node, entry) {
            old.connection.close(transport::CloseCode::Done, "replaced by a later session of this node");
        }
        self.changed.notify_one();
        (generation, mailbox)
    }

    /// Forgets a session, unless a later one took its place.
    fn close(&self, node: NodeId, generation: u64) {
        let mut nodes = self.nodes.lock();
        if nodes.get(&node).is_some_and(|entry| entry.generation == generation) {
            nodes.remove(&node);
            self.changed.notify_one();
        }
    }

    /// Waits until a session began or ended since the last call. For one caller.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn mark(&self, changes: &Changes) {
        let mut touched: BTreeMap<NodeId, Vec<AllocId>> = BTreeMap::new();
        for row in &changes.rows {
            if let ChangedRow::Alloc { before, after } = row
                && let Some((node, id)) = concerns_client(before.as_deref(), after.as_deref())
            {
                touched.entry(node).or_default().push(id);
            }
        }
        if touched.is_empty() {
            return;
        }
        let nodes = self.nodes.lock();
        for (node, ids) in touched {
            if let Some(entry) = nodes.get(&node) {
                entry.mailbox.dirty.lock().allocs.extend(ids);
                entry.mailbox.ready.notify_one();
            }
        }
    }

    fn mark_everything(&self) {
        for entry in self.nodes.lock().values() {
            entry.mailbox.dirty.lock().everything = true;
            entry.mailbox.ready.notify_one();
        }
    }

    /// Ends every session that there is: the state was replaced, and may not know these nodes. They come back at once and
    /// register. What is being answered over these connections, such as the very request to replace the state, gets a
    /// moment for that.
    async fn end_all(self, env: Env) {
        let known: Vec<Entry> = self.nodes.lock().values().cloned().collect();
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

/// Tells whose client a change of an allocation concerns: those by servers do, a client's own words do not.
fn concerns_client(before: Option<&Allocation>, after: Option<&Allocation>) -> Option<(NodeId, AllocId)> {
    match (before, after) {
        (Some(before), Some(after)) if before.alloc_modify_index == after.alloc_modify_index => None,
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
}

/// What can happen in a session.
enum Event {
    Frame(Option<Bytes>),
    Incoming(Option<Incoming>),
    Dirty,
    Committed(u64, Result<u64, SubmitError>),
}

struct Session {
    inner: Arc<Inner>,
    node_id: NodeId,
    mailbox: Arc<Mailbox>,
    writer: FrameWriter<StreamWriter>,
    sent_jobs: BTreeSet<(JobKey, u64, u64)>,
}

/// Serves one connection of a node until it ends.
pub(crate) async fn serve(inner: Arc<Inner>, opened: Opened, streams: mpsc::Sender<Stream>) {
    let Opened { connection, mut inbound } = opened;
    let stream = tokio::time::timeout(HELLO_TIMEOUT, first_stream(&mut inbound)).await;
    let Ok(Some(stream)) = stream else {
        connection.close(transport::CloseCode::Protocol, "no session was opened");
        return;
    };
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
    let (generation, mailbox) = inner.sessions.open(node_id, connection.clone());
    let sent_jobs = BTreeSet::new();
    let mut session = Session { inner: inner.clone(), node_id, mailbox, writer, sent_jobs };
    let ended = session.run(node, allocs, reader, inbound, streams).await;
    if let Err(error) = ended {
        tracing::info!(%node_id, %error, "session of a node ended");
    }
    connection.close(transport::CloseCode::Done, "session ended");
    inner.sessions.close(node_id, generation);
}

async fn first_stream(inbound: &mut Inbound) -> Option<Stream> {
    loop {
        match inbound.next().await? {
            Incoming::Stream(stream) if &**stream.header() == SESSION_HEADER => return Some(stream),
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
async fn commit(inner: &Arc<Inner>, updates: Vec<AllocUpdate>) -> Result<u64, SubmitError> {
    let answer = inner.at_leader(Ask::Updates { updates }, Again::Harmless).await?;
    settled(answer).map(|submitted| submitted.index)
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
        self.register(node).await?;
        self.hand_in(allocs).await?;
        let snapshot = self.inner.hub.snapshot();
        let cluster_id = snapshot.cluster_id().unwrap_or(Uuid::nil());
        self.writer.push(encode(&ServerMessage::Welcome { cluster_id, index: snapshot.index() }))?;
        self.mailbox.dirty.lock().everything = true;
        self.push_changes().await?;
        let mut committing = None;
        loop {
            let event = {
                let commit = async {
                    match &mut committing {
                        Some(commit) => commit.await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    biased;
                    (seq, result) = commit => Event::Committed(seq, result),
                    () = self.mailbox.ready.notified() => Event::Dirty,
                    frame = reader.next() => Event::Frame(frame?),
                    incoming = inbound.next() => Event::Incoming(incoming),
                }
            };
            match event {
                Event::Committed(seq, result) => {
                    committing = None;
                    let index = result?;
                    self.writer.send(encode(&ServerMessage::Ack { seq, index })).await?;
                }
                Event::Dirty => self.push_changes().await?,
                Event::Frame(None) | Event::Incoming(None) => return Err(Ended::Closed),
                Event::Frame(Some(frame)) => match decode(&frame)? {
                    ClientMessage::Updates { seq, updates } => {
                        if committing.is_some() {
                            return Err(Ended::Refused("one batch of updates may be under way".to_owned()));
                        }
                        let inner = self.inner.clone();
                        committing = Some(Box::pin(async move { (seq, commit(&inner, updates).await) }));
                    }
                    ClientMessage::NodeChanged { node: Named(node) } => self.register(*node).await?,
                    ClientMessage::Event { event } => self.note(event).await?,
                    ClientMessage::Leaving => return Err(Ended::Closed),
                    ClientMessage::Hello { .. } => {
                        return Err(Ended::Refused("a session says once who the node is".to_owned()));
                    }
                },
                Event::Incoming(Some(Incoming::Stream(stream))) => {
                    // Whoever serves streams is gone only when the server stops.
                    let _ = streams.send(stream).await;
                }
                Event::Incoming(Some(Incoming::Request(request))) => {
                    let leads = self.inner.raft.leader().is_some();
                    let answer = if leads { HAS_LEADER } else { NO_LEADER };
                    // Whoever asked may be gone.
                    let _ = request.reply.send(Bytes::from_static(answer)).await;
                }
                Event::Incoming(Some(Incoming::Datagram(_))) => {}
            }
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
        let mut assignments = Assignments { index: snapshot.index(), ..Assignments::default() };
        if dirty.everything {
            assignments.complete = true;
            for alloc in snapshot.allocs_by_node(self.node_id) {
                // One that counts as lost may still run there, and then has to stop.
                if alloc.client_status.is_terminal() && alloc.client_status != ClientStatus::Lost {
                    assignments.kept.push(alloc.id);
                } else {
                    self.add(&mut assignments, alloc);
                }
            }
        } else {
            for id in dirty.allocs {
                match snapshot.alloc(id) {
                    Some(alloc) => self.add(&mut assignments, alloc),
                    None => assignments.removed.push(id),
                }
            }
        }
        self.writer.send(encode(&ServerMessage::Allocs(assignments))).await?;
        Ok(())
    }

    fn add(&mut self, assignments: &mut Assignments, alloc: &Allocation) {
        let job: &Arc<Job> = &alloc.job;
        if self.sent_jobs.insert((job.key.clone(), job.create_index, job.version)) {
            assignments.jobs.push(job.clone());
        }
        let mut record = alloc.to_record();
        // The client knows its own tasks best, and has no use for how it was placed.
        record.metrics = None;
        record.task_states = Arc::new([]);
        assignments.allocs.push(record);
    }
}

//! The client's one long-lived connection to a server.
//!
//! A session that breaks is opened again with another server at once; only when a whole round of servers has failed is
//! there a wait. Nothing of this touches a task: what happens meanwhile is told by the next session's first message.

use std::{collections::BTreeMap, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use model::{AllocId, Node};
use protocol::{
    Named, decode, encode,
    session::{AllocUpdate, Assignments, ClientMessage, SESSION_HEADER, ServerMessage},
};
use runtime::{Backoff, Env, Instant};
use tokio::sync::{mpsc, watch};
use transport::{
    CloseCode, Connection, Inbound, Incoming, Opened, Plane, RequestError, Stream, StreamReader,
    StreamWriter, Transport,
    framed::{FrameReader, FrameWriter},
};

use crate::{
    Client,
    dial::{Failure, race},
    outbox::{Outbox, Said},
    servers::{Choice, ServerAddr, Servers, ping_period},
};

/// Largest message either way: a complete list of a node with many thousands of allocations.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Updates in one message. Larger batches would make one command of the log too large.
const UPDATES_MAX: usize = 2_048;

/// First and longest wait after a round in which no server took the session.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Time for a server to open the stream of the session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A session that lasted so long was a good one: its server is tried again later, and others before it at once. One that
/// ended earlier counts as a try that failed, so that servers that turn a client away are not asked in a loop.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// Time for a server to answer that it is there, beyond some round trips. A packet that is lost is sent again within
/// that time; a server that is silent for longer loses the client to one that answers. In a large region, whose nodes ask seldom,
/// it is the time between two questions: a server of thousands of sessions that is short of time is not helped by their moving.
const PING_TIMEOUT: Duration = Duration::from_millis(400);
const PING_ROUND_TRIPS: u32 = 8;

/// A server that is too busy to answer still acknowledges what arrives, and then stays the server of this node: changing
/// to another one costs all of them more work. One that only acknowledges for so long does not work any more.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);

/// Time for a server to welcome this node: it may have to wait for a leader to register it with. Before that, nothing
/// else is asked.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// A timer that fires so late means that this agent was not running: then silence says nothing about the server.
const OWN_LAG_MAX: Duration = Duration::from_millis(200);

/// Time that a server may be without a leader before the client looks for one that is not cut off.
const LEADERLESS_MAX: Duration = Duration::from_secs(5);

/// A server's answer to "are you there": it is, and it has a leader or not. Other answers only say that it is there.
pub const HAS_LEADER: &[u8] = b"\x01";
/// See [`HAS_LEADER`].
pub const NO_LEADER: &[u8] = b"\x00";

/// Time for the server to take in that this node leaves.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Failures remembered so that each is told once: one for each server.
const TOLD_MAX: usize = 64;

/// A server counted on a job that the node does not have. A new session carries everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("server named the job of allocation {alloc} and did not send it")]
pub struct UnknownJob {
    /// The allocation, which is not started.
    pub alloc: AllocId,
}

/// A node for which a session speaks: the product's [`Client`], or one that only pretends to run what it is given, of
/// which a measurement needs thousands.
pub trait SessionNode: Clone + Send + Sync + 'static {
    /// Time, chance and tasks.
    fn env(&self) -> &Env;
    /// The node as it is.
    fn node(&self) -> Arc<Node>;
    /// Waits until the node changed.
    fn node_changed(&self) -> impl Future<Output = ()> + Send;
    /// What waits to be handed in.
    fn outbox(&self) -> &Outbox;
    /// Lists how everything is that the node knows of.
    fn told(&self) -> Vec<AllocUpdate>;
    /// Does what the servers want; an error ends the session.
    fn apply(&self, assignments: Assignments) -> impl Future<Output = Result<(), UnknownJob>> + Send;
    /// Turns true when the node leaves on purpose.
    fn leaving(&self) -> watch::Receiver<bool>;
    /// Notes whether a server that has a leader hears this node.
    fn set_contact(&self, held: bool);
}

/// Keeps a session with one of the servers for as long as the agent lives.
pub struct Session<N = Client> {
    /// The client.
    pub client: N,
    /// The way to servers.
    pub transport: Arc<dyn Transport>,
    /// The servers that are there.
    pub servers: watch::Receiver<Servers>,
    /// Where streams go that the server opens back.
    pub streams: mpsc::Sender<Stream>,
    /// The server that holds the session; none between two.
    pub current: watch::Sender<Option<(SocketAddr, Connection)>>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("could not open the session: {0}")]
    Open(#[from] transport::OpenStreamError),
    #[error("connection broke: {0}")]
    Frame(#[from] transport::framed::FrameError),
    #[error("server speaks another protocol: {0}")]
    Decode(#[from] protocol::DecodeError),
    #[error("{0}")]
    Closed(transport::Closed),
    #[error("server ended the session")]
    Finished,
    #[error("server refused: {0}")]
    Refused(String),
    #[error(transparent)]
    UnknownJob(#[from] UnknownJob),
    #[error("{why}; another server took over")]
    Moved { why: Why, to: Box<(SocketAddr, Opened)> },
    #[error("this node leaves")]
    Left,
}

/// Why another server is looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Why {
    Silent,
    Leaderless,
    Failed,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Silent => "this server does not answer",
            Self::Leaderless => "this server has no leader",
            Self::Failed => "the region says that this server failed or left",
        })
    }
}

/// What can happen in a session.
enum Event {
    Frame(Option<Bytes>),
    Stream(Option<Incoming>),
    OutboxReady,
    NodeChanged,
    ServersChanged,
    PingDue,
    Answered { in_time: bool, answer: Option<Bytes> },
    Found(Option<(SocketAddr, Opened)>),
    Leave,
}

type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Waits for what is under way; for ever when nothing is.
async fn pending_or<T>(later: Option<&mut Later<T>>) -> T {
    match later {
        Some(later) => later.await,
        None => std::future::pending().await,
    }
}

impl<N: SessionNode> Session<N> {
    /// Connects, and connects again, until the agent stops or leaves.
    pub async fn run(mut self) {
        let env = self.client.env().clone();
        let mut choice = Choice::default();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut reporter = Reporter::default();
        let mut next = None;
        loop {
            let found = match next.take() {
                Some(found) => found,
                None => tokio::select! {
                    biased;
                    () = env.shutdown().wait() => return,
                    () = left(self.client.leaving()) => return,
                    found = self.find(&env, &mut choice, &mut backoff, &mut reporter) => found,
                },
            };
            let addr = found.0;
            choice.tried(addr);
            let started = env.now();
            let ended = tokio::select! {
                biased;
                () = env.shutdown().wait() => return,
                ended = self.once(&env, found, &mut choice) => ended,
            };
            self.current.send_replace(None);
            self.client.set_contact(false);
            if started.elapsed() > GOOD_AFTER {
                backoff.reset();
                reporter.forget();
                choice.begin_round_without(addr);
            }
            match ended {
                Ended::Left => return,
                Ended::Moved { why, to } => {
                    choice.begin_round_without(addr);
                    tracing::warn!(server = %addr, to = %to.0, %why, "changing to another server");
                    next = Some(*to);
                }
                error => reporter.tell(&Failure { addr, why: error.to_string() }),
            }
        }
    }

    /// Tries servers until one takes a connection.
    async fn find(
        &mut self,
        env: &Env,
        choice: &mut Choice,
        backoff: &mut Backoff,
        reporter: &mut Reporter,
    ) -> (SocketAddr, Opened) {
        let mut rng = env.rng();
        loop {
            choice.update(&self.servers.borrow_and_update().list, &mut rng);
            let round = choice.untried();
            let mut failures = Vec::new();
            let found = tokio::select! {
                biased;
                found = race(env, &self.transport, Plane::Node, &round, &mut failures) => found,
                // New servers may be better than those that are being tried.
                true = changed(&mut self.servers) => continue,
            };
            failures.iter().for_each(|failure| reporter.tell(failure));
            if let Some(found) = found {
                return found;
            }
            tokio::select! {
                biased;
                true = changed(&mut self.servers) => {}
                () = env.sleep(backoff.next_wait(&mut rng)) => {}
            }
            choice.begin_round();
        }
    }

    /// Holds a session until it ends.
    async fn once(&mut self, env: &Env, (addr, opened): (SocketAddr, Opened), choice: &mut Choice) -> Ended {
        let Opened { connection, inbound } = opened;
        let node_id = connection.peer().identity().map(|identity| identity.node_id);
        let mut talk = Talk {
            env: env.clone(),
            client: self.client.clone(),
            server: ServerAddr { addr, node_id },
            connection: connection.clone(),
            seq: 0,
            under_way: None,
            hello: None,
            ping_due: env.now() + WELCOME_TIMEOUT,
            ping: None,
            asked_at: env.now(),
            answered_at: env.now(),
            heard_at: env.now(),
            leaderless_since: None,
            search: None,
        };
        let ended = match talk.open().await {
            Ok((reader, writer)) => {
                self.current.send_replace(Some((addr, connection.clone())));
                tracing::info!(server = %addr, "session with a server opened");
                let result = self.serve(&mut talk, choice, reader, writer, inbound).await;
                result.err().unwrap_or(Ended::Finished)
            }
            Err(ended) => ended,
        };
        // The connection knows better than its streams how it ended.
        let ended = match (ended, connection.close_reason()) {
            (Ended::Open(_) | Ended::Frame(_) | Ended::Finished, Some(closed)) => Ended::Closed(closed),
            (ended, _) => ended,
        };
        connection.close(CloseCode::Done, "session is over");
        ended
    }

    async fn serve(
        &mut self,
        talk: &mut Talk<N>,
        choice: &mut Choice,
        mut reader: FrameReader<StreamReader>,
        mut writer: FrameWriter<StreamWriter>,
        mut inbound: Inbound,
    ) -> Result<(), Ended> {
        let mut leaving = self.client.leaving();
        self.follow_list(talk, choice);
        loop {
            let idle = talk.under_way.is_none();
            let ping_due = talk.ping_due;
            let event = tokio::select! {
                biased;
                frame = reader.next() => Event::Frame(frame?),
                incoming = inbound.next() => Event::Stream(incoming),
                _ = leaving.wait_for(|leaving| *leaving) => Event::Leave,
                (in_time, answer) = pending_or(talk.ping.as_mut()) => Event::Answered { in_time, answer },
                found = pending_or(talk.search.as_mut().map(|search| &mut search.found)) => Event::Found(found),
                () = self.client.outbox().ready(), if idle => Event::OutboxReady,
                () = self.client.node_changed() => Event::NodeChanged,
                true = changed(&mut self.servers) => Event::ServersChanged,
                () = talk.env.sleep_until(ping_due), if talk.ping.is_none() => Event::PingDue,
            };
            match event {
                Event::Frame(None) | Event::Stream(None) => return Err(Ended::Finished),
                Event::Frame(Some(frame)) => {
                    talk.hear(decode(&frame)?).await?;
                    talk.note_heard(ping_period(&self.servers.borrow()));
                }
                Event::Stream(Some(Incoming::Stream(stream))) => {
                    // Whoever serves streams is gone only when the agent stops.
                    let _ = self.streams.send(stream).await;
                }
                // The server asks whether this agent is there.
                Event::Stream(Some(Incoming::Request(request))) => {
                    drop(request.reply.send(Bytes::new()).await)
                }
                Event::Stream(Some(Incoming::Datagram(_))) => {}
                Event::OutboxReady => {
                    if let Some(updates) = talk.next_updates() {
                        writer.send(encode(&updates)).await?;
                    }
                }
                Event::NodeChanged => {
                    let node = Named(Box::new((*self.client.node()).clone()));
                    writer.send(encode(&ClientMessage::NodeChanged { node })).await?;
                }
                Event::ServersChanged => self.follow_list(talk, choice),
                Event::PingDue => talk.ask(ping_period(&self.servers.borrow())),
                Event::Answered { in_time, answer } => {
                    if let Some(why) = talk.judge(in_time, answer) {
                        talk.look_elsewhere(&self.transport, choice, why);
                    }
                }
                Event::Found(found) => talk.search_ended(found)?,
                Event::Leave => {
                    writer.send(encode(&ClientMessage::Leaving)).await?;
                    // What was written is lost when this end closes first, so the server does.
                    let closed = async { while let Ok(Some(_)) = reader.next().await {} };
                    drop(tokio::time::timeout(LEAVE_TIMEOUT, closed).await);
                    return Err(Ended::Left);
                }
            }
        }
    }

    /// Takes in the list of servers; looks for another one when this one failed.
    fn follow_list(&mut self, talk: &mut Talk<N>, choice: &mut Choice) {
        let list = self.servers.borrow_and_update().list.clone();
        choice.update(&list, &mut talk.env.rng());
        talk.ping_due = talk.ping_due.min(talk.env.now() + ping_period(&self.servers.borrow()));
        if !choice.is_empty() && !choice.knows(&talk.server) {
            talk.look_elsewhere(&self.transport, choice, Why::Failed);
        }
    }
}

/// Waits until this node leaves.
async fn left(mut leaving: watch::Receiver<bool>) {
    // The client keeps the sender for as long as it lives.
    let _ = leaving.wait_for(|leaving| *leaving).await;
}

/// Waits for a new list; for ever when there will be none.
async fn changed(servers: &mut watch::Receiver<Servers>) -> bool {
    match servers.changed().await {
        Ok(()) => true,
        Err(_) => std::future::pending().await,
    }
}

/// One session.
struct Talk<N> {
    env: Env,
    client: N,
    server: ServerAddr,
    connection: Connection,
    seq: u64,
    under_way: Option<(u64, Said)>,
    hello: Option<Said>,
    ping_due: Instant,
    /// A question whether the server is there: in time, and what it said.
    ping: Option<Later<(bool, Option<Bytes>)>>,
    /// When the server was last asked.
    asked_at: Instant,
    /// When it last said anything but an answer.
    heard_at: Instant,
    /// When the server last answered.
    answered_at: Instant,
    leaderless_since: Option<Instant>,
    /// Another server is being looked for.
    search: Option<Search>,
}

/// A search for another server.
struct Search {
    why: Why,
    found: Later<Option<(SocketAddr, Opened)>>,
}

impl<N: SessionNode> Talk<N> {
    /// Opens the session and says everything that there is to say.
    async fn open(&mut self) -> Result<(FrameReader<StreamReader>, FrameWriter<StreamWriter>), Ended> {
        let deadline = self.env.now() + OPEN_TIMEOUT;
        let header = Bytes::from_static(SESSION_HEADER);
        let stream = self.connection.open_stream(header, deadline).await?;
        let (reader, writer) = stream.into_split();
        let mut writer = FrameWriter::new(writer, MESSAGE_BYTES_MAX);
        self.hello = Some(self.client.outbox().begin());
        let node = Named(Box::new((*self.client.node()).clone()));
        let hello = ClientMessage::Hello { node, allocs: self.client.told() };
        writer.send(encode(&hello)).await?;
        Ok((FrameReader::new(reader, MESSAGE_BYTES_MAX), writer))
    }

    async fn hear(&mut self, message: ServerMessage) -> Result<(), Ended> {
        match message {
            ServerMessage::Welcome { .. } => {
                if let Some(hello) = self.hello.take() {
                    self.client.outbox().settle(hello);
                }
                self.ping_due = self.env.now();
                self.client.set_contact(true);
            }
            ServerMessage::Allocs(assignments) => self.client.apply(assignments).await?,
            ServerMessage::Packed(assignments) => self.client.apply(assignments.into()).await?,
            ServerMessage::Ack { seq: acked, .. } => {
                if let Some((_, said)) = self.under_way.take_if(|(seq, _)| *seq == acked) {
                    self.client.outbox().settle(said);
                }
            }
            ServerMessage::Refused { reason } => return Err(Ended::Refused(reason.to_string())),
        }
        Ok(())
    }

    fn next_updates(&mut self) -> Option<ClientMessage> {
        let (updates, said) = self.client.outbox().take(UPDATES_MAX);
        if updates.is_empty() {
            return None;
        }
        self.seq += 1;
        self.under_way = Some((self.seq, said));
        Some(ClientMessage::Updates { seq: self.seq, updates })
    }

    /// Notes that the server spoke, and puts the next question off: whoever speaks is there, and has news only while it has a
    /// leader. One that is due already, as
    /// the first one is right after the welcome, is asked.
    fn note_heard(&mut self, period: Duration) {
        let now = self.env.now();
        self.heard_at = now;
        if self.leaderless_since.is_none() && self.ping_due > now {
            self.ping_due = self.ping_due.max(now + period);
        }
    }

    /// Asks the server whether it is there, and will again after `period`.
    fn ask(&mut self, period: Duration) {
        let now = self.env.now();
        // Late by more than the lag that is forgiven: this agent was stopped, and so may be the answer's packets.
        let forgive = now.saturating_duration_since(self.ping_due) > OWN_LAG_MAX;
        self.ping_due = now + period;
        self.asked_at = now;
        let wait = PING_TIMEOUT.max(self.connection.rtt() * PING_ROUND_TRIPS).max(period);
        let (connection, env) = (self.connection.clone(), self.env.clone());
        let busy_until = self.answered_at + UNANSWERED_MAX;
        let acknowledged = connection.acknowledged();
        self.ping = Some(Box::pin(async move {
            let deadline = now + wait;
            match connection.request(Bytes::new(), deadline).await {
                Ok(answer) => (true, Some(answer)),
                Err(RequestError::DeadlineExceeded | RequestError::NotSent) => {
                    let late = env.now().saturating_duration_since(deadline) > OWN_LAG_MAX;
                    let busy = connection.acknowledged() > acknowledged && env.now() < busy_until;
                    (forgive || late || busy, None)
                }
                // Whatever else it says, it is there; and an end of the connection is told by its streams.
                Err(_) => (true, None),
            }
        }));
    }

    /// Takes in an answer, and says why another server should be looked for, if one should.
    fn judge(&mut self, in_time: bool, answer: Option<Bytes>) -> Option<Why> {
        self.ping = None;
        if !in_time && self.heard_at < self.asked_at {
            return Some(Why::Silent);
        }
        let now = self.env.now();
        if answer.is_some() {
            self.answered_at = now;
        }
        match answer.as_deref() {
            Some(NO_LEADER) => {
                let since = *self.leaderless_since.get_or_insert(now);
                self.client.set_contact(false);
                let long = now.saturating_duration_since(since) > LEADERLESS_MAX;
                return long.then_some(Why::Leaderless);
            }
            Some(HAS_LEADER) => {
                if self.leaderless_since.take().is_some() && self.hello.is_none() {
                    self.client.set_contact(true);
                }
            }
            Some(_) | None => {}
        }
        // It answers: another one is not needed, unless something else speaks against this one.
        if self.search.as_ref().is_some_and(|search| search.why == Why::Silent) {
            self.search = None;
        }
        None
    }

    /// Looks for another server, while this one is kept.
    fn look_elsewhere(&mut self, transport: &Arc<dyn Transport>, choice: &Choice, why: Why) {
        let others = choice.others(&self.server);
        if self.search.is_some() || others.is_empty() {
            return;
        }
        let (env, transport) = (self.env.clone(), transport.clone());
        let found = Box::pin(async move {
            let mut failures = Vec::new();
            race(&env, &transport, Plane::Node, &others, &mut failures).await
        });
        self.search = Some(Search { why, found });
    }

    /// Goes to the server that was found; without one, stays with this one.
    fn search_ended(&mut self, found: Option<(SocketAddr, Opened)>) -> Result<(), Ended> {
        match (self.search.take(), found) {
            (Some(Search { why, .. }), Some(to)) => Err(Ended::Moved { why, to: Box::new(to) }),
            (_, _) => Ok(()),
        }
    }
}

/// Tells what goes wrong between this agent and its servers, each thing once.
#[derive(Default)]
struct Reporter {
    told: BTreeMap<SocketAddr, String>,
}

impl Reporter {
    fn tell(&mut self, failure: &Failure) {
        let Failure { addr, why } = failure;
        if self.told.get(addr) == Some(why) {
            tracing::debug!(server = %addr, error = %why, "still no session with this server");
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(*addr, why.clone());
        tracing::warn!(server = %addr, error = %why, "no session with this server");
    }

    /// A session is open: what goes wrong from here on is news.
    fn forget(&mut self) {
        self.told.clear();
    }
}

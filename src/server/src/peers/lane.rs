//! The connection to one other server: kept open, replaced when it breaks, and the stream of entries on it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use raft::NetworkError;
use runtime::{Backoff, Env, Instant};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use transport::{
    Boot, CloseCode, Connection, Expect, NodeId, Opened, Plane, StreamReader, StreamWriter,
    framed::{FrameReader, FrameWriter},
};

use super::{
    Shared,
    frame::{APPEND_HEADER, FRAME_BYTES_MAX, number, split_answer, split_number},
    is_node,
};
use crate::Replica;

/// Messages that wait for the stream; replication has at most as many under way.
const QUEUE_MAX: usize = 64;
/// Bytes gathered before they are written.
const WRITE_BYTES_MAX: usize = 256 << 10;
/// Waits between two dials. A server that comes back dials us, and is then dialled at once.
const REDIAL_MIN: Duration = Duration::from_millis(20);
const REDIAL_MAX: Duration = Duration::from_secs(1);
/// A dial that gets no answer is begun anew after this long, for a server that starts meanwhile hears only the rare
/// repetitions of an old one; every third takes as long as the transport lets it, for far or lossy links.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
const PATIENT_DIALS: u32 = 3;
/// How long the stream of entries may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that can not be reached is spoken of once in so many dials.
const LOG_EVERY: u32 = 32;

/// The way to one other server in one of its lives.
pub(super) struct Lane {
    replica: Replica,
    env: Env,
    connection: watch::Sender<Option<Connection>>,
    appends: mpsc::Sender<Append>,
    numbers: AtomicU64,
    /// Told when the server was seen, so that it is dialled at once.
    seen: Notify,
}

/// One message on its way.
struct Append {
    number: u64,
    message: Bytes,
    answer: oneshot::Sender<Result<Bytes, NetworkError>>,
}

impl Lane {
    /// Begins to keep a connection, for as long as the lane is held.
    pub fn start(env: &Env, shared: Arc<Shared>, replica: Replica) -> Arc<Self> {
        let (appends, queue) = mpsc::channel(QUEUE_MAX);
        let lane = Self {
            replica,
            env: env.clone(),
            connection: watch::Sender::new(None),
            appends,
            numbers: AtomicU64::new(0),
            seen: Notify::new(),
        };
        let lane = Arc::new(lane);
        env.spawn("raft-lane", keep(Arc::downgrade(&lane), shared, queue));
        lane
    }

    pub fn node_id(&self) -> NodeId {
        self.replica.node_id
    }

    /// Hears that the server opened a connection here, in this run of it.
    pub fn seen(&self, boot: Boot) {
        let stale = self.connection.borrow().clone().filter(|connection| connection.peer_boot() != boot);
        if let Some(stale) = stale {
            stale.close(CloseCode::Superseded, "the server was restarted");
        }
        self.seen.notify_one();
    }

    /// Waits for the connection.
    pub async fn connection(&self, until: Instant) -> Result<Connection, NetworkError> {
        let mut current = self.connection.subscribe();
        let found = tokio::select! {
            biased;
            found = current.wait_for(Option::is_some) => found.ok().and_then(|found| found.clone()),
            () = self.env.sleep_until(until) => None,
        };
        found.ok_or_else(|| NetworkError::Unreachable(format!("{} is not connected", self.replica.name)))
    }

    /// Sends entries, after those that were sent before.
    pub async fn append(&self, message: Bytes) -> Result<Bytes, NetworkError> {
        let (answer, answered) = oneshot::channel();
        let lost = || NetworkError::Failed("the connection broke".to_owned());
        let slot = self.appends.reserve().await.map_err(|_| lost())?;
        // Numbered where it takes its place, so that numbers and places agree.
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        slot.send(Append { number, message, answer });
        answered.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// Keeps the connection until nobody holds the lane.
async fn keep(lane: std::sync::Weak<Lane>, shared: Arc<Shared>, mut queue: mpsc::Receiver<Append>) {
    let env = shared.env.clone();
    let mut backoff = Backoff::new(REDIAL_MIN, REDIAL_MAX);
    let mut dials = 0;
    loop {
        let Some(held) = lane.upgrade() else { return };
        dials += 1;
        let opened = tokio::select! {
            biased;
            () = env.shutdown().wait() => return,
            opened = dial(&held, &shared, dials) => opened,
            () = held.seen.notified() => continue,
        };
        match opened {
            Ok(opened) => {
                (dials, backoff) = (0, Backoff::new(REDIAL_MIN, REDIAL_MAX));
                tracing::debug!(server = %held.replica.name, "connected for replication");
                let weak = Arc::downgrade(&held);
                drop(held);
                carry(&weak, opened, &mut queue, &env).await;
                continue;
            }
            Err(reason) if dials % LOG_EVERY == 1 => {
                tracing::warn!(server = %held.replica.name, reason, "server can not be reached for replication");
            }
            Err(_) => {}
        }
        let wait = backoff.next_wait(&mut env.rng());
        tokio::select! {
            biased;
            () = env.shutdown().wait() => return,
            () = held.seen.notified() => {}
            () = env.sleep(wait) => {}
        }
    }
}

async fn dial(lane: &Lane, shared: &Shared, dials: u32) -> Result<Opened, String> {
    let addr = shared.newest(&lane.replica);
    let dialled = shared.transport.dial(addr, Plane::Raft, Expect::Node(lane.replica.node_id));
    let opened = if dials.is_multiple_of(PATIENT_DIALS) {
        dialled.await
    } else {
        tokio::time::timeout(DIAL_TIMEOUT, dialled).await.map_err(|_| format!("{addr} does not answer"))?
    };
    let opened = opened.map_err(|error| format!("{addr}: {error}"))?;
    if is_node(&opened.connection, lane.replica.node_id) {
        Ok(opened)
    } else {
        Err(format!("{addr} is {}, another server", opened.connection.peer()))
    }
}

/// Carries messages until the connection ends or nobody holds the lane.
async fn carry(lane: &std::sync::Weak<Lane>, opened: Opened, queue: &mut mpsc::Receiver<Append>, env: &Env) {
    // What the server asks it asks on a connection of its own.
    let Opened { connection, inbound: _ } = opened;
    let until = env.now() + OPEN_TIMEOUT;
    let Ok(stream) = connection.open_stream(Bytes::from_static(APPEND_HEADER), until).await else {
        connection.close(CloseCode::Protocol, "the stream of entries could not be opened");
        return;
    };
    if let Some(lane) = lane.upgrade() {
        lane.connection.send_replace(Some(connection.clone()));
    }
    let (reader, writer) = stream.into_split();
    let waiting = Mutex::new(VecDeque::new());
    let ended = tokio::select! {
        biased;
        () = env.shutdown().wait() => "shutting down".to_owned(),
        closed = connection.closed() => closed.to_string(),
        ended = write(FrameWriter::new(writer, FRAME_BYTES_MAX), queue, &waiting) => ended,
        ended = read(FrameReader::new(reader, FRAME_BYTES_MAX), &waiting) => ended,
    };
    if let Some(lane) = lane.upgrade() {
        lane.connection.send_replace(None);
        tracing::debug!(server = %lane.replica.name, ended, "connection for replication ended");
    }
    connection.close(CloseCode::Done, "not used any more");
    let failed = || Err(NetworkError::Failed(format!("the connection broke: {ended}")));
    for (_, answer) in waiting.into_inner() {
        // Whoever waited may have given up.
        let _ = answer.send(failed());
    }
    while let Ok(append) = queue.try_recv() {
        let _ = append.answer.send(failed());
    }
}

/// Messages that were written and are not answered, in order.
type Waiting = Mutex<VecDeque<(u64, oneshot::Sender<Result<Bytes, NetworkError>>)>>;

async fn write(
    mut writer: FrameWriter<StreamWriter>,
    queue: &mut mpsc::Receiver<Append>,
    waiting: &Waiting,
) -> String {
    let Some(mut append) = queue.recv().await else { return "not used any more".to_owned() };
    loop {
        waiting.lock().push_back((append.number, append.answer));
        if let Err(error) = writer.push_parts(&number(append.number), append.message) {
            return error.to_string();
        }
        append = match queue.try_recv() {
            Ok(next) if writer.waiting() < WRITE_BYTES_MAX => next,
            next => {
                if let Err(error) = writer.flush().await {
                    return error.to_string();
                }
                match next {
                    Ok(next) => next,
                    Err(_) => match queue.recv().await {
                        Some(next) => next,
                        None => return "not used any more".to_owned(),
                    },
                }
            }
        };
    }
}

async fn read(mut reader: FrameReader<StreamReader>, waiting: &Waiting) -> String {
    loop {
        let frame = match reader.next().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the server ended the stream of entries".to_owned(),
            Err(error) => return error.to_string(),
        };
        let Some((number, answer)) = split_number(frame) else {
            return "an answer has no number".to_owned();
        };
        match waiting.lock().pop_front() {
            Some((expected, waits)) if expected == number => {
                // Whoever waited may have given up.
                let _ = waits.send(split_answer(answer));
            }
            Some((expected, _)) => return format!("answer {number} came where {expected} was due"),
            None => return format!("answer {number} was not asked for"),
        }
    }
}

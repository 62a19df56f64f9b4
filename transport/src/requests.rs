//! Many requests at once on one stream, both ways, each with an id and a deadline.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};

use crate::{
    connection::Handle,
    error::{Closed, RequestError},
};

/// Room in the outbox for refusals and cancellations, which hold no slot. A peer that makes us owe it more while it
/// reads nothing is cut off.
const CONTROL_MAX: usize = 256;
/// Outbox bytes are counted in units of this many, to fit a semaphore.
const BYTES_UNIT: usize = 1024;
/// Longest failure text that is sent or kept.
const MESSAGE_LEN_MAX: usize = 1024;
/// Kind, id and timeout: the most that stands before a body.
pub(crate) const HEAD_LEN_MAX: usize = 13;

/// A frame on its way out, with what it holds until it is written.
pub(crate) struct Outgoing {
    head: [u8; HEAD_LEN_MAX],
    head_len: usize,
    body: Bytes,
    _slot: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Outgoing {
    fn new(message: &Message) -> Self {
        let mut head = [0; HEAD_LEN_MAX];
        let mut rest = &mut head[..];
        let body = match message {
            Message::Request { id, timeout_ms, body } => {
                rest.put_u8(KIND_REQUEST);
                rest.put_u64(*id);
                rest.put_u32(*timeout_ms);
                body.clone()
            }
            Message::Reply { id, body } => {
                rest.put_u8(KIND_REPLY);
                rest.put_u64(*id);
                body.clone()
            }
            Message::Fault { id, fault, text } => {
                rest.put_u8(KIND_FAULT);
                rest.put_u64(*id);
                rest.put_u8(fault.to_wire());
                Bytes::copy_from_slice(text.as_bytes())
            }
            Message::Cancel { id } => {
                rest.put_u8(KIND_CANCEL);
                rest.put_u64(*id);
                Bytes::new()
            }
        };
        let head_len = HEAD_LEN_MAX - rest.len();
        Self { head, head_len, body, _slot: None, _bytes: None }
    }

    pub(crate) fn parts(&self) -> (&[u8], Bytes) {
        (&self.head[..self.head_len], self.body.clone())
    }
}

const KIND_REQUEST: u8 = 1;
const KIND_REPLY: u8 = 2;
const KIND_FAULT: u8 = 3;
const KIND_CANCEL: u8 = 4;

/// What travels on the first stream after the greeting.
#[derive(Debug, Eq, PartialEq)]
enum Message {
    Request { id: u64, timeout_ms: u32, body: Bytes },
    Reply { id: u64, body: Bytes },
    Fault { id: u64, fault: Fault, text: String },
    Cancel { id: u64 },
}

/// Why the responder has no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    Busy,
    NotServed,
    Abandoned,
    Failed,
}

impl Fault {
    fn to_wire(self) -> u8 {
        match self {
            Self::Busy => 1,
            Self::NotServed => 2,
            Self::Abandoned => 3,
            Self::Failed => 4,
        }
    }

    fn into_error(self, text: String) -> RequestError {
        match self {
            Self::Busy => RequestError::Busy,
            Self::NotServed => RequestError::NotServed,
            Self::Abandoned => RequestError::Abandoned,
            Self::Failed => RequestError::Failed { message: text },
        }
    }
}

/// The peer sent what no agent sends.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error("message cut short")]
    Short,
    #[error("message of unknown kind {0}")]
    Kind(u8),
    #[error("unknown fault {0}")]
    Fault(u8),
    #[error("request id used twice")]
    Repeated,
    #[error("requests pile up and no answer is read")]
    Flood,
}

fn decode(mut frame: Bytes) -> Result<Message, ProtocolError> {
    let short = |_| ProtocolError::Short;
    let kind = frame.try_get_u8().map_err(short)?;
    let id = frame.try_get_u64().map_err(short)?;
    match kind {
        KIND_REQUEST => {
            let timeout_ms = frame.try_get_u32().map_err(short)?;
            Ok(Message::Request { id, timeout_ms, body: frame })
        }
        KIND_REPLY => Ok(Message::Reply { id, body: frame }),
        KIND_FAULT => {
            let fault = match frame.try_get_u8().map_err(short)? {
                1 => Fault::Busy,
                2 => Fault::NotServed,
                3 => Fault::Abandoned,
                4 => Fault::Failed,
                other => return Err(ProtocolError::Fault(other)),
            };
            frame.truncate(MESSAGE_LEN_MAX);
            Ok(Message::Fault { id, fault, text: String::from_utf8_lossy(&frame).into_owned() })
        }
        KIND_CANCEL => Ok(Message::Cancel { id }),
        other => Err(ProtocolError::Kind(other)),
    }
}

/// How much either end takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Requests that we may have at hand at the peer.
    pub(crate) requests_out_max: usize,
    /// Requests that the peer may have at hand here.
    pub(crate) requests_in_max: usize,
    /// Largest body that the peer reads.
    pub(crate) body_out_max: usize,
    /// Bytes that may wait to be written.
    pub(crate) outbox_bytes_max: usize,
}

type Answer = Result<Bytes, RequestError>;

/// The requests of one connection, in both directions.
pub(crate) struct Requests {
    outbox: mpsc::Sender<Outgoing>,
    outbox_bytes: Arc<Semaphore>,
    outbox_units: u32,
    slots_out: Arc<Semaphore>,
    slots_in: Arc<Semaphore>,
    body_out_max: usize,
    next_id: AtomicU64,
    asked: Mutex<Asked>,
    /// Requests of the peer that are at hand here, and how to tell their handlers that nobody waits any more.
    running: Mutex<BTreeMap<u64, oneshot::Sender<()>>>,
}

struct Asked {
    waiting: BTreeMap<u64, oneshot::Sender<Answer>>,
    ended: Option<Closed>,
}

impl Requests {
    pub(crate) fn new(limits: Limits) -> (Self, mpsc::Receiver<Outgoing>) {
        let capacity = limits.requests_in_max + limits.requests_out_max + CONTROL_MAX;
        let (outbox, frames) = mpsc::channel(capacity);
        let units = (limits.outbox_bytes_max / BYTES_UNIT).max(1);
        let requests = Self {
            outbox,
            outbox_bytes: Arc::new(Semaphore::new(units)),
            outbox_units: u32::try_from(units).unwrap_or(u32::MAX),
            slots_out: Arc::new(Semaphore::new(limits.requests_out_max)),
            slots_in: Arc::new(Semaphore::new(limits.requests_in_max)),
            body_out_max: limits.body_out_max,
            next_id: AtomicU64::new(0),
            asked: Mutex::new(Asked { waiting: BTreeMap::new(), ended: None }),
            running: Mutex::new(BTreeMap::new()),
        };
        (requests, frames)
    }

    /// Sends a request and waits for its answer. When cancelled, the peer's handler is told.
    pub(crate) async fn ask(&self, body: Bytes, deadline: Instant) -> Answer {
        if body.len() > self.body_out_max {
            return Err(RequestError::TooLarge { len: body.len(), max: self.body_out_max });
        }
        let permits = async {
            // A closed semaphore means that the connection has ended.
            let slot = self.slots_out.acquire().await.ok()?;
            Some((slot, self.reserve(body.len()).await?))
        };
        let Ok(permits) = timeout_at(deadline, permits).await else {
            return Err(RequestError::NotSent);
        };
        let Some((_slot, bytes)) = permits else {
            return Err(RequestError::Ended(self.ended()));
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        {
            let mut asked = lock(&self.asked);
            if let Some(closed) = &asked.ended {
                return Err(RequestError::Ended(closed.clone()));
            }
            asked.waiting.insert(id, answer);
        }
        let mut waiting = Waiting { requests: self, id, sent: false };
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let mut frame = Outgoing::new(&Message::Request { id, timeout_ms, body });
        frame._bytes = Some(bytes);
        if self.outbox.try_send(frame).is_err() {
            // The slots bound what waits, except for requests whose callers gave up while the peer read nothing.
            return Err(RequestError::Busy);
        }
        waiting.sent = true;
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => {
                waiting.sent = false;
                answer
            }
            Ok(Err(_)) => Err(RequestError::Lost(self.ended())),
            Err(_) => Err(RequestError::DeadlineExceeded),
        }
    }

    /// Takes one frame that the peer sent. A request comes back, for the caller to hand on or refuse.
    pub(crate) fn take(&self, frame: Bytes) -> Result<Option<Arrived>, ProtocolError> {
        match decode(frame)? {
            Message::Request { id, timeout_ms, body } => self.admit(id, timeout_ms, body),
            Message::Reply { id, body } => {
                self.settle(id, Ok(body));
                Ok(None)
            }
            Message::Fault { id, fault, text } => {
                self.settle(id, Err(fault.into_error(text)));
                Ok(None)
            }
            Message::Cancel { id } => {
                if let Some(handler) = lock(&self.running).remove(&id) {
                    // A handler that does not look is not told.
                    let _ = handler.send(());
                }
                Ok(None)
            }
        }
    }

    fn admit(&self, id: u64, timeout_ms: u32, body: Bytes) -> Result<Option<Arrived>, ProtocolError> {
        let Ok(slot) = self.slots_in.clone().try_acquire_owned() else {
            return self.refuse(id, Fault::Busy, "").map(|()| None);
        };
        let (cancel, cancelled) = oneshot::channel();
        if lock(&self.running).insert(id, cancel).is_some() {
            return Err(ProtocolError::Repeated);
        }
        let deadline = Instant::now() + Duration::from_millis(timeout_ms.into());
        Ok(Some(Arrived { id, body, deadline, slot, cancelled }))
    }

    fn settle(&self, id: u64, answer: Answer) {
        // An answer that nobody waits for came too late.
        if let Some(waiting) = lock(&self.asked).waiting.remove(&id) {
            let _ = waiting.send(answer);
        }
    }

    fn refuse(&self, id: u64, fault: Fault, text: &str) -> Result<(), ProtocolError> {
        let mut end = text.len().min(MESSAGE_LEN_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = text[..end].to_owned();
        let frame = Outgoing::new(&Message::Fault { id, fault, text });
        self.outbox.try_send(frame).map_err(|_| ProtocolError::Flood)
    }

    async fn reserve(&self, len: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(len / BYTES_UNIT + 1).unwrap_or(u32::MAX).min(self.outbox_units);
        self.outbox_bytes.clone().acquire_many_owned(units).await.ok()
    }

    /// Fails what waits and refuses what comes.
    pub(crate) fn end(&self, closed: &Closed) {
        let waiting = {
            let mut asked = lock(&self.asked);
            asked.ended.get_or_insert_with(|| closed.clone());
            std::mem::take(&mut asked.waiting)
        };
        for answer in waiting.into_values() {
            let _ = answer.send(Err(RequestError::Lost(closed.clone())));
        }
        self.slots_out.close();
        self.outbox_bytes.close();
        for handler in std::mem::take(&mut *lock(&self.running)).into_values() {
            let _ = handler.send(());
        }
    }

    fn ended(&self) -> Closed {
        let ended = lock(&self.asked).ended.clone();
        ended.unwrap_or_else(|| Closed::Failed("the connection ended".into()))
    }
}

/// Takes a request off the table when its caller has its answer, gives up, or is dropped.
struct Waiting<'a> {
    requests: &'a Requests,
    id: u64,
    sent: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let unanswered = lock(&self.requests.asked).waiting.remove(&self.id).is_some();
        if unanswered && self.sent {
            // With a full outbox the handler runs on for nothing; that is all.
            let _ = self.requests.outbox.try_send(Outgoing::new(&Message::Cancel { id: self.id }));
        }
    }
}

/// A request that has come and has a slot.
pub(crate) struct Arrived {
    id: u64,
    body: Bytes,
    deadline: Instant,
    slot: OwnedSemaphorePermit,
    cancelled: oneshot::Receiver<()>,
}

impl Arrived {
    pub(crate) fn into_request(self, handle: Arc<Handle>) -> Request {
        let Self { id, body, deadline, slot, cancelled } = self;
        Request { body, deadline, reply: Reply { handle, id, slot: Some(slot), cancelled: Some(cancelled) } }
    }
}

/// A request of the peer.
#[derive(Debug)]
pub struct Request {
    /// What it asks.
    pub body: Bytes,
    /// When its caller stops waiting, on this agent's clock.
    pub deadline: Instant,
    /// The way to answer.
    pub reply: Reply,
}

/// Answers one request. Dropped unused, the caller learns that the request was abandoned.
pub struct Reply {
    handle: Arc<Handle>,
    id: u64,
    /// Held until the answer is written, so that unread answers count against the peer's requests.
    slot: Option<OwnedSemaphorePermit>,
    cancelled: Option<oneshot::Receiver<()>>,
}

impl Reply {
    /// Answers. Waits while too many bytes are on their way to the peer. A body over the peer's limit becomes a
    /// failure that says so.
    ///
    /// # Errors
    ///
    /// When the connection has ended. That the answer was sent does not mean that it arrives.
    pub async fn send(mut self, body: Bytes) -> Result<(), Closed> {
        let handle = self.handle.clone();
        let requests = handle.requests();
        let max = requests.body_out_max;
        if body.len() > max {
            self.fail(&format!("answer of {} bytes is over the limit of {max}", body.len()));
            return Ok(());
        }
        let Some(bytes) = requests.reserve(body.len()).await else {
            return Err(requests.ended());
        };
        let mut frame = Outgoing::new(&Message::Reply { id: self.id, body });
        frame._slot = self.slot.take();
        frame._bytes = Some(bytes);
        lock(&requests.running).remove(&self.id);
        requests.outbox.send(frame).await.map_err(|_| requests.ended())
    }

    /// Answers with a failure of the transport's kind. Errors that callers decide by belong in a body.
    pub fn fail(mut self, message: &str) {
        self.finish(Fault::Failed, message);
    }

    pub(crate) fn not_served(mut self) {
        self.finish(Fault::NotServed, "");
    }

    pub(crate) fn busy(mut self) {
        self.finish(Fault::Busy, "");
    }

    /// Waits until nobody waits for the answer: the caller gave up, or the connection ended. The caller's deadline is
    /// not watched here; it is in [`Request::deadline`].
    pub async fn cancelled(&mut self) {
        if let Some(cancelled) = &mut self.cancelled {
            // Sent and dropped mean the same.
            let _ = cancelled.await;
            self.cancelled = None;
        }
    }

    fn finish(&mut self, fault: Fault, text: &str) {
        if self.slot.take().is_some() {
            let requests = self.handle.requests();
            lock(&requests.running).remove(&self.id);
            // On a full outbox the caller's deadline has to do.
            let _ = requests.refuse(self.id, fault, text);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.finish(Fault::Abandoned, "");
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("id", &self.id).finish_non_exhaustive()
    }
}

/// No code that holds one of these locks can panic, so a poisoned one still guards whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_what_they_write() {
        let messages = [
            Message::Request { id: 1, timeout_ms: 5, body: Bytes::from_static(b"ask") },
            Message::Reply { id: u64::MAX, body: Bytes::new() },
            Message::Fault { id: 3, fault: Fault::Failed, text: "no".into() },
            Message::Cancel { id: 4 },
        ];
        for message in messages {
            let outgoing = Outgoing::new(&message);
            let (head, body) = outgoing.parts();
            let frame = [head, &body].concat();
            assert_eq!(decode(frame.into()), Ok(message));
        }
    }

    #[test]
    fn broken_messages_are_errors() {
        assert_eq!(decode(Bytes::new()), Err(ProtocolError::Short));
        assert_eq!(decode(Bytes::from_static(&[9; 9])), Err(ProtocolError::Kind(9)));
        assert_eq!(decode(Bytes::from_static(&[1; 12])), Err(ProtocolError::Short));
        assert_eq!(decode(Bytes::from_static(&[3; 9])), Err(ProtocolError::Short));
        assert_eq!(
            decode(Bytes::from_static(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 77])),
            Err(ProtocolError::Fault(77))
        );
    }
}

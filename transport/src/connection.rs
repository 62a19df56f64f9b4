use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    error::{CloseCode, Closed, DatagramError, OpenStreamError, RequestError},
    framed::{FrameReader, FrameWriter},
    host::Host,
    identity::{Boot, ClusterId, Peer},
    link::{BoxRead, BoxWrite, Link},
    plane::Plane,
    requests::{HEAD_LEN_MAX, Limits, Outgoing, Request, Requests},
    stream::Stream,
};

/// Longest header of a stream: it names what the stream is for, it is not the payload.
const STREAM_HEADER_LEN_MAX: usize = 64 * 1024;
/// A stream whose header does not come within this time is dropped; it would hold its place for ever.
const STREAM_HEADER_WAIT: Duration = Duration::from_secs(5);
/// A datagram is dropped while so much of any kind waits for the reader: it may be lost anyway.
const DATAGRAM_QUEUE_MAX: usize = 64;
/// Frames taken from the outbox at once, and bytes gathered before they are handed down.
const WRITE_FRAMES_MAX: usize = 128;
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// A peer of which nothing is heard for so long while an answer is awaited may be gone; longer than a round trip to a machine
/// that is near. The longest pause is for questions that take long.
const QUIET: Duration = Duration::from_millis(150);
const QUIET_MAX: Duration = Duration::from_secs(5);
/// When the first stream fails, the end of the connection is usually on its way, with its reason.
const REASON_WAIT: Duration = Duration::from_millis(200);

/// A connection to an admitted peer, on one plane. Cheap to clone; closed when the last clone, its [`Inbound`] and its
/// streams are gone.
///
/// Requests and streams keep no order among each other. Nothing is ever sent twice: what was under way when the
/// connection ended may or may not have happened at the peer.
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

/// Both halves of a connection that was just made.
#[derive(Debug)]
pub struct Opened {
    /// The way to ask and to open.
    pub connection: Connection,
    /// What the peer asks and opens. Dropped, its requests are answered with `NotServed` and its streams are broken.
    pub inbound: Inbound,
}

/// What a peer sends of its own accord, in the order of its arrival here.
pub struct Inbound {
    incoming: mpsc::Receiver<Incoming>,
    _handle: Arc<Handle>,
}

/// One thing that a peer sends of its own accord.
#[derive(Debug)]
pub enum Incoming {
    /// It asks.
    Request(Request),
    /// It has opened a stream.
    Stream(Stream),
    /// It sent a datagram.
    Datagram(Bytes),
}

impl Inbound {
    /// Waits for the next; `None` once the connection has ended. Requests whose caller has stopped waiting are left out.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            match self.incoming.recv().await? {
                Incoming::Request(request) if request.deadline <= Instant::now() => drop(request),
                incoming => return Some(incoming),
            }
        }
    }
}

impl Connection {
    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.shared().peer
    }

    /// What the connection is for.
    pub fn plane(&self) -> Plane {
        self.shared().plane
    }

    /// Which run of the peer this is.
    pub fn peer_boot(&self) -> Boot {
        self.shared().boot
    }

    /// The cluster that the peer named in its greeting.
    pub fn peer_cluster(&self) -> Option<ClusterId> {
        self.shared().cluster
    }

    /// Where the peer is, at the moment: a client may move.
    pub fn remote_addr(&self) -> SocketAddr {
        self.shared().link.remote_addr()
    }

    /// The round trip time, as estimated at the moment.
    pub fn rtt(&self) -> Duration {
        self.shared().link.rtt()
    }

    /// Counts the acknowledgements that arrived from the peer. One that came after something was sent says that the peer's
    /// agent runs and hears this end, even if it is too busy to answer. Zero where the transport does not tell.
    pub fn acknowledged(&self) -> u64 {
        self.shared().link.acknowledged()
    }

    /// When the connection was made.
    pub fn opened_at(&self) -> Instant {
        self.shared().opened_at
    }

    /// A secret that only the two ends of this connection know. Signing it proves that there is nobody in between.
    pub fn channel_binding(&self) -> [u8; 32] {
        self.shared().link.channel_binding()
    }

    /// The certificates that the peer has shown, its own first, in DER.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        self.shared().link.peer_certificates()
    }

    /// Asks and waits for the answer, until `deadline`. Dropped, the peer's handler is told that nobody waits.
    ///
    /// # Errors
    ///
    /// [`RequestError::may_have_run`] tells whether asking again may do things twice.
    pub async fn request(&self, body: Bytes, deadline: Instant) -> Result<Bytes, RequestError> {
        let heard = self.shared().link.heard();
        let answer = self.shared().requests.ask(body, deadline);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            () = self.shared().watch(heard) => unreachable!("watching goes on until it is dropped"),
        }
    }

    /// Opens a stream that the peer sees with `header`. Waits, until `deadline`, while the peer permits no more.
    ///
    /// # Errors
    ///
    /// When the header is too large, the deadline passes, or the connection has ended.
    pub async fn open_stream(&self, header: Bytes, deadline: Instant) -> Result<Stream, OpenStreamError> {
        let len = header.len();
        let prefix = match u32::try_from(len) {
            Ok(prefix) if len <= STREAM_HEADER_LEN_MAX => prefix,
            Ok(_) | Err(_) => {
                return Err(OpenStreamError::HeaderTooLarge { len, max: STREAM_HEADER_LEN_MAX });
            }
        };
        let open = async {
            let (reader, mut writer) =
                self.shared().link.open_stream().await.map_err(OpenStreamError::Ended)?;
            let mut first = BytesMut::with_capacity(4 + len);
            first.put_u32(prefix);
            first.put_slice(&header);
            if writer.write_all(&first).await.is_err() {
                return Err(OpenStreamError::Ended(self.closed().await));
            }
            Ok(Stream::new(header, (reader, writer), self.handle.clone()))
        };
        timeout_at(deadline, open).await.unwrap_or(Err(OpenStreamError::DeadlineExceeded))
    }

    /// Sends a datagram that may be lost, doubled or late. Never waits.
    ///
    /// # Errors
    ///
    /// When it does not fit a packet or the connection has ended.
    pub fn send_datagram(&self, datagram: Bytes) -> Result<(), DatagramError> {
        self.shared().link.send_datagram(datagram)
    }

    /// The largest datagram that fits at the moment.
    pub fn datagram_max(&self) -> usize {
        self.shared().link.datagram_max()
    }

    /// Closes at once; what was not delivered is lost. Closing twice is harmless.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.shared().close(code, reason);
    }

    /// Waits until the connection has ended, and tells how.
    pub async fn closed(&self) -> Closed {
        let shared = self.shared();
        shared.ended.cancelled().await;
        shared.reason.get().cloned().unwrap_or(Closed::TimedOut)
    }

    /// Tells how the connection ended, if it has.
    pub fn close_reason(&self) -> Option<Closed> {
        self.shared().reason.get().cloned()
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

/// Closes the connection when nobody holds it any more.
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn requests(&self) -> &Requests {
        &self.shared.requests
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close(CloseCode::Done, "not used any more");
    }
}

struct Shared {
    link: Arc<dyn Link>,
    requests: Requests,
    peer: Peer,
    plane: Plane,
    boot: Boot,
    cluster: Option<ClusterId>,
    opened_at: Instant,
    reason: OnceLock<Closed>,
    ended: CancellationToken,
}

impl Shared {
    /// Looks whether the peer is gone while an answer is awaited and nothing is heard of it: less and less often, for a question
    /// may be a long one.
    async fn watch(&self, mut heard: u64) {
        let mut pause = QUIET;
        loop {
            sleep(pause).await;
            pause = (pause * 2).min(QUIET_MAX);
            let count = self.link.heard();
            if count == heard {
                self.link.look().await;
            }
            heard = count;
        }
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.end(Closed::ByUs { code, reason: reason.to_owned() });
        self.link.close(code, reason);
    }

    /// The first reason stays.
    fn end(&self, closed: Closed) {
        if self.reason.set(closed.clone()).is_ok() {
            debug!(peer = %self.peer, plane = %self.plane, reason = %closed, "connection ended");
            self.requests.end(&closed);
            self.ended.cancel();
        }
    }
}

/// A connection whose greeting is done.
pub(crate) struct Established {
    pub(crate) link: Arc<dyn Link>,
    pub(crate) plane: Plane,
    pub(crate) peer: Peer,
    pub(crate) boot: Boot,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) limits: Limits,
    pub(crate) body_in_max: usize,
    pub(crate) streams_max: usize,
    pub(crate) reader: FrameReader<BoxRead>,
    pub(crate) writer: FrameWriter<BoxWrite>,
}

impl Established {
    /// Starts the three tasks of the connection. They end with it.
    pub(crate) fn start(self, host: &dyn Host) -> Opened {
        let Self { link, plane, peer, boot, cluster, limits, body_in_max, streams_max, .. } = self;
        let (mut reader, mut writer) = (self.reader, self.writer);
        reader.set_frame_max(body_in_max + HEAD_LEN_MAX);
        writer.set_frame_max(limits.body_out_max + HEAD_LEN_MAX);
        let (requests, outbox) = Requests::new(limits);
        let (inbound, incoming) = mpsc::channel(limits.requests_in_max + streams_max + DATAGRAM_QUEUE_MAX);
        let (reason, ended) = (OnceLock::new(), CancellationToken::new());
        let opened_at = Instant::now();
        let shared = Shared { link, requests, peer, plane, boot, cluster, opened_at, reason, ended };
        let shared = Arc::new(shared);
        let handle = Arc::new(Handle { shared: shared.clone() });
        let receiver = Receiver { shared: shared.clone(), handle: Arc::downgrade(&handle), inbound };
        host.spawn("transport-read", Box::pin(read_frames(reader, receiver.clone())));
        host.spawn("transport-write", Box::pin(write_frames(writer, outbox, shared.ended.clone())));
        host.spawn("transport-streams", Box::pin(receiver.run()));
        let connection = Connection { handle: handle.clone() };
        Opened { connection, inbound: Inbound { incoming, _handle: handle } }
    }
}

/// What the tasks of a connection share. They do not keep it open.
#[derive(Clone)]
struct Receiver {
    shared: Arc<Shared>,
    handle: Weak<Handle>,
    inbound: mpsc::Sender<Incoming>,
}

async fn read_frames(mut reader: FrameReader<BoxRead>, receiver: Receiver) {
    let why = loop {
        match reader.next().await {
            Ok(Some(frame)) => {
                if let Err(error) = receiver.take(frame) {
                    break error.to_string();
                }
            }
            Ok(None) => break "the peer ended its first stream".to_owned(),
            Err(error) => break error.to_string(),
        }
    };
    let shared = &receiver.shared;
    if timeout(REASON_WAIT, shared.ended.cancelled()).await.is_err() {
        warn!(peer = %shared.peer, plane = %shared.plane, why, "peer broke the protocol; closing");
        shared.close(CloseCode::Protocol, &why);
    }
}

async fn write_frames(
    mut writer: FrameWriter<BoxWrite>,
    mut outbox: mpsc::Receiver<Outgoing>,
    ended: CancellationToken,
) {
    let mut batch = Vec::with_capacity(WRITE_FRAMES_MAX.min(16));
    loop {
        tokio::select! {
            biased;
            taken = outbox.recv_many(&mut batch, WRITE_FRAMES_MAX) => if taken == 0 { return },
            () = ended.cancelled() => return,
        }
        for frame in &batch {
            let (head, body) = frame.parts();
            // Sizes were checked where the frame was made; a failed write ends the connection, which the link reports.
            if writer.push_parts(head, body).is_err() {
                return;
            }
            if writer.waiting() >= WRITE_BYTES_MAX && writer.flush().await.is_err() {
                return;
            }
        }
        if writer.flush().await.is_err() {
            return;
        }
        batch.clear();
    }
}

impl Receiver {
    fn take(&self, frame: Bytes) -> Result<(), crate::requests::ProtocolError> {
        let Some(arrived) = self.shared.requests.take(frame)? else {
            return Ok(());
        };
        let Some(handle) = self.handle.upgrade() else {
            return Ok(());
        };
        match self.inbound.try_send(Incoming::Request(arrived.into_request(handle))) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Closed(Incoming::Request(request))) => request.reply.not_served(),
            Err(mpsc::error::TrySendError::Full(Incoming::Request(request))) => request.reply.busy(),
            Err(_) => unreachable!("a request was sent, and a channel gives back what it was given"),
        }
        Ok(())
    }

    async fn run(self) {
        let closed = tokio::select! {
            biased;
            closed = self.shared.link.closed() => closed,
            () = self.shared.ended.cancelled() => return,
            () = self.accept_streams() => return,
            () = self.read_datagrams() => return,
        };
        let vanished = closed == Closed::Vanished;
        self.shared.end(closed);
        if vanished {
            self.shared.link.close(CloseCode::Done, "the peer's process is gone");
        }
    }

    /// Never returns: the end of the link is reported elsewhere.
    async fn accept_streams(&self) {
        let mut opening = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(stream) = opening.next(), if !opening.is_empty() => {
                    if let Some((header, io)) = stream {
                        self.hand_on(header, io).await;
                    }
                }
                accepted = self.shared.link.accept_stream() => match accepted {
                    Ok(io) => opening.push(read_header(io)),
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    async fn hand_on(&self, header: Bytes, io: (BoxRead, BoxWrite)) {
        if let Some(handle) = self.handle.upgrade() {
            let stream = Stream::new(header, io, handle);
            // Where nobody takes streams, this one is dropped, and the peer sees it broken.
            let _ = self.inbound.send(Incoming::Stream(stream)).await;
        }
    }

    async fn read_datagrams(&self) {
        while let Ok(datagram) = self.shared.link.read_datagram().await {
            if self.inbound.max_capacity() - self.inbound.capacity() < DATAGRAM_QUEUE_MAX {
                // A reader that is gone wants no datagrams.
                let _ = self.inbound.try_send(Incoming::Datagram(datagram));
            }
        }
        std::future::pending().await
    }
}

async fn read_header((mut reader, writer): (BoxRead, BoxWrite)) -> Option<(Bytes, (BoxRead, BoxWrite))> {
    let header = async {
        let len = usize::try_from(reader.read_u32().await.ok()?).ok()?;
        if len > STREAM_HEADER_LEN_MAX {
            return None;
        }
        let mut header = vec![0; len];
        reader.read_exact(&mut header).await.ok()?;
        Some(Bytes::from(header))
    };
    let header = timeout(STREAM_HEADER_WAIT, header).await.ok()??;
    Some((header, (reader, writer)))
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.shared();
        f.debug_struct("Connection")
            .field("peer", &shared.peer)
            .field("plane", &shared.plane)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbound")
    }
}

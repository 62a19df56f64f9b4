//! The client's one long-lived connection to a server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    Named, decode, encode,
    session::{ClientMessage, ServerMessage},
};
use runtime::Backoff;
use tokio::sync::{mpsc, watch};
use transport::{
    Connection, Expect, Inbound, Incoming, Opened, Plane, Stream, StreamReader, StreamWriter, Transport,
    framed::{FrameReader, FrameWriter},
};

use crate::Client;

/// First bytes of the stream that carries a session; streams that servers open back have other headers.
pub const SESSION_HEADER: &[u8] = b"session/1";

/// Largest message either way: a complete list of a node with many thousands of allocations.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Updates in one message. Larger batches would make one command of the log too large.
const UPDATES_MAX: usize = 2_048;

/// First and longest wait between two tries to reach a server.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Time for a server to take the session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps a session with one of the servers for as long as the agent lives.
pub struct Session {
    /// The client.
    pub client: Client,
    /// The way to servers.
    pub transport: Arc<dyn Transport>,
    /// Servers, in the order in which they are tried.
    pub servers: watch::Receiver<Vec<SocketAddr>>,
    /// Where streams go that the server opens back.
    pub streams: mpsc::Sender<Stream>,
    /// The server that holds the session; none between two.
    pub current: watch::Sender<Option<(SocketAddr, Connection)>>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("no server is known; give one with -servers or -join")]
    NoServer,
    #[error("could not connect: {0}")]
    Dial(#[from] transport::DialError),
    #[error("could not open the session: {0}")]
    Open(#[from] transport::OpenStreamError),
    #[error("connection broke: {0}")]
    Frame(#[from] transport::framed::FrameError),
    #[error("server speaks another protocol: {0}")]
    Decode(#[from] protocol::DecodeError),
    #[error("server closed the session")]
    Closed,
    #[error("server refused: {0}")]
    Refused(String),
}

/// What can happen in a session.
enum Event {
    Frame(Option<Bytes>),
    Stream(Option<Incoming>),
    OutboxReady,
    NodeChanged,
}

impl Session {
    /// Connects, and connects again, until the agent stops.
    pub async fn run(mut self) {
        let env = self.client.env().clone();
        let mut rng = env.rng();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut next = 0;
        loop {
            let started = env.now();
            let ended = tokio::select! {
                biased;
                () = env.shutdown().wait() => return,
                ended = self.once(next) => ended,
            };
            self.current.send_replace(None);
            next += 1;
            if started.elapsed() > RETRY.1 {
                backoff.reset();
            }
            match ended {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "session with a server ended"),
            }
            tokio::select! {
                biased;
                () = env.shutdown().wait() => return,
                () = env.sleep(backoff.next_wait(&mut rng)) => {}
            }
        }
    }

    async fn once(&mut self, attempt: usize) -> Result<(), Ended> {
        let servers = self.servers.borrow_and_update().clone();
        let addr = *servers.get(attempt % servers.len().max(1)).ok_or(Ended::NoServer)?;
        let Opened { connection, inbound } = self.transport.dial(addr, Plane::Node, Expect::Admitted).await?;
        let deadline = self.client.env().now() + OPEN_TIMEOUT;
        let stream = connection.open_stream(Bytes::from_static(SESSION_HEADER), deadline).await?;
        let (reader, writer) = stream.into_split();
        let mut writer = FrameWriter::new(writer, MESSAGE_BYTES_MAX);
        self.client.outbox().clear();
        let node = Named(Box::new((*self.client.node()).clone()));
        let hello = ClientMessage::Hello { node, allocs: self.client.told() };
        writer.send(encode(&hello)).await?;
        self.current.send_replace(Some((addr, connection)));
        tracing::info!(server = %addr, "session with a server opened");
        self.serve(FrameReader::new(reader, MESSAGE_BYTES_MAX), writer, inbound).await
    }

    async fn serve(
        &mut self,
        mut reader: FrameReader<StreamReader>,
        mut writer: FrameWriter<StreamWriter>,
        mut inbound: Inbound,
    ) -> Result<(), Ended> {
        let mut seq = 0;
        let mut under_way = None;
        loop {
            let idle = under_way.is_none();
            let event = tokio::select! {
                biased;
                frame = reader.next() => Event::Frame(frame?),
                incoming = inbound.next() => Event::Stream(incoming),
                () = self.client.outbox().ready(), if idle => Event::OutboxReady,
                () = self.client.node_changed() => Event::NodeChanged,
            };
            match event {
                Event::Frame(None) | Event::Stream(None) => return Err(Ended::Closed),
                Event::Frame(Some(frame)) => match decode::<ServerMessage>(&frame)? {
                    ServerMessage::Welcome { .. } => {}
                    ServerMessage::Allocs(assignments) => self.client.apply(assignments).await,
                    ServerMessage::Ack { seq: acked, .. } => {
                        if under_way == Some(acked) {
                            under_way = None;
                        }
                    }
                    ServerMessage::Refused { reason } => return Err(Ended::Refused(reason.to_string())),
                },
                Event::Stream(Some(Incoming::Stream(stream))) => {
                    // Whoever serves streams is gone only when the agent stops.
                    let _ = self.streams.send(stream).await;
                }
                Event::Stream(Some(Incoming::Request(_) | Incoming::Datagram(_))) => {}
                Event::OutboxReady => {
                    let updates = self.client.outbox().take(UPDATES_MAX);
                    if !updates.is_empty() {
                        seq += 1;
                        under_way = Some(seq);
                        writer.send(encode(&ClientMessage::Updates { seq, updates })).await?;
                    }
                }
                Event::NodeChanged => {
                    let node = Named(Box::new((*self.client.node()).clone()));
                    writer.send(encode(&ClientMessage::NodeChanged { node })).await?;
                }
            }
        }
    }
}

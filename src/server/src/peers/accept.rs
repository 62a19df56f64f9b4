//! What other servers say to this one on the Raft plane.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesOrdered};
use raft::RpcKind;
use tokio::io::AsyncWriteExt;
use transport::{
    CloseCode, Incoming, NodeId, Opened, Stream,
    framed::{FrameReader, FrameWriter},
};

use super::frame::{
    APPEND_HEADER, FRAME_BYTES_MAX, SNAPSHOT_HEADER, answer_body, number, split_number, split_request,
};
use crate::{replica::is_of_node, server::Inner};

/// Messages of one stream that are under way here; further ones wait in the stream.
const UNDER_WAY_MAX: usize = 64;

/// Serves one connection until it ends.
pub(crate) async fn serve(inner: Arc<Inner>, opened: Opened) {
    let Opened { connection, mut inbound } = opened;
    let Some(identity) = connection.peer().identity().cloned() else {
        tracing::warn!(addr = %connection.remote_addr(), "a stranger asked for the Raft plane");
        connection.close(CloseCode::Refused, "the Raft plane is for servers of this region");
        return;
    };
    inner.peers.observe(&connection);
    let from = Sender { inner: inner.clone(), node_id: identity.node_id };
    while let Some(incoming) = inbound.next().await {
        let from = from.clone();
        match incoming {
            Incoming::Request(request) => {
                inner.env.spawn("raft-request", async move {
                    let answer = match split_request(request.body) {
                        Some((kind, message)) => from.handle(kind, message).await,
                        None => Err("this build does not know the message".to_owned()),
                    };
                    // Whoever asked may be gone.
                    let _ = request.reply.send(answer_body(&answer)).await;
                });
            }
            Incoming::Stream(stream) if &**stream.header() == APPEND_HEADER => {
                let connection = connection.clone();
                inner.env.spawn("raft-appends", async move {
                    if let Err(error) = appends(stream, &from).await {
                        tracing::debug!(peer = %connection.peer(), error, "stream of entries ended");
                        connection.close(CloseCode::Protocol, &error);
                    }
                });
            }
            Incoming::Stream(stream) if stream.header().starts_with(SNAPSHOT_HEADER) => {
                inner.env.spawn("raft-snapshot", async move { snapshot(stream, &from).await });
            }
            // Others come from a later version; dropped, the peer sees that they are not served.
            Incoming::Stream(_) | Incoming::Datagram(_) => {}
        }
    }
}

/// The server at the other end.
#[derive(Clone)]
struct Sender {
    inner: Arc<Inner>,
    node_id: NodeId,
}

impl Sender {
    async fn handle(&self, kind: RpcKind, message: Bytes) -> Result<Bytes, String> {
        self.check(&message)?;
        let answer = self.inner.raft.handle(kind, message).await.map_err(|error| error.to_string())?;
        if matches!(kind, RpcKind::Append | RpcKind::Heartbeat) {
            self.inner.heard.lock().hear(self.inner.env.now());
        }
        Ok(answer)
    }

    /// A server may speak for the node that its certificate names, and for no other.
    fn check(&self, message: &[u8]) -> Result<(), String> {
        let claimed = raft::sender_of(message).map_err(|error| error.to_string())?;
        if is_of_node(claimed, self.node_id) {
            return Ok(());
        }
        tracing::warn!(node_id = %self.node_id, claimed, "a server spoke for another one; refused");
        Err(format!("server {claimed} is not node {}", self.node_id))
    }
}

/// Handles entries in the order in which they come, many at a time.
async fn appends(stream: Stream, from: &Sender) -> Result<(), String> {
    let (reader, writer) = stream.into_split();
    let mut reader = FrameReader::new(reader, FRAME_BYTES_MAX);
    let mut writer = FrameWriter::new(writer, FRAME_BYTES_MAX);
    let mut under_way = FuturesOrdered::new();
    loop {
        tokio::select! {
            biased;
            Some((at, answer)) = under_way.next(), if !under_way.is_empty() => {
                let answer: Result<Bytes, String> = answer;
                writer
                    .push_parts(&number(at), answer_body(&answer))
                    .map_err(|error| error.to_string())?;
                writer.flush().await.map_err(|error| error.to_string())?;
            }
            frame = reader.next(), if under_way.len() < UNDER_WAY_MAX => {
                let Some(frame) = frame.map_err(|error| error.to_string())? else { return Ok(()) };
                let (at, message) = split_number(frame).ok_or("a message has no number")?;
                under_way.push_back(async move { (at, from.handle(RpcKind::Append, message).await) });
            }
        }
    }
}

async fn snapshot(stream: Stream, from: &Sender) {
    let meta = stream.header().slice(SNAPSHOT_HEADER.len()..);
    let (mut reader, mut writer) = stream.into_split();
    let answer = match from.check(&meta) {
        Ok(()) => {
            from.inner.raft.receive_snapshot(meta, &mut reader).await.map_err(|error| error.to_string())
        }
        Err(refused) => Err(refused),
    };
    if let Err(error) = &answer {
        tracing::warn!(node_id = %from.node_id, error, "a snapshot was not taken");
    }
    // Whoever sent it may be gone.
    let _ = writer.write_all(&answer_body(&answer)).await;
    let _ = writer.shutdown().await;
}

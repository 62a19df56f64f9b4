//! The receiving side: messages and snapshots from other servers.

use std::io::Write;

use bytes::Bytes;
use openraft::{Snapshot, error::RaftError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::info;

use super::Raft;
use crate::{
    error::HandleError,
    machine::{StateMachine, run},
    network::RpcKind,
    snapshot::SnapshotData,
    types::{Types, vote},
    wire::{
        Envelope, WireAppend, WireAppended, WireInstalled, WireSnapshot, WireTransfer, WireTransferred,
        WireVote, WireVoted, decode, encode,
    },
};

/// Bytes taken from a snapshot stream at a time.
const RECEIVE_BYTES: usize = 256 << 10;

impl<S: StateMachine> Raft<S> {
    /// Answers a message from another server's [`Network::call`].
    ///
    /// # Errors
    ///
    /// See [`HandleError`]; the sender should learn that the call failed, and why.
    pub async fn handle(&self, kind: RpcKind, payload: Bytes) -> Result<Bytes, HandleError> {
        let raft = &self.shared.raft;
        match kind {
            RpcKind::Append | RpcKind::Heartbeat => {
                let body: WireAppend = self.open_envelope(&payload, Joining::Allowed).await?;
                let request = body.into_request().map_err(malformed)?;
                let answer = raft.append_entries(request).await.map_err(|error| self.stopped(error))?;
                Ok(encode(&WireAppended::from(&answer)))
            }
            RpcKind::Vote => {
                let body: WireVote = self.open_envelope(&payload, Joining::Refused).await?;
                let answer = raft.vote(body.into()).await.map_err(|error| self.stopped(error))?;
                Ok(encode(&WireVoted::from(&answer)))
            }
            RpcKind::PreVote => {
                let body: WireVote = self.open_envelope(&payload, Joining::Refused).await?;
                let answer = raft.pre_vote(body.into()).await.map_err(|error| self.stopped(error))?;
                Ok(encode(&WireVoted::from(&answer)))
            }
            RpcKind::TransferLeader => {
                let body: WireTransfer = self.open_envelope(&payload, Joining::Refused).await?;
                let answer = raft.handle_transfer_leader(body.into()).await;
                let answer =
                    answer.map_err(|fatal| HandleError::Stopped { reason: self.why_stopped(&fatal) })?;
                Ok(encode(&WireTransferred::from(&answer)))
            }
        }
    }

    /// Receives a snapshot from another server's [`Network::send_snapshot`], checks and installs it.
    ///
    /// # Errors
    ///
    /// See [`HandleError`]. Unless the server stopped, nothing was changed.
    pub async fn receive_snapshot(
        &self,
        meta: Bytes,
        stream: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Bytes, HandleError> {
        let body: WireSnapshot = self.open_envelope(&meta, Joining::Allowed).await?;
        let failed = |error: std::io::Error| HandleError::Snapshot { reason: error.to_string() };
        let data = self.receive(stream).await.map_err(failed)?;
        let checked = data.clone();
        let held = run(&self.shared.env, self.shared.config.io, move || checked.check()).await;
        if held.as_ref().ok() != Some(&body.meta) {
            data.discard();
            let reason = held.map_or_else(|error| error.to_string(), |_| "it is another snapshot".to_owned());
            return Err(HandleError::Snapshot { reason });
        }
        let snapshot = Snapshot { meta: body.meta.into_meta().map_err(malformed)?, snapshot: data.clone() };
        let answer = self.shared.raft.install_full_snapshot(vote(body.vote), snapshot).await;
        // Installed, the file has another name; refused, it is of no use.
        data.discard();
        let answer = answer.map_err(|fatal| HandleError::Stopped { reason: self.why_stopped(&fatal) })?;
        Ok(encode(&WireInstalled::from(&answer)))
    }

    async fn receive(&self, stream: &mut (dyn AsyncRead + Send + Unpin)) -> std::io::Result<SnapshotData> {
        let (env, io) = (&self.shared.env, self.shared.config.io);
        let snapshots = self.shared.snapshots.clone();
        let mut draft = run(env, io, move || snapshots.draft()).await?;
        loop {
            let mut chunk = Vec::with_capacity(RECEIVE_BYTES);
            (&mut *stream).take(RECEIVE_BYTES as u64).read_to_end(&mut chunk).await?;
            if chunk.is_empty() {
                break;
            }
            draft = run(env, io, move || {
                draft.write_all(&chunk)?;
                Ok(draft)
            })
            .await?;
        }
        run(env, io, move || draft.finish()).await
    }

    async fn open_envelope<T: serde::de::DeserializeOwned>(
        &self,
        payload: &[u8],
        joining: Joining,
    ) -> Result<T, HandleError> {
        let envelope: Envelope<T> = decode(payload).map_err(malformed)?;
        let me = self.shared.me.id;
        if envelope.to != me {
            return Err(HandleError::WrongTarget { to: envelope.to, me });
        }
        match (self.shared.journal.cluster(), envelope.cluster()) {
            (Some(ours), Some(theirs)) if ours != theirs => return Err(HandleError::OtherCluster),
            (None, Some(theirs)) if joining == Joining::Allowed => {
                info!(from = envelope.from, "joining the sender's cluster");
                let saved = self.shared.journal.save_cluster(theirs).await;
                saved.map_err(|error| HandleError::Stopped { reason: error.to_string() })?;
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        Ok(envelope.body)
    }

    fn stopped(&self, error: RaftError<Types>) -> HandleError {
        match error {
            RaftError::APIError(never) => match never {},
            RaftError::Fatal(fatal) => HandleError::Stopped { reason: self.why_stopped(&fatal) },
        }
    }
}

/// Whether a server that belongs to no cluster yet may join the sender's by this message.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Joining {
    Allowed,
    Refused,
}

fn malformed(reason: String) -> HandleError {
    HandleError::Malformed { reason }
}

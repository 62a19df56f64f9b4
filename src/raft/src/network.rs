//! The way to other servers: the trait that the caller fills in, and openraft's view of it.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture, stream::BoxStream};
use openraft::{
    RPCTypes, RaftNetworkFactory,
    error::{
        NetworkError as RaftNetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
    },
    network::{RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::AsyncRead;

use crate::{
    config::SNAPSHOT_DEADLINE,
    journal::Journal,
    snapshot::SnapshotData,
    types::{Peer, Types, Vote, vote, vote_record},
    wire::{
        Envelope, WireAppend, WireAppended, WireInstalled, WireMeta, WireSnapshot, WireTransfer,
        WireTransferred, WireVote, WireVoted, decode, encode,
    },
};

mod pipeline;

/// How long entries may take to arrive and become durable elsewhere. Signs of life have their own, shorter deadline, so
/// this one only has to be longer than a slow disk takes.
const APPEND_DEADLINE: Duration = Duration::from_secs(5);

/// A snapshot on its way to another server.
pub type SnapshotStream = Box<dyn AsyncRead + Send + Unpin>;

/// What a message asks for; the receiver passes it to [`crate::Raft::handle`] together with the bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RpcKind {
    /// Store entries. Those to one target must arrive in the order in which they were first polled.
    Append,
    /// Know that the leader lives. Small, urgent, and free to overtake.
    Heartbeat,
    /// Vote.
    Vote,
    /// Tell whether you would vote.
    PreVote,
    /// Stand for election at once: the leader hands over.
    TransferLeader,
}

/// Why another server did not answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// There is no way to it at present; trying again at once is pointless.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time; it may have acted all the same.
    #[error("no answer in time")]
    Timeout,
    /// It answered that it can not do it, or the connection broke.
    #[error("failed: {0}")]
    Failed(String),
}

/// Carries messages to other servers. Implemented by the caller; one instance serves all targets.
pub trait Network: Send + Sync + 'static {
    /// Sends one message and returns the answer. Many may be under way to one target. Messages may overtake each other,
    /// but for [`RpcKind::Append`]: one that arrives before its predecessor is refused, and replication starts over.
    fn call(
        &self,
        target: &Peer,
        kind: RpcKind,
        payload: Bytes,
        deadline: Duration,
    ) -> impl Future<Output = Result<Bytes, NetworkError>> + Send;

    /// Sends a snapshot; the receiver passes `meta` and the stream to [`crate::Raft::receive_snapshot`], and its answer
    /// comes back. The future is dropped when the transfer is to end.
    fn send_snapshot(
        &self,
        target: &Peer,
        meta: Bytes,
        stream: SnapshotStream,
    ) -> impl Future<Output = Result<Bytes, NetworkError>> + Send;
}

/// A network of any type; see [`crate::machine::Replica`] for why.
pub(crate) trait AnyNetwork: Send + Sync {
    /// As [`Network::call`].
    fn call<'a>(
        &'a self,
        target: &'a Peer,
        kind: RpcKind,
        payload: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Bytes, NetworkError>>;

    /// As [`Network::send_snapshot`].
    fn send_snapshot<'a>(
        &'a self,
        target: &'a Peer,
        meta: Bytes,
        stream: SnapshotStream,
    ) -> BoxFuture<'a, Result<Bytes, NetworkError>>;
}

impl<N: Network> AnyNetwork for N {
    fn call<'a>(
        &'a self,
        target: &'a Peer,
        kind: RpcKind,
        payload: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Bytes, NetworkError>> {
        Box::pin(Network::call(self, target, kind, payload, deadline))
    }

    fn send_snapshot<'a>(
        &'a self,
        target: &'a Peer,
        meta: Bytes,
        stream: SnapshotStream,
    ) -> BoxFuture<'a, Result<Bytes, NetworkError>> {
        Box::pin(Network::send_snapshot(self, target, meta, stream))
    }
}

/// Makes links to other servers.
pub(crate) struct Links {
    pub network: Arc<dyn AnyNetwork>,
    pub me: u64,
    pub journal: Journal,
}

/// The way to one other server.
pub(crate) struct Link {
    network: Arc<dyn AnyNetwork>,
    me: u64,
    target: Peer,
    journal: Journal,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Self::Network {
        let target = Peer { id: target, ..node.clone() };
        Link { network: self.network.clone(), me: self.me, target, journal: self.journal.clone() }
    }
}

impl Link {
    fn envelope<T>(&self, body: T) -> Envelope<T> {
        let cluster = self.journal.cluster().map(|marker| marker.0);
        Envelope { to: self.target.id, from: self.me, cluster, body }
    }

    async fn ask<T: Serialize, A: DeserializeOwned>(
        &self,
        kind: RpcKind,
        body: T,
        deadline: Duration,
    ) -> Result<A, RPCError<Types>> {
        let payload = encode(&self.envelope(body));
        let call = self.network.call(&self.target, kind, payload, deadline);
        let answer = match tokio::time::timeout(deadline, call).await {
            Ok(answer) => answer.map_err(|error| self.rpc_error(kind, deadline, &error))?,
            Err(_) => return Err(self.rpc_error(kind, deadline, &NetworkError::Timeout)),
        };
        decode(&answer).map_err(|reason| RPCError::Network(RaftNetworkError::from_string(reason)))
    }

    /// Sends entries, or none to say that the leader lives. The request is on its way when this is first polled.
    async fn append(
        &self,
        kind: RpcKind,
        rpc: &AppendEntriesRequest<Types>,
        option: &RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let deadline = if kind == RpcKind::Heartbeat { option.soft_ttl() } else { APPEND_DEADLINE };
        let answer: WireAppended = self.ask(kind, WireAppend::new(rpc), deadline).await?;
        Ok(answer.into())
    }

    fn rpc_error(&self, kind: RpcKind, timeout: Duration, error: &NetworkError) -> RPCError<Types> {
        match error {
            NetworkError::Unreachable(reason) => RPCError::Unreachable(Unreachable::from_string(reason)),
            NetworkError::Failed(reason) => RPCError::Network(RaftNetworkError::from_string(reason)),
            NetworkError::Timeout => {
                let action = match kind {
                    RpcKind::Append | RpcKind::Heartbeat => RPCTypes::AppendEntries,
                    RpcKind::Vote | RpcKind::PreVote => RPCTypes::Vote,
                    RpcKind::TransferLeader => RPCTypes::TransferLeader,
                };
                RPCError::Timeout(Timeout { action, id: self.me, target: self.target.id, timeout })
            }
        }
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let kind = if rpc.entries.is_empty() { RpcKind::Heartbeat } else { RpcKind::Append };
        self.append(kind, &rpc, &option).await
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        Box::pin(async move { Ok(pipeline::answers(&*self, input, option)) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer: WireVoted = self.ask(RpcKind::Vote, WireVote::from(&rpc), option.soft_ttl()).await?;
        Ok(answer.into())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let answer: WireVoted = self.ask(RpcKind::PreVote, WireVote::from(&rpc), option.soft_ttl()).await?;
        Ok(answer.into())
    }

    async fn full_snapshot(
        &mut self,
        vote_of_leader: Vote,
        snapshot: openraft::alias::SnapshotOf<Types, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let body = WireSnapshot { vote: vote_record(&vote_of_leader), meta: WireMeta::from(&snapshot.meta) };
        let meta = encode(&self.envelope(body));
        let failed = |reason: String| StreamingError::Network(RaftNetworkError::from_string(reason));
        let stream = snapshot.snapshot.stream().map_err(|error| failed(error.to_string()))?;
        let send = self.network.send_snapshot(&self.target, meta, stream);
        let answer = tokio::select! {
            answer = tokio::time::timeout(SNAPSHOT_DEADLINE, send) => answer,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(NetworkError::Unreachable(reason))) => {
                return Err(StreamingError::Unreachable(Unreachable::from_string(reason)));
            }
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("the snapshot did not arrive in time".to_owned())),
        };
        let installed: WireInstalled = decode(&answer).map_err(failed)?;
        Ok(SnapshotResponse::new(vote(installed.vote)))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let answer: WireTransferred =
            self.ask(RpcKind::TransferLeader, WireTransfer::from(&req), option.soft_ttl()).await?;
        Ok(answer.into())
    }
}

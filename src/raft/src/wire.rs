//! What servers say to each other: our own structures, in a versioned envelope, so that neither an openraft upgrade
//! nor a stranger changes what a message means.

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    error::HandleError,
    log::ClusterMarker,
    types::{
        Command, Entry, LogId, LogPoint, Members, Payload, Record, SnapshotMeta, StoredMembership, Types,
        VoteRecord, log_id, point, vote, vote_record,
    },
};

const WIRE_VERSION: u8 = 1;

/// Every message: whom it is for, and which cluster it belongs to.
#[derive(Deserialize, Serialize)]
pub(crate) struct Envelope<T> {
    pub to: u64,
    pub from: u64,
    pub cluster: Option<u128>,
    pub body: T,
}

impl<T> Envelope<T> {
    pub(crate) fn cluster(&self) -> Option<ClusterMarker> {
        self.cluster.map(ClusterMarker)
    }
}

pub(crate) fn encode<T: Serialize>(message: &T) -> Bytes {
    let out = postcard::to_extend(message, vec![WIRE_VERSION]).expect("plain messages always encode");
    Bytes::from(out)
}

/// Reads which server a message says that it comes from. Whoever received it must check that claim.
///
/// # Errors
///
/// When it is no message that this build knows.
pub fn sender_of(message: &[u8]) -> Result<u64, HandleError> {
    // The envelope begins with whom it is for and from.
    let (_to, from): (u64, u64) =
        decode_start(message).map_err(|reason| HandleError::Malformed { reason })?;
    Ok(from)
}

fn decode_start<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&WIRE_VERSION, rest)) => {
            postcard::take_from_bytes(rest).map(|(start, _)| start).map_err(|error| error.to_string())
        }
        Some(_) | None => decode(bytes),
    }
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&WIRE_VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        Some((version, _)) => {
            Err(format!("message version {version} is unknown; this build speaks {WIRE_VERSION}"))
        }
        None => Err("the message is empty".to_owned()),
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) enum WirePayload {
    Blank,
    Command(Bytes),
    Members(Members),
}

#[derive(Deserialize, Serialize)]
pub(crate) struct WireEntry {
    point: LogPoint,
    payload: WirePayload,
}

impl From<&Entry> for WireEntry {
    fn from(entry: &Entry) -> Self {
        let record = Record::from_entry(entry);
        let payload = match record.payload {
            Payload::Blank => WirePayload::Blank,
            Payload::Command(bytes) => WirePayload::Command(bytes),
            Payload::Members(members) => WirePayload::Members(members),
        };
        Self { point: record.point, payload }
    }
}

impl WireEntry {
    fn into_entry(self) -> Result<Entry, String> {
        let payload = match self.payload {
            WirePayload::Blank => openraft::EntryPayload::Blank,
            WirePayload::Command(bytes) => openraft::EntryPayload::Normal(Command(bytes)),
            WirePayload::Members(members) => openraft::EntryPayload::Membership(members.into_raft()?),
        };
        Ok(Entry { log_id: log_id(self.point), payload })
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) struct WireAppend {
    vote: VoteRecord,
    previous: Option<LogPoint>,
    committed: Option<LogPoint>,
    entries: Vec<WireEntry>,
}

impl WireAppend {
    pub(crate) fn new(request: &AppendEntriesRequest<Types>) -> Self {
        Self {
            vote: vote_record(&request.vote),
            previous: request.prev_log_id.as_ref().map(point),
            committed: request.leader_commit.as_ref().map(point),
            entries: request.entries.iter().map(WireEntry::from).collect(),
        }
    }

    pub(crate) fn into_request(self) -> Result<AppendEntriesRequest<Types>, String> {
        Ok(AppendEntriesRequest {
            vote: vote(self.vote),
            prev_log_id: self.previous.map(log_id),
            entries: self.entries.into_iter().map(WireEntry::into_entry).collect::<Result<_, _>>()?,
            leader_commit: self.committed.map(log_id),
        })
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) enum WireAppended {
    Success,
    Partial(Option<LogPoint>),
    Conflict,
    HigherVote(VoteRecord),
}

impl From<&AppendEntriesResponse<Types>> for WireAppended {
    fn from(response: &AppendEntriesResponse<Types>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(at) => Self::Partial(at.as_ref().map(point)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(higher) => Self::HigherVote(vote_record(higher)),
        }
    }
}

impl From<WireAppended> for AppendEntriesResponse<Types> {
    fn from(response: WireAppended) -> Self {
        match response {
            WireAppended::Success => Self::Success,
            WireAppended::Partial(at) => Self::PartialSuccess(at.map(log_id)),
            WireAppended::Conflict => Self::Conflict,
            WireAppended::HigherVote(higher) => Self::HigherVote(vote(higher)),
        }
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) struct WireVote {
    vote: VoteRecord,
    last: Option<LogPoint>,
    transfer: bool,
}

impl From<&VoteRequest<Types>> for WireVote {
    fn from(request: &VoteRequest<Types>) -> Self {
        Self {
            vote: vote_record(&request.vote),
            last: request.last_log_id.as_ref().map(point),
            transfer: request.leadership_transfer,
        }
    }
}

impl From<WireVote> for VoteRequest<Types> {
    fn from(request: WireVote) -> Self {
        Self {
            vote: vote(request.vote),
            last_log_id: request.last.map(log_id),
            leadership_transfer: request.transfer,
        }
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) struct WireVoted {
    vote: VoteRecord,
    granted: bool,
    last: Option<LogPoint>,
}

impl From<&VoteResponse<Types>> for WireVoted {
    fn from(response: &VoteResponse<Types>) -> Self {
        Self {
            vote: vote_record(&response.vote),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(point),
        }
    }
}

impl From<WireVoted> for VoteResponse<Types> {
    fn from(response: WireVoted) -> Self {
        Self {
            vote: vote(response.vote),
            vote_granted: response.granted,
            last_log_id: response.last.map(log_id),
        }
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) struct WireTransfer {
    leader: VoteRecord,
    to: u64,
    last: Option<LogPoint>,
}

impl From<&TransferLeaderRequest<Types>> for WireTransfer {
    fn from(request: &TransferLeaderRequest<Types>) -> Self {
        Self {
            leader: vote_record(request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().map(point),
        }
    }
}

impl From<WireTransfer> for TransferLeaderRequest<Types> {
    fn from(request: WireTransfer) -> Self {
        Self::new(vote(request.leader), request.to, request.last.map(log_id))
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) enum WireTransferred {
    Accepted,
    VoteChanged { expected: VoteRecord, actual: VoteRecord },
    LogNotFlushed { expected: Option<LogPoint>, actual: Option<LogPoint> },
}

impl From<&TransferLeaderResponse<Types>> for WireTransferred {
    fn from(response: &TransferLeaderResponse<Types>) -> Self {
        match response {
            Ok(()) => Self::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged { expected: vote_record(expected), actual: vote_record(actual) }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Self::LogNotFlushed {
                expected: expected.as_ref().map(point),
                actual: actual.as_ref().map(point),
            },
        }
    }
}

impl From<WireTransferred> for TransferLeaderResponse<Types> {
    fn from(response: WireTransferred) -> Self {
        match response {
            WireTransferred::Accepted => Ok(()),
            WireTransferred::VoteChanged { expected, actual } => {
                Err(TransferLeaderError::VoteChanged { expected: vote(expected), actual: vote(actual) })
            }
            WireTransferred::LogNotFlushed { expected, actual } => Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(log_id),
                actual: actual.map(log_id),
            }),
        }
    }
}

/// What a snapshot covers: on the wire, and in the head of its file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct WireMeta {
    pub last: Option<LogPoint>,
    pub members_at: Option<LogPoint>,
    pub members: Members,
}

impl From<&SnapshotMeta> for WireMeta {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.as_ref().map(point),
            members_at: meta.last_membership.log_id().as_ref().map(point),
            members: Members::from_raft(meta.last_membership.membership()),
        }
    }
}

impl WireMeta {
    pub(crate) fn into_meta(self) -> Result<SnapshotMeta, String> {
        let at: Option<LogId> = self.members_at.map(log_id);
        let membership = if self.members == Members::default() {
            openraft::Membership::default()
        } else {
            self.members.into_raft()?
        };
        Ok(SnapshotMeta {
            last_log_id: self.last.map(log_id),
            last_membership: StoredMembership::new(at, membership),
        })
    }
}

#[derive(Deserialize, Serialize)]
pub(crate) struct WireSnapshot {
    pub vote: VoteRecord,
    pub meta: WireMeta,
}

#[derive(Deserialize, Serialize)]
pub(crate) struct WireInstalled {
    pub vote: VoteRecord,
}

impl From<&SnapshotResponse<Types>> for WireInstalled {
    fn from(response: &SnapshotResponse<Types>) -> Self {
        Self { vote: vote_record(&response.vote) }
    }
}

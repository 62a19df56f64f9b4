use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use openraft::{EntryPayload, alias, impls::leader_id_std};
use serde::{Deserialize, Serialize};

/// A server that takes part in replication, or will.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Peer {
    /// The number that votes and quorums count. A server that lost its log comes back under another one.
    pub id: u64,
    /// Where the server's Raft traffic goes; the caller's [`crate::Network`] gives it meaning.
    pub addr: String,
    /// The name an operator knows the server by.
    pub name: String,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.name, self.id, self.addr)
    }
}

/// A place in the log: the index, and the term of the leader that wrote it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct LogPoint {
    /// The term comes first so that the derived order is the order of Raft.
    pub term: u64,
    /// The position, counted from zero.
    pub index: u64,
}

impl fmt::Display for LogPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (term {})", self.index, self.term)
    }
}

/// The last vote that a server gave, which it may never take back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VoteRecord {
    /// The term voted in.
    pub term: u64,
    /// Who got the vote.
    pub node: u64,
    /// Whether a quorum is known to have given the same vote.
    pub committed: bool,
}

/// Who takes part: the voters (two sets while a change is under way), and everyone known.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Members {
    /// The sets of voters; a decision needs a majority of each.
    pub voters: Vec<BTreeSet<u64>>,
    /// Every voter and learner.
    pub peers: BTreeMap<u64, Peer>,
}

impl Members {
    /// Lists the voters of all sets.
    pub fn voter_ids(&self) -> BTreeSet<u64> {
        self.voters.iter().flatten().copied().collect()
    }

    /// Lists those that receive the log and do not vote.
    pub fn learner_ids(&self) -> BTreeSet<u64> {
        let voters = self.voter_ids();
        self.peers.keys().copied().filter(|id| !voters.contains(id)).collect()
    }

    pub(crate) fn from_raft(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            peers: membership.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
        }
    }

    pub(crate) fn into_raft(self) -> Result<Membership, String> {
        let nodes = self.peers;
        openraft::Membership::new(self.voters, nodes).map_err(|error| error.to_string())
    }
}

/// What one log entry carries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// Nothing: a leader opens its term with it.
    Blank,
    /// A command for the state machine.
    Command(Bytes),
    /// A change of membership.
    Members(Members),
}

impl Payload {
    /// Sums up what an entry says, to compare entries of several logs.
    pub(crate) fn checksum(&self) -> u64 {
        let sum = |kind: u64, bytes: &[u8]| kind << 32 | u64::from(crc32fast::hash(bytes));
        match self {
            Self::Blank => 0,
            Self::Command(bytes) => sum(1, bytes),
            Self::Members(members) => sum(2, format!("{members:?}").as_bytes()),
        }
    }
}

/// One log entry in our own words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Where it stands.
    pub point: LogPoint,
    /// What it carries.
    pub payload: Payload,
}

impl Record {
    pub(crate) fn from_entry(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(command) => Payload::Command(command.0.clone()),
            EntryPayload::Membership(membership) => Payload::Members(Members::from_raft(membership)),
        };
        Self { point: point(&entry.log_id), payload }
    }

    pub(crate) fn into_entry(self) -> Result<Entry, String> {
        let payload = match self.payload {
            Payload::Blank => EntryPayload::Blank,
            Payload::Command(bytes) => EntryPayload::Normal(Command(bytes)),
            Payload::Members(members) => EntryPayload::Membership(members.into_raft()?),
        };
        Ok(Entry { log_id: log_id(self.point), payload })
    }

    /// Estimates the bytes that the entry takes in memory and on the wire.
    pub(crate) fn weight(&self) -> usize {
        ENTRY_OVERHEAD
            + match &self.payload {
                Payload::Blank => 0,
                Payload::Command(bytes) => bytes.len(),
                Payload::Members(members) => members.peers.len() * 64,
            }
    }
}

/// Bytes that an entry costs beside its payload; an estimate for budgets only.
pub(crate) const ENTRY_OVERHEAD: usize = 64;

pub(crate) fn entry_weight(entry: &Entry) -> usize {
    ENTRY_OVERHEAD
        + match &entry.payload {
            EntryPayload::Normal(command) => command.0.len(),
            EntryPayload::Blank => 0,
            EntryPayload::Membership(membership) => membership.nodes().count() * 64,
        }
}

/// A proposed command: bytes that only the state machine understands.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A state machine's answer on its way through openraft, which is built once for all answer types.
#[derive(Default)]
pub(crate) struct Reply(Mutex<Option<Box<dyn Any + Send>>>);

impl Reply {
    pub(crate) fn new<T: Send + 'static>(value: T) -> Self {
        Self(Mutex::new(Some(Box::new(value))))
    }

    pub(crate) fn take<T: 'static>(self) -> Option<T> {
        let boxed = self.0.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        boxed.downcast().ok().map(|value| *value)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

openraft::declare_raft_types!(
    /// How openraft is built here. One leader a term, as in the Raft paper, so that a term and an index name an entry.
    pub(crate) Types:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Peer,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::tasks::Tasks,
);

pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;

pub(crate) fn point(log_id: &LogId) -> LogPoint {
    LogPoint { term: *log_id.leader_id, index: log_id.index }
}

pub(crate) fn log_id(point: LogPoint) -> LogId {
    LogId::new_term_index(point.term, point.index)
}

pub(crate) fn vote_record(vote: &Vote) -> VoteRecord {
    VoteRecord { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

pub(crate) fn vote(record: VoteRecord) -> Vote {
    if record.committed {
        Vote::new_committed(record.term, record.node)
    } else {
        Vote::new(record.term, record.node)
    }
}

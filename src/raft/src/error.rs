use std::{io, path::PathBuf};

use crate::{
    log::{ClusterMarker, MarkError, StoreError},
    types::{LogPoint, Peer, VoteRecord},
};

/// What is known about a log that lost something.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loss {
    /// What was noticed.
    pub reason: String,
    /// The last entry that was acknowledged.
    pub acknowledged: Option<LogPoint>,
    /// The last entry that is there.
    pub found: Option<LogPoint>,
    /// The last vote that is remembered.
    pub vote: Option<VoteRecord>,
    /// The cluster that the log belonged to.
    pub cluster: Option<ClusterMarker>,
}

/// Why a server's replicated state could not be opened. Nothing was changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log is shorter than this server once acknowledged, or holds other entries. It must not vote again with it:
    /// [`crate::wipe`] puts the log aside, and the server may join again under another peer id, as a learner.
    #[error("the log lost entries that this server had acknowledged ({}); put it aside and join again as a learner", .0.reason)]
    LostEntries(Box<Loss>),
    /// The log or a part of it can not be read. As for lost entries, the server must not vote with it.
    #[error("the log is damaged ({reason}); put it aside and join again as a learner")]
    Damaged {
        /// What was noticed.
        reason: String,
        /// The last entry that was acknowledged, when the mark tells.
        mark: Option<LogPoint>,
    },
    /// There is a log and nothing that tells whether it is whole.
    #[error("there is a log, but its mark {path} is missing; put the log aside and join again as a learner")]
    MarkMissing {
        /// Where the mark should be.
        path: PathBuf,
    },
    /// The mark can not be read.
    #[error("the mark {path} can not be used; put the log aside and join again as a learner")]
    Mark {
        /// Where the mark is.
        path: PathBuf,
        /// What is wrong with it.
        source: MarkError,
    },
    /// The log was shortened because a snapshot covers the rest, and that snapshot is missing or damaged.
    #[error("the log starts after entry {purged}, and no whole snapshot covers what was before")]
    SnapshotMissing {
        /// The last entry that the log does not have any more.
        purged: LogPoint,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory can not be used.
    #[error("can not use {path}")]
    Directory {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// openraft did not start; the reason is in its words.
    #[error("replication did not start: {reason}")]
    Start {
        /// The reason.
        reason: String,
    },
}

impl OpenError {
    /// Tells whether the way out is [`crate::wipe`] and joining again as a learner.
    pub fn must_rejoin(&self) -> bool {
        match self {
            Self::LostEntries(_)
            | Self::Damaged { .. }
            | Self::MarkMissing { .. }
            | Self::Mark { source: MarkError::Damaged, .. }
            | Self::SnapshotMissing { .. } => true,
            Self::Mark { source: MarkError::Version { .. } | MarkError::Io(_), .. }
            | Self::InUse { .. }
            | Self::Directory { .. }
            | Self::Start { .. } => false,
        }
    }
}

/// Why this server stopped taking part. There is no way back but a restart.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The disk is full. Everything acknowledged is safe; restart when there is space.
    #[error("the disk is full: {reason}")]
    DiskFull {
        /// What the system said.
        reason: String,
    },
    /// The disk failed.
    #[error("the disk failed: {reason}")]
    Disk {
        /// What the system said.
        reason: String,
    },
    /// Something read back is not what was written.
    #[error("stored data is damaged: {reason}")]
    Damaged {
        /// What was noticed.
        reason: String,
    },
    /// The state machine refused an entry that a quorum has agreed on.
    #[error("the state machine stopped at entry {index}: {reason}")]
    StateMachine {
        /// The entry.
        index: u64,
        /// What the state machine said.
        reason: String,
    },
    /// The state differs from the leader's at the same index: one of the two is wrong.
    #[error(
        "the state differs from the leader's at index {index}; put this server's data aside and let it join again"
    )]
    Diverged {
        /// The index.
        index: u64,
    },
    /// openraft stopped by itself: a broken invariant.
    #[error("replication stopped: {reason}")]
    Internal {
        /// What it said.
        reason: String,
    },
}

impl Fault {
    /// Gives each kind a number that a supervisor can tell apart.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::DiskFull { .. } => 70,
            Self::Disk { .. } => 71,
            Self::Damaged { .. } => 72,
            Self::StateMachine { .. } => 73,
            Self::Internal { .. } => 74,
            Self::Diverged { .. } => 75,
        }
    }
}

impl From<&StoreError> for Fault {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full { source } => Self::DiskFull { reason: source.to_string() },
            StoreError::Io { source } => Self::Disk { reason: source.to_string() },
            StoreError::Engine { reason } => Self::Disk { reason: reason.clone() },
            StoreError::Corrupt { .. } => Self::Damaged { reason: error.to_string() },
            StoreError::Gap { .. } => Self::Internal { reason: error.to_string() },
        }
    }
}

/// Why a proposal has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// Another server leads, or none. The command was not written; ask the leader.
    #[error("this server is not the leader")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Peer>,
    },
    /// The leader changed meanwhile. The command may be committed or not.
    #[error("the leader changed; the command may or may not take effect")]
    Unknown,
    /// The command is larger than allowed. It was not written.
    #[error("the command has {size} bytes; at most {max} are allowed")]
    TooLarge {
        /// The command's size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// This server stopped; the command may be committed or not.
    #[error("replication has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a read can not be promised to see all that was committed before it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// Another server leads, or none; ask the leader.
    #[error("this server is not the leader")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Peer>,
    },
    /// The leader can not reach a majority, or its lease ran out. Worth another try.
    #[error("the leader could not confirm that it still leads")]
    NoQuorum,
    /// The server stopped.
    #[error("replication has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a change of membership did not happen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// Another server leads, or none; ask the leader.
    #[error("this server is not the leader")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<Peer>,
    },
    /// The leader changed meanwhile. The change may be committed or not.
    #[error("the leader changed; the change may or may not take effect")]
    Unknown,
    /// The change is not possible as things are.
    #[error("the change is refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The server stopped; the change may be committed or not.
    #[error("replication has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a cluster was not founded.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BootstrapError {
    /// This server has a log or a vote already. Nothing was changed.
    #[error("this server has state already; only an empty one can found a cluster")]
    NotEmpty,
    /// The list of founders can not be used. Nothing was changed.
    #[error("the founding members can not be used: {reason}")]
    Members {
        /// Why.
        reason: String,
    },
    /// The server stopped.
    #[error("replication has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a message from another server has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandleError {
    /// The bytes are no message that this build knows.
    #[error("the message can not be read: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// The message is for a server with another id, perhaps an earlier life of this one.
    #[error("the message is for server {to}, and this is server {me}")]
    WrongTarget {
        /// Whom it is for.
        to: u64,
        /// This server.
        me: u64,
    },
    /// The sender belongs to another cluster.
    #[error("the sender belongs to another cluster")]
    OtherCluster,
    /// The snapshot did not arrive whole.
    #[error("the snapshot did not arrive whole: {reason}")]
    Snapshot {
        /// What is wrong.
        reason: String,
    },
    /// The server stopped.
    #[error("replication has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

//! What servers ask each other on the RPC plane.
//!
//! Encoded as all messages between agents are: variants and fields are appended, never renumbered.

use bytes::Bytes;
use model::{Node, NodeId};
use protocol::{DecodeError, Named, decode, encode, session::AllocUpdate};
use serde::{Deserialize, Serialize};
use state::{Hash, Outcome, Refusal};

/// First bytes of such a request: the plane carries others too.
const TAG: &[u8] = b"server/1";

/// What a server asks.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Ask {
    /// Have a command agreed on. Of the leader.
    Submit {
        /// The encoded command.
        command: Bytes,
    },
    /// A node opened a session or changed: write down what is news. Of the leader.
    Register {
        /// The node as its client describes it.
        node: Named<Box<Node>>,
    },
    /// A node's client says how its allocations are. Of the leader.
    Updates {
        /// What it says.
        updates: Vec<AllocUpdate>,
    },
    /// Which sessions a server holds. Of the leader.
    Report(Report),
    /// Are you there?
    Hello,
    /// The asking server leaves the group. Of the leader.
    Leave {
        /// Its number in the group.
        raft_id: u64,
    },
}

/// Which sessions a server holds, or what changed about that.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Report {
    /// The server's number in the group.
    pub server: u64,
    /// Random for each run of it.
    pub run: u64,
    /// Counts up within a run.
    pub number: u64,
    /// What it says.
    pub said: Said,
}

/// The content of a report. A session is a node and a number.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Said {
    /// These, and no others.
    Everything(Vec<(NodeId, u64)>),
    /// What changed since the report before.
    Changes {
        /// Sessions that began.
        opened: Vec<(NodeId, u64)>,
        /// Sessions that ended.
        closed: Vec<Ended>,
    },
}

/// A session that ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(crate) struct Ended {
    /// Whose it was.
    pub node: NodeId,
    /// Its number.
    pub number: u64,
    /// For how long the node had not been heard in it when this was said.
    pub silent_ms: u64,
}

/// What a server answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Answer {
    /// It is done.
    Done {
        /// The entry of the log after which the asker's own state shows it.
        entry: u64,
        /// The index in the state.
        index: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The state forbids it; nothing changed.
    Refused(Refusal),
    /// This server does not lead; nothing changed.
    NotLeader,
    /// It did not happen, or it is not known whether it did.
    Failed {
        /// Whether it may have happened.
        perhaps: bool,
        /// Why.
        reason: String,
    },
    /// A report was taken in, or everything has to be said anew.
    Heard {
        /// Whether it was.
        taken: bool,
        /// Where the leader's state is: an index, and the hash of everything up to it.
        point: Option<(u64, Hash)>,
    },
    /// It is there.
    Here,
    /// It is not allowed; nothing changed, and asking again does not help.
    Denied {
        /// Why.
        reason: String,
    },
}

impl Ask {
    pub fn encode(&self) -> Bytes {
        let mut body = TAG.to_vec();
        body.extend_from_slice(&encode(self));
        body.into()
    }

    /// Reads a request; none when it is not for this part of the server.
    pub fn decode(body: &Bytes) -> Option<Result<Self, DecodeError>> {
        Some(decode(body.strip_prefix(TAG)?))
    }
}

impl Answer {
    pub fn failed(error: impl ToString) -> Self {
        Self::Failed { perhaps: false, reason: error.to_string() }
    }
}

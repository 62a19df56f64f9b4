//! What a client and a server say to each other over their one long-lived connection.
//!
//! The client opens a stream on the node plane and says [`ClientMessage::Hello`]. The server answers with
//! [`ServerMessage::Welcome`] and a complete [`Assignments`], then pushes what changes. The client hands in what
//! happened as [`ClientMessage::Updates`], one batch under way at a time; each is answered by [`ServerMessage::Ack`]
//! once it is committed. A connection that breaks is opened again, and everything starts from `Hello`: nothing is lost,
//! because the client keeps what is not acknowledged, and the server sends everything anew.

use std::sync::Arc;

use model::{
    AllocHealth, AllocId, AllocRecord, ClientStatus, Job, NetworkStatus, Node, NodeEvent, NodeId, TaskState,
    Text,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Named;

/// First bytes of the stream that carries a session.
pub const SESSION_HEADER: &[u8] = b"session/2";

/// The same of clients that do not know [`ServerMessage::Packed`].
pub const FIRST_SESSION_HEADER: &[u8] = b"session/1";

/// What a client says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[allow(clippy::large_enum_variant)]
pub enum ClientMessage {
    /// The first message: who it is, and all that it runs.
    Hello {
        /// The node.
        node: Named<Box<Node>>,
        /// Everything that the client knows of, whether it changed or not.
        allocs: Vec<AllocUpdate>,
    },
    /// Facts about the node changed.
    NodeChanged {
        /// The node.
        node: Named<Box<Node>>,
    },
    /// Allocations changed.
    Updates {
        /// Counts up within a session.
        seq: u64,
        /// What changed; the last word on each allocation.
        updates: Vec<AllocUpdate>,
    },
    /// Something happened to the node.
    Event {
        /// What.
        event: NodeEvent,
    },
    /// The client leaves on purpose.
    Leaving,
}

/// What a server says.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum ServerMessage {
    /// The node is registered.
    Welcome {
        /// The cluster's id.
        cluster_id: Uuid,
        /// The state's index.
        index: u64,
    },
    /// Allocations of the node.
    Allocs(Assignments),
    /// A batch of updates is committed.
    Ack {
        /// Which batch.
        seq: u64,
        /// At which index.
        index: u64,
    },
    /// The session ends; the client tries another server, or stops when it can not help.
    Refused {
        /// Why.
        reason: Text,
    },
    /// Allocations of the node, with jobs in few bytes. For clients that opened the stream of the second version.
    Packed(PackedAssignments),
}

/// Allocations of a node, all of them or those that changed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Assignments {
    /// The state's index.
    pub index: u64,
    /// Nothing else is on the node: whatever the client has beside it is to be removed, jobs that it does not name, too.
    pub complete: bool,
    /// Jobs that the allocations name and that were not sent on this session since the last complete list.
    pub jobs: Vec<Arc<Job>>,
    /// Allocations that are there or changed.
    pub allocs: Vec<AllocRecord>,
    /// With a complete list: allocations that are over and that the servers still remember; the client keeps what it
    /// has of them.
    pub kept: Vec<AllocId>,
    /// Allocations that the servers forgot: the client may remove what it keeps of them.
    pub removed: Vec<AllocId>,
}

/// [`Assignments`] whose jobs are compressed on their way.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PackedAssignments {
    index: u64,
    complete: bool,
    #[serde(with = "crate::packed")]
    jobs: Vec<Arc<Job>>,
    allocs: Vec<AllocRecord>,
    kept: Vec<AllocId>,
    removed: Vec<AllocId>,
}

impl From<Assignments> for PackedAssignments {
    fn from(plain: Assignments) -> Self {
        let Assignments { index, complete, jobs, allocs, kept, removed } = plain;
        Self { index, complete, jobs, allocs, kept, removed }
    }
}

impl From<PackedAssignments> for Assignments {
    fn from(packed: PackedAssignments) -> Self {
        let PackedAssignments { index, complete, jobs, allocs, kept, removed } = packed;
        Self { index, complete, jobs, allocs, kept, removed }
    }
}

/// How an allocation is, as its client sees it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AllocUpdate {
    /// Which.
    pub id: AllocId,
    /// The node that says so; an update from another node is dropped.
    pub node_id: NodeId,
    /// How it is.
    pub client_status: ClientStatus,
    /// The client's words.
    pub client_description: Text,
    /// Its tasks, in the order of the group's tasks.
    pub task_states: Arc<[TaskState]>,
    /// Its health in its deployment, once known.
    pub health: Option<AllocHealth>,
    /// How it is reached.
    pub network: Option<NetworkStatus>,
}

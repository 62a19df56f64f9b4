use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{AllocId, NodeId, Text, Timestamp};
use uuid::Uuid;

use crate::Rows;

/// A hash of everything that a server applied up to some index.
pub type StateHash = [u8; 32];

/// Time since the run began: simulated time, or the watch of whoever looks.
pub type Moment = Duration;

/// What is seen of the whole cluster at one moment.
///
/// What can not be seen is left out, never made up: an empty list or `None` says "not looked at", and a property that
/// needs it passes over it. The parts are taken one after another, so an observation of real processes is not a
/// consistent cut; properties say where that matters.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// When.
    pub at: Moment,
    /// Whether faults are still being injected.
    pub phase: Phase,
    /// Every agent that was ever started, with what is true of it, not what others think.
    pub agents: Vec<AgentView>,
    /// The servers that answered.
    pub servers: Vec<ServerView>,
    /// The client agents' machines: what really runs there, whether their agent is up or not.
    pub nodes: Vec<NodeView>,
    /// The members, as each agent sees them.
    pub members: Vec<MemberTable>,
    /// What followers of indexes and of the event stream were handed since the last observation, in order.
    pub watched: Vec<WatchSeen>,
    /// Figures of the processes.
    pub health: Vec<ProcessHealth>,
    /// What was tried on the side since the last observation: bad input, restores, repeated seeds.
    pub trials: Vec<Trial>,
    /// What all clocks show; none while one of them is wrong.
    pub wall: Option<Timestamp>,
    /// Allocations that a user asked to stop at any time.
    pub stopped_by_hand: BTreeSet<AllocId>,
}

/// Whether faults are being injected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// They are, or may be.
    #[default]
    Faults,
    /// The last one ended, and everything that was taken away was given back.
    Healing {
        /// When.
        since: Moment,
    },
}

impl Observation {
    /// Returns for how long there was no fault; none while there are faults.
    pub fn calm_for(&self) -> Option<Duration> {
        match self.phase {
            Phase::Faults => None,
            Phase::Healing { since } => Some(self.at.saturating_sub(since)),
        }
    }

    /// Returns the rows of the server that applied most, which are the closest to what is committed.
    pub fn newest_rows(&self) -> Option<&Arc<Rows>> {
        self.servers.iter().filter_map(|server| server.rows.as_ref()).max_by_key(|rows| rows.index)
    }

    /// Finds what is true of an agent.
    pub fn agent(&self, name: &str) -> Option<&AgentView> {
        self.agents.iter().find(|agent| agent.name == name)
    }

    /// Finds a node's machine.
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

/// What is true of an agent, as only whoever breaks things can know it.
#[derive(Clone, Debug, Default)]
pub struct AgentView {
    /// Its name, which member tables use too.
    pub name: Text,
    /// Its process runs and is not stopped.
    pub running: bool,
    /// It said goodbye and was not started since.
    pub left: bool,
    /// Nothing is between it and the other agents; false while it is cut off or paused.
    pub reachable: bool,
}

/// What is seen of one server.
#[derive(Clone, Debug, Default)]
pub struct ServerView {
    /// Its number in Raft, which is another one after it began anew.
    pub id: u64,
    /// The agent's name.
    pub agent: Text,
    /// Counts the starts of its process: what is only in memory may go back when it changes.
    pub boot: u32,
    /// The region's id, once it knows one.
    pub cluster: Option<Uuid>,
    /// Its part in Raft.
    pub raft: Option<RaftView>,
    /// The rows that it serves. Hand in the same `Arc` while the index stands still: it saves the properties' work.
    pub rows: Option<Arc<Rows>>,
    /// Hashes of its state by index, as many as are at hand.
    pub hashes: Vec<(u64, StateHash)>,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct LogPoint {
    /// The term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// Whom a server voted for, or heard to be elected.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vote {
    /// In which term.
    pub term: u64,
    /// For whom.
    pub server: u64,
    /// A quorum elected that one. It takes the place of the server's own vote in the same term, whoever that was for.
    pub elected: bool,
}

/// What a server takes itself for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It follows.
    #[default]
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows without a vote.
    Learner,
}

/// A server's part in Raft.
#[derive(Clone, Debug, Default)]
pub struct RaftView {
    /// What it takes itself for.
    pub role: Role,
    /// The latest term that it knows.
    pub term: u64,
    /// Its vote, when that can be seen.
    pub vote: Option<Vote>,
    /// Up to where it knows entries to be committed.
    pub committed: Option<LogPoint>,
    /// Up to where it applied them.
    pub applied: Option<LogPoint>,
    /// Entries of its log, as many as are at hand and in their order: the place of each and a hash of what it says. On
    /// simulated disks, only what would outlive a crash.
    pub log: Vec<(LogPoint, u64)>,
    /// Who votes, as its latest configuration says; more than one set while that changes.
    pub voters: Vec<BTreeSet<u64>>,
}

/// What really is on a node's machine.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    /// The node.
    pub id: NodeId,
    /// The name of its agent.
    pub agent: Text,
    /// Counts the starts of its agent.
    pub boot: u32,
    /// Counts the times that all of its tasks ended with it: reboots.
    pub life: u32,
    /// The tasks that run, whoever started them.
    pub tasks: Vec<RunningTask>,
    /// Ports that the tasks listen on, with the allocation that does: address, port.
    pub listeners: Vec<(Text, u16, AllocId)>,
    /// What was made for allocations beside processes and is still there.
    pub leftovers: Vec<LeftOver>,
}

/// A task that really runs.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct RunningTask {
    /// The allocation that it belongs to.
    pub alloc: AllocId,
    /// Its name.
    pub task: Text,
    /// What tells this launch from any other of the same task: a pid with its start time, a container's id.
    pub launch: Text,
}

/// Something that was made for an allocation: a cgroup, a mount, a namespace, a rule.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct LeftOver {
    /// Its kind, in the words of whoever looked.
    pub kind: Text,
    /// Its name.
    pub name: Text,
    /// For which allocation, when it says.
    pub alloc: Option<AllocId>,
}

/// The members, as one agent sees them.
#[derive(Clone, Debug, Default)]
pub struct MemberTable {
    /// Who sees.
    pub agent: Text,
    /// Who is there.
    pub alive: BTreeSet<Text>,
    /// Who is taken to have failed.
    pub failed: BTreeSet<Text>,
    /// Who left.
    pub left: BTreeSet<Text>,
}

/// Something that a follower was handed.
#[derive(Clone, Debug)]
pub struct WatchSeen {
    /// Who follows; one name for one uninterrupted follower.
    pub watcher: Text,
    /// The server that answered.
    pub server: u64,
    /// What came.
    pub seen: Watched,
}

/// What a follower was handed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Watched {
    /// A blocking query returned with this index.
    Index {
        /// The index.
        index: u64,
    },
    /// A blocking query on one job returned.
    Job {
        /// The index of the answer.
        index: u64,
        /// Which job.
        key: model::JobKey,
        /// The index of its specification (`JobModifyIndex`); 0 for no such job.
        job_index: u64,
    },
    /// The event stream handed over the events of one index.
    Events {
        /// The index.
        index: u64,
        /// How many.
        count: usize,
    },
    /// The follower ended: nothing is to be expected of it any more.
    Ended,
}

/// Figures of a process.
#[derive(Clone, Debug, Default)]
pub struct ProcessHealth {
    /// Whose.
    pub agent: Text,
    /// Panics, aborts and failed assertions, in their own words.
    pub panics: Vec<String>,
    /// The longest time that one step of a task took, when it was measured.
    pub longest_poll: Option<Duration>,
    /// Queues with their bounds.
    pub queues: BTreeMap<Text, QueueDepth>,
    /// Resident memory in bytes.
    pub memory: Option<u64>,
    /// Open files.
    pub files: Option<u64>,
}

/// How full a queue is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueDepth {
    /// What waits in it.
    pub waiting: u64,
    /// What may.
    pub most: u64,
}

/// Something that was tried on the side, with what came of it.
#[derive(Clone, Debug)]
pub enum Trial {
    /// Something that no honest peer or user sends was sent.
    BadInput {
        /// What.
        what: Text,
        /// The state before.
        before: StateHash,
        /// The state after.
        after: StateHash,
    },
    /// Honest requests were timed without and with bad ones beside them, at the 99th percentile.
    Honest {
        /// Without.
        alone: Duration,
        /// With.
        beside_bad: Duration,
    },
    /// A state was written and read back.
    Restore {
        /// From where.
        what: Text,
        /// The content's hash before.
        before: StateHash,
        /// The content's hash after.
        after: StateHash,
    },
    /// A stored file was damaged and the agent started on it.
    Damage {
        /// Which file, where, how.
        place: Text,
        /// Other data than before was served, and nobody said so.
        served_silently: bool,
    },
    /// A seed was run twice.
    Repeat {
        /// The seed.
        seed: u64,
        /// The first run's trace.
        first: u64,
        /// The second run's.
        second: u64,
    },
}

//! What can be done to a cluster.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// One agent of the cluster, counted from one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Agent {
    /// A server.
    Server(u8),
    /// A client.
    Client(u8),
}

impl Agent {
    /// Its machine's address.
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Server(number) => IpAddr::from([10, 0, 0, number]),
            Self::Client(number) => IpAddr::from([10, 0, 1, number]),
        }
    }

    /// Its node id, on every plane.
    pub fn node_id(self) -> [u8; 16] {
        match self {
            Self::Server(number) => [number; 16],
            Self::Client(number) => [100 + number; 16],
        }
    }
}

impl fmt::Display for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(number) => write!(f, "server-{number}"),
            Self::Client(number) => write!(f, "client-{number}"),
        }
    }
}

/// A fault with its time.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Happening {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts; what can not last ends at once.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// What is broken.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Fault {
    /// Agents are killed as by SIGKILL and start again at the end. Tasks go on.
    Crash {
        /// Whom.
        agents: Vec<Agent>,
    },
    /// An agent stands still as by SIGSTOP, and goes on at the end.
    Pause {
        /// Whom.
        agent: Agent,
    },
    /// Nothing passes between these agents and all others.
    Partition {
        /// One side.
        side: Vec<Agent>,
    },
    /// Nothing passes from one agent to another.
    OneWay {
        /// From whom.
        from: Agent,
        /// To whom.
        to: Agent,
    },
    /// Nothing passes between two agents; both reach all others.
    Pair {
        /// One.
        one: Agent,
        /// The other.
        other: Agent,
    },
    /// An agent's gossip is cut off; its connections go on.
    GossipCut {
        /// Whose.
        agent: Agent,
    },
    /// An agent's connections are cut off; its gossip goes on.
    ConnectionsCut {
        /// Whose.
        agent: Agent,
    },
    /// All links lose, repeat and delay messages.
    Weather {
        /// How many of a thousand messages are lost.
        lost_permille: u32,
        /// How many of a thousand datagrams arrive twice.
        doubled_permille: u32,
        /// The most that a message is delayed; each takes its own time, so they overtake each other.
        delay_ms: u64,
    },
    /// What is sent to or by an agent is held back and arrives all at once at the end.
    Clog {
        /// Whose.
        agent: Agent,
    },
    /// An agent's wall clock is off by this much, until the end.
    Clock {
        /// Whose.
        agent: Agent,
        /// Ahead or behind.
        seconds: i64,
    },
    /// The next syncs of a server's disk fail. The server has to stop, and starts again.
    FailedSyncs {
        /// The server.
        server: u8,
    },
    /// A server's disk has no room, until the end.
    FullDisk {
        /// The server.
        server: u8,
    },
    /// A server's disk takes this long for each call, until the end.
    SlowDisk {
        /// The server.
        server: u8,
        /// How long.
        each_ms: u64,
    },
    /// A bit of a server's log or latest snapshot flips while the server is down.
    FlippedBit {
        /// The server.
        server: u8,
        /// In the snapshot, or in the log.
        in_snapshot: bool,
        /// How far into it.
        permille: u32,
    },
    /// Machines lose power and start again at the end: what was not synced is gone, and so are their tasks.
    Reboot {
        /// Whose.
        agents: Vec<Agent>,
    },
    /// A client's machine is made anew: its agent comes back as the same node, and remembers nothing of its tasks.
    Reinstall {
        /// The client.
        client: u8,
    },
    /// A server leaves the group on purpose and joins again at the end.
    ServerLeave {
        /// The server.
        server: u8,
    },
    /// A server dies in the middle of a write: of what it was about to acknowledge, only a part is on the disk.
    TornWrite {
        /// The server.
        server: u8,
        /// How many of a thousand entries of the write are kept.
        kept_permille: u32,
    },
    /// A server's disk loses entries that it had acknowledged, while the server is down.
    LostEntries {
        /// The server.
        server: u8,
        /// How many.
        entries: usize,
    },
    /// The leader is asked to hand over to another server.
    Transfer,
    /// One of a node's tasks ends by itself.
    TaskFailure {
        /// The client.
        client: u8,
    },
    /// A client leaves on purpose and joins again at the end.
    Leave {
        /// The client.
        client: u8,
    },
}

impl Fault {
    /// Its kind, for the table of what was injected.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Crash { agents } if agents.len() > 1 => "crash of several",
            Self::Crash { agents } if matches!(agents[..], [Agent::Server(_)]) => "crash of a server",
            Self::Crash { .. } => "crash of a client",
            Self::Pause { agent: Agent::Server(_) } => "pause of a server",
            Self::Pause { agent: Agent::Client(_) } => "pause of a client",
            Self::Partition { .. } => "partition",
            Self::OneWay { .. } => "one-way cut",
            Self::Pair { .. } => "cut between two",
            Self::GossipCut { .. } => "gossip cut off",
            Self::ConnectionsCut { .. } => "connections cut off",
            Self::Weather { .. } => "loss, delay, repetition",
            Self::Clog { .. } => "clogged link",
            Self::Clock { .. } => "clock jump",
            Self::FailedSyncs { .. } => "failed syncs",
            Self::FullDisk { .. } => "full disk",
            Self::SlowDisk { .. } => "slow disk",
            Self::FlippedBit { in_snapshot: false, .. } => "flipped bit in a log",
            Self::FlippedBit { in_snapshot: true, .. } => "flipped bit in a snapshot",
            Self::Reboot { .. } => "reboot of machines",
            Self::Reinstall { .. } => "client made anew",
            Self::ServerLeave { .. } => "server leaves and joins",
            Self::TornWrite { .. } => "torn write",
            Self::LostEntries { .. } => "lost entries",
            Self::Transfer => "leader transfer",
            Self::TaskFailure { .. } => "task failure",
            Self::Leave { .. } => "leave and join",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |agents: &[Agent]| agents.iter().map(Agent::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "{}", self.kind())?;
        match self {
            Self::Crash { agents } | Self::Reboot { agents } => write!(f, ": {}", all(agents)),
            Self::Partition { side } => write!(f, ": {} | the others", all(side)),
            Self::Pause { agent }
            | Self::GossipCut { agent }
            | Self::ConnectionsCut { agent }
            | Self::Clog { agent } => write!(f, ": {agent}"),
            Self::OneWay { from, to } => write!(f, ": {from} -> {to}"),
            Self::Pair { one, other } => write!(f, ": {one} - {other}"),
            Self::Weather { lost_permille, doubled_permille, delay_ms } => {
                write!(f, ": {lost_permille} and {doubled_permille} of 1000, up to {delay_ms} ms")
            }
            Self::Clock { agent, seconds } => write!(f, ": {agent} by {seconds} s"),
            Self::FailedSyncs { server } | Self::FullDisk { server } | Self::ServerLeave { server } => {
                write!(f, ": server-{server}")
            }
            Self::SlowDisk { server, each_ms } => write!(f, ": server-{server}, {each_ms} ms"),
            Self::FlippedBit { server, permille, .. } => write!(f, ": server-{server} at {permille} of 1000"),
            Self::TornWrite { server, kept_permille } => {
                write!(f, ": server-{server}, {kept_permille} of 1000 kept")
            }
            Self::LostEntries { server, entries } => write!(f, ": server-{server}, {entries} entries"),
            Self::Transfer => Ok(()),
            Self::TaskFailure { client } | Self::Leave { client } | Self::Reinstall { client } => {
                write!(f, ": client-{client}")
            }
        }
    }
}

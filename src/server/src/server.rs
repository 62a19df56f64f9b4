use std::{sync::Arc, time::Duration};

use control::collection::Thresholds;
use model::{AllocId, DeploymentId, EvalId, Timestamp};
use protocol::{Command, encode};
use raft::{ProposeError, Raft};
use runtime::Env;
use state::{Outcome, Refusal, Snapshot};
use tokio::sync::mpsc;

use crate::{
    Replica,
    allocs::Updates,
    events::EventRing,
    hub::{Hub, Waiter, Watch},
    leader::LeaderInput,
    machine::Machine,
    members::Gossip,
    peers::Peers,
    sessions::Sessions,
};

/// Settings of a server, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The region.
    pub region: String,
    /// This server's name, as members show it.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// How long a node without a session may be silent before it counts as down.
    pub node_grace: Duration,
    /// How long records are kept.
    pub thresholds: Thresholds,
    /// Time between two looks for old records.
    pub gc_interval: Duration,
    /// Batches of events kept for streams that resume. 100 unless changed.
    pub event_buffer: usize,
}

/// A server of a region. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub env: Env,
    pub config: Config,
    pub raft: Raft<Machine>,
    pub hub: Arc<Hub>,
    pub events: Arc<EventRing>,
    pub sessions: Sessions,
    pub updates: Updates,
    pub leader: mpsc::Sender<LeaderInput>,
    pub me: Replica,
    pub gossip: Gossip,
    pub peers: Peers,
}

/// Why a change did not happen, or may not have.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The state forbids it; nothing changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Another server leads; nothing changed.
    #[error("not the leader")]
    NotLeader,
    /// It can not be known whether it happened.
    #[error("the change may or may not have been made: leadership changed meanwhile")]
    Unknown,
    /// The server is stopping, or too much is waiting; nothing changed.
    #[error("{0}")]
    Unavailable(String),
}

/// A change that happened.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// At which index.
    pub index: u64,
    /// What came of it.
    pub outcome: Outcome,
}

impl Server {
    /// Returns the latest state.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.hub.snapshot()
    }

    /// Waits for any of these to change from here on.
    pub fn wait_for(&self, watched: &[Watch]) -> Waiter {
        self.inner.hub.wait_for(watched)
    }

    /// The server's settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Time, chance and tasks.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// The replicated log.
    pub fn raft(&self) -> &Raft<Machine> {
        &self.inner.raft
    }

    /// What the event stream shows.
    pub fn events(&self) -> &Arc<EventRing> {
        &self.inner.events
    }

    /// The nodes that are connected to this server.
    pub fn sessions(&self) -> &Sessions {
        &self.inner.sessions
    }

    /// Returns wall time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.inner.env.wall())
    }

    /// Draws an id.
    pub fn new_eval_id(&self) -> EvalId {
        EvalId::from_random(self.inner.env.random_u128())
    }

    /// Draws an id.
    pub fn new_deployment_id(&self) -> DeploymentId {
        DeploymentId::from_random(self.inner.env.random_u128())
    }

    /// Draws an id.
    pub fn new_alloc_id(&self) -> AllocId {
        AllocId::from_random(self.inner.env.random_u128())
    }

    /// Tells whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.inner.raft.is_leader()
    }

    /// Has a command agreed on and applied.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`], which tells for each case whether the change was made.
    pub async fn submit(&self, command: &Command) -> Result<Submitted, SubmitError> {
        self.inner.submit(command).await
    }

    /// Asks the leader's loop for something, e.g. to collect old records.
    pub(crate) async fn ask_leader(&self, input: LeaderInput) -> Result<(), SubmitError> {
        let stopping = |_| SubmitError::Unavailable("server is stopping".to_owned());
        self.inner.leader.send(input).await.map_err(stopping)
    }
}

impl Inner {
    pub async fn submit(&self, command: &Command) -> Result<Submitted, SubmitError> {
        match self.raft.propose(encode(command)).await {
            Ok((_, Ok((index, outcome)))) => Ok(Submitted { index, outcome }),
            Ok((_, Err(refusal))) => Err(SubmitError::Refused(refusal)),
            Err(ProposeError::NotLeader { .. }) => Err(SubmitError::NotLeader),
            Err(ProposeError::Unknown) => Err(SubmitError::Unknown),
            Err(error) => Err(SubmitError::Unavailable(error.to_string())),
        }
    }
}

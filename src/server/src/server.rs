use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use control::{collection::Thresholds, liveness};
use model::{AllocId, AutopilotConfig, DeploymentId, EvalId, Timestamp};
use parking_lot::Mutex;
use protocol::Command;
use raft::Raft;
use runtime::Env;
use state::{Outcome, Refusal, Snapshot};
use tokio::sync::mpsc;

use crate::{
    Replica,
    allocs::Updates,
    events::EventRing,
    group::Health,
    hub::{Hub, Waiter, Watch},
    leader::LeaderInput,
    lookout::Pauses,
    machine::Machine,
    members::Gossip,
    peers::Peers,
    probe::HostProbe,
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
    /// How long nodes may be silent.
    pub heartbeats: Heartbeats,
    /// With how many voters the region begins; 0 or 1 for a region of one.
    pub bootstrap_expect: usize,
    /// Settings of how servers are kept, for a region that has none yet.
    pub autopilot: AutopilotConfig,
    /// How long records are kept.
    pub thresholds: Thresholds,
    /// Time between two looks for old records.
    pub gc_interval: Duration,
    /// Batches of events kept for streams that resume. 100 unless changed.
    pub event_buffer: usize,
}

/// What a configuration says about heartbeats, in Nomad's words; what it does not say is chosen here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heartbeats {
    /// `heartbeat_grace`.
    pub grace: Option<Duration>,
    /// `min_heartbeat_ttl`.
    pub min_ttl: Option<Duration>,
    /// `failover_heartbeat_ttl`.
    pub failover_ttl: Option<Duration>,
}

impl Heartbeats {
    /// Nomad's own default of either, for a configuration that sets the other one.
    const USUAL: Duration = Duration::from_secs(10);

    /// Maps Nomad's settings. There are no heartbeats to miss here, so the time until Nomad would miss one and lose
    /// patience is how long a node may be silent that only gossip still hears. A node that both signals call gone is down
    /// sooner, unless the grace is shorter still.
    pub fn liveness(&self) -> liveness::Config {
        let mut config = liveness::Config::STANDARD;
        if self.grace.is_some() || self.min_ttl.is_some() {
            let silent = self.grace.unwrap_or(Self::USUAL) + self.min_ttl.unwrap_or(Self::USUAL);
            config.silent_grace = silent.max(config.grace);
        }
        if let Some(grace) = self.grace.filter(|grace| !grace.is_zero()) {
            config.grace = config.grace.min(grace);
        }
        // One that gossip calls dead is not given longer than one that gossip hears.
        config.stall_grace = config.stall_grace.min(config.silent_grace);
        if let Some(failover) = self.failover_ttl {
            config.failover_grace = failover;
        }
        config
    }
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
    /// Where servers hand in what their nodes say, to the leader.
    pub updates: Updates,
    /// Where this server's sessions hand it in.
    pub handed_in: Updates,
    pub leader: mpsc::Sender<LeaderInput>,
    pub me: Replica,
    /// Time between two signs of life of a leader.
    pub heartbeat: Duration,
    pub gossip: Gossip,
    pub peers: Peers,
    /// When the leader last spoke to this server.
    pub heard: Mutex<Pauses>,
    /// How the group is, as the leader last saw it.
    pub health: Mutex<Option<Health>>,
    /// What tells a machine that is gone from an agent that only stands still.
    pub host_probe: OnceLock<Arc<dyn HostProbe>>,
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

//! What every runner of a node shares.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use driver::Driver;
use model::{Node, Timestamp};
use runtime::Env;

use crate::{journal::Journal, outbox::Outbox};

/// The node's own parts, shared by its runners.
#[derive(Debug)]
pub struct Context {
    /// Time, chance and tasks.
    pub env: Env,
    /// The region.
    pub region: String,
    /// Where allocations live.
    pub alloc_dir: PathBuf,
    /// The longest that a task may take to stop.
    pub max_kill_timeout: Duration,
    /// Drivers by name.
    pub drivers: Drivers,
    /// What is remembered across a kill.
    pub journal: Journal,
    /// What the servers are to be told.
    pub outbox: Outbox,
    /// The node as it is.
    pub node: ArcSwap<Node>,
    /// The agent's own environment, for tasks that share the host.
    pub host_env: BTreeMap<String, String>,
}

/// Drivers by name.
#[derive(Clone, Default)]
pub struct Drivers(pub BTreeMap<&'static str, Arc<dyn Driver>>);

impl std::fmt::Debug for Drivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Context {
    /// Returns wall time.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.env.wall())
    }
}

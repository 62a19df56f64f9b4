use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use model::{
    AutopilotConfig, Deployment, Evaluation, JobKey, JobSubmission, JobSummary, JoinSettings, JoinToken,
    Namespace, Node, NodeId, NodePool, RootKey, ScalingEvent, SchedulerConfig, Text, Timestamp,
    TrustedRegion,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{AllocTable, JobTable, Ordered};

/// Declares the tables, once: the state, the names, and what is written to and read from a snapshot all come from this
/// list, and a table without rows that can be written and read does not compile.
macro_rules! tables {
    ($($(#[$meta:meta])* $variant:ident = $number:literal, $name:literal, $field:ident: $storage:ty;)+) => {
        /// A table of the state.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum Table { $($(#[$meta])* $variant = $number,)+ }

        impl Table {
            /// Every table, in the order in which a snapshot holds them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the table's name, as a snapshot writes it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        /// The state of a region at one index.
        ///
        /// Cloning is constant in time: the rows are shared and immutable.
        #[derive(Clone, Debug)]
        pub struct State {
            pub(crate) index: u64,
            pub(crate) table_indexes: [u64; Table::ALL.len()],
            $($(#[$meta])* pub(crate) $field: $storage,)+
        }

        impl Default for State {
            fn default() -> Self {
                let mut state = Self {
                    index: 0,
                    table_indexes: [0; Table::ALL.len()],
                    $($field: Default::default(),)+
                };
                state.put_built_ins();
                state
            }
        }

        /// Writes the rows of a table.
        pub(crate) fn write_rows(
            state: &State,
            table: Table,
            sink: &mut dyn crate::image::RowSink,
        ) -> std::io::Result<()> {
            match table { $(Table::$variant => <rows::$variant as crate::image::Rows>::write(state, sink),)+ }
        }

        /// Reads one row of a table.
        pub(crate) fn load_row(
            loading: &mut crate::image::Loading,
            table: Table,
            bytes: &[u8],
        ) -> Result<(), crate::RestoreError> {
            match table {
                $(Table::$variant => <rows::$variant as crate::image::Rows>::load_bytes(loading, bytes),)+
            }
        }

        pub(crate) mod rows {
            $(pub(crate) struct $variant;)+
        }
    };
}

// Numbers are written to snapshots: tables are appended, never renumbered. A table's rows may refer to tables above it.
tables! {
    /// The cluster's id.
    Cluster = 0, "cluster", cluster: Single<Cluster>;
    /// Namespaces.
    Namespaces = 1, "namespaces", namespaces: OrdMap<Text, Arc<Namespace>>;
    /// Node pools.
    NodePools = 2, "node_pools", node_pools: OrdMap<Text, Arc<NodePool>>;
    /// Settings of the schedulers.
    SchedulerConfig = 3, "scheduler_config", scheduler_config: Single<SchedulerConfig>;
    /// Nodes.
    Nodes = 4, "nodes", nodes: OrdMap<NodeId, Arc<Node>>;
    /// Jobs with their versions.
    Jobs = 5, "jobs", jobs: JobTable;
    /// Texts that job versions were registered from.
    Submissions = 6, "job_submissions", submissions: OrdMap<(JobKey, u64), Arc<JobSubmission>>;
    /// Counts of jobs' allocations by state.
    Summaries = 7, "job_summaries", summaries: OrdMap<JobKey, Arc<JobSummary>>;
    /// Last launches of periodic jobs.
    PeriodicLaunches = 8, "periodic_launches", periodic_launches: OrdMap<JobKey, Timestamp>;
    /// Changes of counts that someone asked for.
    ScalingEvents = 9, "scaling_events", scaling_events: OrdMap<JobKey, Arc<[(Text, ScalingEvent)]>>;
    /// Deployments.
    Deployments = 10, "deployments", deployments: Ordered<Deployment>;
    /// Evaluations.
    Evals = 11, "evals", evals: Ordered<Evaluation>;
    /// Allocations.
    Allocs = 12, "allocs", allocs: AllocTable;
    /// Join tokens.
    JoinTokens = 13, "join_tokens", join_tokens: OrdMap<Uuid, Arc<JoinToken>>;
    /// Demands of whoever joins.
    JoinSettings = 14, "join_settings", join_settings: Single<JoinSettings>;
    /// Other regions that are trusted.
    Regions = 15, "trusted_regions", regions: OrdMap<Text, Arc<TrustedRegion>>;
    /// Where the state came from when it was restored, and the parts of a copy that is on its way.
    Restore = 16, "restore", restore: Single<Restore>;
    /// Settings of how servers are kept.
    AutopilotConfig = 17, "autopilot_config", autopilot_config: Single<AutopilotConfig>;
    /// Keys of the keyring.
    RootKeys = 18, "root_keys", root_keys: OrdMap<Uuid, Arc<RootKey>>;
}

/// What makes a cluster this one.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Cluster {
    pub(crate) id: Uuid,
    pub(crate) create_time: Timestamp,
}

/// What restoring leaves in the state.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Restore {
    /// What indexes of the state are ahead of those of the log: a restored state goes on from its own indexes, so that
    /// no reader ever sees them fall.
    pub(crate) offset: u64,
    /// The copy that is on its way.
    pub(crate) staged: Option<Staged>,
}

/// Parts of a compressed copy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Staged {
    pub(crate) id: Uuid,
    pub(crate) parts: Vec<Bytes>,
}

/// A table of at most one row.
#[derive(Clone, Debug)]
pub(crate) struct Single<T>(Option<Arc<T>>);

impl<T> Default for Single<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Single<T> {
    pub(crate) fn get(&self) -> Option<&Arc<T>> {
        self.0.as_ref()
    }

    pub(crate) fn set(&mut self, row: T) {
        self.0 = Some(Arc::new(row));
    }
}

impl Single<SchedulerConfig> {
    pub(crate) fn row(&self) -> &SchedulerConfig {
        static DEFAULT: std::sync::LazyLock<SchedulerConfig> =
            std::sync::LazyLock::new(SchedulerConfig::default);
        self.0.as_deref().unwrap_or(&DEFAULT)
    }
}

impl Single<AutopilotConfig> {
    pub(crate) fn row(&self) -> &AutopilotConfig {
        static DEFAULT: std::sync::LazyLock<AutopilotConfig> =
            std::sync::LazyLock::new(AutopilotConfig::default);
        self.0.as_deref().unwrap_or(&DEFAULT)
    }
}

impl State {
    /// Puts in the rows that every region has from the start.
    fn put_built_ins(&mut self) {
        let default = Namespace {
            name: "default".into(),
            description: "Default shared namespace".into(),
            create_index: 1,
            modify_index: 1,
            ..Namespace::default()
        };
        self.namespaces.insert(default.name.clone(), Arc::new(default));
        for (name, description) in
            [("all", "Node pool with all nodes in the cluster."), ("default", "Default node pool.")]
        {
            let pool = NodePool {
                name: name.into(),
                description: description.into(),
                create_index: 1,
                modify_index: 1,
                ..NodePool::default()
            };
            self.node_pools.insert(pool.name.clone(), Arc::new(pool));
        }
        self.table_indexes[Table::Namespaces as usize] = 1;
        self.table_indexes[Table::NodePools as usize] = 1;
    }
}

use std::{ops::Deref, sync::Arc};

use model::{
    AllocId, Allocation, AutopilotConfig, Deployment, DeploymentId, EvalId, Evaluation, Job, JobKey,
    JobSubmission, JobSummary, JoinSettings, JoinToken, Namespace, Node, NodeId, NodePool, RootKey,
    ScalingEvent, SchedulerConfig, Text, Timestamp, TrustedRegion,
};
use uuid::Uuid;

use crate::{IdPrefix, JobCounts, State, Table};

/// The state at one index, immutable and cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Snapshot(Arc<State>);

impl Snapshot {
    pub(crate) fn of(state: &State) -> Self {
        Self(Arc::new(state.clone()))
    }
}

impl Deref for Snapshot {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

/// Indexes.
impl State {
    /// Returns the index of the last command that was applied.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Returns the index of the last change of a table; 0 when nothing ever changed in it.
    pub fn table_index(&self, table: Table) -> u64 {
        self.table_indexes[table as usize]
    }

    /// Returns the index of the last change in any of the tables.
    pub fn last_index_of(&self, tables: &[Table]) -> u64 {
        tables.iter().map(|&table| self.table_index(table)).max().unwrap_or(0)
    }

    /// Returns the cluster's id, once it has one.
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.cluster.get().map(|cluster| cluster.id)
    }

    /// Returns when the cluster was made.
    pub fn cluster_create_time(&self) -> Timestamp {
        self.cluster.get().map(|cluster| cluster.create_time).unwrap_or_default()
    }
}

/// Nodes, node pools, namespaces, settings.
impl State {
    /// Finds a node.
    pub fn node(&self, id: NodeId) -> Option<&Arc<Node>> {
        self.nodes.get(&id)
    }

    /// Lists the nodes in the order of their ids.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = &Arc<Node>> {
        self.nodes.iter().map(|(_, node)| node)
    }

    /// Returns the number of nodes.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Lists the nodes from an id on, in the order of their ids.
    pub fn nodes_from(&self, id: NodeId) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.range(id..).map(|(_, node)| node)
    }

    /// Lists the nodes whose id begins so, in the order of their ids.
    pub fn nodes_by_prefix(&self, prefix: &IdPrefix) -> impl DoubleEndedIterator<Item = &Arc<Node>> {
        self.nodes.range(NodeId(prefix.first())..=NodeId(prefix.last())).map(|(_, node)| node)
    }

    /// Lists the nodes of a pool in the order of their ids; pool `all` has every node.
    pub fn nodes_by_pool<'a>(&'a self, pool: &'a str) -> impl DoubleEndedIterator<Item = &'a Arc<Node>> {
        self.nodes().filter(move |node| pool == "all" || node.node_pool == pool)
    }

    /// Finds a node pool; `default` and `all` are always there.
    pub fn node_pool(&self, name: &str) -> Option<&Arc<NodePool>> {
        self.node_pools.get(name)
    }

    /// Lists the node pools in the order of their names.
    pub fn node_pools(&self) -> impl DoubleEndedIterator<Item = &Arc<NodePool>> {
        self.node_pools.iter().map(|(_, pool)| pool)
    }

    /// Finds a namespace; `default` is always there.
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(name)
    }

    /// Lists the namespaces in the order of their names.
    pub fn namespaces(&self) -> impl DoubleEndedIterator<Item = &Arc<Namespace>> {
        self.namespaces.iter().map(|(_, namespace)| namespace)
    }

    /// Returns the settings of the schedulers.
    pub fn scheduler_config(&self) -> &SchedulerConfig {
        self.scheduler_config.row()
    }

    /// Returns the settings of how servers are kept; a modify index of 0 says that nobody has set them.
    pub fn autopilot_config(&self) -> &AutopilotConfig {
        self.autopilot_config.row()
    }
}

/// Keys, who may join, and other regions.
impl State {
    /// Lists the keys of the keyring in the order of their ids.
    pub fn root_keys(&self) -> impl DoubleEndedIterator<Item = &Arc<RootKey>> {
        self.root_keys.iter().map(|(_, key)| key)
    }

    /// Finds a join token.
    pub fn join_token(&self, accessor: Uuid) -> Option<&Arc<JoinToken>> {
        self.join_tokens.get(&accessor)
    }

    /// Lists the join tokens in the order of their accessors; expired ones are there for a while.
    pub fn join_tokens(&self) -> impl DoubleEndedIterator<Item = &Arc<JoinToken>> {
        self.join_tokens.iter().map(|(_, token)| token)
    }

    /// Returns what is demanded of whoever joins.
    pub fn join_settings(&self) -> JoinSettings {
        self.join_settings.get().map(|settings| JoinSettings::clone(settings)).unwrap_or_default()
    }

    /// Finds another region that is trusted.
    pub fn trusted_region(&self, name: &str) -> Option<&Arc<TrustedRegion>> {
        self.regions.get(name)
    }

    /// Lists the other regions that are trusted, in the order of their names.
    pub fn trusted_regions(&self) -> impl DoubleEndedIterator<Item = &Arc<TrustedRegion>> {
        self.regions.iter().map(|(_, region)| region)
    }
}

/// Jobs.
impl State {
    /// Finds the latest version of a job.
    pub fn job(&self, key: &JobKey) -> Option<&Arc<Job>> {
        self.jobs.get(key).map(|entry| &entry.current)
    }

    /// Lists the versions of a job that are kept, newest first; none when the job does not exist.
    pub fn job_versions(&self, key: &JobKey) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.get(key).into_iter().flat_map(|entry| entry.versions())
    }

    /// Finds a version of a job.
    pub fn job_version(&self, key: &JobKey, version: u64) -> Option<&Arc<Job>> {
        self.job_versions(key).find(|job| job.version == version)
    }

    /// Finds the version of a job that has a tag.
    pub fn job_version_by_tag(&self, key: &JobKey, tag: &str) -> Option<&Arc<Job>> {
        self.job_versions(key).find(|job| job.version_tag.as_ref().is_some_and(|found| found.name == tag))
    }

    /// Lists the jobs of a namespace, or of all, in the order of (namespace, id).
    pub fn jobs<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Job>> {
        self.jobs_from(&JobKey::new(namespace.unwrap_or(""), ""))
            .take_while(move |job| namespace.is_none_or(|namespace| job.key.namespace == namespace))
    }

    /// Lists all jobs from a key on, in the order of (namespace, id).
    pub fn jobs_from<'a>(&'a self, key: &JobKey) -> impl Iterator<Item = &'a Arc<Job>> + use<'a> {
        self.jobs.iter_from(key).map(|entry| &entry.current)
    }

    /// Lists all jobs in the order of (namespace, id), from either end.
    pub fn all_jobs(&self) -> impl DoubleEndedIterator<Item = &Arc<Job>> {
        self.jobs.iter().map(|entry| &entry.current)
    }

    /// Returns the number of jobs.
    pub fn job_count(&self) -> usize {
        self.jobs.len()
    }

    /// Lists the jobs of a namespace whose id begins so.
    pub fn jobs_by_prefix<'a>(
        &'a self,
        namespace: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Job>> {
        self.jobs_from(&JobKey::new(namespace, prefix))
            .take_while(move |job| job.key.namespace == namespace && job.key.id.starts_with(prefix))
    }

    /// Lists the jobs that were launched or dispatched from a job.
    pub fn children<'a>(&'a self, parent: &JobKey) -> impl Iterator<Item = &'a Arc<Job>> + use<'a> {
        let parent = parent.clone();
        let start = Text::from(format!("{}/", parent.id));
        self.jobs_from(&JobKey { namespace: parent.namespace.clone(), id: start.clone() })
            .take_while(move |job| {
                job.key.namespace == parent.namespace && job.key.id.starts_with(start.as_str())
            })
            .filter(move |job| job.parent.as_ref().is_some_and(|found| found.id == parent.id))
    }

    /// Finds the text that a version of a job was registered from.
    pub fn submission(&self, key: &JobKey, version: u64) -> Option<&Arc<JobSubmission>> {
        self.submissions.get(&(key.clone(), version))
    }

    /// Finds the counts of a job's allocations by state.
    pub fn summary(&self, key: &JobKey) -> Option<&Arc<JobSummary>> {
        self.summaries.get(key)
    }

    /// Lists all summaries in the order of (namespace, id).
    pub fn summaries(&self) -> impl Iterator<Item = &Arc<JobSummary>> {
        self.summaries.iter().map(|(_, summary)| summary)
    }

    /// Returns how many evaluations, allocations and deployments belong to a key.
    pub fn job_counts(&self, key: &JobKey) -> JobCounts {
        self.jobs.counts(key)
    }

    /// Returns when the last launch of a periodic job was due.
    pub fn periodic_launch(&self, key: &JobKey) -> Option<Timestamp> {
        self.periodic_launches.get(key).copied()
    }

    /// Returns the changes of counts that someone asked for: (group, event), newest first in each group.
    pub fn scaling_events(&self, key: &JobKey) -> &[(Text, ScalingEvent)] {
        self.scaling_events.get(key).map_or(&[], |events| events)
    }
}

/// Allocations.
impl State {
    /// Finds an allocation.
    pub fn alloc(&self, id: AllocId) -> Option<&Arc<Allocation>> {
        self.allocs.get(id)
    }

    /// Lists all allocations in the order of (create index, id). [`AllocTable`](crate::AllocTable) has other orders.
    pub fn allocs(&self) -> impl DoubleEndedIterator<Item = &Arc<Allocation>> {
        self.allocs.iter()
    }

    /// Returns the table of allocations, for its orders, prefixes and number.
    pub fn alloc_table(&self) -> &crate::AllocTable {
        &self.allocs
    }

    /// Lists the allocations of a job in the order of (create index, id), also those of an earlier job of this key.
    pub fn allocs_by_job<'a>(
        &'a self,
        key: &JobKey,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<Allocation>> + use<'a> {
        self.allocs.iter_by_job(key)
    }

    /// Lists the allocations of a node in the order of (create index, id).
    pub fn allocs_by_node(&self, node: NodeId) -> impl DoubleEndedIterator<Item = &Arc<Allocation>> {
        self.allocs.iter_by_node(node)
    }

    /// Lists the allocations that an evaluation placed or updated; looks through all of its job's.
    pub fn allocs_by_eval(&self, eval: EvalId) -> impl Iterator<Item = &Arc<Allocation>> {
        let job = self.eval(eval).map(|eval| &eval.job);
        job.into_iter().flat_map(|job| self.allocs_by_job(job)).filter(move |alloc| alloc.eval_id == eval)
    }

    /// Lists the allocations of a deployment; looks through all of its job's.
    pub fn allocs_by_deployment(&self, deployment: DeploymentId) -> impl Iterator<Item = &Arc<Allocation>> {
        let job = self.deployment(deployment).map(|deployment| &deployment.job);
        job.into_iter()
            .flat_map(|job| self.allocs_by_job(job))
            .filter(move |alloc| alloc.extra().deployment == Some(deployment))
    }
}

/// Evaluations and deployments.
impl State {
    /// Finds an evaluation.
    pub fn eval(&self, id: EvalId) -> Option<&Arc<Evaluation>> {
        self.evals.get(id)
    }

    /// Lists all evaluations in the order of (create index, id).
    pub fn evals(&self) -> impl DoubleEndedIterator<Item = &Arc<Evaluation>> {
        self.evals.iter()
    }

    /// Returns the table of evaluations, for its orders, prefixes and number.
    pub fn eval_table(&self) -> &crate::Ordered<Evaluation> {
        &self.evals
    }

    /// Lists the evaluations of a job in the order of (create index, id).
    pub fn evals_by_job<'a>(
        &'a self,
        key: &JobKey,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<Evaluation>> + use<'a> {
        self.evals.iter_by_job(key)
    }

    /// Finds a deployment.
    pub fn deployment(&self, id: DeploymentId) -> Option<&Arc<Deployment>> {
        self.deployments.get(id)
    }

    /// Lists all deployments in the order of (create index, id).
    pub fn deployments(&self) -> impl DoubleEndedIterator<Item = &Arc<Deployment>> {
        self.deployments.iter()
    }

    /// Returns the table of deployments, for its orders, prefixes and number.
    pub fn deployment_table(&self) -> &crate::Ordered<Deployment> {
        &self.deployments
    }

    /// Lists the deployments of a job, oldest first, also those of an earlier job of this key.
    pub fn deployments_by_job<'a>(
        &'a self,
        key: &JobKey,
    ) -> impl DoubleEndedIterator<Item = &'a Arc<Deployment>> + use<'a> {
        self.deployments.iter_by_job(key)
    }

    /// Finds the latest deployment of the job that exists now; none of an earlier job of its key.
    pub fn latest_deployment(&self, key: &JobKey) -> Option<&Arc<Deployment>> {
        let create_index = self.job(key)?.create_index;
        self.deployments_by_job(key).rev().find(|deployment| deployment.job_create_index == create_index)
    }
}

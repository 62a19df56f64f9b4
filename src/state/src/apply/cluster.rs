use std::sync::Arc;

use model::{
    AutopilotConfig, JobKey, JobStatus, Namespace, NodePool, RootKey, SchedulerConfig, Text, Timestamp,
};
use protocol::Named;
use uuid::Uuid;

use super::Writer;
use crate::{ChangedRow, Outcome, Refusal, table::Cluster};

impl Writer<'_> {
    /// Gives the cluster its id; one that has an id keeps it.
    pub(super) fn init_cluster(&mut self, id: Uuid, now: Timestamp) -> Outcome {
        if let Some(cluster) = self.state.cluster.get() {
            return Outcome::ClusterId(cluster.id);
        }
        self.state.cluster.set(Cluster { id, create_time: now });
        self.note(ChangedRow::Cluster);
        // A region has settings from its first moment, so that check-and-set has an index to name.
        let mut config = self.state.scheduler_config().clone();
        (config.create_index, config.modify_index) = (self.index, self.index);
        self.state.scheduler_config.set(config);
        self.note(ChangedRow::SchedulerConfig);
        Outcome::ClusterId(id)
    }

    pub(super) fn set_scheduler_config(
        &mut self,
        config: &SchedulerConfig,
        cas: Option<u64>,
    ) -> Result<(), Refusal> {
        let found = self.state.scheduler_config();
        if let Some(enforced) = cas.filter(|enforced| *enforced != found.modify_index) {
            return Err(Refusal::SchedulerConfigChanged { enforced, found: found.modify_index });
        }
        let mut config = config.clone();
        config.create_index = if found.create_index == 0 { self.index } else { found.create_index };
        config.modify_index = self.index;
        self.state.scheduler_config.set(config);
        self.note(ChangedRow::SchedulerConfig);
        Ok(())
    }

    pub(super) fn set_autopilot_config(
        &mut self,
        config: &AutopilotConfig,
        cas: Option<u64>,
    ) -> Result<(), Refusal> {
        let found = self.state.autopilot_config();
        if let Some(enforced) = cas.filter(|enforced| *enforced != found.modify_index) {
            return Err(Refusal::AutopilotConfigChanged { enforced, found: found.modify_index });
        }
        let mut config = config.clone();
        config.create_index = if found.create_index == 0 { self.index } else { found.create_index };
        config.modify_index = self.index;
        self.state.autopilot_config.set(config);
        self.note(ChangedRow::AutopilotConfig);
        Ok(())
    }

    /// Puts a key into use and takes the others out of it.
    pub(super) fn add_root_key(&mut self, key: &RootKey, first: bool) {
        if first && !self.state.root_keys.is_empty() {
            return;
        }
        let known: Vec<_> = self.state.root_keys().filter(|known| known.active).cloned().collect();
        for known in known {
            let idle = RootKey { active: false, modify_index: self.index, ..RootKey::clone(&known) };
            self.put_root_key(idle);
        }
        self.put_root_key(RootKey {
            active: true,
            create_index: self.index,
            modify_index: self.index,
            ..key.clone()
        });
    }

    fn put_root_key(&mut self, key: RootKey) {
        self.note(ChangedRow::RootKey(key.id));
        self.state.root_keys.insert(key.id, Arc::new(key));
    }

    pub(super) fn delete_root_key(&mut self, id: Uuid) -> Result<(), Refusal> {
        let found = self.state.root_keys.get(&id).ok_or(Refusal::RootKeyNotFound)?;
        if found.active {
            return Err(Refusal::RootKeyActive);
        }
        self.state.root_keys.remove(&id);
        self.note(ChangedRow::RootKey(id));
        Ok(())
    }

    pub(super) fn upsert_namespaces(&mut self, namespaces: &[Named<Namespace>]) {
        namespaces.iter().for_each(|row| self.upsert_namespace(&row.0));
    }

    pub(super) fn delete_namespaces(&mut self, names: &[Text]) -> Result<(), Refusal> {
        names.iter().try_for_each(|name| self.delete_namespace(name))
    }

    pub(super) fn upsert_node_pools(&mut self, pools: &[Named<NodePool>]) -> Result<(), Refusal> {
        pools.iter().try_for_each(|pool| self.upsert_node_pool(&pool.0))
    }

    pub(super) fn delete_node_pools(&mut self, names: &[Text]) -> Result<(), Refusal> {
        names.iter().try_for_each(|name| self.delete_node_pool(name))
    }

    fn upsert_namespace(&mut self, namespace: &Namespace) {
        let mut namespace = namespace.clone();
        let known = self.state.namespace(&namespace.name);
        namespace.create_index = known.map_or(self.index, |known| known.create_index);
        namespace.modify_index = self.index;
        self.note(ChangedRow::Namespace(namespace.name.clone()));
        self.state.namespaces.insert(namespace.name.clone(), Arc::new(namespace));
    }

    fn delete_namespace(&mut self, name: &Text) -> Result<(), Refusal> {
        if name == "default" {
            return Err(Refusal::DefaultNamespace);
        }
        if !self.state.namespaces.contains_key(name) {
            return Err(Refusal::NamespaceNotFound);
        }
        let jobs = self.state.jobs(Some(name)).any(|job| job.status != JobStatus::Dead);
        // Allocations of a purged job may outlive it, so the jobs alone do not tell.
        let allocs = self
            .state
            .allocs()
            .any(|alloc| alloc.job.key.namespace == *name && !alloc.client_status.is_terminal());
        let what: Vec<_> = [(jobs, "non-terminal jobs"), (allocs, "non-terminal allocations")]
            .into_iter()
            .filter_map(|(found, what)| found.then_some(what))
            .collect();
        if !what.is_empty() {
            return Err(Refusal::NamespaceInUse { name: name.clone(), what: what.join("\n") });
        }
        self.state.namespaces.remove(name);
        self.note(ChangedRow::Namespace(name.clone()));
        Ok(())
    }

    fn upsert_node_pool(&mut self, pool: &NodePool) -> Result<(), Refusal> {
        if is_built_in(&pool.name) {
            return Err(Refusal::BuiltInPoolChanged { name: pool.name.clone() });
        }
        let mut pool = pool.clone();
        let known = self.state.node_pool(&pool.name);
        pool.create_index = known.map_or(self.index, |known| known.create_index);
        pool.modify_index = self.index;
        let pool = Arc::new(pool);
        self.state.node_pools.insert(pool.name.clone(), pool.clone());
        self.note(ChangedRow::NodePool { name: pool.name.clone(), after: Some(pool) });
        Ok(())
    }

    fn delete_node_pool(&mut self, name: &Text) -> Result<(), Refusal> {
        if is_built_in(name) {
            return Err(Refusal::BuiltInPoolDeleted { name: name.clone() });
        }
        if !self.state.node_pools.contains_key(name) {
            return Err(Refusal::NodePoolNotFound { name: name.clone() });
        }
        if self.state.nodes().any(|node| node.node_pool == *name) {
            return Err(Refusal::NodePoolInUse { name: name.clone(), what: Text::new_static("nodes") });
        }
        let uses = |job: &Arc<model::Job>| job.spec.node_pool == *name && job.status != JobStatus::Dead;
        if self.state.all_jobs().any(uses) {
            return Err(Refusal::NodePoolInUse {
                name: name.clone(),
                what: Text::new_static("non-terminal jobs"),
            });
        }
        self.state.node_pools.remove(name);
        self.note(ChangedRow::NodePool { name: name.clone(), after: None });
        Ok(())
    }

    pub(super) fn note_periodic_launch(&mut self, key: &JobKey, launch: Timestamp) {
        self.state.periodic_launches.insert(key.clone(), launch);
        self.note(ChangedRow::PeriodicLaunch(key.clone()));
    }
}

fn is_built_in(pool: &str) -> bool {
    matches!(pool, "all" | "default")
}

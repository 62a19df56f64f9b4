use std::collections::BTreeMap;

use serde_json::Value;

use crate::shape::{nanos, or_null, text_map};

shape! {
    /// A room for names.
    Namespace {
        capabilities "Capabilities": Option<NamespaceCapabilities>,
        consul_configuration "ConsulConfiguration": Option<Value>,
        create_index "CreateIndex": u64,
        description "Description": String,
        hash "Hash": String,
        #[serde(serialize_with = "or_null")]
        meta "Meta": BTreeMap<String, String>,
        modify_index "ModifyIndex": u64,
        name "Name": String,
        node_pool_configuration "NodePoolConfiguration": Option<Value>,
        optional_extra_claims "OptionalExtraClaims": Option<Value>,
        quota "Quota": String,
        required_extra_claims "RequiredExtraClaims": Option<Value>,
        vault_configuration "VaultConfiguration": Option<Value>,
    }
    /// What jobs of a namespace may do.
    NamespaceCapabilities {
        #[serde(serialize_with = "or_null")]
        disabled_network_modes "DisabledNetworkModes": Vec<String>,
        #[serde(serialize_with = "or_null")]
        disabled_task_drivers "DisabledTaskDrivers": Vec<String>,
        #[serde(serialize_with = "or_null")]
        enabled_network_modes "EnabledNetworkModes": Vec<String>,
        #[serde(serialize_with = "or_null")]
        enabled_task_drivers "EnabledTaskDrivers": Vec<String>,
    }
    /// A named set of nodes.
    NodePool {
        create_index "CreateIndex": u64,
        description "Description": String,
        #[serde(serialize_with = "or_null")]
        hash "Hash": String,
        #[serde(serialize_with = "or_null")]
        meta "Meta": BTreeMap<String, String>,
        modify_index "ModifyIndex": u64,
        name "Name": String,
        #[serde(deserialize_with = "crate::shape::nanos_or_text")]
        node_identity_ttl "NodeIdentityTTL": i64,
        scheduler_configuration "SchedulerConfiguration": Option<PoolSchedulerConfiguration>,
    }
    /// How the jobs of a node pool are scheduled.
    PoolSchedulerConfiguration {
        memory_oversubscription_enabled "MemoryOversubscriptionEnabled": Option<bool>,
        scheduler_algorithm "SchedulerAlgorithm": String,
    }
    /// An instance of a service.
    ServiceRegistration {
        address "Address": String,
        alloc_id "AllocID": String,
        create_index "CreateIndex": u64,
        datacenter "Datacenter": String,
        id "ID": String,
        job_id "JobID": String,
        modify_index "ModifyIndex": u64,
        namespace "Namespace": String,
        node_id "NodeID": String,
        port "Port": u16,
        service_name "ServiceName": String,
        #[serde(serialize_with = "or_null")]
        tags "Tags": Vec<String>,
    }
    /// The services of one namespace.
    ServiceList {
        namespace "Namespace": String,
        services "Services": Vec<ServiceStub>,
    }
    /// A service and the tags of all its instances.
    ServiceStub {
        service_name "ServiceName": String,
        tags "Tags": Vec<String>,
    }
    /// A variable, with or without its items.
    Variable {
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        items "Items": Option<BTreeMap<String, String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lock "Lock": Option<Value>,
        modify_index "ModifyIndex": u64,
        modify_time "ModifyTime": i64,
        namespace "Namespace": String,
        path "Path": String,
    }
}

impl Namespace {
    /// Makes the shape of a namespace. `hash` is that of its contents, in base64.
    pub fn of(namespace: &model::Namespace, hash: String) -> Self {
        let texts = |list: &[model::Text]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let capabilities = NamespaceCapabilities {
            disabled_task_drivers: texts(&namespace.disabled_drivers),
            enabled_task_drivers: texts(&namespace.enabled_drivers),
            ..NamespaceCapabilities::default()
        };
        Self {
            capabilities: Some(capabilities)
                .filter(|capabilities| *capabilities != NamespaceCapabilities::default()),
            create_index: namespace.create_index,
            description: namespace.description.clone(),
            hash,
            meta: text_map(&namespace.meta),
            modify_index: namespace.modify_index,
            name: namespace.name.to_string(),
            ..Self::default()
        }
    }

    /// Reads a namespace that someone sent; indexes are set when it is applied.
    pub fn to_model(&self) -> model::Namespace {
        let texts = |list: &[String]| list.iter().map(model::Text::from).collect::<Vec<_>>();
        let capabilities = self.capabilities.clone().unwrap_or_default();
        model::Namespace {
            name: self.name.as_str().into(),
            description: self.description.clone(),
            meta: self.meta.iter().map(|(key, value)| (key.into(), value.clone())).collect(),
            enabled_drivers: texts(&capabilities.enabled_task_drivers),
            disabled_drivers: texts(&capabilities.disabled_task_drivers),
            create_index: self.create_index,
            modify_index: self.modify_index,
        }
    }
}

impl NodePool {
    /// Makes the shape of a node pool. `hash` is that of its contents, in base64; empty for the built-in ones.
    pub fn of(pool: &model::NodePool, hash: String) -> Self {
        Self {
            create_index: pool.create_index,
            description: pool.description.clone(),
            hash,
            meta: text_map(&pool.meta),
            modify_index: pool.modify_index,
            name: pool.name.to_string(),
            node_identity_ttl: pool.identity_ttl.map_or(0, nanos),
            scheduler_configuration: pool.scheduler.map(PoolSchedulerConfiguration::of),
        }
    }

    /// Reads a node pool that someone sent; indexes are set when it is applied.
    pub fn to_model(&self) -> model::NodePool {
        model::NodePool {
            name: self.name.as_str().into(),
            description: self.description.clone(),
            meta: self.meta.iter().map(|(key, value)| (key.into(), value.clone())).collect(),
            scheduler: self.scheduler_configuration.as_ref().map(PoolSchedulerConfiguration::to_model),
            identity_ttl: u64::try_from(self.node_identity_ttl)
                .ok()
                .filter(|ttl| *ttl > 0)
                .map(std::time::Duration::from_nanos),
            create_index: self.create_index,
            modify_index: self.modify_index,
        }
    }
}

impl PoolSchedulerConfiguration {
    fn of(config: model::PoolScheduler) -> Self {
        Self {
            memory_oversubscription_enabled: config.memory_oversubscription,
            scheduler_algorithm: config
                .algorithm
                .map_or_else(String::new, |algorithm| algorithm.as_str().to_owned()),
        }
    }

    /// Tells whether its algorithm is one.
    pub fn is_known(&self) -> bool {
        let name = self.scheduler_algorithm.as_str();
        name.is_empty() || model::SchedulerAlgorithm::from_name(name).is_some()
    }

    fn to_model(&self) -> model::PoolScheduler {
        model::PoolScheduler {
            algorithm: model::SchedulerAlgorithm::from_name(&self.scheduler_algorithm),
            memory_oversubscription: self.memory_oversubscription_enabled,
        }
    }
}

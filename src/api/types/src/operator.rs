use crate::{Time, shape::or_null};

shape! {
    /// Settings of the schedulers.
    SchedulerConfig {
        create_index "CreateIndex": u64,
        memory_oversubscription_enabled "MemoryOversubscriptionEnabled": bool,
        modify_index "ModifyIndex": u64,
        node_limit_for_feasibility_checks "NodeLimitForFeasibilityChecks": u32,
        pause_eval_broker "PauseEvalBroker": bool,
        preemption_config "PreemptionConfig": PreemptionConfig,
        reject_job_registration "RejectJobRegistration": bool,
        scheduler_algorithm "SchedulerAlgorithm": String,
    }
    /// Which schedulers may preempt.
    PreemptionConfig {
        batch_scheduler_enabled "BatchSchedulerEnabled": bool,
        service_scheduler_enabled "ServiceSchedulerEnabled": bool,
        sys_batch_scheduler_enabled "SysBatchSchedulerEnabled": bool,
        system_scheduler_enabled "SystemSchedulerEnabled": bool,
    }
    /// The settings with where they come from.
    SchedulerConfigResponse {
        index "Index": u64,
        known_leader "KnownLeader": bool,
        last_contact "LastContact": u64,
        next_token "NextToken": String,
        scheduler_config "SchedulerConfig": Option<SchedulerConfig>,
    }
    /// What changing the settings answers.
    SchedulerSetResponse {
        index "Index": u64,
        updated "Updated": bool,
    }
    /// Who takes part in Raft.
    RaftConfiguration {
        index "Index": u64,
        servers "Servers": Vec<RaftServer>,
    }
    /// One that takes part in Raft.
    RaftServer {
        address "Address": String,
        id "ID": String,
        leader "Leader": bool,
        node "Node": String,
        raft_protocol "RaftProtocol": String,
        voter "Voter": bool,
    }
    /// Hashes of everything that one server has applied.
    StateHashes {
        hashes "Hashes": Vec<StateHash>,
        server "Server": String,
    }
    /// The hash of everything up to one index.
    StateHash {
        hash "Hash": String,
        index "Index": u64,
    }
    /// A key of the region, without its secret.
    RootKeyMeta {
        algorithm "Algorithm": String,
        create_index "CreateIndex": u64,
        create_time "CreateTime": i64,
        key_id "KeyID": String,
        modify_index "ModifyIndex": u64,
        publish_time "PublishTime": i64,
        state "State": String,
    }
    /// Settings of autopilot.
    AutopilotConfig {
        cleanup_dead_servers "CleanupDeadServers": bool,
        create_index "CreateIndex": u64,
        disable_upgrade_migration "DisableUpgradeMigration": bool,
        enable_custom_upgrades "EnableCustomUpgrades": bool,
        enable_redundancy_zones "EnableRedundancyZones": bool,
        last_contact_threshold "LastContactThreshold": String,
        max_trailing_logs "MaxTrailingLogs": u64,
        min_quorum "MinQuorum": u64,
        modify_index "ModifyIndex": u64,
        server_stabilization_time "ServerStabilizationTime": String,
    }
    /// What autopilot thinks of the servers.
    AutopilotHealth {
        failure_tolerance "FailureTolerance": i64,
        healthy "Healthy": bool,
        leader "Leader": String,
        #[serde(serialize_with = "or_null")]
        servers "Servers": Vec<ServerHealth>,
        #[serde(serialize_with = "or_null")]
        voters "Voters": Vec<String>,
    }
    /// What autopilot thinks of a server.
    ServerHealth {
        address "Address": String,
        healthy "Healthy": bool,
        id "ID": String,
        last_contact "LastContact": String,
        last_index "LastIndex": u64,
        last_term "LastTerm": u64,
        leader "Leader": bool,
        name "Name": String,
        serf_status "SerfStatus": String,
        stable_since "StableSince": Time,
        version "Version": String,
        voter "Voter": bool,
    }
}

impl SchedulerConfig {
    /// Makes the shape of the settings.
    pub fn of(config: &model::SchedulerConfig) -> Self {
        Self {
            create_index: config.create_index,
            memory_oversubscription_enabled: config.memory_oversubscription,
            modify_index: config.modify_index,
            node_limit_for_feasibility_checks: config.node_limit,
            pause_eval_broker: config.pause_eval_broker,
            preemption_config: PreemptionConfig {
                batch_scheduler_enabled: config.preempt_batch,
                service_scheduler_enabled: config.preempt_service,
                sys_batch_scheduler_enabled: config.preempt_sysbatch,
                system_scheduler_enabled: config.preempt_system,
            },
            reject_job_registration: config.reject_job_registration,
            scheduler_algorithm: config.algorithm.to_string(),
        }
    }

    /// Reads the settings back; `None` when the algorithm is not one. An empty algorithm is the default one.
    pub fn to_model(&self) -> Option<model::SchedulerConfig> {
        let algorithm = match self.scheduler_algorithm.as_str() {
            "" => model::SchedulerAlgorithm::Binpack,
            name => model::SchedulerAlgorithm::from_name(name)?,
        };
        Some(model::SchedulerConfig {
            algorithm,
            memory_oversubscription: self.memory_oversubscription_enabled,
            reject_job_registration: self.reject_job_registration,
            pause_eval_broker: self.pause_eval_broker,
            node_limit: self.node_limit_for_feasibility_checks,
            preempt_service: self.preemption_config.service_scheduler_enabled,
            preempt_batch: self.preemption_config.batch_scheduler_enabled,
            preempt_system: self.preemption_config.system_scheduler_enabled,
            preempt_sysbatch: self.preemption_config.sys_batch_scheduler_enabled,
            create_index: self.create_index,
            modify_index: self.modify_index,
        })
    }
}

impl RootKeyMeta {
    /// Makes the shape of a key.
    pub fn of(key: &model::RootKey) -> Self {
        Self {
            algorithm: "aes256-gcm".to_owned(),
            create_index: key.create_index,
            create_time: key.create_time.0,
            key_id: key.id.to_string(),
            modify_index: key.modify_index,
            publish_time: 0,
            state: if key.active { "active" } else { "inactive" }.to_owned(),
        }
    }
}

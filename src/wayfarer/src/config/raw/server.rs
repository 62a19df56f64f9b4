//! The keys of the `server` block.

use super::*;

section! {
    /// The server's part.
    RawServer {
        enabled: bool => "Enabled";
        authoritative_region: String => "AuthoritativeRegion" [Later];
        bootstrap_expect: i64 => "BootstrapExpect";
        data_dir: String => "DataDir";
        protocol_version: i64 => "" [Inert];
        raft_protocol: i64 => "RaftProtocol";
        raft_multiplier: i64 => "RaftMultiplier";
        raft_snapshot_threshold: i64 => "RaftSnapshotThreshold";
        raft_snapshot_interval: Span => "RaftSnapshotInterval";
        raft_trailing_logs: i64 => "RaftTrailingLogs";
        raft_boltdb: Free => "" [Inert];
        raft_logstore: Free => "" [Inert];
        num_schedulers: i64 => "NumSchedulers" [Inert];
        enabled_schedulers: Added => "EnabledSchedulers" [Later];
        node_gc_threshold: Span => "NodeGCThreshold";
        job_gc_interval: Span => "JobGCInterval";
        job_gc_threshold: Span => "JobGCThreshold";
        eval_gc_threshold: Span => "EvalGCThreshold";
        batch_eval_gc_threshold: Span => "BatchEvalGCThreshold";
        deployment_gc_threshold: Span => "DeploymentGCThreshold";
        csi_volume_claim_gc_interval: Span => "CSIVolumeClaimGCInterval" [Later];
        csi_volume_claim_gc_threshold: Span => "CSIVolumeClaimGCThreshold" [Later];
        csi_plugin_gc_threshold: Span => "CSIPluginGCThreshold" [Later];
        acl_token_gc_threshold: Span => "ACLTokenGCThreshold" [Later];
        root_key_gc_interval: Span => "RootKeyGCInterval" [Later];
        root_key_gc_threshold: Span => "RootKeyGCThreshold" [Later];
        root_key_rotation_threshold: Span => "RootKeyRotationThreshold" [Later];
        heartbeat_grace: Span => "HeartbeatGrace";
        min_heartbeat_ttl: Span => "MinHeartbeatTTL";
        max_heartbeats_per_second: f64 => "MaxHeartbeatsPerSecond" [Inert];
        failover_heartbeat_ttl: Span => "FailoverHeartbeatTTL";
        start_join: Added => "StartJoin";
        retry_join: Added => "RetryJoin";
        retry_max: i64 => "RetryMaxAttempts";
        retry_interval: Span => "RetryInterval";
        rejoin_after_leave: bool => "RejoinAfterLeave";
        encrypt: Secret => "";
        require_join_token: bool => "";
        certificate_ttl: Span => "";
        server_join: RawServerJoin => "ServerJoin";
        default_scheduler_config: RawScheduler => "DefaultSchedulerConfig";
        plan_rejection_tracker: RawPlanRejection => "PlanRejectionTracker" [Later];
        plan_apply_pipeline: i64 => "PlanApplyPipeline" [Inert];
        enable_event_broker: bool => "EnableEventBroker" [Later];
        event_buffer_size: i64 => "EventBufferSize";
        license_path: String => "LicensePath" [Enterprise];
        license_env: String => "LicenseEnv" [Enterprise];
        redundancy_zone: String => "RedundancyZone" [Enterprise];
        upgrade_version: String => "UpgradeVersion" [Enterprise];
        non_voting_server: bool => "NonVotingServer" [Enterprise];
        non_production: bool => "NonProduction" [Enterprise];
        search: RawSearch => "Search" [Later];
        deploy_query_rate_limit: f64 => "DeploymentQueryRateLimit" [Inert];
        job_default_priority: i64 => "JobDefaultPriority" [Later];
        job_max_priority: i64 => "JobMaxPriority" [Later];
        job_max_count: i64 => "JobMaxCount" [Later];
        job_max_source_size: String => "JobMaxSourceSize" [Later];
        job_tracked_versions: i64 => "JobTrackedVersions" [Later];
        oidc_issuer: String => "OIDCIssuer" [Later];
        start_timeout: Span => "StartTimeout" [Inert];
        client_introduction: RawIntroduction => "ClientIntroduction" [Later];
    }
}

section! {
    /// Whom to join, and how patiently.
    RawServerJoin {
        start_join: Added => "StartJoin";
        retry_join: Added => "RetryJoin";
        retry_max: i64 => "RetryMaxAttempts";
        retry_interval: Span => "RetryInterval";
    }
}

section! {
    /// Settings of the schedulers in a new region.
    RawScheduler {
        scheduler_algorithm: String => "SchedulerAlgorithm";
        memory_oversubscription_enabled: bool => "MemoryOversubscriptionEnabled";
        reject_job_registration: bool => "RejectJobRegistration";
        pause_eval_broker: bool => "PauseEvalBroker";
        node_limit_for_feasibility_checks: i64 => "NodeLimitForFeasibilityChecks";
        preemption_config: RawPreemption => "PreemptionConfig";
    }
}

section! {
    /// Which schedulers may take from the weak.
    RawPreemption {
        system_scheduler_enabled: bool => "SystemSchedulerEnabled";
        sysbatch_scheduler_enabled: bool => "SysBatchSchedulerEnabled";
        batch_scheduler_enabled: bool => "BatchSchedulerEnabled";
        service_scheduler_enabled: bool => "ServiceSchedulerEnabled";
    }
}

section! {
    /// Nodes that refuse plans again and again.
    RawPlanRejection {
        enabled: bool => "Enabled";
        node_threshold: i64 => "NodeThreshold";
        node_window: Span => "NodeWindow";
    }
}

section! {
    /// Bounds of searching.
    RawSearch {
        fuzzy_enabled: bool => "FuzzyEnabled";
        limit_query: i64 => "LimitQuery";
        limit_results: i64 => "LimitResults";
        min_term_length: i64 => "MinTermLength";
    }
}

section! {
    /// How nodes prove that they belong here when they first come.
    RawIntroduction {
        enforcement: String => "Enforcement";
        default_identity_ttl: Span => "DefaultIdentityTTL";
        max_identity_ttl: Span => "MaxIdentityTTL";
    }
}

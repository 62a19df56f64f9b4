//! The configuration file: every key that there is, its type, its name in the API, and whether it does anything here.
//!
//! All is optional and nothing is trusted. What is missing, wrong or contradictory is the business of `check`.

mod client;
mod integrations;
mod server;

use std::collections::BTreeMap;

pub(super) use client::*;
pub(super) use integrations::*;
pub(super) use server::*;

use super::section::{Added, Free, Secret, Span, section};

section! {
    /// The whole file.
    RawAgent {
        region: String => "Region";
        datacenter: String => "Datacenter";
        name: String => "NodeName";
        data_dir: String => "DataDir";
        plugin_dir: String => "PluginDir" [Later];
        log_level: String => "LogLevel";
        log_json: bool => "LogJson";
        log_file: String => "LogFile";
        log_rotate_duration: Span => "LogRotateDuration" [Later];
        log_rotate_bytes: i64 => "LogRotateBytes" [Later];
        log_rotate_max_files: i64 => "LogRotateMaxFiles" [Later];
        log_include_location: bool => "LogIncludeLocation" [Later];
        bind_addr: String => "BindAddr";
        enable_debug: bool => "EnableDebug";
        ports: RawPorts => "Ports";
        addresses: RawAddresses => "Addresses";
        advertise: RawAddresses => "AdvertiseAddrs";
        client: RawClient => "Client";
        server: RawServer => "Server";
        rpc: RawRpc => "RPC" [Inert];
        acl: RawAcl => "ACL" [Later];
        telemetry: RawTelemetry => "Telemetry";
        leave_on_interrupt: bool => "LeaveOnInt";
        leave_on_terminate: bool => "LeaveOnTerm";
        enable_syslog: bool => "EnableSyslog" [Later];
        syslog_facility: String => "SyslogFacility" [Inert];
        disable_update_check: bool => "DisableUpdateCheck" [Inert];
        disable_anonymous_signature: bool => "DisableAnonymousSignature" [Inert];
        consul: Named<RawConsul> => "Consuls" [Later];
        vault: Named<RawVault> => "Vaults" [Later];
        ui: RawUi => "UI";
        tls: RawTls => "TLSConfig";
        http_api_response_headers: BTreeMap<String, String> => "HTTPAPIResponseHeaders";
        sentinel: Free => "" [Enterprise];
        autopilot: RawAutopilot => "Autopilot";
        plugin: BTreeMap<String, RawPlugin> => "Plugins";
        limits: RawLimits => "Limits" [Later];
        audit: Free => "" [Enterprise];
        reporting: Free => "" [Enterprise];
        eventlog: Free => "" [Inert];
        keyring: Free => "" [Later];
        join_token: Secret => "";
    }
}

section! {
    /// Ports to listen on.
    RawPorts {
        http: i64 => "HTTP";
        rpc: i64 => "RPC";
        serf: i64 => "Serf";
    }
}

section! {
    /// Addresses, to listen on or to tell others.
    RawAddresses {
        http: String => "HTTP";
        rpc: String => "RPC";
        serf: String => "Serf";
    }
}

section! {
    /// Streams between agents.
    RawRpc {
        accept_backlog: i64 => "AcceptBacklog";
        keep_alive_interval: Span => "KeepAliveInterval";
        connection_write_timeout: Span => "ConnectionWriteTimeout";
        stream_open_timeout: Span => "StreamOpenTimeout";
        stream_close_timeout: Span => "StreamCloseTimeout";
        dial_timeout: Span => "DialTimeout";
        max_stream_window_size: i64 => "MaxStreamWindowSize";
    }
}

section! {
    /// Tokens and policies.
    RawAcl {
        enabled: bool => "Enabled";
        token_ttl: Span => "TokenTTL";
        policy_ttl: Span => "PolicyTTL";
        role_ttl: Span => "RoleTTL";
        replication_token: Secret => "ReplicationToken";
        token_min_expiration_ttl: Span => "TokenMinExpirationTTL";
        token_max_expiration_ttl: Span => "TokenMaxExpirationTTL";
    }
}

section! {
    /// Certificates.
    RawTls {
        http: bool => "EnableHTTP";
        rpc: bool => "EnableRPC";
        ca_file: String => "CAFile";
        cert_file: String => "CertFile";
        key_file: String => "KeyFile";
        verify_server_hostname: bool => "VerifyServerHostname";
        verify_https_client: bool => "VerifyHTTPSClient";
        rpc_upgrade_mode: bool => "RPCUpgradeMode" [Inert];
        tls_cipher_suites: String => "TLSCipherSuites" [Later];
        tls_min_version: String => "TLSMinVersion";
        tls_prefer_server_cipher_suites: bool => "" [Inert];
    }
}

section! {
    /// Metrics.
    RawTelemetry {
        collection_interval: Span => "CollectionInterval" [Later];
        in_memory_collection_interval: Span => "InMemoryCollectionInterval" [Later];
        in_memory_retention_period: Span => "InMemoryRetentionPeriod" [Later];
        prometheus_metrics: bool => "PrometheusMetrics";
        publish_allocation_metrics: bool => "PublishAllocationMetrics" [Inert];
        publish_node_metrics: bool => "PublishNodeMetrics" [Inert];
        disable_hostname: bool => "DisableHostname" [Later];
        use_node_name: bool => "UseNodeName" [Later];
        prefix_filter: Vec<String> => "PrefixFilter" [Later];
        filter_default: bool => "FilterDefault" [Later];
        statsd_address: String => "StatsdAddr" [Later];
        statsite_address: String => "StatsiteAddr" [Later];
        datadog_address: String => "DataDogAddr" [Later];
        datadog_tags: Vec<String> => "DataDogTags" [Later];
        include_alloc_metadata_in_metrics: bool => "IncludeAllocMetadataInMetrics" [Later];
        allowed_metadata_keys_in_metrics: Vec<String> => "AllowedMetadataKeysInMetrics" [Later];
        disable_dispatched_job_summary_metrics: bool => "DisableDispatchedJobSummaryMetrics" [Later];
        disable_rpc_rate_metrics_labels: bool => "DisableRPCRateMetricsLabels" [Inert];
        disable_allocation_hook_metrics: bool => "DisableAllocationHookMetrics" [Inert];
        disable_quota_utilization_metrics: bool => "DisableQuotaUtilizationMetrics" [Inert];
        disable_tagged_metrics: bool => "" [Inert];
        backwards_compatible_metrics: bool => "" [Inert];
        circonus_api_token: Secret => "CirconusAPIToken" [Later];
        circonus_api_app: String => "CirconusAPIApp" [Later];
        circonus_api_url: String => "CirconusAPIURL" [Later];
        circonus_submission_interval: String => "CirconusSubmissionInterval" [Later];
        circonus_submission_url: String => "CirconusCheckSubmissionURL" [Later];
        circonus_check_id: String => "CirconusCheckID" [Later];
        circonus_check_force_metric_activation: String => "CirconusCheckForceMetricActivation" [Later];
        circonus_check_instance_id: String => "CirconusCheckInstanceID" [Later];
        circonus_check_search_tag: String => "CirconusCheckSearchTag" [Later];
        circonus_check_tags: String => "CirconusCheckTags" [Later];
        circonus_check_display_name: String => "CirconusCheckDisplayName" [Later];
        circonus_broker_id: String => "CirconusBrokerID" [Later];
        circonus_broker_select_tag: String => "CirconusBrokerSelectTag" [Later];
    }
}

section! {
    /// A driver or another plugin.
    RawPlugin {
        args: Vec<String> => "Args" [Later];
        config: Free => "Config";
    }
}

section! {
    /// Connections that one machine may have.
    RawLimits {
        https_handshake_timeout: String => "HTTPSHandshakeTimeout";
        http_max_conns_per_client: i64 => "HTTPMaxConnsPerClient";
        rpc_handshake_timeout: String => "RPCHandshakeTimeout";
        rpc_max_conns_per_client: i64 => "RPCMaxConnsPerClient";
    }
}

section! {
    /// Care of the servers for their own number.
    RawAutopilot {
        cleanup_dead_servers: bool => "CleanupDeadServers";
        server_stabilization_time: Span => "ServerStabilizationTime";
        last_contact_threshold: Span => "LastContactThreshold";
        max_trailing_logs: i64 => "MaxTrailingLogs";
        min_quorum: i64 => "MinQuorum";
        enable_redundancy_zones: bool => "EnableRedundancyZones" [Enterprise];
        disable_upgrade_migration: bool => "DisableUpgradeMigration" [Enterprise];
        enable_custom_upgrades: bool => "EnableCustomUpgrades" [Enterprise];
    }
}
